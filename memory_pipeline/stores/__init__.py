"""The only code that speaks to an engine: one folder or module for each. All SQL and all client calls are in here."""

"""Thin Dagster definitions, one folder per data product. A body reads: open, call the stage, say what happened."""

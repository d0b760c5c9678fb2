"""The asset `consistency_audit`."""

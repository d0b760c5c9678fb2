"""The job ledger and the write buffer, as Dagster sees them: what no worker or API does is done by runs."""

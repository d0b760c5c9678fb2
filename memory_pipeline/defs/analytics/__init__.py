"""The Parquet lake and the published DuckDB file."""

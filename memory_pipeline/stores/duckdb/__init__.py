"""DuckDB: the read-only file that analysts query, built from the lake, published atomically, and queried safely."""

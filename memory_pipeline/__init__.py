"""Long-term memory for chat products: Postgres is the record, all else is derived and proven to agree."""

__version__ = "0.1.0"

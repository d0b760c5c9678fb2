"""Long-term memory for chat products: Postgres is the record, everything else is derived from it and proven to agree."""

__version__ = "0.1.0"

"""Postgres, the record: migrations, connections as the limited roles, and every statement that reads or writes it."""

"""Embedded Postgres, Redis and Chroma: for one machine and for the tests."""

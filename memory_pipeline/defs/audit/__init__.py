"""The proof that every store agrees with Postgres."""

"""The Chroma collections, projected from Postgres."""

"""Chroma, the vector index: one collection per tenant and embedding model, always spoken to over HTTP.

What is in Chroma is a projection of Postgres and may be deleted at any time. Chroma itself enforces little: `add` of an
id that is there does nothing and says nothing, `upsert` merges metadata keys and keeps the old document where none is
given, and any client may address any collection by its uuid. So callers pass whole batches with every key, and check
every hit against Postgres.
"""

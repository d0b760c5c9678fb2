"""A cheap look at the index: whether every live collection holds as many vectors as Postgres says were written to it.

The audit compares row by row; this one counts, so it can follow every run.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from memory_pipeline.stores.chroma.connection import CollectionLostError
from memory_pipeline.stores.chroma.store import ChromaStore
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.index import count_entries
from memory_pipeline.stores.postgres.index_generations import live_generation
from memory_pipeline.stores.postgres.tenants import all_tenants
from memory_pipeline.stores.postgres.writer_lock import writer_lock


class CollectionCount(NamedTuple):
    """Vectors of one live collection."""

    tenant_id: UUID
    entries: int
    """Written, as far as Postgres knows."""
    vectors: int | None
    """In Chroma; None where the collection is lost."""


def count_collections(database: Database, chroma: ChromaStore, model: str) -> list[CollectionCount]:
    """Count entries and vectors of every tenant's live collection, under the writer's lock so that both stand still.

    Raises StoreUnavailableError where a store can't be asked.
    """
    with database.transaction() as connection:
        tenants = list(all_tenants(connection))
    counts = (_count(database, chroma, tenant_id, model) for tenant_id in tenants)
    return [count for count in counts if count is not None]


def _count(database: Database, chroma: ChromaStore, tenant_id: UUID, model: str) -> CollectionCount | None:
    with writer_lock(database, tenant_id, model):
        with database.transaction() as connection:
            generation = live_generation(connection, tenant_id, model)
            if generation is None:
                return None
            entries = count_entries(connection, generation).written
        try:
            return CollectionCount(tenant_id, entries, chroma.count(generation.collection_uuid))
        except CollectionLostError:
            return CollectionCount(tenant_id, entries, None)

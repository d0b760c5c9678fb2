"""How many rows of each kind there are, tenant by tenant, for `status` and the demo."""

from __future__ import annotations

import msgspec
from psycopg.rows import class_row

from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql


class StoreCounts(msgspec.Struct, frozen=True):
    """Rows of one tenant. `pending` waits for enrichment, `failed` is the dead letters."""

    tenant: str
    users: int
    messages: int
    pending: int
    failed: int
    facts: int
    summaries: int
    relations: int
    vectors: int
    indexed: int


def store_counts(connection: Connection) -> list[StoreCounts]:
    """Return the counts of every tenant the connection may see."""
    with connection.cursor(row_factory=class_row(StoreCounts)) as cursor:
        return cursor.execute(sql(PACKAGE, "store_counts")).fetchall()

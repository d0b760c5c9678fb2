"""How far named memories have come through the stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.due import MemoryKey, key_arrays
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql


class Progress(NamedTuple):
    """A memory that was named, or a fact found in one, and what has still to be done of it."""

    tenant_id: UUID
    named_id: UUID
    """The memory that was named."""
    memory_id: UUID
    status: str
    failure_class: str | None
    failure_text: str | None
    unread: bool
    """Also of a failed one, which then failed when it was read."""
    unembedded: bool
    unindexed: bool
    """Also where a vector has still to be made."""


def read_progress(connection: Connection, keys: Sequence[MemoryKey], enricher: str, model: str) -> list[Progress]:
    """Return the progress under `enricher` (name@version) and embedding `model`: each memory named, then its facts."""
    parameters = {**key_arrays(keys), "enricher": enricher, "model": model}
    with connection.cursor(row_factory=class_row(Progress)) as cursor:
        return cursor.execute(sql(PACKAGE, "refresh_states"), parameters).fetchall()

"""Statements of the index stage: what Chroma lacks, and what was written to it.

`index_entries` always names at least what Chroma holds: an entry of version 0 is written before a vector is handed over
("announced"), its real version after, and it is deleted after the vector is. So whatever a crash leaves behind in
Chroma can be found from here and replaced or removed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

from pgvector import Vector
from psycopg.rows import class_row

from memory_pipeline.model.window import DayWindow
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.due import MemoryKey, key_arrays
from memory_pipeline.stores.postgres.index_generations import Generation
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

EntryKey = tuple[UUID, int]
"""Memory id and chunk."""

Scope = DayWindow | Collection[UUID]
"""What of one tenant: the memories of these days, or those of these ids."""

FIRST_KEY: EntryKey = (UUID(int=0), -1)

# A document is JSON inside JSON: a control character of one byte becomes 7 (\\u001f).
_DOCUMENT_BYTES_PER_BYTE = 7
# Base64 of float32, four bytes for three, then ids and metadata.
_METADATA_BYTES = 1_000


class DueVector(NamedTuple):
    """One vector to write, with everything that is stored beside it."""

    memory_id: UUID
    chunk: int
    indexed_version: int | None
    """Version in the index: None if it never was, 0 if it was announced and may be there."""
    dimension: int
    embedding: Vector
    version: int
    content_hash: bytes
    kind: str
    day: date
    user_id: str
    conversation_id: str
    """'' for a memory without a conversation; so too `project`."""
    project: str
    status: str
    source_message_ids: list[str]
    confidence: float | None
    valid_from: datetime | None
    valid_to: datetime | None
    content: str | None
    """None where no text was asked for, and for every chunk but the first."""

    @property
    def key(self) -> EntryKey:
        return self.memory_id, self.chunk


class EntryCounts(NamedTuple):
    """Bounds of what a collection holds; they are equal unless a write was interrupted."""

    written: int
    announced: int


def tenants_to_index(connection: Connection, model: str, window: DayWindow) -> list[UUID]:
    """Return the tenants that have an index under this model, or vectors of the window to begin one with."""
    parameters = {"model": model, "start": window.start, "end": window.end}
    return [tenant_id for (tenant_id,) in connection.execute(sql(PACKAGE, "index_tenants"), parameters).fetchall()]


def tenants_of_named(connection: Connection, model: str, keys: Sequence[MemoryKey]) -> list[UUID]:
    """Return the tenants of the memories that have an index under this model, or vectors of these to begin one with."""
    parameters = {**key_arrays(keys), "model": model}
    return [
        tenant_id for (tenant_id,) in connection.execute(sql(PACKAGE, "index_named_tenants"), parameters).fetchall()
    ]


def due_keys(
    connection: Connection,
    generation: Generation,
    scope: Scope,
    after: EntryKey,
    rows: int,
    *,
    days: Sequence[date] = (),
) -> list[EntryKey]:
    """Return the next vectors that the index lacks or has of another version, by memory and chunk.

    Those of the scope, and of `days` outside its window.
    """
    statement = "index_due_keys" if isinstance(scope, DayWindow) else "index_named_due_keys"
    parameters = _scope(generation, scope, days) | {"after_memory": after[0], "after_chunk": after[1], "limit": rows}
    return connection.execute(sql(PACKAGE, statement), parameters, binary=True).fetchall()


def due_vectors(
    connection: Connection, generation: Generation, keys: Sequence[EntryKey], *, documents: bool, page_bytes: int
) -> list[DueVector]:
    """Return those of the named vectors that are still due, by memory and chunk.

    No more than fit into a request of `page_bytes` however their text is escaped, but at least one where any is due:
    ask again for what comes after the last one.
    """
    with connection.cursor(row_factory=class_row(DueVector), binary=True) as cursor:
        return cursor.execute(
            sql(PACKAGE, "index_due"),
            {
                **_keys(generation, keys),
                "model": generation.model,
                "documents": documents,
                "page_bytes": page_bytes,
                "row_bytes": _METADATA_BYTES + generation.dimension * 16 // 3,
                "bytes_per_byte": _DOCUMENT_BYTES_PER_BYTE,
            },
        ).fetchall()


def other_days(connection: Connection, generation: Generation, window: DayWindow) -> list[date]:
    """Return days outside the window whose memories changed since they were indexed, or hold a summary of its weeks."""
    weeks = window.whole_weeks()
    rows = connection.execute(
        sql(PACKAGE, "index_other_days"),
        {
            "tenant_id": generation.tenant_id,
            "generation_id": generation.generation_id,
            "start": window.start,
            "end": window.end,
            "week_start": weeks.start,
            "week_end": weeks.end,
        },
    ).fetchall()
    return [day for (day,) in rows]


def announce_entries(connection: Connection, generation: Generation, keys: Sequence[EntryKey]) -> None:
    """Say, before vectors are written, that Chroma may hold them; also what to call of vectors found to be wrong.

    The next run writes them again by replacing. (Deleting the entry of a vector that is in Chroma would make it look
    new, and Chroma ignores a new vector under an id it has.)
    """
    connection.execute(sql(PACKAGE, "index_announce"), _keys(generation, keys))


def mark_entries(connection: Connection, generation: Generation, written: Sequence[DueVector]) -> None:
    """Record, after Chroma has them, which versions were written."""
    connection.execute(
        sql(PACKAGE, "index_mark"),
        {
            **_keys(generation, [row.key for row in written]),
            "versions": [row.version for row in written],
            "content_hashes": [row.content_hash for row in written],
        },
    )


def gone_entries(connection: Connection, generation: Generation, rows: int) -> list[EntryKey]:
    """Return entries whose memory is gone; looks through all of the generation's."""
    return connection.execute(
        sql(PACKAGE, "index_gone"),
        {"tenant_id": generation.tenant_id, "generation_id": generation.generation_id, "limit": rows},
    ).fetchall()


def surplus_entries(
    connection: Connection, generation: Generation, scope: Scope, rows: int, *, days: Sequence[date] = ()
) -> list[EntryKey]:
    """Return entries whose memory, of the scope or of `days` outside it, is deleted, failed or shorter than it was.

    For memories given by their ids, those that are gone too.
    """
    statement = "index_surplus" if isinstance(scope, DayWindow) else "index_named_surplus"
    return connection.execute(sql(PACKAGE, statement), _scope(generation, scope, days) | {"limit": rows}).fetchall()


def forget_entries(connection: Connection, generation: Generation, keys: Sequence[EntryKey]) -> None:
    """Delete entries, after Chroma has deleted their vectors."""
    connection.execute(sql(PACKAGE, "index_forget"), _keys(generation, keys))


def count_entries(connection: Connection, generation: Generation) -> EntryCounts:
    """Return how many vectors the collection should hold."""
    with connection.cursor(row_factory=class_row(EntryCounts)) as cursor:
        counts = cursor.execute(
            "SELECT count(*) FILTER (WHERE version > 0) AS written, count(*) AS announced"
            " FROM index_entries WHERE tenant_id = %s AND generation_id = %s",
            [generation.tenant_id, generation.generation_id],
        ).fetchone()
    assert counts is not None  # an aggregate always answers
    return counts


def _scope(generation: Generation, scope: Scope, days: Sequence[date]) -> dict[str, object]:
    where: dict[str, object] = (
        {"start": scope.start, "end": scope.end, "days": list(days)}
        if isinstance(scope, DayWindow)
        else {"named_ids": list(scope)}
    )
    return where | {
        "tenant_id": generation.tenant_id,
        "generation_id": generation.generation_id,
        "model": generation.model,
    }


def _keys(generation: Generation, keys: Sequence[EntryKey]) -> dict[str, object]:
    return {
        "tenant_id": generation.tenant_id,
        "generation_id": generation.generation_id,
        "memory_ids": [memory_id for memory_id, _chunk in keys],
        "chunks": [chunk for _memory_id, chunk in keys],
    }

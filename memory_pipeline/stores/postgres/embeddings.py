"""Statements of the embed stage: which memories lack a vector, and storing vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from memory_pipeline.model.window import NamedMemories, Selection
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.due import DueMemory, key_arrays, lock_memories, named_and_facts, read_due
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql


class Unembedded(NamedTuple):
    """A memory whose present content has no vector."""

    tenant_id: UUID
    memory_id: UUID
    user_id: UUID
    content: str
    content_hash: bytes


class MadeEmbedding(NamedTuple):
    """A row of the temporary table `made_embedding`, in the order of its columns."""

    tenant_id: UUID
    memory_id: UUID
    chunk: int
    chunks: int
    embedding: Any
    """A numpy row of float32."""
    content_hash: bytes


def due_embeddings(
    connection: Connection, selection: Selection, model: str, plugin: str, after: DueMemory, limit: int
) -> list[DueMemory]:
    """List the next memories without a vector of their present content, of tenants who permit `plugin`.

    Those of the window and summaries of its weeks; or, all at once, those named and the facts found in them.
    """
    if isinstance(selection, NamedMemories):
        return _named_embeddings(connection, selection, model, plugin, permitted=True)
    return read_due(
        connection,
        "due_embeddings",
        {
            "day": after.day,
            "tenant_id": after.tenant_id,
            "memory_id": after.memory_id,
            "start": selection.start,
            "end": selection.end,
            "week_end": selection.whole_weeks().end,
            "model": model,
            "plugin": plugin,
            "limit": limit,
        },
    )


def refused_embeddings(
    connection: Connection, selection: Selection, model: str, plugin: str, barred: Sequence[UUID]
) -> list[UUID]:
    """Return which tenants of `barred`, for whom `plugin` may not run, have memories without a vector."""
    if isinstance(selection, NamedMemories):
        return [memory.tenant_id for memory in _named_embeddings(connection, selection, model, plugin, permitted=False)]
    weeks = selection.whole_weeks()
    rows = connection.execute(
        sql(PACKAGE, "refused_embeddings"),
        {
            "barred": barred,
            "start": selection.start,
            "end": selection.end,
            "week_start": weeks.start,
            "week_end": weeks.end,
            "model": model,
        },
    ).fetchall()
    return [tenant_id for (tenant_id,) in rows]


def _named_embeddings(
    connection: Connection, named: NamedMemories, model: str, plugin: str, *, permitted: bool
) -> list[DueMemory]:
    keys = named_and_facts(connection, named)
    return read_due(
        connection,
        "due_named_embeddings",
        {**key_arrays(keys), "model": model, "plugin": plugin, "permitted": permitted},
    )


def take_unembedded(connection: Connection, model: str, plugin: str, batch: Sequence[DueMemory]) -> list[Unembedded]:
    """Lock and return those of the memories that still lack a vector, may be embedded, and no other run holds."""
    locked = lock_memories(connection, batch)
    with connection.cursor(row_factory=class_row(Unembedded)) as cursor:
        parameters = {**locked, "model": model, "plugin": plugin}
        return cursor.execute(sql(PACKAGE, "take_unembedded"), parameters).fetchall()


def reuse_embeddings(connection: Connection, model: str, due: Sequence[Unembedded]) -> list[tuple[UUID, UUID]]:
    """Prepare copies of vectors for texts that are embedded already; return (tenant, memory) once per vector.

    They are stored by `write_embeddings` in the same transaction.
    """
    connection.execute(sql(PACKAGE, "made_embedding_table"))
    return connection.execute(
        sql(PACKAGE, "reuse_embeddings"),
        {
            "tenant_ids": [memory.tenant_id for memory in due],
            "memory_ids": [memory.memory_id for memory in due],
            "content_hashes": [memory.content_hash for memory in due],
            "model": model,
        },
    ).fetchall()


def write_embeddings(connection: Connection, model: str, made: Iterable[MadeEmbedding]) -> None:
    """Store vectors, those that `reuse_embeddings` prepared too; chunks of an earlier, longer content go."""
    connection.execute(sql(PACKAGE, "made_embedding_table"))
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY made_embedding FROM STDIN WITH (FORMAT binary)") as copy,
    ):
        copy.set_types(["uuid", "uuid", "int4", "int4", "vector", "bytea"])
        for row in made:
            copy.write_row(row)
    connection.execute(sql(PACKAGE, "upsert_embeddings"), {"model": model})
    connection.execute(sql(PACKAGE, "drop_surplus_chunks"), {"model": model})

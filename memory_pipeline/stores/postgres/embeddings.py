"""Statements of the embed stage: which memories lack a vector, and storing vectors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from memory_pipeline.model.window import DayWindow
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql


class Unembedded(NamedTuple):
    """A memory whose present content has no vector."""

    tenant_id: UUID
    memory_id: UUID
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


def reuse_embeddings(connection: Connection, window: DayWindow, model: str) -> int:
    """Copy vectors for texts of the window that are embedded already; return how many rows were written."""
    return connection.execute(
        sql(PACKAGE, "reuse_embeddings"), {"start": window.start, "end": window.end, "model": model}
    ).rowcount


def take_unembedded(connection: Connection, window: DayWindow, model: str, limit: int) -> list[Unembedded]:
    """Lock and return memories of the window without a vector of their present content."""
    with connection.cursor(row_factory=class_row(Unembedded)) as cursor:
        return cursor.execute(
            sql(PACKAGE, "take_unembedded"),
            {"start": window.start, "end": window.end, "model": model, "limit": limit},
        ).fetchall()


def write_embeddings(connection: Connection, model: str, made: Iterable[MadeEmbedding]) -> None:
    """Store vectors; chunks of an earlier, longer content go."""
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

"""Memories with vectors in Postgres, and the index stage on top of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import psycopg
from pgvector.psycopg import register_vector

from memory_pipeline.model.ids import derive_hex, milliseconds
from memory_pipeline.model.window import DayWindow
from memory_pipeline.stages.index import IndexReport, index_memories, rebuild_index
from memory_pipeline.stages.vector_writer import TenantIndexReport
from memory_pipeline.stores.chroma.store import ChromaStore, VectorEntry
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.index_generations import Generation, live_generation
from memory_pipeline.stores.postgres.tenants import ensure_tenant, ensure_user

Stored = Callable[[UUID], dict[str, Any]]
MODEL = "random-8"
DIMENSION = 8
FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)
MARCH = DayWindow(FIRST, date(2026, 4, 1))


class World:
    """Memories with vectors in Postgres, and the stage on top of them."""

    def __init__(self, database: Database, admin_url: str, chroma: ChromaStore) -> None:
        self.database = database
        self.chroma = chroma
        self._admin = psycopg.connect(admin_url, autocommit=True, options="-c search_path=memory,public")
        register_vector(self._admin)
        self._users: dict[UUID, UUID] = {}
        self._random = np.random.default_rng(7)

    def close(self) -> None:
        self._admin.close()

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self._admin.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def tenant(self, slug: str) -> UUID:
        with self.database.transaction() as connection:
            tenant_id = ensure_tenant(connection, slug)
            self._users[tenant_id] = ensure_user(connection, tenant_id, f"ada@{slug}.test", "Ada")
        return tenant_id

    def remember(self, tenant_id: UUID, *texts: str, day: date = FIRST, chunks: int = 1) -> list[UUID]:
        memories = []
        sent_at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        for text in texts:
            memory_id = UUID(derive_hex(b"episode", milliseconds(sent_at), tenant_id.hex, uuid4().hex))
            self.execute(
                "INSERT INTO memories (tenant_id, memory_id, user_id, kind, status, content, content_hash, day,"
                " source_message_ids) VALUES (%s, %s, %s, 'episode', 'active', %s, %s, %s, %s)",
                *(tenant_id, memory_id, self._users[tenant_id], text, sha256(text), day, [uuid4()]),
            )
            self.embed(tenant_id, memory_id, text, chunks)
            memories.append(memory_id)
        return memories

    def embed(self, tenant_id: UUID, memory_id: UUID, text: str, chunks: int = 1, dimension: int = DIMENSION) -> None:
        self.execute("DELETE FROM memory_embeddings WHERE memory_id = %s", memory_id)
        for chunk in range(chunks):
            vector = self._random.standard_normal(dimension).astype(np.float32)
            self.execute(
                "INSERT INTO memory_embeddings (tenant_id, memory_id, model, chunk, chunks, dimension, embedding,"
                " content_hash) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                *(tenant_id, memory_id, MODEL, chunk, chunks, dimension, vector, sha256(text)),
            )

    def change(self, tenant_id: UUID, memory_id: UUID, text: str, chunks: int = 1) -> None:
        self.execute(
            "UPDATE memories SET content = %s, content_hash = %s, version = version + 1 WHERE memory_id = %s",
            *(text, sha256(text), memory_id),
        )
        self.embed(tenant_id, memory_id, text, chunks)

    def set_status(self, memory_id: UUID, status: str) -> None:
        self.execute("UPDATE memories SET status = %s, version = version + 1 WHERE memory_id = %s", status, memory_id)

    def vector_of(self, memory_id: UUID, chunk: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
        [(vector,)] = self.execute(
            "SELECT embedding FROM memory_embeddings WHERE memory_id = %s AND chunk = %s", memory_id, chunk
        )
        found: np.ndarray[Any, np.dtype[np.float32]] = vector.to_numpy()
        return found

    def index(self, window: DayWindow = MARCH, **options: Any) -> IndexReport:
        return index_memories(self.database, self.chroma, MODEL, DIMENSION, window, **options)

    def rebuild(self, tenant_id: UUID, **options: Any) -> TenantIndexReport:
        return rebuild_index(self.database, self.chroma, MODEL, DIMENSION, tenant_id, **options)

    def live(self, tenant_id: UUID) -> Generation:
        with self.database.transaction() as connection:
            generation = live_generation(connection, tenant_id, MODEL)
        assert generation is not None
        return generation

    def indexed(self, tenant_id: UUID) -> dict[UUID, VectorEntry]:
        """First chunks in the live collection by memory."""
        entries = self.chroma.entries(self.live(tenant_id).collection_uuid)
        return {entry.memory_id: entry for entry in entries if entry.chunk == 0}

    def chunks(self, tenant_id: UUID, memory_id: UUID) -> list[int]:
        entries = self.chroma.entries(self.live(tenant_id).collection_uuid)
        return sorted(entry.chunk for entry in entries if entry.memory_id == memory_id)

    def assert_agrees(self, tenant_id: UUID) -> None:
        """Chroma holds exactly the indexable vectors of Postgres in their versions; index_entries says the same."""
        wanted = {
            VectorEntry(memory_id, chunk, version, content_hash)
            for memory_id, chunk, version, content_hash in self.execute(
                "SELECT m.memory_id, e.chunk, m.version, m.content_hash FROM memories m"
                " JOIN memory_embeddings e USING (tenant_id, memory_id)"
                " WHERE m.tenant_id = %s AND m.status IN ('active', 'superseded')"
                " AND e.content_hash = m.content_hash",
                tenant_id,
            )
        }
        live = self.live(tenant_id)
        held = list(self.chroma.entries(live.collection_uuid))
        assert len(held) == len(set(held))
        assert set(held) == wanted
        recorded = self.execute(
            "SELECT memory_id, chunk, version, content_hash FROM index_entries WHERE tenant_id = %s", tenant_id
        )
        assert {VectorEntry(*row) for row in recorded} == wanted


def sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


class KilledError(Exception):
    """Stands for the process ending here."""

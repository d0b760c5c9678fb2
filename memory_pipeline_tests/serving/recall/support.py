"""Users with memories in every store, and recall on top of them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import numpy as np
import psycopg
import pytest

from memory_pipeline.model import ids
from memory_pipeline.model.errors import ProviderUnavailableError
from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline.model.window import DayWindow
from memory_pipeline.providers.base import Vectors
from memory_pipeline.providers.local_enricher import LocalEnricher
from memory_pipeline.serving.ingest import UserDirectory, ingest
from memory_pipeline.serving.recall import RecallResult, recall
from memory_pipeline.settings import Settings
from memory_pipeline.stages.index import index_memories
from memory_pipeline.stores.chroma.store import ChromaStore, VectorBatch, VectorMetadata
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.index_generations import live_generation
from memory_pipeline.stores.postgres.tenants import User, ensure_tenant, find_user
from memory_pipeline_tests.stages.support import embed, enrich

START = datetime(2026, 3, 1, 9, tzinfo=UTC)
ALL_DAYS = DayWindow(date(2026, 1, 1), date(2027, 1, 1))


class WordEmbedder:
    """A model of its own: each word is a fixed direction, a text the sum of its words."""

    model = "words-64"
    dimension = 64

    def chunk(self, text: str) -> list[str]:
        return [text]

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()) or ["nothing"]:
                vectors[row] += np.random.default_rng(zlib.crc32(word.encode())).standard_normal(self.dimension)
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


class AbsentEmbedder(WordEmbedder):
    """A provider that is down."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        raise ProviderUnavailableError("the embedding service refuses connections.")


class World:
    """Users with memories in every store, and recall on top of them."""

    def __init__(self, settings: Settings, pipeline: Database, app: Database, chroma: ChromaStore) -> None:
        assert settings.postgres_admin_url is not None
        self.admin_url = settings.postgres_admin_url
        self.pipeline = pipeline
        self.app = app
        self.chroma: ChromaStore | None = chroma
        self.index = chroma
        self.embedder = WordEmbedder()
        self._said = 0

    def execute(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.admin_url, options="-c search_path=memory,public") as connection:
            connection.execute(statement.encode(), values)

    def say(
        self,
        *texts: str,
        email: str = "ana@acme.test",
        tenant: str = "acme",
        conversation: str = "c1",
        speaker: str = "Ana",
        project: str | None = None,
        day: int = 0,
    ) -> list[str]:
        """Ingest turns, a second after one another; return their source message ids."""
        with self.pipeline.transaction() as connection:
            tenant_id = ensure_tenant(connection, tenant)
        messages = []
        for text in texts:
            self._said += 1
            messages.append(
                IncomingMessage(
                    source="test",
                    source_message_id=f"m{self._said}",
                    source_conversation_id=conversation,
                    role=Role.USER,
                    content=text,
                    sent_at=START + timedelta(days=day, seconds=self._said),
                    position=self._said,
                    speaker=speaker,
                    user_email=email,
                    project=project,
                )
            )
        directory = UserDirectory(self.pipeline, tenant_id, None)
        ingest(self.pipeline, tenant_id, directory, messages, actor="test", on_reject=lambda r: pytest.fail(r.reason))
        return [message.source_message_id for message in messages]

    def derive(self) -> None:
        """Run the stages up to the index."""
        enrich(self.pipeline, LocalEnricher(), ALL_DAYS)
        embed(self.pipeline, self.embedder, ALL_DAYS)
        index_memories(self.pipeline, self.index, self.embedder.model, self.embedder.dimension, ALL_DAYS)

    def user(self, email: str = "ana@acme.test", tenant: str | None = None) -> User:
        with self.pipeline.transaction() as connection:
            return find_user(connection, email, tenant)

    def ask(
        self,
        query: str,
        *,
        k: int = 10,
        turns: int = 0,
        budget: int | None = None,
        user: User | None = None,
        project: str | None = None,
        conversation_id: UUID | None = None,
    ) -> RecallResult:
        return recall(
            self.app,
            self.chroma,
            self.embedder,
            user or self.user(),
            query,
            k=k,
            turns=turns,
            budget=budget,
            project=project,
            conversation_id=conversation_id,
        )

    def episode(self, source_message_id: str) -> UUID:
        with self.pipeline.transaction() as connection:
            row = connection.execute(
                "SELECT message_id FROM messages WHERE source_message_id = %s", [source_message_id]
            ).fetchone()
        assert row is not None
        return UUID(ids.episode_hex(row[0].hex))

    def suggest(self, user: User, memory_id: UUID, text: str) -> None:
        """Make the index of this user's tenant claim that a memory is this user's."""
        with self.pipeline.transaction() as connection:
            generation = live_generation(connection, user.tenant_id, self.embedder.model)
        assert generation is not None
        metadata = VectorMetadata(
            user_id=str(user.user_id),
            conversation_id="",
            project="",
            kind="episode",
            day=20260301,
            version=1,
            bucket=0,
            content_hash="00" * 32,
            chunk=0,
        )
        batch = VectorBatch([ids.vector_id(memory_id, 0)], self.embedder.embed([text]), [metadata], None)
        self.index.upsert(generation.collection_uuid, batch)


def texts(result: RecallResult) -> list[str]:
    return [memory.content for memory in result.memories]

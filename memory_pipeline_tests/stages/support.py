"""What the tests of the stages share: a database to speak into and look at, and small deterministic plugins."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest

from memory_pipeline.model.errors import ProviderError
from memory_pipeline.model.ids import message_id
from memory_pipeline.model.records import FactDraft, IncomingMessage, Rejection, Role, Turn
from memory_pipeline.model.window import DayWindow, NamedMemories, NamedMemory
from memory_pipeline.providers.base import Vectors
from memory_pipeline.serving.ingest import UserDirectory, ingest
from memory_pipeline.stages import embed as embed_stage
from memory_pipeline.stages import enrich as enrich_stage
from memory_pipeline.stages import summarize as summarize_stage
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.tenants import ensure_tenant

MARCH = DayWindow(date(2026, 3, 1), date(2026, 4, 1))
MODEL = "hashed-8"
DIMENSION = 8

# Under the names of plugins that every new tenant has.
enrich = partial(enrich_stage.enrich, plugin="enricher:local")
embed = partial(embed_stage.embed, plugin="embedder:minilm")
summarize = partial(summarize_stage.summarize, plugin="summarizer:extractive")


def at(day: int, hour: int = 12, minute: int = 0) -> datetime:
    """A moment in March 2026."""
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


def day_window(day: int) -> DayWindow:
    return DayWindow.of_day(date(2026, 3, day))


class World:
    """Messages in, through the real ingest; rows out, as the owner sees them."""

    def __init__(self, pipeline_url: str, admin_url: str) -> None:
        self.database = Database(pipeline_url).open()
        self._admin = psycopg.connect(
            admin_url, autocommit=True, options="-c search_path=memory,public -c timezone=UTC"
        )
        self._said = 0

    def close(self) -> None:
        self._admin.close()
        self.database.close()

    def empty(self) -> None:
        self.execute(
            "TRUNCATE tenants, users, conversations, messages, events, memories, memory_embeddings,"
            " memory_relationships, index_generations, index_entries, audit_runs, audit_findings CASCADE"
        )

    def forget(self) -> None:
        """Empty all but tenants and users, so that the same said again gets the same ids."""
        self.execute(
            "TRUNCATE conversations, messages, events, memories, memory_embeddings, memory_relationships,"
            " index_generations, index_entries, audit_runs, audit_findings CASCADE"
        )
        self._said = 0

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement as the owner: what nobody in the product may do."""
        cursor = self._admin.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def tenant(self, slug: str = "acme") -> UUID:
        with self.database.transaction() as connection:
            return ensure_tenant(connection, slug)

    def install(self, plugin: str, tenant: str = "acme") -> None:
        self.execute(
            "INSERT INTO plugin_installs (tenant_id, plugin, installed_by) VALUES (%s, %s, 'test')",
            *(self.tenant(tenant), plugin),
        )

    def uninstall(self, plugin: str, tenant: str = "acme") -> None:
        self.execute("DELETE FROM plugin_installs WHERE tenant_id = %s AND plugin = %s", *(self.tenant(tenant), plugin))

    def refusals(self) -> list[tuple[UUID, str, str]]:
        """(tenant, actor, plugin) of the events that tell of a refused plugin, in order."""
        found = self.execute(
            "SELECT tenant_id, actor, detail ->> 'plugin' FROM events WHERE kind = 'plugin_refused' ORDER BY event_id"
        )
        return [(tenant_id, actor, plugin) for tenant_id, actor, plugin in found]

    def named(self, *contents: str) -> NamedMemories:
        """Name memories by their contents; all episodes where none is given."""
        rows = self.execute(
            "SELECT tenant_id, memory_id, day FROM memories"
            " WHERE CASE WHEN %s::text[] = '{}' THEN kind = 'episode' ELSE content = ANY(%s) END",
            *(list(contents), list(contents)),
        )
        return NamedMemories.of(NamedMemory(*row) for row in rows)

    def say(
        self,
        content: str,
        sent_at: datetime | None = None,
        *,
        user: str = "ana",
        tenant: str = "acme",
        role: Role = Role.USER,
        name: str | None = None,
    ) -> UUID:
        """Ingest one message and return its id."""
        self._said += 1
        sent_at = sent_at or at(2) + timedelta(seconds=self._said)
        name = name or f"m{self._said}"
        message = IncomingMessage(
            source="test",
            source_message_id=name,
            source_conversation_id=f"{user} on {sent_at.date()}",
            role=role,
            content=content,
            sent_at=sent_at,
            position=self._said,
            user_email=f"{user}@{tenant}.test",
            speaker=user.capitalize() if role is Role.USER else None,
        )
        tenant_id = self.tenant(tenant)
        users = UserDirectory(self.database, tenant_id, None)
        ingest(self.database, tenant_id, users, [message], actor="test", on_reject=_refuse)
        return message_id(tenant_id, "test", name, sent_at)

    def memories(self, kind: str | None = None) -> dict[str, dict[str, Any]]:
        """All memories by content; contents must differ."""
        cursor = self._admin.execute("SELECT * FROM memories WHERE kind = coalesce(%s, kind)", [kind])
        names = [column.name for column in cursor.description or []]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        by_content = {row["content"]: row for row in rows}
        assert len(by_content) == len(rows)
        return by_content

    def statuses(self, kind: str | None = None) -> dict[str, str]:
        return {content: row["status"] for content, row in self.memories(kind).items()}

    def versions(self) -> dict[UUID, int]:
        return dict(self.execute("SELECT memory_id, version FROM memories"))

    def relations(self) -> set[tuple[str, str, str]]:
        """(content, kind, content) of every relation."""
        return set(
            self.execute(
                "SELECT f.content, r.kind, t.content FROM memory_relationships r"
                " JOIN memories f ON f.tenant_id = r.tenant_id AND f.memory_id = r.from_id"
                " JOIN memories t ON t.tenant_id = r.tenant_id AND t.memory_id = r.to_id"
            )
        )

    def vectors(self, model: str = MODEL) -> dict[str, list[tuple[int, int]]]:
        """(chunk, chunks) of every vector by the content of its memory."""
        found: dict[str, list[tuple[int, int]]] = {}
        for content, chunk, chunks in self.execute(
            "SELECT m.content, e.chunk, e.chunks FROM memory_embeddings e JOIN memories m USING (tenant_id, memory_id)"
            " WHERE e.model = %s AND e.content_hash = m.content_hash ORDER BY m.content, e.chunk",
            model,
        ):
            found.setdefault(content, []).append((chunk, chunks))
        return found


def _refuse(rejection: Rejection) -> None:
    pytest.fail(f"a message was rejected: {rejection}")


def draft(
    object_: str,
    predicate: str = "lives_in",
    *,
    slot: str | None = "lives_in",
    negated: bool = False,
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
    statement: str | None = None,
    subject: str = "Ana",
    confidence: float = 0.75,
) -> FactDraft:
    return FactDraft(
        subject=subject,
        predicate=predicate,
        object=object_,
        statement=statement or f"{subject} {'not ' if negated else ''}{predicate} {object_}",
        confidence=confidence,
        valid_from=valid_from or at(1),
        valid_to=valid_to,
        slot=slot,
        negated=negated,
    )


class ScriptedEnricher:
    """Answers each message as told, by its text; counts what it was asked."""

    name = "scripted"

    def __init__(
        self, answers: Mapping[str, Sequence[FactDraft]] | Callable[[Turn], list[FactDraft]], version: str = "1"
    ) -> None:
        self.version = version
        self._answers = answers
        self._counting = threading.Lock()
        self.asked: list[str] = []

    def enrich(self, turn: Turn) -> list[FactDraft]:
        with self._counting:
            self.asked.append(turn.content)
        if isinstance(self._answers, Mapping):
            return list(self._answers.get(turn.content, ()))
        return self._answers(turn)


class HashedEmbedder:
    """Vectors out of a hash, in chunks of whole words; refuses texts that hold "poison"; keeps what it was asked."""

    def __init__(self, model: str = MODEL, dimension: int = DIMENSION, chunk_characters: int = 100) -> None:
        self.model = model
        self.dimension = dimension
        self._chunk_characters = chunk_characters
        self._counting = threading.Lock()
        self.asked: list[str] = []
        self.calls = 0

    def chunk(self, text: str) -> list[str]:
        size = self._chunk_characters
        return [text[start : start + size] for start in range(0, len(text), size)]

    def embed(self, texts: Sequence[str]) -> Vectors:
        with self._counting:
            self.calls += 1
        for text in texts:
            if "poison" in text:
                raise ProviderError(f"I refuse {text[:20]!r}")
        with self._counting:
            self.asked.extend(texts)
        return np.stack([vector_of(text, self.dimension) for text in texts])


def vector_of(text: str, dimension: int = DIMENSION) -> np.ndarray[Any, np.dtype[np.float32]]:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    vector = np.random.default_rng(seed).standard_normal(dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)

"""Finding and reading one user's memories: full-text scores, what surrounds a turn, and the rows that recall shows.

Meant for a tenant transaction as memory_app. Every statement also names the tenant and the user, so that nothing an
index suggests and no role with more rights can widen what is read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

import msgspec
import numpy as np
import numpy.typing as npt
from psycopg.rows import class_row, dict_row

from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

# Lucene's and Anserini's parameters for short texts; on the LoCoMo development set k1 0.6-1.2, b 0.4-0.75 differ by
# less than half a point of recall.
BM25_K1 = 0.9
BM25_B = 0.4


class Scope(NamedTuple):
    """Whose memories are searched; `project` None means all."""

    tenant_id: UUID
    user_id: UUID
    project: str | None


class Hit(NamedTuple):
    """A memory that shares a word with the query or was suggested by an index."""

    memory_id: UUID
    kind: str
    conversation_id: UUID | None
    day: date
    message_id: UUID
    """The first message it rests on."""
    text_score: float
    """BM25 of the memory; 0 where it shares no word."""
    session_text_score: float
    """BM25 of its session."""


class NearbyMessage(NamedTuple):
    message_id: UUID
    is_candidate: bool
    """False for turns that are there only to complete the windows of others."""


class TurnSignals(NamedTuple):
    """What speaks for a turn beside its own words."""

    memory_id: UUID
    message_id: UUID
    conversation_id: UUID
    day: date
    speaker: str
    characters: int
    window_similarity: float | None
    """Cosine of query and mean of this turn, the one before and the one after; None where nothing is embedded."""
    lead_in_similarity: float | None
    """The same with this turn and the two before it."""
    answered_id: UUID | None
    """The memory of the turn before it, where that ends in a question mark."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A message that a memory rests on."""

    message_id: UUID
    conversation_id: UUID
    source: str
    source_message_id: str
    said_at: datetime
    speaker: str


class FoundMemory(msgspec.Struct, frozen=True, kw_only=True):
    """A memory as read from its row under the caller's tenant."""

    memory_id: UUID
    kind: str
    content: str
    project: str | None
    confidence: float | None
    valid_from: datetime | None
    valid_to: datetime | None
    sources: tuple[Source, ...]
    """In the order they were said."""


def find_hits(
    connection: Connection, scope: Scope, query: str, suggested: Collection[UUID], *, limit: int
) -> list[Hit]:
    """Return the `limit` best memories by BM25 and the suggested ones that exist in this scope, in order of their ids.

    The query is text, whatever it holds: it is only ever parsed by to_tsvector.
    """
    with connection.cursor(row_factory=class_row(Hit)) as cursor:
        return cursor.execute(
            sql(PACKAGE, "search_hits"),
            {
                **scope._asdict(),
                # Postgres has no NUL in text; no memory can hold one either.
                "query": query.replace("\0", " "),
                "suggested": list(suggested),
                "limit": limit,
                "k1": BM25_K1,
                "b": BM25_B,
            },
        ).fetchall()


def nearby_messages(connection: Connection, scope: Scope, message_ids: Collection[UUID]) -> list[NearbyMessage]:
    """Return the given messages with those around them in their conversations, in order of their ids."""
    with connection.cursor(row_factory=class_row(NearbyMessage)) as cursor:
        return cursor.execute(
            sql(PACKAGE, "search_nearby_messages"),
            {"tenant_id": scope.tenant_id, "user_id": scope.user_id, "message_ids": list(message_ids)},
        ).fetchall()


def turn_signals(
    connection: Connection,
    scope: Scope,
    turns: Sequence[tuple[UUID, UUID]],
    model: str,
    vector: npt.NDArray[np.float32] | None,
) -> list[TurnSignals]:
    """Return the signals of turns given as (message id, id of its episode memory), in order of the latter.

    `vector` is the query's unit vector under `model`, shape (dimension,); without it similarities are None.
    """
    with connection.cursor(row_factory=class_row(TurnSignals)) as cursor:
        return cursor.execute(
            sql(PACKAGE, "search_turn_signals"),
            {
                **scope._asdict(),
                "message_ids": [message_id for message_id, _ in turns],
                "memory_ids": [memory_id for _, memory_id in turns],
                "model": model,
                "vector": vector,
            },
        ).fetchall()


def hydrate(connection: Connection, scope: Scope, memory_ids: Collection[UUID]) -> dict[UUID, FoundMemory]:
    """Return the memories of these ids that are in scope now, by id; others are simply not there."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            sql(PACKAGE, "search_hydrate"), {**scope._asdict(), "memory_ids": list(memory_ids)}
        ).fetchall()
    return {row["memory_id"]: msgspec.convert(row, FoundMemory) for row in rows}


def find_conversation(connection: Connection, scope: Scope, conversation_id: UUID | None) -> UUID | None:
    """Return the named conversation if the user takes part in it (any project), or the user's newest; else None."""
    row = connection.execute(
        sql(PACKAGE, "search_conversation"),
        {"tenant_id": scope.tenant_id, "user_id": scope.user_id, "conversation_id": conversation_id},
    ).fetchone()
    return UUID(str(row[0])) if row else None

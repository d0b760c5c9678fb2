"""Recall: answering a query with a user's memories and the last turns of a conversation.

The vector index and full text suggest ids; Postgres says, under the caller's tenant, which of them exist, what they say
and where they come from. With the index or the embedder away the answer rests on full text, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import numpy as np
import numpy.typing as npt

from memory_pipeline.model import ids
from memory_pipeline.model.errors import MemoryPipelineError, NotFoundError
from memory_pipeline.model.records import MemoryKind
from memory_pipeline.model.usage import UsageMeter
from memory_pipeline.providers.base import Embedder, embed_texts
from memory_pipeline.serving.fusion import Candidate, fuse
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.index_generations import live_generation
from memory_pipeline.stores.postgres.messages import ConversationTurn, last_turns
from memory_pipeline.stores.postgres.search import (
    FoundMemory,
    Hit,
    Scope,
    Source,
    TurnSignals,
    find_conversation,
    find_hits,
    hydrate,
    nearby_messages,
    turn_signals,
)
from memory_pipeline.stores.postgres.tenants import User

if TYPE_CHECKING:
    from memory_pipeline.stores.chroma.store import ChromaStore

CANDIDATES = 200
"""How many memories the vector index suggests, and how many full text does."""

_CHARACTERS_PER_TOKEN = 4
_ABOUT_ONE_TURN = frozenset({MemoryKind.EPISODE, MemoryKind.FACT})

Vector = npt.NDArray[np.float32]


class RecalledMemory(msgspec.Struct, frozen=True, kw_only=True):
    """A memory of the answer, with where it comes from."""

    memory_id: UUID
    kind: str
    content: str
    score: float
    """Comparable within one answer only: a sum of standard deviations above this query's candidates."""
    tokens: int
    """Estimated, see `estimate_tokens`."""
    project: str | None
    confidence: float | None
    valid_from: datetime | None
    valid_to: datetime | None
    sources: tuple[Source, ...]
    """The messages it rests on, as they were said one after the other."""


class RecalledTurn(msgspec.Struct, frozen=True, kw_only=True):
    """One of the last turns of the conversation."""

    message_id: UUID
    role: str
    speaker: str
    content: str
    said_at: datetime
    tokens: int


class RecallResult(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one query. `msgspec.json.encode` makes JSON of it."""

    query: str
    memories: tuple[RecalledMemory, ...]
    """Best first."""
    conversation_id: UUID | None
    """The conversation the turns are from; None where the user has none or no turns were asked for."""
    turns: tuple[RecalledTurn, ...]
    """Oldest first."""
    tokens: int
    omitted: int
    """Turns and memories among those asked for that the budget had no room for."""
    degraded: tuple[str, ...]
    """What was not available, as "store: what happened"; empty where the answer is whole."""


def recall(
    database: Database,
    chroma: ChromaStore | None,
    embedder: Embedder,
    user: User,
    query: str,
    *,
    k: int,
    turns: int = 0,
    budget: int | None = None,
    project: str | None = None,
    conversation_id: UUID | None = None,
    meter: UsageMeter | None = None,
) -> RecallResult:
    """Return the `k` best memories of a user for a query and the last `turns` turns of a conversation.

    `database` is to be open as memory_app. The conversation is the named one, else the one of the user's newest turn; a
    turn that is shown there is not shown again as a memory. `budget` bounds the estimated tokens of the answer: turns
    take at most half of it, newest first; memories take the rest in order, and one that has no room is passed over.
    `meter` counts what is charged for embedding the query.
    Raises NotFoundError where the user takes no part in the named conversation, StoreUnavailableError where Postgres
    can't be reached, MemoryPipelineError for a query without a UTF-8 form or a negative number.
    """
    if k < 0 or turns < 0 or (budget is not None and budget < 0):
        raise MemoryPipelineError(f"k ({k}), turns ({turns}) and budget ({budget}) can't be negative.")
    _require_encodable(query)
    scope = Scope(user.tenant_id, user.user_id, project)
    degraded: list[str] = []
    vector: Vector | None = None
    similarities: Mapping[UUID, float] = {}
    searches = k > 0 and bool(query.strip())
    if searches:
        vector = _embed_query(embedder, query, degraded, meter or UsageMeter())
        if vector is not None:
            similarities = _suggest(database, chroma, scope, embedder.model, vector, degraded)
    with database.tenant_transaction(user.tenant_id) as connection:
        conversation, last = _last_turns(connection, scope, conversation_id, turns)
        shown_turns = _newest_within(last, None if budget is None else budget // 2)
        ranked = _rank(connection, scope, query, embedder.model, vector, similarities) if searches else []
        said = {_episode_id(turn.message_id) for turn in shown_turns}
        best = [(memory_id, score) for memory_id, score in ranked if memory_id not in said][:k]
        found = hydrate(connection, scope, [memory_id for memory_id, _ in best])
    spent = sum(turn.tokens for turn in shown_turns)
    memories = [_memory(found[memory_id], score) for memory_id, score in best if memory_id in found]
    shown = memories if budget is None else _within(memories, budget - spent)
    return RecallResult(
        query=query,
        memories=tuple(shown),
        conversation_id=conversation,
        turns=tuple(shown_turns),
        tokens=spent + sum(memory.tokens for memory in shown),
        omitted=len(last) - len(shown_turns) + len(memories) - len(shown),
        degraded=tuple(degraded),
    )


def estimate_tokens(text: str) -> int:
    """Return the tokens of `text` by rule of thumb, four characters each, rounded up.

    A caller's model is not known here, and tokenizers of current models differ by more than this rule errs on English.
    """
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def _require_encodable(query: str) -> None:
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise MemoryPipelineError(
            f"the query has no UTF-8 form: half a surrogate pair at character {error.start + 1}. Send it whole."
        ) from error


def _episode_id(message_id: UUID) -> UUID:
    return UUID(ids.episode_hex(message_id.hex))


def _embed_query(embedder: Embedder, query: str, degraded: list[str], meter: UsageMeter) -> Vector | None:
    try:
        vector: Vector = embed_texts(embedder, [query], meter)[0]
    except MemoryPipelineError as error:
        degraded.append(f"embedder: {error}")
        return None
    return vector


def _suggest(
    database: Database,
    chroma: ChromaStore | None,
    scope: Scope,
    model: str,
    vector: Vector,
    degraded: list[str],
) -> dict[UUID, float]:
    """Return the cosines of the memories that the index holds nearest to the query; none where it can't be asked.

    No transaction is open meanwhile: a slow index must not hold a connection of the pool.
    """
    if chroma is None:
        degraded.append("chroma: not configured; the answer rests on full text.")
        return {}
    with database.tenant_transaction(scope.tenant_id) as connection:
        generation = live_generation(connection, scope.tenant_id, model)
    if generation is None:
        degraded.append(f"chroma: there is no live {model} index of this tenant; the answer rests on full text.")
        return {}
    try:
        hits = chroma.query(generation.collection_uuid, vector, CANDIDATES, {"user_id": scope.user_id})
    except MemoryPipelineError as error:
        degraded.append(f"chroma: {error}")
        return {}
    similarities: dict[UUID, float] = {}
    for hit in hits:  # chunks of one memory: the nearest comes first
        similarities.setdefault(hit.memory_id, 1.0 - hit.distance)
    return similarities


def _rank(
    connection: Connection,
    scope: Scope,
    query: str,
    model: str,
    vector: Vector | None,
    similarities: Mapping[UUID, float],
) -> list[tuple[UUID, float]]:
    """Return the ids of memories that may answer the query with their scores, best first."""
    hits = find_hits(connection, scope, query, similarities.keys(), limit=CANDIDATES)
    about_turns = {hit.message_id for hit in hits if hit.kind in _ABOUT_ONE_TURN}
    nearby = nearby_messages(connection, scope, about_turns)
    signals = turn_signals(
        connection, scope, [(near.message_id, _episode_id(near.message_id)) for near in nearby], model, vector
    )
    candidate_messages = {near.message_id for near in nearby if near.is_candidate}
    return fuse(query, make_candidates(hits, signals, candidate_messages, similarities))


def make_candidates(
    hits: Sequence[Hit],
    signals: Sequence[TurnSignals],
    candidate_messages: set[UUID],
    similarities: Mapping[UUID, float],
) -> list[Candidate]:
    """Return the turns and the other memories that compete, with their signals.

    A fact stands where it was said, so it has the surroundings of its turn, but its own words. A summary or profile
    stands for itself.
    """
    text = {hit.memory_id: hit.text_score for hit in hits}
    session_text = {(hit.conversation_id, hit.day): hit.session_text_score for hit in hits}
    turns = {
        turn.message_id: Candidate(
            memory_id=turn.memory_id,
            window_similarity=turn.window_similarity,
            lead_in_similarity=turn.lead_in_similarity,
            text=text.get(turn.memory_id, 0.0),
            session_text=session_text.get((turn.conversation_id, turn.day), 0.0),
            characters=turn.characters,
            speaker=turn.speaker,
            answers=turn.answered_id,
        )
        for turn in signals
    }
    candidates = [turn for message_id, turn in turns.items() if message_id in candidate_messages]
    for hit in hits:
        if hit.kind == MemoryKind.EPISODE:
            continue
        turn = turns.get(hit.message_id) if hit.kind == MemoryKind.FACT else None
        if turn is not None:
            candidates.append(
                msgspec.structs.replace(turn, memory_id=hit.memory_id, text=hit.text_score, characters=None)
            )
        else:
            own = similarities.get(hit.memory_id)
            candidates.append(
                Candidate(memory_id=hit.memory_id, window_similarity=own, lead_in_similarity=own, text=hit.text_score)
            )
    return candidates


def _last_turns(
    connection: Connection, scope: Scope, named: UUID | None, turns: int
) -> tuple[UUID | None, list[RecalledTurn]]:
    if named is None and turns == 0:
        return None, []
    conversation = find_conversation(connection, scope, named)
    if conversation is None:
        if named is not None:
            raise NotFoundError(f"the user takes part in no conversation {named}.")
        return None, []
    said = last_turns(connection, scope.tenant_id, conversation, turns)
    return conversation, [_turn(turn) for turn in said]


def _turn(turn: ConversationTurn) -> RecalledTurn:
    return RecalledTurn(
        message_id=turn.message_id,
        role=turn.role,
        speaker=turn.speaker,
        content=turn.content,
        said_at=turn.sent_at,
        tokens=estimate_tokens(f"{turn.speaker}: {turn.content}"),
    )


def _memory(found: FoundMemory, score: float) -> RecalledMemory:
    return RecalledMemory(
        memory_id=found.memory_id,
        kind=found.kind,
        content=found.content,
        score=score,
        tokens=estimate_tokens(found.content),
        project=found.project,
        confidence=found.confidence,
        valid_from=found.valid_from,
        valid_to=found.valid_to,
        sources=found.sources,
    )


def _newest_within(turns: Sequence[RecalledTurn], budget: int | None) -> list[RecalledTurn]:
    """Return the newest turns that fit, without a gap, oldest first."""
    if budget is None:
        return list(turns)
    kept: list[RecalledTurn] = []
    for turn in reversed(turns):
        if turn.tokens > budget:
            break
        budget -= turn.tokens
        kept.append(turn)
    return kept[::-1]


def _within(memories: Iterable[RecalledMemory], budget: int) -> list[RecalledMemory]:
    kept: list[RecalledMemory] = []
    for memory in memories:
        if memory.tokens <= budget:
            budget -= memory.tokens
            kept.append(memory)
    return kept

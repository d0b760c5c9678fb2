"""The record of answers: who asked when, how much came back and how fast, and what embedding the question cost.

Not what was asked: a hash of the question tells that it was asked before, and nothing else of it is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Literal, NamedTuple
from uuid import UUID

import structlog

from memory_pipeline import metrics
from memory_pipeline.model.errors import MemoryPipelineError, RecordRefusedError
from memory_pipeline.model.usage import LlmUsage, SentTexts, UsageMeter, share_usage
from memory_pipeline.serving.recall import RecallResult
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.tenants import User
from memory_pipeline.stores.postgres.usage import MemoryAccess, ModelCall, write_access, write_charge

Channel = Literal["cli", "api"]

log = structlog.get_logger(__name__)


class QueryEmbedding(NamedTuple):
    """What embedding a question was charged; `plugin` as the plugin registry names the embedder."""

    plugin: str
    model: str
    meter: UsageMeter
    price_per_million_tokens: Decimal | None


def log_recall(
    database: Database,
    user: User,
    result: RecallResult,
    embedding: QueryEmbedding | None,
    *,
    channel: Channel,
    correlation_id: UUID,
    seconds: float,
    from_cache: bool = False,
) -> bool:
    """Write down one answer of `recall` that took so many seconds; return whether that worked.

    `database` is to be open as memory_app. `embedding` is None where no question was embedded: the answer was cached.
    Never raises for a store that is away or refuses the row: the answer is there and must be given. That is logged and
    counted instead.
    """
    access = MemoryAccess(
        tenant_id=user.tenant_id,
        user_id=user.user_id,
        correlation_id=correlation_id,
        what="recall",
        channel=channel,
        query_hash=query_hash(user.user_id, result.query),
        memory_ids=[memory.memory_id for memory in result.memories],
        turns=len(result.turns),
        degraded_parts=list(dict.fromkeys(told.partition(":")[0] for told in result.degraded)),
        from_cache=from_cache,
        milliseconds=seconds * 1000,
    )
    try:
        if embedding is None:
            write_access(database, access, None, [])
        else:
            call, usage = _charge(user, result.query, embedding, correlation_id)
            write_access(database, access, call, usage)
    except MemoryPipelineError as error:
        _tell("recall_not_logged", user, correlation_id, error)
        if embedding is not None and isinstance(error, RecordRefusedError):  # rolled back, so nothing is charged twice
            log_charge(database, user, result.query, embedding, correlation_id=correlation_id)
        return False
    return True


@contextmanager
def charging_failures(
    database: Database, user: User, query: str, embedding: QueryEmbedding, *, correlation_id: UUID
) -> Iterator[None]:
    """Write down what embedding the question was charged, where what is done here raises: the money is spent.

    An answer that is given is for `log_recall`, which writes its cost with it.
    """
    try:
        yield
    except BaseException:
        log_charge(database, user, query, embedding, correlation_id=correlation_id)
        raise


def log_charge(database: Database, user: User, query: str, embedding: QueryEmbedding, *, correlation_id: UUID) -> bool:
    """Write down what embedding a question was charged, without an answer; return whether that worked.

    Where nothing was charged, nothing is written. As `log_recall`, it never raises for a store that is away or refuses.
    """
    call, usage = _charge(user, query, embedding, correlation_id)
    if not usage:
        return True
    try:
        write_charge(database, user.tenant_id, call, usage)
    except MemoryPipelineError as error:
        _tell("query_charge_not_logged", user, correlation_id, error)
        return False
    return True


def _charge(
    user: User, query: str, embedding: QueryEmbedding, correlation_id: UUID
) -> tuple[ModelCall, list[LlmUsage]]:
    # A question without a UTF-8 form was never sent: its meter counted nothing.
    sent = {user.tenant_id: SentTexts(1, len(query.encode(errors="surrogatepass")))}
    usage = share_usage(embedding.meter, sent, embedding.price_per_million_tokens)
    return ModelCall(correlation_id, embedding.plugin, embedding.model, "query_embedding"), usage


def _tell(event: str, user: User, correlation_id: UUID, error: MemoryPipelineError) -> None:
    metrics.accesses_unlogged.inc()
    log.warning(
        event,
        tenant_id=str(user.tenant_id),
        correlation_id=str(correlation_id),
        error_class=type(error).__name__,
        message=str(error),
    )


def query_hash(user_id: UUID, query: str) -> bytes:
    """Return what tells that a user asks the same again, whatever the case and the white space: 32 bytes.

    The user is part of it, so that two users who ask the same can't be told by it. Not a secret: who guesses the
    question can confirm the guess.
    """
    return hashlib.sha256(user_id.bytes + " ".join(query.casefold().split()).encode()).digest()

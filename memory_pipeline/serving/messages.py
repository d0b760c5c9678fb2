"""Writing the messages of an application: in one transaction, all or nothing, and then in the cached conversations.

Posting a message again changes nothing and answers the same; another message under its name is a conflict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import msgspec
import structlog

from memory_pipeline.logs import places_of
from memory_pipeline.model import ids
from memory_pipeline.model.errors import (
    BusyError,
    ConflictError,
    InvalidRequestError,
    MemoryPipelineError,
    RecordRefusedError,
    StoreUnavailableError,
)
from memory_pipeline.model.identity import Principal
from memory_pipeline.model.records import BufferedWrite, IncomingMessage
from memory_pipeline.model.window import NamedMemory
from memory_pipeline.serving.rows import conversation_row, episode_of, identity_of, incoming_row, speaker_of
from memory_pipeline.serving.transcript import cache_message, cache_owner, client_name
from memory_pipeline.stores.postgres.conversations import Conversation, owe_invalidations
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.messages import (
    ConversationRow,
    IncomingRow,
    Inserted,
    MessageKey,
    ReferenceGoneError,
    StoredMessage,
    insert_messages,
    stored_messages,
)
from memory_pipeline.stores.postgres.tenants import display_name_of
from memory_pipeline.stores.redis.conversations import Announcement, ConversationCache

log = structlog.get_logger(__name__)

_TRIES = 3

Result = TypeVar("Result")


class MessageOwner(msgspec.Struct, frozen=True):
    """For whom messages are written."""

    tenant_id: UUID
    user_id: UUID
    display_name: str

    @classmethod
    def of(cls, principal: Principal) -> MessageOwner:
        return cls(principal.tenant_id, principal.user_id, principal.display_name)


class TakenMessage(msgspec.Struct, frozen=True):
    """What became of one message. The ids of ours are None while it is only buffered."""

    id: str
    conversation_id: UUID
    message_id: UUID | None
    memory_id: UUID | None
    sent_at: datetime


class Written(msgspec.Struct, frozen=True):
    """What one write did."""

    taken: list[TakenMessage]
    """In the order of the messages."""
    inserted: int
    """How many were new."""


def write(
    database: Database,
    cache: ConversationCache,
    owner: MessageOwner,
    messages: Sequence[IncomingMessage],
    *,
    actor: str,
    correlation_id: UUID,
    with_jobs: bool,
) -> Written:
    """Write prepared messages in one transaction, then bring the cached conversations up to date.

    Raises ConflictError where a message id is taken by another message, InvalidRequestError where Postgres can't store
    one, StoreUnavailableError where Postgres is away (it may or may not be stored then: write it again).
    """
    rows, conversations = _rows(owner, messages)
    conversation_ids = [UUID(conversation_id) for conversation_id in conversations]
    announcement: Announcement | None = None

    def work(connection: Connection) -> tuple[list[StoredMessage], Inserted]:
        nonlocal announcement
        outcome = insert_messages(
            connection,
            list(conversations.values()),
            list(rows.values()),
            actor=actor,
            correlation_id=correlation_id,
            with_jobs=with_jobs,
        )
        for key in outcome.conflicting:
            raise _conflict(client_name(*key))
        # What is new is stored as it was sent; only repeated messages have to be looked up.
        everything_is_new = outcome.inserted == len(rows)
        stored = (
            [_stored(row) for row in rows.values()]
            if everything_is_new
            else stored_messages(connection, list(rows.values()))
        )
        # A transaction that is tried again announces itself again; what it said before is taken back.
        cache.withdraw(announcement)
        announcement = cache.announce(*conversation_ids)
        if announcement is None:
            owe_invalidations(connection, owner.tenant_id, conversation_ids)
        return stored, outcome

    try:
        stored, outcome = _in_tenant(database, owner.tenant_id, work)
    except StoreUnavailableError:
        # It may have been committed, so the announcement stays: nobody reads a cached copy until it has run out.
        raise
    except MemoryPipelineError:
        cache.withdraw(announcement)
        raise
    by_conversation: dict[UUID, list[StoredMessage]] = defaultdict(list)
    for row in stored:
        by_conversation[row.conversation_id].append(row)
    for conversation_id in conversation_ids:
        created_at = outcome.new_conversations.get(conversation_id)
        described = conversations[conversation_id.hex]
        cache.append(
            conversation_id,
            announcement,
            [cache_message(row) for row in by_conversation[conversation_id]],
            created=None if created_at is None else cache_owner(owner.tenant_id, _conversation(described, created_at)),
        )
    by_key = {(row.source, row.source_message_id): row for row in stored}
    taken = [_taken(by_key[message.source, message.source_message_id]) for message in messages]
    return Written(taken, outcome.inserted)


def _stored(row: IncomingRow) -> StoredMessage:
    return StoredMessage(
        row.source,
        row.source_message_id,
        UUID(row.message_id),
        UUID(row.conversation_id),
        row.role,
        row.speaker,
        row.content,
        row.sent_at.astimezone(UTC),
        row.position,
    )


def _conversation(row: ConversationRow, created_at: datetime) -> Conversation:
    return Conversation(
        UUID(row.conversation_id),
        UUID(row.user_id),
        row.source,
        row.source_conversation_id,
        row.title,
        row.project,
        created_at.astimezone(UTC),
    )


def ingest_block_async(
    database: Database,
    cache: ConversationCache,
    owner: MessageOwner,
    messages: Sequence[IncomingMessage],
    *,
    actor: str,
    correlation_id: UUID,
) -> Written:
    """Write messages and leave their enrichment to the worker, by a job each. Raises as `write` does."""
    return write(database, cache, owner, messages, actor=actor, correlation_id=correlation_id, with_jobs=True)


def ingest_block(
    database: Database,
    cache: ConversationCache,
    owner: MessageOwner,
    messages: Sequence[IncomingMessage],
    *,
    actor: str,
    correlation_id: UUID,
    refresh: Callable[[Sequence[NamedMemory]], object],
) -> Written:
    """Write messages and enrich, embed and index them before this returns: nothing waits for a worker.

    Messages that are stored stay stored where a later stage fails; they are then pending, as without a worker.
    """
    written = write(database, cache, owner, messages, actor=actor, correlation_id=correlation_id, with_jobs=False)
    named = [
        NamedMemory(owner.tenant_id, taken.memory_id, taken.sent_at.astimezone(UTC).date())
        for taken in written.taken
        if taken.memory_id is not None
    ]
    try:
        refresh(named)
    except MemoryPipelineError as error:
        log.error("memories_left_pending", memories=len(named), error=type(error).__name__, message=str(error))
    except Exception as error:  # noqa: BLE001 - the messages are stored, whatever a plugin raises
        log.error("memories_left_pending", memories=len(named), error=places_of(error))
    return written


def write_buffered(database: Database, cache: ConversationCache, entry: BufferedWrite, *, with_jobs: bool) -> Written:
    """Write a request that waited in the write buffer, as it would have been written. Raises as `write` does."""
    with database.tenant_transaction(entry.tenant_id) as connection:
        display_name = display_name_of(connection, entry.tenant_id, entry.user_id)
    owner = MessageOwner(entry.tenant_id, entry.user_id, display_name)
    actor = f"user:{entry.user_id}"
    return write(
        database, cache, owner, entry.messages, actor=actor, correlation_id=entry.correlation_id, with_jobs=with_jobs
    )


def buffered(owner: MessageOwner, messages: Sequence[IncomingMessage]) -> list[TakenMessage]:
    """What can be said of messages that wait for Postgres: a repeated one will keep its ids, so none are told."""
    return [
        TakenMessage(
            client_name(message.source, message.source_message_id),
            ids.conversation_id(owner.tenant_id, message.source, message.source_conversation_id),
            None,
            None,
            message.sent_at,
        )
        for message in messages
    ]


def _in_tenant(database: Database, tenant_id: UUID, work: Callable[[Connection], Result]) -> Result:
    for attempt in range(1, _TRIES + 1):
        try:
            return database.in_tenant(tenant_id, work)
        except ReferenceGoneError:
            # Somebody deletes the conversation right now; the next try makes it anew.
            if attempt == _TRIES:
                raise BusyError(
                    "the conversation is deleted again and again while this is written: send it again later."
                ) from None
        except RecordRefusedError as error:
            raise InvalidRequestError(f"a message can't be stored: {error}") from error
    raise AssertionError("not reached")


def _rows(
    owner: MessageOwner, messages: Sequence[IncomingMessage]
) -> tuple[dict[MessageKey, IncomingRow], dict[str, ConversationRow]]:
    """Return rows by key and conversations by id. The same message twice is one; another under its id is a conflict."""
    rows: dict[MessageKey, IncomingRow] = {}
    conversations: dict[str, ConversationRow] = {}
    tenant = owner.tenant_id.hex
    for message in messages:
        row = incoming_row(tenant, owner.user_id.hex, speaker_of(message, owner.display_name), message)
        key = (row.source, row.source_message_id)
        if key in rows and identity_of(rows[key]) != identity_of(row):
            raise _conflict(client_name(*key))
        rows.setdefault(key, row)
        conversations.setdefault(row.conversation_id, conversation_row(row, message))
    return rows, conversations


def _taken(row: StoredMessage) -> TakenMessage:
    return TakenMessage(
        client_name(row.source, row.source_message_id),
        row.conversation_id,
        row.message_id,
        episode_of(row.message_id, row.role),
        row.sent_at,
    )


def _conflict(name: str) -> ConflictError:
    return ConflictError(
        f"message id {name!r} is taken by another message of yours: messages are never changed. Give the new one an "
        "id of its own. Nothing of this request was stored."
    )

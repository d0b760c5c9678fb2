"""A user's conversations: read from Redis first, else from Postgres; listed from Postgres; deleted from both."""

from __future__ import annotations

from uuid import UUID

from memory_pipeline.model.errors import MemoryPipelineError, NotFoundError, StoreUnavailableError
from memory_pipeline.model.identity import Principal
from memory_pipeline.serving.transcript import (
    array,
    cache_message,
    cache_owner,
    conversation_json,
    document,
    message_json,
)
from memory_pipeline.stores.postgres.conversations import (
    Deleted,
    delete_conversation,
    find_conversation,
    list_conversations,
    newest_messages,
    owe_invalidations,
)
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.redis.conversations import (
    MOST_MESSAGES,
    Announcement,
    CachedConversation,
    ConversationCache,
    Ticket,
)

DELETION_SECONDS = 60.0
"""A long conversation takes its time: its memories, vectors and edges go one by one."""


def read(
    database: Database,
    cache: ConversationCache,
    principal: Principal,
    conversation_id: UUID,
    *,
    limit: int = MOST_MESSAGES,
    before_id: UUID | None = None,
) -> bytes:
    """Return a conversation of the user with its newest messages (before one of them) as JSON, oldest first.

    Raises NotFoundError where it is not there or another's; which of the two is not told.
    """
    ticket = Ticket(None)
    fetched = limit
    if before_id is None and limit <= MOST_MESSAGES:
        cached = cache.read(conversation_id, principal.tenant_id, principal.user_id, newest=limit)
        if isinstance(cached, CachedConversation):
            return document(cached.metadata, cached.messages)
        ticket, fetched = cached, MOST_MESSAGES
    with database.tenant_transaction(principal.tenant_id) as connection:
        conversation = find_conversation(connection, principal.tenant_id, principal.user_id, conversation_id)
        if conversation is None:
            raise no_conversation(conversation_id)
        messages = newest_messages(connection, principal.tenant_id, conversation_id, fetched, before_id)
    cache.warm(
        conversation_id,
        ticket,
        cache_owner(principal.tenant_id, conversation),
        [cache_message(message) for message in messages] if ticket.lease is not None else [],
    )
    return document(conversation_json(conversation), array([message_json(message) for message in messages[-limit:]]))


def list_page(database: Database, principal: Principal, limit: int, after_id: UUID | None) -> bytes:
    """Return a page of the user's conversations as JSON, newest first."""
    with database.tenant_transaction(principal.tenant_id) as connection:
        found = list_conversations(connection, principal.tenant_id, principal.user_id, limit, after_id)
    return b'{"conversations":' + array([conversation_json(conversation) for conversation in found]) + b"}"


def delete(
    database: Database, cache: ConversationCache, principal: Principal, conversation_id: UUID, correlation_id: UUID
) -> Deleted:
    """Delete a conversation with its messages and all that was derived from them. Raises NotFoundError."""
    announcement: Announcement | None = None

    def work(connection: Connection) -> Deleted:
        nonlocal announcement
        deleted = delete_conversation(
            connection,
            principal.tenant_id,
            principal.user_id,
            conversation_id,
            actor=principal.actor,
            correlation_id=correlation_id,
        )
        if deleted is None:
            raise no_conversation(conversation_id)
        cache.withdraw(announcement)
        announcement = cache.announce(conversation_id)
        if announcement is None:
            owe_invalidations(connection, principal.tenant_id, [conversation_id])
        return deleted

    try:
        deleted = database.in_tenant(principal.tenant_id, work, statement_seconds=DELETION_SECONDS)
    except StoreUnavailableError:
        # It may have been committed: the announcement keeps the cached copy from being read.
        raise
    except MemoryPipelineError:
        cache.withdraw(announcement)
        raise
    cache.drop([conversation_id], announcement)
    return deleted


def no_conversation(conversation_id: UUID) -> NotFoundError:
    return NotFoundError(f"you have no conversation {conversation_id}.")

"""A user's conversations: read from Redis first, else from Postgres; listed from Postgres; deleted from both."""

from __future__ import annotations

from uuid import UUID

import msgspec

from memory_pipeline.model.errors import NotFoundError
from memory_pipeline.model.identity import Principal
from memory_pipeline.serving.messages import client_name
from memory_pipeline.stores.postgres.conversations import (
    Conversation,
    ConversationMessage,
    Deleted,
    delete_conversation,
    find_conversation,
    list_conversations,
    newest_messages,
    owe_invalidations,
)
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.redis.conversations import CACHED_MESSAGES, ConversationCache


def read(
    database: Database,
    cache: ConversationCache,
    principal: Principal,
    conversation_id: UUID,
    *,
    limit: int = CACHED_MESSAGES,
    before_id: UUID | None = None,
) -> bytes:
    """Return a conversation of the user with its newest messages (before one of them) as JSON.

    Raises NotFoundError where it is not there or another's; which of the two is not told.
    """
    wants_cache = before_id is None and limit <= CACHED_MESSAGES
    ticket = None
    if wants_cache:
        cached = cache.read(conversation_id, principal.tenant_id, principal.user_id)
        if cached.found is not None:
            return _document(cached.found.conversation, cached.found.messages[-limit:])
        ticket = cached.ticket
    with database.tenant_transaction(principal.tenant_id) as connection:
        conversation = find_conversation(connection, principal.tenant_id, principal.user_id, conversation_id)
        if conversation is None:
            raise no_conversation(conversation_id)
        fetched = CACHED_MESSAGES if wants_cache else limit
        messages = newest_messages(connection, principal.tenant_id, conversation_id, fetched, before_id)
    if ticket is not None:
        cache.warm(ticket, conversation, messages)
    return _document(conversation_json(conversation), [message_json(message) for message in messages[-limit:]])


def list_page(database: Database, principal: Principal, limit: int, after_id: UUID | None) -> bytes:
    """Return a page of the user's conversations as JSON, newest first."""
    with database.tenant_transaction(principal.tenant_id) as connection:
        found = list_conversations(connection, principal.tenant_id, principal.user_id, limit, after_id)
    return b'{"conversations":[' + b",".join(conversation_json(conversation) for conversation in found) + b"]}"


def delete(
    database: Database, cache: ConversationCache, principal: Principal, conversation_id: UUID, correlation_id: UUID
) -> Deleted:
    """Delete a conversation with its messages and all that was derived from them. Raises NotFoundError."""
    # Dropped before and after: no copy survives, and no reader under way brings one back.
    dropped = cache.drop([conversation_id])

    def work(connection: Connection) -> Deleted | None:
        deleted = delete_conversation(
            connection,
            principal.tenant_id,
            principal.user_id,
            conversation_id,
            actor=principal.actor,
            correlation_id=correlation_id,
        )
        if deleted is not None and not dropped:
            owe_invalidations(connection, principal.tenant_id, [conversation_id])
        return deleted

    deleted = database.in_tenant(principal.tenant_id, work)
    if deleted is None:
        raise no_conversation(conversation_id)
    cache.drop([conversation_id])
    return deleted


def no_conversation(conversation_id: UUID) -> NotFoundError:
    return NotFoundError(f"you have no conversation {conversation_id}.")


def conversation_json(conversation: Conversation) -> bytes:
    return msgspec.json.encode(
        {
            "conversation_id": conversation.conversation_id,
            "id": client_name(conversation.source, conversation.source_conversation_id),
            "source": conversation.source,
            "title": conversation.title,
            "project": conversation.project,
            "created_at": conversation.created_at,
        }
    )


def message_json(message: ConversationMessage) -> bytes:
    return msgspec.json.encode(message)


def _document(conversation: bytes, messages: list[bytes]) -> bytes:
    return b'{"conversation":' + conversation + b',"messages":[' + b",".join(messages) + b"]}"

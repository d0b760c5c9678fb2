"""Conversations as applications read them: the same JSON from Postgres and from the cache."""

from __future__ import annotations

from datetime import UTC
from uuid import UUID

import msgspec

from memory_pipeline.stores.postgres.conversations import Conversation
from memory_pipeline.stores.postgres.messages import StoredMessage
from memory_pipeline.stores.redis.conversations import CacheMessage, Owner

API_SOURCE = "api"
"""Source of the messages that applications post."""


def client_name(source: str, source_id: str) -> str:
    """Return a stored name of a message or conversation as the application knows it."""
    return source_id.partition("/")[2] if source == API_SOURCE else source_id


def conversation_json(conversation: Conversation) -> bytes:
    """Return a conversation without its messages, as a JSON object."""
    return msgspec.json.encode(
        {
            "conversation_id": conversation.conversation_id,
            "id": client_name(conversation.source, conversation.source_conversation_id),
            "source": conversation.source,
            "title": conversation.title,
            "project": conversation.project,
            "created_at": conversation.created_at.astimezone(UTC),
        }
    )


def message_json(message: StoredMessage) -> bytes:
    """Return a message as a JSON object."""
    return msgspec.json.encode(
        {
            "message_id": message.message_id,
            "id": client_name(message.source, message.source_message_id),
            "role": message.role,
            "speaker": message.speaker,
            "content": message.content,
            "sent_at": message.sent_at.astimezone(UTC),
        }
    )


def document(conversation: bytes, messages: bytes) -> bytes:
    """Return a conversation (a JSON object) with messages (a JSON array)."""
    return b'{"conversation":' + conversation + b',"messages":' + messages + b"}"


def array(objects: list[bytes]) -> bytes:
    return b"[" + b",".join(objects) + b"]"


def cache_message(message: StoredMessage) -> CacheMessage:
    return CacheMessage(message.sent_at, message.position, message.message_id, message_json(message))


def cache_owner(tenant_id: UUID, conversation: Conversation) -> Owner:
    return Owner(tenant_id, conversation.user_id, conversation_json(conversation))

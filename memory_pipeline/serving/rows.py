"""From a record to the row that is stored: derived ids, the episode's speaker. The same for imports and the API."""

from __future__ import annotations

from uuid import UUID

import msgspec

from memory_pipeline.model import ids
from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline.stores.postgres.messages import ConversationRow, IncomingRow, MessageIdentity

_REMEMBERED_ROLES = frozenset({Role.USER, Role.ASSISTANT})


def incoming_row(tenant_hex: str, user_hex: str, speaker: str, message: IncomingMessage) -> IncomingRow:
    """Return the row of one message of a user; `speaker` is who its episode names."""
    message_id = ids.message_hex(
        tenant_hex, message.source, message.source_message_id, ids.milliseconds(message.sent_at)
    )
    return IncomingRow(
        message_id,
        ids.conversation_hex(tenant_hex, message.source, message.source_conversation_id),
        user_hex,
        message.source,
        message.source_message_id,
        message.project,
        message.role.value,
        message.speaker,
        message.content,
        message.sent_at,
        message.position,
        msgspec.json.encode(message.raw_data).decode() if message.raw_data else None,
        ids.episode_hex(message_id) if message.role in _REMEMBERED_ROLES else None,
        speaker,
    )


def conversation_row(row: IncomingRow, message: IncomingMessage) -> ConversationRow:
    """Return the conversation of a message as that message describes it; `row` is the message's own."""
    return ConversationRow(
        row.conversation_id,
        row.user_id,
        row.source,
        message.source_conversation_id,
        message.conversation_title,
        message.project,
    )


def speaker_of(message: IncomingMessage, display_name: str) -> str:
    """Return who spoke: as the message says, else the user by name, or the role."""
    if message.speaker:
        return message.speaker
    return display_name if message.role is Role.USER else message.role.value.capitalize()


def identity_of(row: IncomingRow) -> MessageIdentity:
    return MessageIdentity(ids.message_hash(row.role, row.speaker, row.content), row.conversation_id, row.user_id)


def episode_of(message_id: UUID, role: str) -> UUID | None:
    """Return the id of a message's episode memory; None where it gets none."""
    return UUID(ids.episode_hex(message_id.hex)) if role in _REMEMBERED_ROLES else None

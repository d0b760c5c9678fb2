"""Records that travel between the parts: what an importer yields, what a stage reads, what an enricher answers.

They are plain immutable values. Times are aware datetimes in UTC, ids are `uuid.UUID`, hashes are 32 raw bytes.
"""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

import msgspec


class Role(StrEnum):
    """Who spoke, in the terms of chat APIs."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


class MemoryKind(StrEnum):
    """What a memory is: one turn as said, a statement drawn from it, a digest of a week, a portrait of a user."""

    EPISODE = "episode"
    FACT = "fact"
    SUMMARY = "summary"
    PROFILE = "profile"


class MemoryStatus(StrEnum):
    """Where a memory stands. `failed` is the dead-letter state: its reason is in `failure_class` and `failure_text`."""

    PENDING_ENRICHMENT = "pending_enrichment"
    ACTIVE = "active"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    DELETED = "deleted"


class RelationKind(StrEnum):
    """How one memory bears on another."""

    SUPERSEDES = "supersedes"
    CONTRADICTS = "contradicts"
    SUPPORTS = "supports"
    RELATED = "related"


# gc=False: a message can't be part of a cycle, and an import holds tens of thousands that the collector would walk.
class IncomingMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One chat turn as an importer or the API hands it in, before it has ids of ours.

    `source` and `source_message_id` identify it for ever within a tenant: sending it again changes nothing.
    """

    source: str
    source_message_id: str
    source_conversation_id: str
    role: Role
    content: str
    sent_at: datetime
    position: int
    """Ordinal within its conversation; orders turns that carry the same time."""
    speaker: str | None = None
    """Name of the person (or model) who spoke; None leaves it to the user's display name."""
    user_email: str | None = None
    """Whose memory it is; None leaves it to the import's `--user`."""
    conversation_title: str | None = None
    project: str | None = None
    raw_data: dict[str, Any] | None = None
    """What the source said beyond these fields and is worth keeping."""
    origin: str = ""
    """Where it was read, for people: `chat.jsonl:12`, `conversations.json, conversation 3, message 'a1'`."""


class BufferedWrite(msgspec.Struct, frozen=True, kw_only=True):
    """One authenticated request that waits in Redis until Postgres is back.

    Its messages are complete: ids, times and positions were given before it was buffered, so that writing it twice
    changes nothing. Also the payload of the `replay_write` job that is left of a request refused when it was replayed.
    """

    entry_id: UUID = msgspec.field(default_factory=uuid4)
    tenant_id: UUID
    user_id: UUID
    issuer: str
    subject: str
    correlation_id: UUID
    received_at: datetime
    messages: tuple[IncomingMessage, ...]


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """A record that was not taken, in words for the person who has to mend it."""

    origin: str
    reason: str
    """What is wrong with which record."""
    remedy: str
    """What to do about it."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What an enricher is shown of one message. A result may depend on nothing else."""

    message_id: UUID
    conversation_id: UUID
    role: Role
    speaker: str
    """Never empty: the speaker's name, else the user's display name."""
    content: str
    sent_at: datetime


class FactDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A statement found in one message, before it has an id.

    `slot` names what can be true only once at a time for the subject. In "lives_in" or "favourite:colour" a later fact
    with another object supersedes the earlier one, and so does one that negates the same object. A slot with a thing of
    its own ("preference:coffee", any "family:thing" but favourites) holds a yes or a no, however the object is worded:
    only a later fact of the other polarity (predicate `dislikes` is a no) supersedes. None means the fact stands beside
    all others.
    """

    subject: str
    predicate: str
    object: str
    statement: str
    """The whole fact as an English sentence in the third person, readable without the message."""
    confidence: float
    """0 to 1: how likely a person who read the message would agree."""
    valid_from: datetime
    """When it became or becomes true, as far as the text says; else when it was said."""
    valid_to: datetime | None = None
    slot: str | None = None
    negated: bool = False


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """One unit of long-term memory as stored."""

    tenant_id: UUID
    memory_id: UUID
    user_id: UUID
    conversation_id: UUID | None
    kind: MemoryKind
    status: MemoryStatus
    content: str
    content_hash: bytes
    day: date
    source_message_ids: tuple[UUID, ...]
    version: int
    project: str | None = None
    confidence: float | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    raw_data: dict[str, Any] = msgspec.field(default_factory=dict)

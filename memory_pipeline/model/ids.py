"""Ids and content hashes, derived from what they stand for, so that doing a thing twice names it once.

Derived ids are UUIDs of version 8 (RFC 9562 §5.8, "custom"): 48 bits of time, then 74 bits of BLAKE2b over the parts in
a namespace per kind of thing. Two tenants never share one, because the tenant id is always among the parts.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, time
from functools import lru_cache
from hashlib import blake2b
from uuid import UUID

# The two variant bits of RFC 9562 are 10: a hexadecimal digit keeps its low two bits and becomes 8, 9, a or b.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}

_COMPLEMENT = str.maketrans("0123456789abcdef", "fedcba9876543210")
_SEPARATOR = "\x1f"


def derive_hex(namespace: bytes, sent_at_ms: int, *parts: str) -> str:
    """Return the id (32 hexadecimal digits) of what `parts` identify within `namespace` (at most 16 bytes).

    Its first 48 bits are `sent_at_ms`, milliseconds since 1970, so that ids sort by time and index pages fill in order
    (as with UUID version 7).
    """
    # A part may itself hold the separator; its length in front keeps ("a", "b") apart from ("a\x1fb",).
    text = _SEPARATOR.join([f"{len(part)}:{part}" for part in parts])
    tail = blake2b(text.encode(), digest_size=10, person=namespace).hexdigest()
    return f"{sent_at_ms & 0xFFFFFFFFFFFF:012x}8{tail[:3]}{_VARIANT[tail[3]]}{tail[4:19]}"


def milliseconds(moment: datetime) -> int:
    """Return whole milliseconds since 1970 of an aware datetime; 0 before."""
    return max(0, int(moment.timestamp() * 1000))


def conversation_id(tenant_id: UUID, source: str, source_conversation_id: str) -> UUID:
    return UUID(conversation_hex(tenant_id.hex, source, source_conversation_id))


@lru_cache(maxsize=4096)  # a conversation's turns come together
def conversation_hex(tenant_hex: str, source: str, source_conversation_id: str) -> str:
    return derive_hex(b"conversation", 0, tenant_hex, source, source_conversation_id)


def message_id(tenant_id: UUID, source: str, source_message_id: str, sent_at: datetime) -> UUID:
    return UUID(message_hex(tenant_id.hex, source, source_message_id, milliseconds(sent_at)))


def message_hex(tenant_hex: str, source: str, source_message_id: str, sent_at_ms: int) -> str:
    return derive_hex(b"message", sent_at_ms, tenant_hex, source, source_message_id)


def episode_hex(message_hex: str) -> str:
    """The id of the episode memory of one message: the same time, the last 60 bits complemented."""
    return message_hex[:17] + message_hex[17:].translate(_COMPLEMENT)


def fact_id(
    message: UUID, enricher: str, subject: str, predicate: str, object_: str, negated: bool, slot: str | None
) -> UUID:
    """The id of one statement found in one message by one enricher, whatever its version.

    The slot belongs to it: a fact that changed slots would leave those it ended or supported there behind.
    """
    parts = (message.hex, enricher, subject, predicate, object_, "not" if negated else "", slot or "")
    return UUID(derive_hex(b"fact", int(message.hex[:12], 16), *parts))


def summary_id(tenant_id: UUID, user_id: UUID, week: date) -> UUID:
    """The id of a user's summary of the week that begins on the Monday `week`."""
    monday = datetime.combine(week, time(), tzinfo=UTC)
    return UUID(derive_hex(b"summary", milliseconds(monday), tenant_id.hex, user_id.hex))


def sha256(text: str) -> bytes:
    """Return the 32-byte content hash of `text`; equals `sha256(convert_to(text, 'UTF8'))` in Postgres."""
    return hashlib.sha256(text.encode()).digest()


def message_hash(role: str, speaker: str | None, content: str) -> bytes:
    """Return the 32-byte content hash of a message; equals `message_hash(role, speaker, content)` in Postgres."""
    name = speaker or ""
    return sha256(f"{role}{_SEPARATOR}{len(name)}{_SEPARATOR}{name}{_SEPARATOR}{content}")


def vector_id(memory_id: UUID, chunk: int) -> str:
    """The id of one vector in Chroma: from the row, never from a position in a batch."""
    return f"memory_{memory_id}" if chunk == 0 else f"memory_{memory_id}:{chunk}"


def parse_vector_id(text: str) -> tuple[UUID, int]:
    """Return memory id and chunk of a vector id. Raises ValueError where it is not one of ours."""
    memory, colon, chunk = text.removeprefix("memory_").partition(":")
    memory_id, number = UUID(memory), int(chunk) if colon else 0
    if number < 0 or vector_id(memory_id, number) != text:
        raise ValueError(f"{text!r} is not the id of a vector")
    return memory_id, number


def bucket_of(memory_id: UUID, buckets: int = 4096) -> int:
    """The audit bucket of a memory: its id's low bits, so that Postgres and Python agree without a hash function."""
    return memory_id.int % buckets

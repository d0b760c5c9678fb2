"""Ids and content hashes, derived from what they stand for, so that doing a thing twice names it once.

Derived ids are UUIDs of version 8 (RFC 9562 §5.8, "custom"): 122 bits of BLAKE2b over the parts, in a namespace per
kind of thing. Two tenants never share one, because the tenant id is always the first part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from uuid import UUID

_SEPARATOR = "\x1f"
_VERSION_AND_VARIANT_CLEARED = ~((0xF000 << 64) | (0xC000 << 48))
_VERSION_8_AND_VARIANT = (8 << 76) | (0x8000 << 48)


def derive_id(namespace: bytes, *parts: str) -> UUID:
    """Return the id of the thing that `parts` identify within `namespace` (at most 16 bytes, such as b"message")."""
    # A part may itself hold the separator; its length in front keeps ("a", "b") apart from ("a\x1fb",).
    text = _SEPARATOR.join(f"{len(part)}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=16, person=namespace).digest()
    number = int.from_bytes(digest)
    return UUID(int=(number & _VERSION_AND_VARIANT_CLEARED) | _VERSION_8_AND_VARIANT)


def conversation_id(tenant_id: UUID, source: str, source_conversation_id: str) -> UUID:
    return derive_id(b"conversation", tenant_id.hex, source, source_conversation_id)


def message_id(tenant_id: UUID, source: str, source_message_id: str) -> UUID:
    return derive_id(b"message", tenant_id.hex, source, source_message_id)


def episode_id(message: UUID) -> UUID:
    """The id of the episode memory of one message."""
    return derive_id(b"episode", message.hex)


def fact_id(message: UUID, enricher: str, subject: str, predicate: str, object_: str, negated: bool) -> UUID:
    """The id of one statement found in one message by one enricher, whatever its version."""
    return derive_id(b"fact", message.hex, enricher, subject, predicate, object_, "not" if negated else "")


def summary_id(tenant_id: UUID, user_id: UUID, week: str) -> UUID:
    """The id of a user's summary of one week (`week` is the Monday, ISO date)."""
    return derive_id(b"summary", tenant_id.hex, user_id.hex, week)


def sha256(text: str) -> bytes:
    """Return the 32-byte content hash of `text`; equals `sha256(convert_to(text, 'UTF8'))` in Postgres."""
    return hashlib.sha256(text.encode()).digest()


def message_hash(role: str, speaker: str | None, content: str) -> bytes:
    """Return the hash that tells a repeated message from a conflicting one under the same source id."""
    return sha256(_SEPARATOR.join((role, speaker or "", content)))


def vector_id(memory_id: UUID, chunk: int) -> str:
    """The id of one vector in Chroma: from the row, never from a position in a batch."""
    return f"memory_{memory_id}" if chunk == 0 else f"memory_{memory_id}:{chunk}"


def bucket_of(memory_id: UUID, buckets: int = 4096) -> int:
    """The audit bucket of a memory: its id's low bits, so that Postgres and Python agree without a hash function."""
    return memory_id.int % buckets


def digest(items: Iterable[bytes]) -> int:
    """Return the sum modulo 2^64 of hash64(item). A sum, not XOR: XOR hides an item that is there twice."""
    total = 0
    for item in items:
        total += int.from_bytes(hashlib.sha256(item).digest()[:8])
    return total % (1 << 64)

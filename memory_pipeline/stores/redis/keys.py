"""Every key this project writes to Redis, and how long each lives: the one place that says so.

Whoever writes a key asks its family for the name and the lifetime. Only the queue and the write buffer live until they
are done with; everything else may be gone at any moment.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from uuid import UUID

DAY = 86_400


class KeyFamily(NamedTuple):
    """Keys of one kind."""

    name: str
    pattern: str
    """Regular expression that a whole key must match."""
    seconds: int | None
    """Lifetime; None lives until it is done with."""


CONVERSATION = KeyFamily("conversation", r"conversation:[0-9a-f-]{36}", 7 * DAY)
CONVERSATION_MESSAGES = KeyFamily("conversation_messages", r"conversation:[0-9a-f-]{36}:messages", 7 * DAY)
CONVERSATION_WRITERS = KeyFamily("conversation_writers", r"conversation:[0-9a-f-]{36}:writers", 7 * DAY)
SESSION = KeyFamily("session", r"session:[0-9a-f]{64}", DAY)
AUTH = KeyFamily("auth", r"auth:[0-9a-f-]{36}", 3600)
RBAC = KeyFamily("rbac", r"rbac:[0-9a-f-]{36}:[a-z0-9:_-]+", 300)
CONTEXT = KeyFamily("context", r"context:[0-9a-f-]{36}:[0-9a-f-]{36}:\d+:[0-9a-f]+", 3600)
SHORT_TERM = KeyFamily("short_term", r"shortterm:.+", 3600)
ANALYTICS = KeyFamily("analytics", r"analytics:.+", 600)
WIRING = KeyFamily("wiring", r"wiring:[a-z]+:.+", 300)
LIMITS = KeyFamily("limits", r"limits:.+", 3600)
JOBS = KeyFamily("jobs", r"memory:jobs", None)
BUFFER = KeyFamily("buffer", r"memory:buffer(:[a-z]+)?", None)

FAMILIES = (
    CONVERSATION,
    CONVERSATION_MESSAGES,
    CONVERSATION_WRITERS,
    SESSION,
    AUTH,
    RBAC,
    CONTEXT,
    SHORT_TERM,
    ANALYTICS,
    WIRING,
    LIMITS,
    JOBS,
    BUFFER,
)
"""An upper bound each: a session or a recall answer may be given less by a setting."""


def family_of(key: str) -> KeyFamily | None:
    """Return the family a key belongs to; None is a key that nobody here should have written."""
    return next((family for family in FAMILIES if re.fullmatch(family.pattern, key)), None)


def conversation(conversation_id: UUID) -> str:
    return f"conversation:{conversation_id}"


def conversation_messages(conversation_id: UUID) -> str:
    return f"conversation:{conversation_id}:messages"


def conversation_writers(conversation_id: UUID) -> str:
    return f"conversation:{conversation_id}:writers"


def session(session_hash: bytes) -> str:
    return f"session:{session_hash.hex()}"


def auth(user_id: UUID) -> str:
    return f"auth:{user_id}"


def rbac(user_id: UUID, plugin: str) -> str:
    return f"rbac:{user_id}:{plugin}"


def wiring(process: str, instance: str) -> str:
    return f"wiring:{process}:{instance}"


BUFFER_KEY = "memory:buffer"
BUFFER_ENTRIES_KEY = "memory:buffer:entries"
BUFFER_COUNTS_KEY = "memory:buffer:counts"
BUFFER_TOTALS_KEY = "memory:buffer:totals"
BUFFER_ASIDE_KEY = "memory:buffer:aside"
JOBS_KEY = "memory:jobs"

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
CONVERSATION_LEASE = KeyFamily("conversation_lease", r"conversation:[0-9a-f-]{36}:lease", 60)
CONVERSATION_WRITERS = KeyFamily("conversation_writers", r"conversation:writers", 7 * DAY)
SESSION = KeyFamily("session", r"session:[0-9a-f]{64}", DAY)
AUTH = KeyFamily("auth", r"auth:[0-9a-f-]{36}", 3600)
RBAC = KeyFamily("rbac", r"rbac:[0-9a-f-]{36}:[a-z0-9:_-]+", 300)
CONTEXT = KeyFamily("context", r"context:[0-9a-f-]{36}:[0-9a-f-]{36}:\d+:[0-9a-f]+", 3600)
SHORT_TERM = KeyFamily("short_term", r"shortterm:.+", 3600)
ANALYTICS = KeyFamily("analytics", r"analytics:[0-9a-f-]{36}:memory-\d+-[0-9a-f]+\.duckdb:[a-z_]+:[0-9a-f]{64}", 600)
WIRING = KeyFamily("wiring", r"wiring:[a-z]+:.+", 300)
LIMITS = KeyFamily("limits", r"limits:.+", 3600)
JOBS = KeyFamily("jobs", r"memory:jobs", None)
BUFFER = KeyFamily("buffer", r"memory:buffer(:[a-z]+)?", None)

FAMILIES = (
    CONVERSATION,
    CONVERSATION_MESSAGES,
    CONVERSATION_LEASE,
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


def lifetime(key: str, seconds: int | None = None) -> int:
    """Return how many seconds `key` may live: as its family says, or `seconds` where that is less.

    Raises ValueError for a key of no family, of one without a lifetime, or for `seconds` below one.
    """
    family = family_of(key)
    if family is None or family.seconds is None:
        raise ValueError(f"{key!r} belongs to no family of keys with a lifetime: name it in stores/redis/keys.py")
    if seconds is not None and seconds < 1:
        raise ValueError(f"{key!r} can't live {seconds} seconds")
    return family.seconds if seconds is None else min(seconds, family.seconds)


def conversation(conversation_id: UUID) -> str:
    return f"conversation:{conversation_id}"


def conversation_messages(conversation_id: UUID) -> str:
    return f"conversation:{conversation_id}:messages"


def conversation_lease(conversation_id: UUID) -> str:
    return f"conversation:{conversation_id}:lease"


def session(session_hash: bytes) -> str:
    return f"session:{session_hash.hex()}"


def auth(user_id: UUID) -> str:
    return f"auth:{user_id}"


def rbac(user_id: UUID, plugin: str) -> str:
    return f"rbac:{user_id}:{plugin}"


def analytics(tenant_id: UUID, generation: str, report: str, asked: bytes) -> str:
    """`generation`: the name of the exported file; `asked`: a digest of what else the answer depends on."""
    return f"analytics:{tenant_id}:{generation}:{report}:{asked.hex()}"


def wiring(process: str, instance: str) -> str:
    return f"wiring:{process}:{instance}"


LIMITS_PREFIX = "limits"
"""What the keys of the family `limits` begin with, before a colon."""
WRITERS_KEY = "conversation:writers"
BUFFER_KEY = "memory:buffer"
BUFFER_ENTRIES_KEY = "memory:buffer:entries"
BUFFER_COUNTS_KEY = "memory:buffer:counts"
BUFFER_TOTALS_KEY = "memory:buffer:totals"
BUFFER_ASIDE_KEY = "memory:buffer:aside"
JOBS_KEY = "memory:jobs"

"""What an error of Redis means: the server is away, or it is there and refuses, or the mistake is ours."""

from __future__ import annotations

import re
from enum import StrEnum

import redis

_REFUSALS = re.compile(r"(?:^|[\s-])(MISCONF|NOREPLICAS|READONLY|MASTERDOWN|NOPERM|BUSY)\b")
_FULL = "OOM command not allowed"
_POOL_EXHAUSTED = "No connection available."


class Failure(StrEnum):
    """Why Redis did not do what it was asked; the values are labels of `memory_redis_failures`."""

    AWAY = "away"
    """It can't be reached, does not answer in time, or is loading its data."""
    BUSY = "busy"
    """Every connection of the pool is taken."""
    FULL = "full"
    """It has reached `maxmemory` and may not evict."""
    REFUSED = "refused"
    """It may not write, or this account may not (replica, failing disk, access list)."""


def failure_of(error: redis.RedisError) -> Failure | None:
    """Return what `error` says about the server; None is a mistake of the program, such as a key of another type."""
    if isinstance(error, redis.ConnectionError) and str(error) == _POOL_EXHAUSTED:
        return Failure.BUSY
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | redis.InvalidResponse):
        return Failure.AWAY
    if isinstance(error, redis.OutOfMemoryError) or _FULL in str(error):
        return Failure.FULL
    if isinstance(error, redis.ReadOnlyError | redis.exceptions.NoPermissionError) or _REFUSALS.search(str(error)):
        return Failure.REFUSED
    return None

"""What the processes of an installation tell each other through Redis: which database each of them works on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager

if TYPE_CHECKING:
    import redis

_INDEX = keys.wiring("index", "processes")
"""A sorted set of the announcements' keys by when each was made: nobody has to walk through all keys of the server."""
_FORGET_SECONDS = keys.DAY
"""Much longer than an announcement lives: clocks of hosts differ, and a key may be announced anew at any moment."""


def announce(manager: RedisManager, key: str, value: bytes) -> None:
    """Store or renew an announcement for as long as its family lives. Raises StoreUnavailableError."""
    now = time.time()

    def store(client: redis.Redis) -> None:
        with client.pipeline(transaction=True) as pipeline:
            pipeline.set(key, value, ex=keys.WIRING.seconds)
            pipeline.zadd(_INDEX, {key: now})
            pipeline.zremrangebyscore(_INDEX, "-inf", now - _FORGET_SECONDS)
            pipeline.expire(_INDEX, keys.WIRING.seconds or 0)
            pipeline.execute()

    manager.queue(store)


def read_announcements(manager: RedisManager) -> dict[str, bytes]:
    """Return the announcements that live, by key. Raises StoreUnavailableError."""

    def read(client: redis.Redis) -> dict[str, bytes]:
        listed: Any = client.zrange(_INDEX, 0, -1)
        known = [key.decode() for key in listed]
        values: Any = client.mget(known) if known else []
        return {key: value for key, value in zip(known, values, strict=True) if value is not None}

    return manager.queue(read)


def withdraw(manager: RedisManager, key: str) -> None:
    """Remove an announcement. Raises StoreUnavailableError."""

    def remove(client: redis.Redis) -> None:
        with client.pipeline(transaction=True) as pipeline:
            pipeline.delete(key)
            pipeline.zrem(_INDEX, key)
            pipeline.execute()

    manager.queue(remove)

"""How much was done within the last hour, counted in Redis for all processes together (`limits`, moving window).

What is counted was permitted to be tried; a process that dies after it, or a provider that fails, does not give it
back. A Redis that was emptied has forgotten the hour.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from memory_pipeline.model.limits import WINDOW_SECONDS, LimitedWork
from memory_pipeline.stores.redis.keys import LIMITS_PREFIX
from memory_pipeline.stores.redis.manager import RedisManager

if TYPE_CHECKING:
    import redis
    from limits.storage import RedisStorage


class Taken(NamedTuple):
    """How much may be done now, and in how many seconds there is room for more."""

    granted: int
    room_in: float


class HourlyWindows:
    """One window for each kind of work and tenant or user. Safe to use from threads and processes."""

    def __init__(self, manager: RedisManager) -> None:
        self._manager = manager
        self._storages: dict[int, RedisStorage] = {}

    def take(self, what: LimitedWork, of: UUID, per_hour: int, wanted: int) -> Taken:
        """Count up to `wanted` pieces of work of a tenant or user, and no more than there is room for in all.

        Where the connection is lost between, it may count them twice. Raises StoreUnavailableError.
        """
        name = f"{what}:{of}"

        def work(client: redis.Redis) -> Taken:
            storage = self._storage(client)
            amount = min(wanted, per_hour)
            while amount > 0 and not storage.acquire_entry(name, per_hour, WINDOW_SECONDS, amount):
                # Others may take what is left just now: each round asks for less, so there is an end.
                _, counted = storage.get_moving_window(name, per_hour, WINDOW_SECONDS)
                amount = min(amount - 1, per_hour - counted)
            granted = max(0, amount)
            return Taken(granted, 0.0 if granted == wanted else _room_in(storage, name, per_hour))

        return self._manager.queue(work)

    def room(self, what: LimitedWork, of: UUID, per_hour: int) -> Taken:
        """Tell how much could be taken now, and when there is room for more; nothing is counted."""
        name = f"{what}:{of}"

        def work(client: redis.Redis) -> Taken:
            storage = self._storage(client)
            counted = storage.get_moving_window(name, per_hour, WINDOW_SECONDS)[1] if per_hour else 0
            return Taken(max(0, per_hour - counted), _room_in(storage, name, per_hour))

        return self._manager.queue(work)

    def _storage(self, client: redis.Redis) -> RedisStorage:
        """The library on the manager's own connections, so that time-outs and failures are the manager's."""
        from limits.storage import RedisStorage

        pool = client.connection_pool
        storage = self._storages.get(id(pool))
        if storage is None:
            storage = RedisStorage(self._manager.url, connection_pool=pool, key_prefix=LIMITS_PREFIX)
            self._storages[id(pool)] = storage
        return storage


def _room_in(storage: RedisStorage, name: str, per_hour: int) -> float:
    """Return the seconds until the oldest of a full window leaves it; a limit of nothing has no room for an hour."""
    if not per_hour:
        return float(WINDOW_SECONDS)
    oldest, counted = storage.get_moving_window(name, per_hour, WINDOW_SECONDS)
    return max(0.0, oldest + WINDOW_SECONDS - time.time()) if counted >= per_hour else 0.0

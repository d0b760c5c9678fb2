"""The one connection manager for Redis: pools, time-outs, retries, and what happens while Redis is away.

Two ways to call. `cache` is for what may be missing: it never raises for Redis, costs at most some tens of milliseconds
when Redis has just gone away and nothing while it is known to be away, and answers the fallback. `queue` is for what
must arrive (the write buffer, the job stream): it retries, and raises StoreUnavailableError.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from memory_pipeline import metrics
from memory_pipeline.model.errors import StoreUnavailableError

if TYPE_CHECKING:
    import redis

Result = TypeVar("Result")

_CACHE_TIMEOUT_SECONDS = 0.04
_QUEUE_TIMEOUT_SECONDS = 5.0
_PAUSE_SECONDS = 1.0
"""How long a failed cache call keeps others from trying."""
_GUARD_MILLISECONDS = 10_000
"""How long a dropped value can't come back: longer than any request that may have read it before the change."""
_DROPPED = b"!"


class RedisManager:
    """Connections to the queue and the cache server (one and the same unless `cache_url` is given)."""

    def __init__(self, url: str, *, cache_url: str | None = None) -> None:
        import redis

        self.url = url
        self.cache_url = cache_url or url
        self._queue: redis.Redis = redis.Redis.from_url(
            url, socket_timeout=_QUEUE_TIMEOUT_SECONDS, socket_connect_timeout=_QUEUE_TIMEOUT_SECONDS
        )
        self._cache: redis.Redis = redis.Redis.from_url(
            self.cache_url,
            socket_timeout=_CACHE_TIMEOUT_SECONDS,
            socket_connect_timeout=_CACHE_TIMEOUT_SECONDS,
            retry=None,
        )
        self._lock = threading.Lock()
        self._closed_until = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._queue.close()
        self._cache.close()

    def cache(self, work: Callable[[redis.Redis], Result], fallback: Result) -> Result:
        """Return what `work` answers, or `fallback` where Redis is away. Other errors of `work` pass through."""
        import redis

        if time.monotonic() < self._closed_until:
            metrics.redis_failures.labels("skipped").inc()
            return fallback
        try:
            answer = work(self._cache)
        except redis.RedisError:
            metrics.redis_failures.labels("failed").inc()
            metrics.redis_connected.set(0)
            self._closed_until = time.monotonic() + _PAUSE_SECONDS
            return fallback
        metrics.redis_connected.set(1)
        return answer

    def queue(self, work: Callable[[redis.Redis], Result]) -> Result:
        """Return what `work` answers. Raises StoreUnavailableError where Redis can't be reached or refuses."""
        import redis

        try:
            return work(self._queue)
        except redis.RedisError as error:
            raise StoreUnavailableError(
                f"Redis can't be reached: {error}. Start it, or mend MEMORY_REDIS_URL."
            ) from error

    # -- values that are dropped on change --

    def get_value(self, key: str, kind: type[Result], *, cache: str) -> Result | None:
        """Return the value of `key` decoded as `kind`, None where there is none or Redis is away; count hit or miss."""
        raw: Any = self.cache(lambda client: client.get(key), None)
        found = raw is not None and raw != _DROPPED
        metrics.cache_reads.labels(cache, "hit" if found else "miss").inc()
        return msgspec.json.decode(raw, type=kind) if found else None

    def was_dropped(self, key: str) -> bool:
        """Whether the value was dropped a moment ago, so that what replaces it must come from Postgres."""
        raw: Any = self.cache(lambda client: client.get(key), None)
        return bool(raw == _DROPPED)

    def warm_value(self, key: str, value: object, seconds: int) -> None:
        """Store a value read from Postgres, unless there is one or it was dropped a moment ago."""
        encoded = msgspec.json.encode(value)
        self.cache(lambda client: client.set(key, encoded, ex=seconds, nx=True), None)

    def drop_values(self, *keys: str) -> bool:
        """Drop values, and keep readers that are under way from bringing them back. False where Redis is away."""

        def drop(client: redis.Redis) -> bool:
            with client.pipeline(transaction=True) as pipeline:
                for key in keys:
                    pipeline.set(key, _DROPPED, px=_GUARD_MILLISECONDS)
                pipeline.execute()
            return True

        return self.cache(drop, False)

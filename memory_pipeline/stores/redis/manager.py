"""The one connection manager for Redis: pools, time-outs, retries, and what happens while Redis is away.

Two ways to call. `cache` is for what may be missing: it never raises because of the server, waits at most some tens of
milliseconds when Redis has just gone away and not at all while it is known to be away, and answers the fallback.
`queue` is for what must arrive (the write buffer, the job stream): it retries, and raises StoreUnavailableError.

A mistake of ours (a key of another type, a script with an error) is raised by both: it would not go away by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import msgspec

from memory_pipeline import metrics
from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.stores.redis import keys as names
from memory_pipeline.stores.redis.scripts import run

if TYPE_CHECKING:
    import redis

    from memory_pipeline.stores.redis.endpoint import Endpoint

Result = TypeVar("Result")

_GUARD_MILLISECONDS = 10_000
"""How long a dropped value can't come back: longer than any request that may have read it before the change."""
_DROPPED = b"!"
_CACHE_SECONDS = 0.03
"""Longest wait for an answer that may be missing; with the wait for a connection it stays below 50 ms."""
_POOL_SIZE = 48
"""More than the threads that answer requests, so that only a Redis that hangs makes anybody wait."""


class RedisHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the cache server, and whether the queue's answers too (one and the same unless set apart)."""

    connected: bool
    queue_connected: bool
    version: str | None = None
    run_id: str | None = None
    uptime_seconds: int | None = None
    keys_count: int | None = None
    """Keys in the database that the caches are in."""
    memory_used: int | None = None
    """Bytes."""
    memory_limit: int | None = None
    """Bytes; None is no limit."""
    fill: float | None = None
    """Share of the limit that is used, 0 to 1; None where there is no limit."""
    evicted_keys: int | None = None
    hits: int
    """Reads of this process, since it started, that a cache answered."""
    misses: int
    hit_rate: float | None
    """hits / (hits + misses); None before the first read."""


class Renewed(NamedTuple):
    """A value to read, and how long it lives from then on."""

    key: str
    kind: type
    cache: str
    """Under which name hit or miss is counted."""
    seconds: int


class RedisManager:
    """Connections to the queue and the cache server (one and the same unless `cache_url` is given)."""

    def __init__(
        self,
        url: str,
        *,
        cache_url: str | None = None,
        pool_size: int = _POOL_SIZE,
        cache_seconds: float = _CACHE_SECONDS,
    ) -> None:
        """`cache_seconds`: longest wait of `cache` for an answer. Raises SettingsError for what is no Redis address."""
        from memory_pipeline.stores.redis.endpoint import Endpoint

        def endpoint(address: str, setting: str) -> Endpoint:
            return Endpoint(
                address, setting=setting, pool_size=pool_size, quick_seconds=cache_seconds, tell=self._show_state
            )

        self.url = url
        self.cache_url = cache_url or url
        self._queue = endpoint(url, "MEMORY_REDIS_URL")
        self._cache = self._queue if self.cache_url == url else endpoint(self.cache_url, "MEMORY_REDIS_CACHE_URL")
        self._owed_lock = threading.Lock()
        self._owed: set[str] = set()
        """Keys whose values had to be dropped and could not be."""
        self._cache.on_return(self._drop_owed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._queue.close()
        self._cache.close()

    @property
    def run_id(self) -> str | None:
        """Which run of the cache server was met last, as far as anybody asked."""
        return self._cache.run_id

    def on_cache_return(self, pay: Callable[[redis.Redis], None]) -> None:
        """Have `pay` called whenever the cache server is back, before any other call of this process reaches it."""
        self._cache.on_return(pay)

    def cache(self, work: Callable[[redis.Redis], Result], fallback: Result) -> Result:
        """Return what `work` answers, or `fallback` where Redis is away, full or may not write.

        `work` may have been carried out although the fallback is answered. Mistakes of ours (redis.ResponseError and
        redis.DataError) pass through.
        """
        if self._cache.away:
            metrics.redis_failures.labels("skipped").inc()
            return fallback
        import redis

        try:
            return work(self._cache.quick)
        except redis.RedisError as error:
            self._judge(self._cache, error)  # counts and logs it, or raises a mistake of ours
            return fallback

    def queue(self, work: Callable[[redis.Redis], Result]) -> Result:
        """Return what `work` answers; a lost connection is retried, so `work` may be carried out more than once.

        Raises StoreUnavailableError where Redis can't be reached or refuses; `work` may have been carried out even so.
        """
        return self._ask(self._queue, work)

    def health(self) -> RedisHealth:
        """Ask the servers how they are; costs a few milliseconds, and not more than `cache` where one is away."""
        hits, misses = _reads()
        reads = hits + misses
        rate = hits / reads if reads else None
        found = self.cache(_look, None)
        queue_connected = found is not None if self._queue is self._cache else self._answers(self._queue)
        if found is None:
            return RedisHealth(
                connected=False, queue_connected=queue_connected, hits=hits, misses=misses, hit_rate=rate
            )
        info, keys_count = found
        self._cache.run_id = str(info["run_id"])
        self._show_state()
        limit = int(info.get("maxmemory", 0)) or None
        used = int(info["used_memory"])
        return RedisHealth(
            connected=True,
            queue_connected=queue_connected,
            version=str(info["redis_version"]),
            run_id=str(info["run_id"]),
            uptime_seconds=int(info["uptime_in_seconds"]),
            keys_count=keys_count,
            memory_used=used,
            memory_limit=limit,
            fill=used / limit if limit else None,
            evicted_keys=int(info["evicted_keys"]),
            hits=hits,
            misses=misses,
            hit_rate=rate,
        )

    # -- values that are dropped on change --

    def get_value(self, key: str, kind: type[Result], *, cache: str) -> Result | None:
        """Return the value of `key` decoded as `kind`, None where there is none or Redis is away; count hit or miss."""
        return self._decoded(key, self._raw(key), kind, cache)

    def renew_values(self, *reads: Renewed) -> list[Any]:
        """Return values as `get_value` does, and have each live on for its seconds: all in one round trip."""
        owed = [read.key for read in reads if read.key in self._owed]
        raws: Any = None
        if not owed or self.drop_values(*owed):
            raws = self.cache(lambda client: _renew(client, reads), None)
        return [
            self._decoded(read.key, raw, read.kind, read.cache)
            for read, raw in zip(reads, raws or [None] * len(reads), strict=True)
        ]

    def get_value_patiently(self, key: str, kind: type[Result]) -> Result | None:
        """Return the value of `key`, None where there is none: for when Postgres can't say, and Redis was too slow.

        Waits for Redis as `queue` does. Raises StoreUnavailableError where it can't be reached.
        """
        if key in self._owed:
            return None
        raw: Any = self._ask(self._cache, lambda client: client.get(key))
        if raw is None or raw == _DROPPED:
            return None
        try:
            return msgspec.json.decode(raw, type=kind)
        except msgspec.DecodeError:  # another release wrote it; the caller says then what Postgres said
            return None

    def was_dropped(self, key: str) -> bool:
        """Whether the value was dropped a moment ago, so that what replaces it must come from Postgres."""
        return key in self._owed or self._raw(key) == _DROPPED

    def warm_value(self, key: str, value: object, seconds: int | None = None) -> None:
        """Store a value read from Postgres, unless there is one or it was dropped a moment ago.

        It lives as long as its family says, or `seconds` where that is less. Raises ValueError for a key of no family.
        """
        lifetime = names.lifetime(key, seconds)
        encoded = msgspec.json.encode(value)
        if key not in self._owed:
            self.cache(lambda client: client.set(key, encoded, ex=lifetime, nx=True), None)

    def drop_values(self, *keys: str) -> bool:
        """Drop values, and keep readers that are under way from bringing them back.

        False where Redis is away: then this process goes without these values and drops them as soon as Redis is back;
        other processes may see them until then.
        """
        for key in keys:
            names.lifetime(key)
        with self._owed_lock:
            self._owed.update(keys)
        if not self.cache(lambda client: _drop(client, keys), False):
            return False
        with self._owed_lock:
            self._owed.difference_update(keys)
        return True

    # -- inside --

    def _decoded(self, key: str, raw: bytes | None, kind: type[Result], cache: str) -> Result | None:
        value: Result | None = None
        if raw is not None and raw != _DROPPED:
            try:
                value = msgspec.json.decode(raw, type=kind)
            except msgspec.DecodeError:
                # Another release wrote it. It is worth nothing, and would keep a new one from being stored.
                metrics.cache_reads.labels(cache, "unreadable").inc()
                self.cache(lambda client: client.delete(key), None)
        metrics.cache_reads.labels(cache, "miss" if value is None else "hit").inc()
        return value

    def _ask(self, endpoint: Endpoint, work: Callable[[redis.Redis], Result]) -> Result:
        """Have `work` done by a server that is given its time. Raises StoreUnavailableError."""
        import redis

        # While the server is known to be away one short try is all that a request pays; it may just be back.
        client = endpoint.quick if endpoint.away else endpoint.patient
        try:
            return work(client)
        except redis.RedisError as error:
            reason = self._judge(endpoint, error)
            raise StoreUnavailableError(
                f"Redis is {reason}: {error}. Look after the server that {endpoint.setting} names, or mend the setting."
            ) from error

    def _show_state(self) -> None:
        metrics.redis_connected.set(0 if self._queue.away or self._cache.away else 1)

    def _raw(self, key: str) -> bytes | None:
        if key in self._owed and not self.drop_values(key):
            return None
        raw: Any = self.cache(lambda client: client.get(key), None)
        return raw if raw is None else bytes(raw)

    def _drop_owed(self, client: redis.Redis) -> None:
        with self._owed_lock:
            owed = tuple(self._owed)
        for start in range(0, len(owed), 1000):
            _drop(client, owed[start : start + 1000])
        with self._owed_lock:
            self._owed.difference_update(owed)

    def _judge(self, endpoint: Endpoint, error: redis.RedisError) -> str:
        """Count a failure of the server and return its name; raise `error` again where the mistake is ours."""
        from memory_pipeline.stores.redis.failures import Failure, failure_of

        failure = failure_of(error)
        if failure is None:
            raise error
        metrics.redis_failures.labels(failure.value).inc()
        if failure is Failure.AWAY:
            endpoint.lost(error)
        return failure.value

    def _answers(self, endpoint: Endpoint) -> bool:
        import redis

        if endpoint.away:
            return False
        try:
            return bool(endpoint.quick.ping())
        except redis.RedisError as error:
            self._judge(endpoint, error)
            return False


def _look(client: redis.Redis) -> tuple[dict[str, Any], int]:
    with client.pipeline(transaction=False) as pipeline:
        pipeline.info()
        pipeline.dbsize()
        info, keys_count = pipeline.execute()
    return info, keys_count


def _renew(client: redis.Redis, reads: Sequence[Renewed]) -> Any:
    return run(client, ("renew_values",), [read.key for read in reads], [_DROPPED, *(read.seconds for read in reads)])


def _drop(client: redis.Redis, keys: Iterable[str]) -> bool:
    return bool(run(client, ("drop_values",), list(keys), [_DROPPED, _GUARD_MILLISECONDS]))


def _reads() -> tuple[int, int]:
    """Hits and misses of all caches of this process."""
    counts = {"hit": 0, "miss": 0}
    for metric in metrics.cache_reads.collect():
        for sample in metric.samples:
            result = sample.labels.get("result", "")
            if sample.name.endswith("_total") and result in counts:
                counts[result] += int(sample.value)
    return counts["hit"], counts["miss"]

"""The write buffer: requests that were authenticated while Postgres was away, kept in Redis until they are replayed.

Bounded by messages and by bytes; what does not fit is refused, never dropped. An entry that `add` has taken is as
durable as Redis is: with `appendonly yes` and `appendfsync everysec` it outlives a crash of the Redis process, and a
crash of the machine may take the last second or two. That is why the caller is answered `buffered`, not `durable`.

Each process remembers the entries it has added until it knows what became of them, so that a buffer that was emptied by
somebody else (FLUSHALL, a lost disk) is noticed.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import msgspec
import structlog

from memory_pipeline import metrics
from memory_pipeline.model.errors import BufferFullError, StoreUnavailableError
from memory_pipeline.model.records import BufferedWrite
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager

if TYPE_CHECKING:
    import redis

ALARM_FILL = 0.8
_HEAD_BYTES = 32_000_000
_IDS_PER_QUESTION = 1000
_ACCOUNTS = 2
"""A process remembers so many full buffers: more only where Redis has lost the buffer over and over in one outage."""
_log = structlog.get_logger(__name__)


class BufferStats(msgspec.Struct, frozen=True, kw_only=True):
    """How full the buffer is."""

    entries: int
    writes: int
    """Messages."""
    bytes: int
    max_writes: int
    max_bytes: int
    fill: float
    """0 to 1, by messages or by bytes, whichever is nearer to its bound."""
    oldest_seconds: float
    """Age of the oldest entry; 0 where there is none."""
    set_aside: int
    """Entries that could neither be replayed nor recorded in Postgres; they need a person."""
    alarm: bool
    """At least four fifths full, or something set aside."""


class AddedEntry(NamedTuple):
    """What is remembered of an entry until its end is known."""

    tenant_id: UUID
    correlation_id: UUID
    messages: int


class WriteBuffer:
    """The buffer as one process sees it. max_writes: messages; max_bytes: of encoded entries; both over all processes.

    enabled False refuses every write; what is there already can still be replayed.
    """

    def __init__(self, manager: RedisManager, max_writes: int, max_bytes: int, *, enabled: bool = True) -> None:
        self._manager = manager
        self.max_writes = max_writes
        self.max_bytes = max_bytes
        self.enabled = enabled
        self._lock = threading.Lock()
        self._added: dict[UUID, AddedEntry] = {}
        self._added_messages = 0
        self._alarmed = False

    # -- writing --

    def add(self, entry: BufferedWrite) -> None:
        """Keep a request until Postgres is back; adding the same entry again changes nothing.

        Raises BufferFullError where it does not fit or the buffer is turned off, StoreUnavailableError where Redis
        can't be reached. After the latter the entry may be in the buffer all the same (its answer was lost): the
        caller, who has been refused, may send the request again under the same message ids.
        """
        if not self.enabled:
            raise BufferFullError(
                "Postgres is away and the write buffer is turned off (MEMORY_BUFFER_ENABLED): nothing was stored, send "
                "it again later."
            )
        encoded = msgspec.json.encode(entry)
        with self._lock:
            accountable = self._added_messages + len(entry.messages) <= _ACCOUNTS * self.max_writes
        if not accountable:
            raise BufferFullError(
                f"Postgres is away and this process waits to learn what became of {self._added_messages:,} messages it "
                "has buffered: nothing was stored, send it again later."
            )
        arguments: list[str | bytes | int] = [
            str(entry.entry_id),
            encoded,
            len(entry.messages),
            self.max_writes,
            self.max_bytes,
        ]
        try:
            happened, writes, size = self._run(
                "buffer_add",
                [keys.BUFFER_KEY, keys.BUFFER_ENTRIES_KEY, keys.BUFFER_COUNTS_KEY, keys.BUFFER_TOTALS_KEY],
                arguments,
            )
        except StoreUnavailableError as error:
            if "OOM command not allowed" in str(error.__cause__):
                raise BufferFullError(
                    "Postgres is away and Redis has no memory left for the write buffer: nothing was stored, send it "
                    "again later."
                ) from error
            raise
        self._observe(writes, size)
        if happened == b"full":
            raise BufferFullError(
                f"Postgres is away and the write buffer is full: it holds {writes:,} of {self.max_writes:,} messages "
                f"in {size:,} of {self.max_bytes:,} bytes, and the request has {len(entry.messages):,} in "
                f"{len(encoded):,}. Nothing was stored, send it again later."
            )
        self._remember(entry)
        if happened == b"added":
            metrics.redis_buffer_writes.inc(len(entry.messages))
        # With the job of the same id that a replay leaves behind, these lines tell what was lost with a dead process.
        _log.info(
            "write_buffered",
            entry_id=str(entry.entry_id),
            tenant_id=str(entry.tenant_id),
            correlation_id=str(entry.correlation_id),
            messages=len(entry.messages),
        )

    # -- replaying --

    def head(self, entries: int) -> list[BufferedWrite]:
        """Return the first entries in the order they were added, at most `entries` and 32 MB (but one at least).

        What can't be read is set aside, so that it does not keep the others from being replayed. Raises
        StoreUnavailableError.
        """
        found: list[BufferedWrite] = []
        raw = self._run("buffer_head", [keys.BUFFER_KEY, keys.BUFFER_ENTRIES_KEY], [entries, _HEAD_BYTES])
        for entry_id, encoded in zip(raw[::2], raw[1::2], strict=True):
            try:
                found.append(msgspec.json.decode(encoded, type=BufferedWrite))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self._set_aside(entry_id.decode(), f"it can't be read: {type(error).__name__}")
        if raw and not found:
            return self.head(entries)
        return found

    def remove(self, *entries: BufferedWrite) -> int:
        """Take entries out and give their room back; return how many were still there. Raises StoreUnavailableError."""
        return self._take_out([str(entry.entry_id) for entry in entries], aside=False)

    def set_aside(self, entry: BufferedWrite, reason: str) -> None:
        """Keep an entry in Redis outside of the order, for a person to look at. Raises StoreUnavailableError."""
        self._set_aside(str(entry.entry_id), reason)

    def stats(self) -> BufferStats:
        """Return how full the buffer is. Raises StoreUnavailableError."""
        entries, writes, size, age, aside = self._run(
            "buffer_stats", [keys.BUFFER_KEY, keys.BUFFER_TOTALS_KEY, keys.BUFFER_ASIDE_KEY], []
        )
        fill = self._observe(writes, size)
        return BufferStats(
            entries=entries,
            writes=writes,
            bytes=size,
            max_writes=self.max_writes,
            max_bytes=self.max_bytes,
            fill=fill,
            oldest_seconds=age / 1_000_000,
            set_aside=aside,
            alarm=fill >= ALARM_FILL or aside > 0,
        )

    # -- what became of the entries of this process --

    def unsettled(self) -> dict[UUID, AddedEntry]:
        """Return the entries that this process has added and has not been told the end of."""
        with self._lock:
            return dict(self._added)

    def missing(self, entry_ids: Collection[UUID]) -> list[UUID]:
        """Return those of the entries that are no longer in Redis. Raises StoreUnavailableError."""
        asked = [str(entry_id) for entry_id in entry_ids]
        gone: list[UUID] = []
        for start in range(0, len(asked), _IDS_PER_QUESTION):
            answer = self._run(
                "buffer_missing",
                [keys.BUFFER_ENTRIES_KEY, keys.BUFFER_ASIDE_KEY],
                asked[start : start + _IDS_PER_QUESTION],
            )
            gone.extend(UUID(entry_id.decode()) for entry_id in answer)
        return gone

    def settle(self, entry_ids: Collection[UUID]) -> None:
        """Forget entries whose end is known."""
        with self._lock:
            for entry_id in entry_ids:
                known = self._added.pop(entry_id, None)
                if known is not None:
                    self._added_messages -= known.messages

    # -- --

    def _remember(self, entry: BufferedWrite) -> None:
        with self._lock:
            if entry.entry_id not in self._added:
                self._added[entry.entry_id] = AddedEntry(entry.tenant_id, entry.correlation_id, len(entry.messages))
                self._added_messages += len(entry.messages)

    def _set_aside(self, entry_id: str, reason: str) -> None:
        if self._take_out([entry_id], aside=True):
            _log.error("buffered_write_set_aside", entry_id=entry_id, reason=reason, key=keys.BUFFER_ASIDE_KEY)

    def _take_out(self, entry_ids: Sequence[str], *, aside: bool) -> int:
        if not entry_ids:
            return 0
        removed, writes, size = self._run(
            "buffer_remove",
            [
                keys.BUFFER_KEY,
                keys.BUFFER_ENTRIES_KEY,
                keys.BUFFER_COUNTS_KEY,
                keys.BUFFER_TOTALS_KEY,
                keys.BUFFER_ASIDE_KEY,
            ],
            [int(aside), *entry_ids],
        )
        self._observe(writes, size)
        return int(removed)

    def _observe(self, writes: int, size: int) -> float:
        """Show how full the buffer is, and log once when it gets four fifths full."""
        fill = max(writes / self.max_writes, size / self.max_bytes)
        metrics.redis_buffer_fill.set(fill)
        with self._lock:
            raised, self._alarmed = fill >= ALARM_FILL and not self._alarmed, fill >= ALARM_FILL
        if raised:
            _log.warning(
                "write_buffer_filling",
                writes=writes,
                max_writes=self.max_writes,
                bytes=size,
                max_bytes=self.max_bytes,
                remedy="bring Postgres back; when the buffer is full, writes are refused",
            )
        return fill

    def _run(self, script: str, names: Sequence[str], arguments: Sequence[str | bytes | int]) -> Any:
        def call(client: redis.Redis) -> Any:
            return client.register_script(_lua(script))(keys=names, args=arguments)

        return self._manager.queue(call)


@cache
def _lua(name: str) -> str:
    return files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")

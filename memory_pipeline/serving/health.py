"""How the service is: what `GET /health` tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from memory_pipeline.model.errors import MemoryPipelineError

_FRESH_SECONDS = 1.0


class StoreHealth(msgspec.Struct, frozen=True):
    """One store: whether it answers, and what it said or what is wrong."""

    ok: bool
    detail: str
    milliseconds: float | None = None


class QueueReport(msgspec.Struct, frozen=True):
    """Jobs by state."""

    pending: int = 0
    processing: int = 0
    completed: int = 0
    failed: int = 0
    dead: int = 0


class CacheReport(msgspec.Struct, frozen=True):
    """The caches in Redis; None where Redis is away."""

    connected: bool
    keys_count: int | None
    memory_used: int | None
    hits: int
    misses: int
    hit_rate: float | None


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """`ok` is false where something that requests need is away, or two processes work on different databases."""

    ok: bool
    system_enabled: bool
    worker_enabled: bool
    worker_running: bool
    stores: Mapping[str, StoreHealth]
    queue_stats: QueueReport | None
    cache: CacheReport
    buffer: Mapping[str, Any]
    wiring: Mapping[str, Any]


def look(check: Callable[[], str]) -> StoreHealth:
    """Return what a check says, with its time; what it raises of ours is what is wrong."""
    started = time.perf_counter()
    try:
        detail = check()
    except MemoryPipelineError as error:
        return StoreHealth(False, str(error))
    return StoreHealth(True, detail, round(1000 * (time.perf_counter() - started), 2))


class Remembered:
    """The last report, made anew once a second at most: asking for it in a flood costs the stores nothing.

    While one caller makes it the others get the one before, however long that takes.
    """

    def __init__(self, make: Callable[[], HealthReport]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._report: HealthReport | None = None
        self._made_at = 0.0

    def get(self) -> HealthReport:
        report = self._report
        if report is not None and time.monotonic() - self._made_at <= _FRESH_SECONDS:
            return report
        if not self._lock.acquire(blocking=report is None):
            assert report is not None
            return report
        try:
            self._report = self._make()
            self._made_at = time.monotonic()
            return self._report
        finally:
            self._lock.release()

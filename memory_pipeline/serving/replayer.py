"""The thread of an API process that replays the write buffer as soon as Postgres is back, and reports what was lost."""

from __future__ import annotations

import threading
from collections import Counter
from uuid import UUID

import structlog

from memory_pipeline.logs import places_of
from memory_pipeline.model.errors import MemoryPipelineError, StoreUnavailableError
from memory_pipeline.serving.buffering import ReplayReport, Write, replay, report_lost
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.redis.buffer import WriteBuffer

_STOP_SECONDS = 15.0
_log = structlog.get_logger(__name__)


class Replayer:
    """Wakes every `interval` seconds or when told. No error ends the thread.

    After an error it sleeps longer, up to `max_pause` seconds, and can't be woken: in an outage every writer wakes it.

    database: as memory_pipeline.
    """

    def __init__(
        self, buffer: WriteBuffer, database: Database, write: Write, *, interval: float = 1.0, max_pause: float = 5.0
    ) -> None:
        self._buffer = buffer
        self._database = database
        self._write = write
        self._interval = interval
        self._max_pause = max_pause
        self._failures: Counter[UUID] = Counter()
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_problem: str | None = None

    def start(self) -> None:
        """Start the thread; nothing happens where it runs."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="replayer", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Replay now rather than at the next second, unless the last try failed."""
        self._woken.set()

    def stop(self) -> None:
        """End the thread after the request it is at, and say what this process can't account for any more."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping.set()
        self._woken.set()
        thread.join(_STOP_SECONDS)
        if thread.is_alive():
            _log.warning("replayer_still_running", remedy="it ends with the process; what it replays is idempotent")
        added = self._buffer.unsettled()
        if added:
            _log.warning(
                "buffered_writes_unsettled",
                entries=len(added),
                messages=sum(entry.messages for entry in added.values()),
                remedy="they are in Redis and another process replays them; should Redis lose them, nobody notices",
            )

    def step(self) -> ReplayReport | None:
        """Replay and report once, where there is anything to do. Raises StoreUnavailableError where Redis is away."""
        report = None
        if self._buffer.stats().entries:
            report = replay(
                self._buffer, self._database, self._write, failures=self._failures, stopping=self._stopping.is_set
            )
            if report.entries or report.set_aside:
                _log.info(
                    "writes_replayed",
                    entries=report.entries,
                    inserted=report.inserted,
                    duplicates=report.duplicates,
                    refused=report.refused,
                    set_aside=report.set_aside,
                )
            if report.stopped is not None and not self._stopping.is_set():
                raise StoreUnavailableError(report.stopped)
        report_lost(self._buffer, self._database)
        return report

    def _run(self) -> None:
        pause = self._interval
        while not self._stopping.is_set():
            (self._woken if self._last_problem is None else self._stopping).wait(pause)
            self._woken.clear()
            if self._stopping.is_set():
                return
            try:
                self.step()
            except MemoryPipelineError as error:
                pause = min(pause * 2, self._max_pause)
                self._say("replay_waits", str(error), pause)
            except Exception as error:  # noqa: BLE001  the thread must outlive whatever it meets
                pause = min(pause * 2, self._max_pause)
                self._say("replay_failed", places_of(error), pause)
            else:
                if self._last_problem is not None:
                    _log.info("replay_works_again")
                self._last_problem, pause = None, self._interval

    def _say(self, event: str, problem: str, pause: float) -> None:
        """Log a problem once, not every second of an outage."""
        if problem != self._last_problem:
            _log.warning(event, problem=problem, next_try_seconds=pause)
        self._last_problem = problem

"""Renewing the leases of what a worker has in work, from a thread of its own; and seeing which slots hang.

The stages' heavy work (inference, Postgres, Chroma) lets other threads run, and Python's own lets them run every few
milliseconds; four renewals fit into a lease, so a thread is enough. What it can't outlast is C code that keeps the
interpreter's lock for about a lease: docs/decisions/worker.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import structlog

from memory_pipeline.logs import places_of
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.jobs import JobKey, heartbeat_interval
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.jobs import ClaimedJob, heartbeat

log = structlog.get_logger(__name__)

_STOP_SECONDS = 10.0
_AGAIN_SECONDS = 0.5
_LATE_TIMEOUTS = 2.0
"""A slot whose batch takes so many times what it may is late: it hangs, or has far more to do than it should."""


class LateSlot(NamedTuple):
    """A slot that has worked on one batch for much too long."""

    thread: str
    seconds: float
    timeouts: float
    """The same, in time-outs of its batch."""


class Leases:
    """The claims of one worker. A context manager: renewal goes on until its end."""

    def __init__(self, database: Database, lease_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._lock = threading.Lock()
        self._held: dict[JobKey, tuple[ClaimedJob, float]] = {}
        """With the time (monotonic) after which the claim is not renewed any more."""
        self._at_work: dict[int, tuple[str, float, float]] = {}
        """By thread: its name, since when (monotonic) it works on its batch, and how long that may take."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def __enter__(self) -> Leases:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_STOP_SECONDS)

    @property
    def thread(self) -> threading.Thread:
        """What renews: without it every claim of this worker would end."""
        return self._thread

    @property
    def in_work(self) -> int:
        """How many jobs are being worked on."""
        return len(self._held)

    @contextmanager
    def holding(self, claims: Sequence[ClaimedJob], timeout: float) -> Iterator[None]:
        """Renew these while the block runs, for at most `timeout` seconds.

        A thread can't be stopped from outside. One that takes longer loses its claims, which counts as a failed
        attempt, and what it finishes later is discarded.
        """
        until = time.monotonic() + timeout
        with self._lock:
            self._held.update({claim.key: (claim, until) for claim in claims})
        try:
            yield
        finally:
            with self._lock:
                for claim in claims:
                    if claim.key in self._held and self._held[claim.key][0] is claim:
                        del self._held[claim.key]

    @contextmanager
    def working(self, timeout: float) -> Iterator[None]:
        """While the block runs this thread works on a batch, which may take `timeout` seconds."""
        thread = threading.current_thread()
        slot = threading.get_ident()
        with self._lock:
            self._at_work[slot] = (thread.name, time.monotonic(), timeout)
        try:
            yield
        finally:
            with self._lock:
                del self._at_work[slot]

    def late_slots(self) -> list[LateSlot]:
        """Return the slots whose batch takes twice what it may, or longer."""
        now = time.monotonic()
        with self._lock:
            slots = [
                LateSlot(name, now - since, (now - since) / limit) for name, since, limit in self._at_work.values()
            ]
        return [slot for slot in slots if slot.timeouts > _LATE_TIMEOUTS]

    def in_hand(self, claims: Sequence[ClaimedJob]) -> list[ClaimedJob]:
        """Return those of these new claims whose job a slot here still works on, under a claim that it has lost."""
        with self._lock:
            return [claim for claim in claims if claim.key in self._held and self._held[claim.key][0] is not claim]

    def _run(self) -> None:
        wait = interval = heartbeat_interval(self._lease_seconds)
        while not self._stop.wait(wait):
            now = time.monotonic()
            with self._lock:
                claims = [claim for claim, until in self._held.values() if now < until]
            renewed = not claims or self._renew(claims)
            wait = interval if renewed else min(interval, _AGAIN_SECONDS)

    def _renew(self, claims: Sequence[ClaimedJob]) -> bool:
        """False where Postgres did not answer: to be tried again soon, before others take the jobs."""
        try:
            with self._database.transaction() as connection:
                kept = heartbeat(connection, claims, self._lease_seconds)
        except MemoryPipelineError as error:
            # The leases may end; then others take the jobs, and what is finished here late is discarded.
            log.warning("leases_not_renewed", jobs=len(claims), error=type(error).__name__, message=str(error))
            return False
        except Exception as error:  # noqa: BLE001 - without this thread every claim of the worker would end
            log.error("leases_not_renewed", jobs=len(claims), error=places_of(error))
            return False
        # What was finished meanwhile is not lost: only what is still held here counts.
        with self._lock:
            lost = [claim.key for claim in claims if claim.key not in kept and claim.key in self._held]
        if lost:
            log.warning("leases_lost", jobs=len(lost), job_ids=[str(key.job_id) for key in lost[:10]])
        return True

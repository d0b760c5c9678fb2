"""The relay of a worker process: puts due jobs into the stream, and sees to what was forgotten, lost or left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import structlog

from memory_pipeline import metrics
from memory_pipeline.failpoints import reached
from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.model.jobs import LEASE_EXPIRED, RetryPolicy, heartbeat_interval
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.job_outbox import publish, republish_forgotten
from memory_pipeline.stores.postgres.job_reports import compact_completed
from memory_pipeline.stores.postgres.job_signal import JobSignal
from memory_pipeline.stores.postgres.jobs import BROUGHT_FORWARD_AT_ONCE, ReclaimedJob, bring_forward, reclaim_expired
from memory_pipeline.stores.redis.stream import JobStream
from memory_pipeline.worker.job_lines import fields_of
from memory_pipeline.worker.turns import take_turns

log = structlog.get_logger(__name__)

AT_ONCE = 1000
SWEEP_SECONDS = 2.0
LOOK_SECONDS = 10.0
"""How often the stream is asked whether it still has what was published."""
FORGOTTEN_SECONDS = 10.0
"""After so long in the stream without being claimed, it is asked whether the stream still has a job."""
_CLEAN_SECONDS = 60.0
_AWAY_SECONDS = 0.5
_FORGET_CONSUMERS_MS = 3_600_000
_COMPACTED_AT_ONCE = 10_000


class Relay:
    """Any number may run at once, in any number of processes."""

    def __init__(
        self,
        database: Database,
        stream: JobStream,
        retries: RetryPolicy,
        stop: threading.Event,
        *,
        poll: float,
        retention_days: int,
        lease: float,
    ) -> None:
        self._database = database
        self._stream = stream
        self._retries = retries
        self._stop = stop
        self._poll = poll
        self._retention_days = retention_days
        self._lease = lease
        self._postgres_was_away = False
        self._refused = False
        self._swept_at = float("-inf")
        self._looked_at = float("-inf")
        self._cleaned_at = float("-inf")

    def stream_refuses(self) -> bool:
        """Whether the stream took no job at the last try: Redis is away or full."""
        return self._refused

    def run(self) -> None:
        """Relay until told to stop. Neither a store that is away nor a turn that fails ends the thread."""
        with JobSignal(self._database.url) as signal:

            def turn_and_sleep() -> None:
                self.turn()
                signal.wait_for_jobs(min(self._poll, SWEEP_SECONDS))

            take_turns(turn_and_sleep, self._stop, name="relay", away_seconds=_AWAY_SECONDS, start_anew=signal.close)

    def turn(self) -> None:
        """Sweep where it is time, then publish all that is due."""
        now = time.monotonic()
        if now - self._swept_at > SWEEP_SECONDS:
            self._swept_at = now
            self._sweep()
        if now - self._cleaned_at > _CLEAN_SECONDS:
            self._cleaned_at = now
            self._clean()
        while not self._stop.is_set():
            if self._publish() < AT_ONCE:
                return

    def _publish(self) -> int:
        with self._database.transaction() as connection:
            try:
                published = publish(connection, self._stream, AT_ONCE)
            except StoreUnavailableError:
                self._refused = True
                raise
            reached("after_xadd")
        self._refused = False
        return published.jobs

    def _sweep(self) -> None:
        """Take jobs from workers that are gone, and publish again what Redis forgot."""
        reclaimed = self._reclaim()
        if reclaimed:
            dead = [job for job in reclaimed if job.state == "dead"]
            metrics.jobs_reclaimed.inc(len(reclaimed))
            log.warning("jobs_reclaimed", jobs=len(reclaimed), dead=len(dead))
            for job in dead:
                log.error("job_dead", **fields_of(job), error=LEASE_EXPIRED)
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        try:
            with self._database.transaction() as connection:
                forgotten = republish_forgotten(connection, self._stream, older_than_seconds=FORGOTTEN_SECONDS)
        except StoreUnavailableError:
            return  # without Redis workers claim from Postgres, and nothing needs to be published
        if forgotten:
            log.warning("jobs_published_again", jobs=forgotten)

    def _reclaim(self) -> Sequence[ReclaimedJob]:
        """Nobody could renew a lease while Postgres was away: when it is back, the living do so first."""
        if self._postgres_was_away:
            with self._database.transaction():
                self._postgres_was_away = False
            self._swept_at = time.monotonic() + heartbeat_interval(self._lease)
            return []
        try:
            with self._database.transaction() as connection:
                return reclaim_expired(connection, self._retries)
        except StoreUnavailableError:
            self._postgres_was_away = True
            raise

    def _clean(self) -> None:
        brought = BROUGHT_FORWARD_AT_ONCE
        while brought == BROUGHT_FORWARD_AT_ONCE and not self._stop.is_set():
            with self._database.transaction() as connection:
                brought = bring_forward(connection)
        compacted = _COMPACTED_AT_ONCE
        while compacted == _COMPACTED_AT_ONCE and not self._stop.is_set():
            with self._database.transaction() as connection:
                compacted = compact_completed(connection, self._retention_days, limit=_COMPACTED_AT_ONCE)
        # Without Redis there is nothing to tidy, and publishing says so itself.
        with suppress(StoreUnavailableError):
            self._stream.forget_consumers(_FORGET_CONSUMERS_MS)

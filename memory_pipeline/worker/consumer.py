"""One slot of a worker: takes jobs in micro-batches, has them worked on, tells the ledger what became of each.

Ids come from the Redis stream; what they name is claimed in Postgres, which alone decides. While Redis is away jobs are
claimed straight from Postgres. An entry is acknowledged after the ledger knows the outcome, or when its job can't be
claimed (done, dead, another's): a worker that dies in between leaves the entry, and another takes it over.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import structlog

from memory_pipeline import metrics
from memory_pipeline.failpoints import reached
from memory_pipeline.model.errors import BusyError, MemoryPipelineError, StoreUnavailableError
from memory_pipeline.model.jobs import JobKey, JobState, JobType, RetryPolicy
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.job_signal import JobSignal
from memory_pipeline.stores.postgres.jobs import (
    ClaimedJob,
    Failure,
    claim_keys,
    claim_next,
    fail,
    finish,
    lock_claims,
    release,
)
from memory_pipeline.stores.redis.stream import Delivery, JobStream
from memory_pipeline.worker.handlers import Handlers
from memory_pipeline.worker.job_lines import fields_of
from memory_pipeline.worker.leases import Leases
from memory_pipeline.worker.outcomes import NO_HANDLER_SECONDS, Done, Failed, Outcome, Waits, work_through
from memory_pipeline.worker.turns import take_turns

log = structlog.get_logger(__name__)

_AWAY_SECONDS = 1.0
_IN_HAND_SECONDS = 5.0
"""How long a job waits whose time is over, but that a slot of this process still works on: for another process."""
_FIRST_COUNT = 8
"""How many jobs a consumer takes at first, and while jobs are about that may end it; doubled with each full batch.

What a worker takes is lost for a lease if it is killed: one that is killed again and again takes little along.
"""


class ConsumerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker takes jobs. Times in seconds."""

    batch: int
    """Most jobs of a micro-batch."""
    window: float
    """How long a micro-batch that is not full waits for more jobs."""
    poll: float
    lease: float
    timeout: Callable[[JobType], float]
    """How long a job of a type may take; of a type that only other releases know, too."""
    retries: RetryPolicy


class Consumer:
    """One slot; a worker runs several, each in a thread."""

    def __init__(
        self,
        name: str,
        database: Database,
        stream: JobStream,
        handlers: Handlers,
        leases: Leases,
        options: ConsumerOptions,
        stop: threading.Event,
        stream_refuses: Callable[[], bool] = lambda: False,
    ) -> None:
        """`stream_refuses`: whether nothing comes through the stream although it can be read: Redis is full."""
        self.name = name
        self._database = database
        self._stream = stream
        self._handlers = handlers
        self._leases = leases
        self._options = options
        self._stop = stop
        self._stream_refuses = stream_refuses
        self._delivered: list[Delivery] = []
        """Entries that this consumer has and whose jobs it has not tried to claim yet."""
        self._take = min(_FIRST_COUNT, options.batch)
        self._took_over_at = 0.0

    def run(self) -> None:
        """Work until told to stop. Neither a store that is away nor a turn that fails ends the thread."""
        with JobSignal(self._database.url) as signal:

            def start_anew() -> None:
                # The entries stay in the group, and whoever takes over what is idle has them again.
                self._delivered = []
                signal.close()

            take_turns(
                lambda: self._turn(signal),
                self._stop,
                name=self.name,
                away_seconds=_AWAY_SECONDS,
                start_anew=start_anew,
            )

    def _turn(self, signal: JobSignal) -> None:
        if not self._handlers.switched_on():
            self._stop.wait(self._options.poll)
            return
        if not self._delivered:
            try:
                self._delivered = self._read()
            except StoreUnavailableError:  # logged and counted where Redis was asked; Postgres has the jobs as well
                if not self._work_from_postgres():
                    signal.wait_for_jobs(self._options.poll, unpublished=False)
                return
            if not self._delivered and self._stream_refuses():
                self._work_from_postgres()
        # What can't be claimed because Postgres is away is kept for the next turn, and so not read again and again.
        while self._delivered:
            # A job that may end its worker is claimed and worked on by itself.
            together = [delivery for delivery in self._delivered if not delivery.alone]
            alone = [delivery for delivery in self._delivered if delivery.alone]
            self._work_on_delivered(together or alone[:1])
            self._delivered = alone if together else alone[1:]

    def _read(self) -> list[Delivery]:
        """Take entries: now and then those of consumers that died; else new ones, with what comes within the window."""
        options = self._options
        if time.monotonic() - self._took_over_at > options.lease / 4:
            left_behind = self._stream.claim_idle(self.name, int(options.lease * 1000), self._take)
            if left_behind:
                return self._counted(left_behind)  # and there may be more: asked again at the next turn
            self._took_over_at = time.monotonic()
        deliveries = self._stream.read(self.name, self._take, int(options.poll * 1000))
        if deliveries and len(deliveries) < self._take and not self._stop.wait(options.window):
            # Where Redis has gone away in between, those that came first are worked on all the same.
            with suppress(StoreUnavailableError):
                deliveries += self._stream.read(self.name, self._take - len(deliveries), 0)
        return self._counted(deliveries)

    def _counted(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Take more at a time while there is more and all is well."""
        if any(delivery.alone for delivery in deliveries):
            self._take = min(_FIRST_COUNT, self._options.batch)
        elif len(deliveries) >= self._take:
            self._take = min(2 * self._take, self._options.batch)
        return deliveries

    def _work_on_delivered(self, deliveries: Sequence[Delivery]) -> None:
        # The same job may have two entries: a relay that died before its commit put it there once more.
        by_key = {delivery.key: delivery for delivery in deliveries}
        with self._database.transaction() as connection:
            claims = claim_keys(connection, self.name, list(by_key), self._options.lease)
            reached("before_claim_commit")
        metrics.job_claims.labels("stream").inc()
        self._work(claims)
        reached("after_settle")
        try:
            self._stream.acknowledge([delivery.entry_id for delivery in deliveries])
        except StoreUnavailableError as error:
            # Delivered again, the entries find their jobs done.
            log.warning("entries_not_acknowledged", entries=len(deliveries), message=str(error))

    def _work_from_postgres(self) -> bool:
        """Work on what is due, by priority and age; False where nothing is."""
        options = self._options
        with self._database.transaction() as connection:
            claims = claim_next(connection, self.name, self._handlers.job_types, options.batch, options.lease)
            reached("before_claim_commit")
        metrics.job_claims.labels("postgres").inc()
        self._work(claims)
        return bool(claims)

    def _work(self, claims: Sequence[ClaimedJob]) -> None:
        reached("after_claim")
        in_hand = self._leases.in_hand(claims)
        claims = [claim for claim in claims if claim not in in_hand]
        by_type = defaultdict(list)
        for claim in claims:
            by_type[claim.job_type].append(claim)
        # Those of the second type are held while the first is worked on.
        with self._leases.holding(claims, sum(map(self._options.timeout, by_type))):
            if in_hand:
                self._give_back(in_hand)
            for job_type, jobs in by_type.items():
                timeout = self._options.timeout(job_type)
                handle = self._handlers.by_type.get(job_type)
                metrics.job_batch_size.labels(job_type).observe(len(jobs))
                started = time.monotonic()
                with self._leases.holding(jobs, timeout):
                    if handle is None:
                        log.warning("jobs_of_unknown_type", job_type=job_type, jobs=len(jobs))
                        outcomes: Sequence[Outcome] = [_no_handler(job) for job in jobs]
                    else:
                        with self._leases.working(timeout):
                            outcomes = work_through(handle, jobs, self._stop.is_set, self._handlers.providers_answer)
                    reached("after_work")
                    self._settle(jobs, outcomes)
                metrics.job_seconds.labels(job_type).observe(time.monotonic() - started)

    def _give_back(self, in_hand: Sequence[ClaimedJob]) -> None:
        """Give back what another slot of this process still works on: a job that hangs must not take one by one."""
        log.warning("jobs_still_in_hand", consumer=self.name, jobs=[str(job.job_id) for job in in_hand[:10]])
        try:
            with self._database.transaction() as connection:
                release(connection, in_hand, delay_seconds=_IN_HAND_SECONDS)
        except MemoryPipelineError as error:
            # Nobody renews them: their leases end. The others of the batch go on.
            log.warning("jobs_not_given_back", jobs=len(in_hand), error=type(error).__name__, message=str(error))

    def _settle(self, jobs: Sequence[ClaimedJob], outcomes: Sequence[Outcome]) -> None:
        """Tell the ledger, and go on trying while Postgres is away: the work is done, and the claims may still hold."""
        told = False
        while True:
            try:
                self._tell(jobs, outcomes)
                return
            except (StoreUnavailableError, BusyError) as error:
                if not told:
                    log.warning("outcomes_wait", consumer=self.name, jobs=len(jobs), message=str(error))
                told = True
                if self._stop.wait(_AWAY_SECONDS):
                    raise

    def _tell(self, jobs: Sequence[ClaimedJob], outcomes: Sequence[Outcome]) -> None:
        """Settle in one transaction. What the ledger does not take any more belongs to another claim: discarded."""
        done = [job for job, outcome in zip(jobs, outcomes, strict=True) if isinstance(outcome, Done)]
        failures = [
            Failure(claim=job, error_class=outcome.error_class, error_text=outcome.error_text, retry=outcome.retry)
            for job, outcome in zip(jobs, outcomes, strict=True)
            if isinstance(outcome, Failed)
        ]
        waiting: dict[float, list[ClaimedJob]] = defaultdict(list)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, Waits):
                waiting[outcome.seconds].append(job)
        with self._database.transaction() as connection:
            if bool(done) + bool(failures) + len(waiting) > 1:
                # Otherwise two slots or a heartbeat might each hold what the other waits for.
                lock_claims(connection, jobs)
            finished = finish(connection, done) if done else set()
            states = fail(connection, failures, self._options.retries) if failures else {}
            released = {
                key for seconds, claims in waiting.items() for key in release(connection, claims, delay_seconds=seconds)
            }
        settled = finished | states.keys() | released
        self._count(jobs, outcomes, settled)
        discarded = len(jobs) - len(settled)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, Failed) and job.key in states:
                _log_failure(job, outcome, states[job.key])
        if discarded:
            log.warning("late_results_discarded", jobs=discarded)

    def _count(self, jobs: Sequence[ClaimedJob], outcomes: Sequence[Outcome], settled: set[JobKey]) -> None:
        now = datetime.now(UTC)
        finished = 0
        for job, outcome in zip(jobs, outcomes, strict=True):
            ended = type(outcome).__name__.lower() if job.key in settled else "discarded"
            metrics.jobs_ended.labels(job.job_type, ended).inc()
            if ended == "done":
                finished += 1
                lag = (now - job.created_at).total_seconds()
                metrics.searchable_lag_seconds.labels(job.job_type).observe(max(0.0, lag))
        log.info(
            "jobs_worked_on",
            job_type=jobs[0].job_type,
            jobs=len(jobs),
            finished=finished,
            correlation_ids=sorted({str(job.correlation_id) for job in jobs})[:10],
        )


def _log_failure(job: ClaimedJob, outcome: Failed, state: JobState) -> None:
    """Say which job failed. The ledger has the reason in full; a plugin's own words may quote a message."""
    fields = fields_of(job, plugin=outcome.plugin)
    if state == "dead":
        log.error("job_dead", **fields, error=outcome.error_class)
    else:
        log.warning("job_failed", **fields, error=outcome.error_class)


def _no_handler(job: ClaimedJob) -> Outcome:
    """Leave it to others: while releases change, a worker of the older one sees jobs that only the newer one knows."""
    return Waits(NO_HANDLER_SECONDS, f"this worker knows no work of type {job.job_type}")

"""A worker process: a relay, several consumers and the renewal of leases, on one set of stores."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self
from uuid import uuid4

import structlog

from memory_pipeline import metrics
from memory_pipeline.model.errors import MemoryPipelineError, SettingsError
from memory_pipeline.model.jobs import JOB_TYPES
from memory_pipeline.serving.chores import Chores
from memory_pipeline.serving.gauges import SAMPLE_SECONDS, sample_gauges
from memory_pipeline.serving.wiring import Wiring
from memory_pipeline.settings import Settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.job_reports import forget_worker, job_stats, note_worker
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline.stores.redis.stream import JobStream
from memory_pipeline.worker.consumer import Consumer, ConsumerOptions
from memory_pipeline.worker.handlers import Handlers, stage_handlers
from memory_pipeline.worker.leases import Leases
from memory_pipeline.worker.relay import Relay

log = structlog.get_logger(__name__)

_HANGS_TIMEOUTS = 10.0
"""A slot that has worked on a batch for so many time-outs is lost. (Where every slot is late the worker is at once.)"""


class Worker:
    """A context manager: works from its start to its end, which waits for the micro-batches in work."""

    def __init__(
        self, settings: Settings, make_handlers: Callable[[Pipeline, RedisManager], Handlers] | None = None
    ) -> None:
        self.settings = settings
        # Used once: a worker that is started again is another consumer, and takes over what this one left.
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._make_handlers = make_handlers or _stage_handlers
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open = ExitStack()
        self._started_at = time.monotonic()

    def __enter__(self) -> Self:
        settings = self.settings
        with ExitStack() as opening:
            slots = settings.worker_max_concurrent_jobs
            pipeline = opening.enter_context(
                Pipeline(_embedding_side_by_side(settings, slots), patience_seconds=_patience_seconds(settings))
            )
            # A slot has one for claims and outcomes; the relay, the leases, the wiring and two chores have the others.
            database = opening.enter_context(self._database("worker", slots + 5))
            # The index stage holds one for its lock while it uses another: with fewer, slots wait for each other.
            pipeline.database = opening.enter_context(self._database("stages", 2 * slots))
            redis = opening.enter_context(RedisManager(_required_redis(settings), cache_url=settings.redis_cache_url))
            stream = JobStream(redis)
            opening.enter_context(
                Wiring(
                    "worker",
                    {"MEMORY_POSTGRES_PIPELINE_URL": database, "the pipeline's connections": pipeline.database},
                    redis,
                )
            )
            handlers = self._make_handlers(pipeline, redis)
            self._job_types = handlers.job_types
            # Loaded before the first job comes, not with it.
            self._leases = opening.enter_context(Leases(database, settings.worker_lease_ms / 1000))
            self._database_of_worker = database
            self._redis = redis
            self._exports_root = pipeline.exports_root
            self._sample()
            opening.callback(self._forget)
            opening.enter_context(Chores({"sample": self._sample}, SAMPLE_SECONDS))
            opening.enter_context(
                Chores({"health_line": self._health_line}, settings.worker_health_check_interval_ms / 1000)
            )
            opening.callback(self._join)
            relay = Relay(
                database,
                stream,
                settings.job_retries,
                self._stop,
                poll=settings.worker_poll_interval_ms / 1000,
                retention_days=settings.job_retention_days,
                lease=settings.worker_lease_ms / 1000,
            )
            self._start("relay", relay.run)
            for slot in range(slots):
                consumer = Consumer(
                    f"{self.name}:{slot}",
                    database,
                    stream,
                    handlers,
                    self._leases,
                    _options(settings),
                    self._stop,
                    relay.stream_refuses,
                )
                self._start(f"consumer-{slot}", consumer.run)
            self._open = opening.pop_all()
        log.info("worker_started", worker=self.name, slots=slots)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self._open.close()
        log.info("worker_stopped", worker=self.name)

    def stop(self) -> None:
        """Take no more jobs. Those not begun are given back; those in work are finished."""
        self._stop.set()

    def require_running(self) -> None:
        """Raise where a thread has ended by itself or slots hang: the process is to be started anew."""
        if trouble := self._trouble():
            raise MemoryPipelineError(f"{trouble} Start it again.")

    def _trouble(self) -> str | None:
        """Say what keeps this worker from working, in a sentence."""
        if self._stop.is_set():
            return None
        ended = [thread.name for thread in [*self._threads, self._leases.thread] if not thread.is_alive()]
        if ended:
            return f"the worker's {', '.join(ended)} ended: its log says why."
        late = self._leases.late_slots()
        hangs = [slot for slot in late if slot.timeouts > _HANGS_TIMEOUTS]
        if hangs or len(late) == self.settings.worker_max_concurrent_jobs:
            slots = ", ".join(f"{slot.thread} ({slot.seconds:.0f} s)" for slot in hangs or late)
            return f"the worker hangs: the jobs of {slots} take much longer than they may; others have them now."
        return None

    def _start(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _join(self) -> None:
        self._stop.set()
        until = time.monotonic() + max(map(self.settings.job_timeout_seconds, self._job_types))
        for thread in self._threads:
            thread.join(max(0.1, until - time.monotonic()))
        late = [thread.name for thread in self._threads if thread.is_alive()]
        if late:
            log.warning("worker_threads_left", threads=late, remedy="their jobs go to others when the leases end")

    def _forget(self) -> None:
        try:
            with self._database_of_worker.transaction() as connection:
                forget_worker(connection, self.name)
        except MemoryPipelineError as error:
            log.warning("worker_not_signed_off", error=type(error).__name__, message=str(error))

    def _database(self, name: str, size: int) -> Database:
        url = self.settings.postgres_pipeline_url
        if url is None:
            raise SettingsError("MEMORY_POSTGRES_PIPELINE_URL is not set; the worker needs it.")
        return Database(url, role="memory_pipeline", name=name, pool_size=size)

    def _sample(self) -> None:
        metrics.jobs_in_work.set(self._leases.in_work)
        self._redis.health()  # which says in the metrics whether it answers
        trouble = self._trouble()
        if trouble is None:
            with self._database_of_worker.transaction() as connection:
                note_worker(connection, self.name)
        else:
            # Not noted any more, it soon counts as gone: for the health of the whole, and for the backlog sensor.
            log.error("worker_in_trouble", worker=self.name, message=trouble)
        sample_gauges(self._database_of_worker, self._exports_root)

    def _health_line(self) -> None:
        with self._database_of_worker.transaction() as connection:
            counts = Counter[str]()
            for stat in job_stats(connection):
                counts[stat.state] += stat.jobs
        log.info(
            "worker_health",
            worker=self.name,
            uptime_seconds=round(time.monotonic() - self._started_at),
            in_progress=self._leases.in_work,
            late_slots=len(self._leases.late_slots()),
            **counts,
        )


def _stage_handlers(pipeline: Pipeline, redis: RedisManager) -> Handlers:
    pipeline.embedder.embed(["warm"])
    pipeline.chroma.heartbeat()
    return stage_handlers(pipeline, redis, lambda stage, seconds: metrics.stage_seconds.labels(stage).observe(seconds))


def _embedding_side_by_side(settings: Settings, slots: int) -> Settings:
    """Slots that embed at the same time take a core each: one batch on two cores costs an eighth more of both."""
    if settings.embedding_threads is not None or slots == 1:
        return settings
    return settings.model_copy(update={"embedding_threads": 1})


def _patience_seconds(settings: Settings) -> float:
    """Return how long one answer is waited for: a store or a provider that hangs must be noticed, and a provider asked
    once more, before the jobs' own time is over. Then they wait, and lose no attempt."""
    return max(1.0, min(map(settings.job_timeout_seconds, JOB_TYPES)) / 4)


def _options(settings: Settings) -> ConsumerOptions:
    return ConsumerOptions(
        batch=settings.worker_batch_jobs,
        window=settings.worker_batch_window_ms / 1000,
        poll=settings.worker_poll_interval_ms / 1000,
        lease=settings.worker_lease_ms / 1000,
        timeout=settings.job_timeout_seconds,
        retries=settings.job_retries,
    )


def _required_redis(settings: Settings) -> str:
    if settings.redis_url is None:
        raise SettingsError("MEMORY_REDIS_URL is not set; the worker needs it.")
    return settings.redis_url

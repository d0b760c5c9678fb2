"""What tests of the worker share: a queue of a test's own, workers on it in this process, and handlers that obey."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memory_pipeline import metrics
from memory_pipeline.model.jobs import JobKey, JobType
from memory_pipeline.settings import Settings
from memory_pipeline.stores.postgres.job_reports import Job
from memory_pipeline.stores.postgres.jobs import ClaimedJob
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline.stores.redis.stream import JobStream
from memory_pipeline.worker.handlers import Handlers
from memory_pipeline.worker.outcomes import Done, Handle, Outcome
from memory_pipeline.worker.process import Worker
from memory_pipeline_tests.local.inspect import until
from memory_pipeline_tests.stores.postgres.ledger import Ledger
from memory_pipeline_tests.worker.watch import Watched, check_jobs

QUICK: dict[str, Any] = {
    "worker_poll_interval_ms": 50,
    "worker_batch_window_ms": 5,
    "worker_lease_ms": 1000,
    "worker_max_concurrent_jobs": 2,
    "retry_attempts": 2,
    "retry_backoff_ms": 20,
}
MAX_ATTEMPTS = 3
ALL_TYPES: tuple[JobType, ...] = ("enrich_and_embed", "index", "detect_relations")


class Bench:
    """A queue and its workers."""

    def __init__(self, ledger: Ledger, redis_url: str, settings: Settings) -> None:
        self.ledger = ledger
        self.redis_url = redis_url
        self.settings = settings
        self.watched = Watched(ledger.urls.admin_url, redis_url, MAX_ATTEMPTS)

    def worker(self, handle: Handle | Mapping[JobType, Handle], **changes: Any) -> Worker:
        """A worker of this process with one handler for everything, or one for each type."""
        by_type = handle if isinstance(handle, Mapping) else dict.fromkeys(ALL_TYPES, handle)
        return Worker(self.settings.model_copy(update=changes), lambda _pipeline, _redis: Handlers(by_type))

    def rest(self, seconds: float = 20) -> None:
        """Wait until every job has ended."""
        until(self._at_rest, "every job is completed or dead", seconds)

    def entries(self) -> int:
        """How many entries the stream has."""
        with RedisManager(self.redis_url) as manager:
            return JobStream(manager).depth()

    def states(self) -> dict[JobKey, str]:
        return {key: row.state for key, row in self.ledger.rows().items()}

    def row(self, key: JobKey) -> Job:
        return self.ledger.row(key)

    def check(self, keys: Sequence[JobKey], *, dead: Sequence[JobKey] = ()) -> None:
        """Wait until every job has ended and every entry is acknowledged, then check the invariants."""
        self.rest()
        until(lambda: self.entries() == 0, "every entry is acknowledged")
        check_jobs(self.watched, keys, dead=dead)

    def _at_rest(self) -> bool:
        return all(state in ("completed", "dead") for state in self.states().values())


class Recorder:
    """A handler that does nothing and notes what it was given; one that `before` is called with first may refuse."""

    def __init__(self, before: Callable[[Sequence[ClaimedJob]], None] | None = None) -> None:
        self._before = before
        self._lock = threading.Lock()
        self.batches: list[list[JobKey]] = []

    def __call__(self, jobs: Sequence[ClaimedJob]) -> list[Outcome]:
        with self._lock:
            self.batches.append([job.key for job in jobs])
        if self._before is not None:
            self._before(jobs)
        return [Done()] * len(jobs)

    @property
    def seen(self) -> Counter[JobKey]:
        with self._lock:
            return Counter(key for batch in self.batches for key in batch)


class Gate:
    """Where a handler waits until a test lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self._open.wait(30), "nobody let the handler go on"

    def open(self) -> None:
        self._open.set()


def count_of(name: str, **labels: str) -> float:
    """The value of a counter or gauge of this process; 0 where it has none yet."""
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0

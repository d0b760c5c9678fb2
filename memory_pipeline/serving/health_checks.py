"""Asking every store, the queue, the write buffer and the wiring how they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog

from memory_pipeline import metrics
from memory_pipeline.model.errors import BusyError, StoreUnavailableError
from memory_pipeline.model.flags import Flag
from memory_pipeline.serving.health import CacheReport, HealthReport, QueueReport, StoreHealth, look
from memory_pipeline.serving.wiring import Wiring
from memory_pipeline.settings import Settings
from memory_pipeline.stages.flags import FeatureFlags
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.job_reports import WORKER_SEEN_SECONDS, job_stats, require_writable, workers_seen
from memory_pipeline.stores.redis.buffer import WriteBuffer
from memory_pipeline.stores.redis.manager import RedisManager

log = structlog.get_logger(__name__)


class HealthChecks:
    """What health is asked of. `database` is connected as memory_pipeline."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        redis: RedisManager,
        pipeline: Pipeline,
        buffer: WriteBuffer,
        flags: FeatureFlags,
        wiring: Wiring,
    ) -> None:
        self._settings = settings
        self._database = database
        self._redis = redis
        self._pipeline = pipeline
        self._buffer = buffer
        self._flags = flags
        self._wiring = wiring

    def report(self) -> HealthReport:
        """Ask them all, one after another; sets the gauges that say which stores are up."""
        stores: dict[str, StoreHealth] = {
            "postgres": look(self._postgres_health),
            "redis": look(self._redis_health),
            "chroma": look(self._chroma_health),
        }
        queue, worker_running = None, False
        if stores["postgres"].ok:
            try:
                queue, worker_running = self._queue()
            except StoreUnavailableError as error:
                stores["postgres"] = StoreHealth(False, str(error))
            except BusyError as error:
                log.warning("queue_not_counted", message=str(error))
        for name, store in stores.items():
            metrics.store_up.labels(name).set(store.ok)
        wiring = self._wiring.report
        buffer = self._buffer_report()
        return HealthReport(
            ok=stores["postgres"].ok and wiring.ok and not buffer.get("alarm"),
            system_enabled=self._flags.enabled(Flag.SYSTEM),
            worker_enabled=self._settings.worker_enabled,
            worker_running=worker_running,
            stores=stores,
            queue_stats=queue,
            cache=self.cache(),
            buffer=buffer,
            # Both places are named where they differ; else nobody without a token has to know any.
            wiring={
                "result": wiring.result,
                "others": len(wiring.others),
                "fingerprint": wiring.fingerprint.digest,
                "schema_version": wiring.fingerprint.schema_version,
            }
            | ({} if wiring.ok else {"message": wiring.message}),
        )

    def cache(self) -> CacheReport:
        """Return how large the caches are and how often they answered."""
        health = self._redis.health()
        return CacheReport(
            health.connected, health.keys_count, health.memory_used, health.hits, health.misses, health.hit_rate
        )

    def _postgres_health(self) -> str:
        self._database.ping()
        with self._database.transaction() as connection:
            require_writable(connection)
        return "answers as memory_pipeline"

    def _redis_health(self) -> str:
        health = self._redis.health()
        if not health.connected:
            raise StoreUnavailableError(
                "Redis does not answer; requests go on without caches, and writes can't be buffered."
            )
        return f"version {health.version}"

    def _chroma_health(self) -> str:
        self._pipeline.chroma.heartbeat()
        return "answers"

    def _queue(self) -> tuple[QueueReport, bool]:
        """Jobs by state, and whether a worker is there."""
        counts = Counter[str]()
        with self._database.transaction() as connection:
            for stat in job_stats(connection):
                counts[stat.state] += stat.jobs
            workers = workers_seen(connection, WORKER_SEEN_SECONDS)
        return QueueReport(**counts), workers > 0

    def _buffer_report(self) -> Mapping[str, Any]:
        enabled = self._settings.buffer_enabled
        try:
            stats = self._buffer.stats()
        except StoreUnavailableError as error:
            return {"enabled": enabled, "problem": str(error)}
        return {"enabled": enabled, **msgspec.to_builtins(stats)}

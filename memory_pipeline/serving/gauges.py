"""Gauges that describe the whole system rather than a process: set by the API and by workers every few seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

from memory_pipeline import metrics
from memory_pipeline.stores.postgres.checks import newest_audit
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.job_reports import OpenWriter, backlog, job_stats, open_writers

SAMPLE_SECONDS = 5.0
_CURRENT_EXPORT = "CURRENT"


class _WriterAges:
    """How long transactions that write have been open: since they were first seen, where Postgres does not say."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}

    def oldest(self, writers: Sequence[OpenWriter]) -> float:
        """Return the age of the oldest in seconds; 0 where there is none."""
        now = time.monotonic()
        self._seen = {writer.xid: self._seen.get(writer.xid, now) for writer in writers}
        ages = [now - self._seen[each.xid] if each.seconds is None else each.seconds for each in writers]
        return max(ages, default=0.0)


_writer_ages = _WriterAges()


def sample_gauges(database: Database, exports_root: Path) -> None:
    """Set the gauges of queue, relay, writers, audit and export.

    Raises StoreUnavailableError where Postgres is away; the age of the export is known all the same.
    """
    metrics.export_age_seconds.set(_export_age(exports_root))
    with database.transaction() as connection:
        stats = job_stats(connection)
        waiting = backlog(connection)
        audit = newest_audit(connection)
        writers = open_writers(connection)
    metrics.queue_jobs.clear()
    for stat in stats:
        metrics.queue_jobs.labels(stat.job_type, stat.state).set(stat.jobs)
    metrics.queue_oldest_seconds.set(waiting.oldest_seconds)
    metrics.relay_lag_seconds.set(waiting.oldest_unpublished_seconds)
    metrics.oldest_writer_seconds.set(_writer_ages.oldest(writers))
    metrics.audit_findings.set(0 if audit is None else audit.findings or 0)


def _export_age(exports_root: Path) -> float:
    """Seconds since the export that is served was published; infinite where there is none, or none to be seen."""
    try:
        published = (exports_root / _CURRENT_EXPORT).stat().st_mtime
    except OSError:  # the other gauges are not to go without their values for it
        return math.inf
    return time.time() - published

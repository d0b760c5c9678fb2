"""Gauges that describe the whole system rather than a process: set by the API and by workers every few seconds."""

from __future__ import annotations

import math
import time
from pathlib import Path

from memory_pipeline import metrics
from memory_pipeline.stores.postgres.checks import newest_audit
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.job_reports import backlog, job_stats

SAMPLE_SECONDS = 5.0
_CURRENT_EXPORT = "CURRENT"


def sample_gauges(database: Database, exports_root: Path) -> None:
    """Set the gauges of queue, relay, audit and export. Raises StoreUnavailableError where Postgres is away; the age of
    the export is known all the same."""
    metrics.export_age_seconds.set(_export_age(exports_root))
    with database.transaction() as connection:
        stats = job_stats(connection)
        waiting = backlog(connection)
        audit = newest_audit(connection)
    metrics.queue_jobs.clear()
    for stat in stats:
        metrics.queue_jobs.labels(stat.job_type, stat.state).set(stat.jobs)
    metrics.queue_oldest_seconds.set(waiting.oldest_seconds)
    metrics.relay_lag_seconds.set(waiting.oldest_unpublished_seconds)
    metrics.audit_findings.set(0 if audit is None else audit.findings or 0)


def _export_age(exports_root: Path) -> float:
    """Seconds since the export that is served was published; infinite where there is none (any more)."""
    try:
        published = (exports_root / _CURRENT_EXPORT).stat().st_mtime
    except FileNotFoundError:
        return math.inf
    return time.time() - published

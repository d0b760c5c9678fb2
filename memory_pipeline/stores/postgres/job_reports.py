"""Looking into the ledger and tidying it: what waits and since when, lists for people, dead jobs, old completed ones.

memory_pipeline sees every tenant's jobs here, memory_app its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from memory_pipeline.model.errors import NotFoundError
from memory_pipeline.model.jobs import JOB_TYPES, JobKey, JobState, JobType
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql


class JobStat(NamedTuple):
    """Jobs of one type in one state; completed ones of the last ten minutes."""

    job_type: JobType
    state: JobState
    jobs: int
    oldest_age: timedelta | None
    """Since the oldest was added; None where nothing waits any more (completed, dead)."""


class Backlog(NamedTuple):
    """What is due and unclaimed."""

    due: int
    oldest_seconds: float
    """Since the oldest that is still to be done was added, however often it was put aside; 0 where there is none."""
    unpublished: int
    oldest_unpublished_seconds: float
    """How far the relay is behind."""


class OpenWriter(NamedTuple):
    """A transaction that has written and not ended: nobody can see what it wrote, not even the relay."""

    xid: int
    seconds: float | None
    """Since it began; None where it is another role's."""


class DayBacklog(NamedTuple):
    """What is due of one type for one day."""

    day: date
    job_type: JobType
    jobs: int
    oldest_seconds: float


class DeadClass(NamedTuple):
    """Dead jobs of one type that failed in one way last."""

    job_type: JobType
    error_class: str
    jobs: int
    oldest: datetime
    newest: datetime


class Job(NamedTuple):
    """A whole row of the ledger but for its claim token."""

    tenant_id: UUID
    job_id: UUID
    job_type: JobType
    state: JobState
    priority: int
    subject_id: UUID | None
    user_id: UUID | None
    day: date
    payload: dict[str, Any]
    attempts: int
    claimed_alone: bool
    available_at: datetime
    published_at: datetime | None
    claimed_by: str | None
    lease_until: datetime | None
    error_class: str | None
    error_text: str | None
    correlation_id: UUID
    created_at: datetime
    finished_at: datetime | None


def job_stats(connection: Connection) -> list[JobStat]:
    """Return how many jobs there are by type and state."""
    with connection.cursor(row_factory=class_row(JobStat)) as cursor:
        return cursor.execute("SELECT job_type, state, jobs, oldest_age FROM get_memory_job_stats()").fetchall()


def backlog(connection: Connection) -> Backlog:
    """Return what waits for a worker and for the relay, and since when; takes time with the number that waits."""
    with connection.cursor(row_factory=class_row(Backlog)) as cursor:
        return cursor.execute(sql(PACKAGE, "jobs_backlog")).fetchall()[0]


def open_writers(connection: Connection) -> list[OpenWriter]:
    """Return the transactions of this database that have written, whosever they are."""
    with connection.cursor(row_factory=class_row(OpenWriter)) as cursor:
        return cursor.execute(sql(PACKAGE, "open_writers")).fetchall()


def backlog_by_day(connection: Connection) -> list[DayBacklog]:
    """Return what is due by day and type, in that order."""
    with connection.cursor(row_factory=class_row(DayBacklog)) as cursor:
        return cursor.execute(sql(PACKAGE, "jobs_by_day")).fetchall()


def dead_by_class(connection: Connection) -> list[DeadClass]:
    """Return the dead jobs by type and error class, most frequent first."""
    with connection.cursor(row_factory=class_row(DeadClass)) as cursor:
        return cursor.execute(sql(PACKAGE, "jobs_dead_by_class")).fetchall()


def list_jobs(
    connection: Connection,
    *,
    states: Sequence[JobState] | None = None,
    job_type: JobType | None = None,
    error_class: str | None = None,
    before: UUID | None = None,
    limit: int = 100,
) -> list[Job]:
    """Return a page of jobs, the newest first; `before` is the last job id of the page before."""
    with connection.cursor(row_factory=class_row(Job)) as cursor:
        return cursor.execute(
            sql(PACKAGE, "jobs_list"),
            {
                "states": None if states is None else list(states),
                "job_type": job_type,
                "error_class": error_class,
                "before": before,
                "limit": limit,
            },
        ).fetchall()


def show_job(connection: Connection, job_id: UUID) -> Job:
    """Return one job. Raises NotFoundError."""
    with connection.cursor(row_factory=class_row(Job)) as cursor:
        found = cursor.execute(sql(PACKAGE, "jobs_show"), {"job_id": job_id}).fetchone()
    if found is None:
        raise NotFoundError(
            f"there is no job {job_id}: completed ones are kept for MEMORY_JOB_RETENTION_DAYS. "
            "`memory-pipeline jobs list` shows those there are."
        )
    return found


def database_now(connection: Connection) -> datetime:
    """Return the time by the database's clock."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


def retry_dead(
    connection: Connection,
    *,
    died_before: datetime,
    limit: int,
    job_types: Sequence[JobType] = JOB_TYPES,
    error_class: str | None = None,
    job_id: UUID | None = None,
) -> list[JobKey]:
    """Make a page of dead jobs pending again, with all their attempts, the longest dead first; return which.

    To retry many: take `database_now` once as `died_before`, then call with a pause in between, a transaction each,
    until fewer than `limit` come back. Stopped in the middle, it is simply begun again. Their memories leave the dead
    letters with them.
    """
    rows = connection.execute(
        sql(PACKAGE, "jobs_retry_dead"),
        {
            "died_before": died_before,
            "limit": limit,
            "job_types": list(job_types),
            "error_class": error_class,
            "job_id": job_id,
        },
    ).fetchall()
    keys = [JobKey(*row) for row in rows]
    connection.execute(
        sql(PACKAGE, "jobs_revive_memories"),
        {"tenant_ids": [key.tenant_id for key in keys], "job_ids": [key.job_id for key in keys]},
    )
    return keys


def compact_completed(connection: Connection, retention_days: float, *, limit: int = 10_000) -> int:
    """Move up to `limit` jobs that were completed longer ago into `memory_job_days`; return how many.

    There they are counted by day, type and lag. Dead jobs never leave the ledger.
    """
    parameters = {"retention_days": retention_days, "limit": limit}
    row = connection.execute(sql(PACKAGE, "jobs_compact"), parameters).fetchone()
    assert row is not None  # an aggregate without GROUP BY
    return int(row[0])


WORKER_SEEN_SECONDS = 20.0
"""A worker that was not seen for so long is not there (any more)."""


def note_worker(connection: Connection, worker: str) -> None:
    """A worker is there. To be called every few seconds."""
    connection.execute(
        "INSERT INTO worker_heartbeats (worker) VALUES (%s)"
        " ON CONFLICT (worker) DO UPDATE SET seen_at = clock_timestamp()",
        [worker],
    )


def forget_worker(connection: Connection, worker: str) -> None:
    """A worker stops; with it go those that have not been seen for an hour."""
    connection.execute(
        "DELETE FROM worker_heartbeats WHERE worker = %s OR seen_at < clock_timestamp() - interval '1 hour'", [worker]
    )


def workers_seen(connection: Connection, within_seconds: float) -> int:
    """Return how many workers were there so recently."""
    row = connection.execute(
        "SELECT count(*) FROM worker_heartbeats WHERE seen_at > clock_timestamp() - %s * interval '1 second'",
        [within_seconds],
    ).fetchone()
    return int(row[0]) if row else 0


def require_writable(connection: Connection) -> None:
    """Raise what a write would where this Postgres takes none (a standby, or being moved). Changes nothing."""
    connection.execute("DELETE FROM worker_heartbeats WHERE false")

"""What workers have completed, read piece by piece in such a way that nothing is skipped and nothing is read twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple

from memory_pipeline.model.jobs import JobType
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.job_settling import SETTLER
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql


class CompletedJobs(NamedTuple):
    """What workers completed of one day and type."""

    day: date
    job_type: JobType
    jobs: int
    tenants: int


def completed_by_workers(
    connection: Connection, after: datetime, until: datetime, job_types: Sequence[JobType]
) -> list[CompletedJobs]:
    """Return what workers completed from `after` up to, but not including, `until`."""
    rows = connection.execute(
        sql(PACKAGE, "jobs_completed_by_day"),
        {"job_types": list(job_types), "after": after, "until": until, "settlers": SETTLER},
    ).fetchall()
    return [CompletedJobs(*row) for row in rows]


def settled_until(connection: Connection) -> datetime:
    """Return a moment before which no job's end can come to light any more. Ask in a transaction before the one that
    reads the ends."""
    row = connection.execute(sql(PACKAGE, "jobs_settled_until")).fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment

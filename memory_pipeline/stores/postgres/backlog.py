"""What waits for somebody to do it, by day: for whoever launches runs over days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple

from psycopg.rows import class_row

from memory_pipeline.model.jobs import JobType
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql


class DueWork(NamedTuple):
    """What is due of one day."""

    day: date
    by_job: bool
    """False: memories that no job speaks for, so that no worker comes for them."""
    items: int
    oldest_seconds: float
    newest: datetime


def due_work(
    connection: Connection, job_types: Sequence[JobType], enricher: str, embedder: str, *, embedding: bool = True
) -> list[DueWork]:
    """Return what is due by day, of tenants that permit the plugins `enricher` and (of jobs) `embedder`.

    Takes time with the number of jobs that are not completed and of memories that were not enriched.
    """
    with connection.cursor(row_factory=class_row(DueWork)) as cursor:
        return cursor.execute(
            sql(PACKAGE, "backlog_by_day"),
            {"job_types": list(job_types), "enricher": enricher, "embedder": embedder, "embedding": embedding},
        ).fetchall()

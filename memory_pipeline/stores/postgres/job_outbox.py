"""The relay between ledger and stream: puts ids of pending jobs into Redis, and again those that Redis forgot.

A job's `published_at` is set in the transaction in which its id is put into the stream: a relay that dies in between
leaves the job unpublished and its id in the stream, which is one delivery too many and never one too few. Any number of
relays may run at once. Whatever makes a job due again (a failure, a lease that ended, a release, a retry) clears
`published_at`, so it goes through the relay like a new one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from memory_pipeline.model.jobs import JobKey, StreamedJob
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

MAX_DEPTH = 10_000
"""Entries in the stream beyond which jobs wait in Postgres, where they are ordered by priority."""


class Stream(Protocol):
    """What the relay needs of the stream (stores.redis.stream.JobStream). Each raises StoreUnavailableError."""

    def publish(self, jobs: Sequence[StreamedJob]) -> None: ...

    def depth(self) -> int: ...

    def holds(self, keys: Collection[JobKey]) -> set[JobKey]: ...


class Published(NamedTuple):
    """What one turn of the relay did."""

    jobs: int
    stream_is_full: bool
    """There may be more to publish, but not before some of the stream has been worked off."""
    lag_seconds: float
    """How long the job that waited longest had been due."""


def publish(connection: Connection, stream: Stream, limit: int, *, max_depth: int = MAX_DEPTH) -> Published:
    """Put up to `limit` due jobs into the stream, by priority and age. While it returns `limit`, there may be more.

    The caller commits right after, and does nothing else in this transaction. Raises StoreUnavailableError where Redis
    is away or full: the transaction then has to be rolled back, and the jobs stay unpublished.
    """
    room = max_depth - stream.depth()
    if room <= 0:
        return Published(0, True, 0.0)
    connection.execute(sql(PACKAGE, "jobs_brief_transaction"))
    rows = connection.execute(sql(PACKAGE, "jobs_take_unpublished"), {"limit": min(limit, room)}).fetchall()
    if not rows:
        return Published(0, False, 0.0)
    stream.publish([StreamedJob(JobKey(tenant_id, job_id), alone) for tenant_id, job_id, alone, _ in rows])
    return Published(len(rows), len(rows) == room, max(float(lag) for *_, lag in rows))


def republish_forgotten(
    connection: Connection, stream: Stream, *, older_than_seconds: float, limit: int = MAX_DEPTH
) -> int:
    """Mark unpublished those jobs that were published a while ago, are unclaimed, and are not in the stream (any more):
    Redis was flushed, trimmed or restarted, or lost its newest entries. Returns how many; the relay does the rest.

    Costs little while all is well: then nothing waits so long, or the stream is asked for its ids once.
    """
    rows = connection.execute(
        sql(PACKAGE, "jobs_published_since"), {"seconds": older_than_seconds, "limit": limit}
    ).fetchall()
    if not rows:
        return 0
    published: dict[JobKey, datetime] = {JobKey(tenant_id, job_id): at for tenant_id, job_id, at in rows}
    forgotten = published.keys() - stream.holds(published.keys())
    return connection.execute(
        sql(PACKAGE, "jobs_forget_published"),
        {
            "tenant_ids": [key.tenant_id for key in forgotten],
            "job_ids": [key.job_id for key in forgotten],
            "published": [published[key] for key in forgotten],
        },
    ).rowcount

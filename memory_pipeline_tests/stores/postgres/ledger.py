"""What tests of the job ledger share: a database with two tenants, jobs to add, time that passes by moving it back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest

from memory_pipeline.model.jobs import JOB_TYPES, JobKey, JobType, RetryPolicy
from memory_pipeline.stores.postgres import job_outbox, jobs
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.job_reports import Job, list_jobs
from memory_pipeline.stores.postgres.jobs import ClaimedJob, NewJob
from memory_pipeline.stores.postgres.tenants import ensure_tenant
from memory_pipeline.stores.sqlfiles import sql
from memory_pipeline_tests.conftest import Database as Urls

DAY = date(2025, 3, 1)
LEASE = 20.0
# Waits so long that no test sees one end by itself.
POLICY = RetryPolicy(max_attempts=3, backoff_seconds=1000.0, longest_backoff_seconds=5000.0)


class Ledger:
    """The job ledger of one database. Every call is a transaction of its own, committed."""

    def __init__(self, urls: Urls, database: Database) -> None:
        self.urls = urls
        self.database = database
        self.add_tenants()

    def add_tenants(self) -> None:
        """Have the two tenants of the jobs, where there are none (any more)."""
        with self.database.transaction() as connection:
            self.tenants = [ensure_tenant(connection, slug) for slug in ("acme", "globex")]

    def new_job(self, place: int = 0, **changes: Any) -> NewJob:
        values: dict[str, Any] = {
            "tenant_id": self.tenants[place % 2],
            "job_type": "index",
            "day": DAY,
            "correlation_id": uuid4(),
            "subject_id": uuid4(),
        }
        return NewJob(**values | changes)

    def add(self, count: int = 1, **changes: Any) -> list[JobKey]:
        with self.database.transaction() as connection:
            return jobs.enqueue(connection, [self.new_job(place, **changes) for place in range(count)])

    def claim(
        self, limit: int = 100, worker: str = "worker-1", types: Sequence[JobType] = JOB_TYPES
    ) -> list[ClaimedJob]:
        with self.database.transaction() as connection:
            return jobs.claim_next(connection, worker, types, limit, LEASE)

    def claim_keys(self, keys: Sequence[JobKey], worker: str = "worker-1") -> list[ClaimedJob]:
        with self.database.transaction() as connection:
            return jobs.claim_keys(connection, worker, keys, LEASE)

    def finish(self, claims: Sequence[ClaimedJob]) -> set[JobKey]:
        with self.database.transaction() as connection:
            return jobs.finish(connection, claims)

    def heartbeat(self, claims: Sequence[ClaimedJob]) -> set[JobKey]:
        with self.database.transaction() as connection:
            return jobs.heartbeat(connection, claims, LEASE)

    def fail(self, claims: Sequence[ClaimedJob], *, retry: bool = True, text: str = "no luck") -> dict[JobKey, Any]:
        failures = [
            jobs.Failure(claim=claim, error_class="TestError", error_text=text, retry=retry) for claim in claims
        ]
        with self.database.transaction() as connection:
            return dict(jobs.fail(connection, failures, POLICY))

    def release(self, claims: Sequence[ClaimedJob], delay_seconds: float = 0.0) -> set[JobKey]:
        with self.database.transaction() as connection:
            return jobs.release(connection, claims, delay_seconds=delay_seconds)

    def reclaim(self) -> dict[JobKey, Any]:
        with self.database.transaction() as connection:
            return {job.key: job.state for job in jobs.reclaim_expired(connection, POLICY)}

    def rows(self) -> dict[JobKey, Job]:
        with self.database.transaction() as connection:
            return {JobKey(job.tenant_id, job.job_id): job for job in list_jobs(connection, limit=100_000)}

    def row(self, key: JobKey) -> Job:
        return self.rows()[key]

    # -- time --

    def end_leases(self, keys: Sequence[JobKey] | None = None) -> None:
        """An hour passes for the leases of these jobs (of all)."""
        self._execute(
            "UPDATE memory_jobs SET lease_until = lease_until - interval '1 hour'"
            " WHERE state = 'processing' AND (%(ids)s::uuid[] IS NULL OR job_id = ANY (%(ids)s))",
            keys,
        )

    def make_due(self, keys: Sequence[JobKey] | None = None) -> None:
        """A day passes for the waits of these jobs (of all)."""
        self._execute(
            "UPDATE memory_jobs SET available_at = available_at - interval '1 day'"
            " WHERE state IN ('pending', 'failed') AND available_at > clock_timestamp()"
            " AND (%(ids)s::uuid[] IS NULL OR job_id = ANY (%(ids)s))",
            keys,
        )

    def publish_earlier(self, seconds: float) -> None:
        """So many seconds pass for jobs in the stream."""
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE memory_jobs SET published_at = published_at - make_interval(secs => %s)", [seconds]
            )

    def _execute(self, statement: LiteralString, keys: Sequence[JobKey] | None) -> None:
        with self.database.transaction() as connection:
            connection.execute(statement, {"ids": None if keys is None else [key.job_id for key in keys]})

    def clear(self) -> None:
        with psycopg.connect(self.urls.admin_url) as connection:
            connection.execute("TRUNCATE memory.memory_jobs")

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A session beside the pool, whose transaction the test ends as it likes."""
        with self.open_connection() as connection:
            yield connection

    def open_connection(self) -> Connection:
        """The same, for a client that never comes back."""
        return psycopg.connect(self.urls.pipeline_url, options="-c search_path=memory,public")


def until(happens: Callable[[], bool]) -> None:
    """Ask again until it has happened."""
    pause = threading.Event()
    for _ in range(4000):
        if happens():
            return
        pause.wait(0.005)
    pytest.fail("it never happened")


def break_sql(monkeypatch: pytest.MonkeyPatch, name: str, part: str, replacement: str) -> None:
    """Have the ledger use a statement without one of its safety mechanisms."""

    def broken(package: str, wanted: str) -> LiteralString:
        text = sql(package, wanted)
        if wanted != name:
            return text
        assert part in text
        return text.replace(part, replacement)

    for module in (jobs, job_outbox):
        monkeypatch.setattr(module, "sql", broken)

"""The job ledger: adding jobs, claiming them, and what becomes of a claim. Everything works on batches.

A claim holds a job for a lease, measured by the database's clock, under a token that no other claim has. Whoever lost
the claim (the lease ended, the job was taken away and maybe given to another) can neither renew nor finish it: these
functions answer which claims they still found, and what was done under the others must be discarded. Attempts count
when a job is claimed, so `attempts` never exceeds the policy's `max_attempts`.

Each function works in the caller's transaction, which should end at once: the rows are locked until then. The two that
claim want one of their own: for its rest they change how Postgres plans and commits (sql/jobs_brief_transaction.sql).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from memory_pipeline.model.errors import InvalidRequestError
from memory_pipeline.model.jobs import (
    HANDLED_TYPES,
    LEASE_EXPIRED,
    JobKey,
    JobState,
    JobType,
    RetryPolicy,
    backoff_seconds,
    storable_text,
)
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

DEFAULT_PRIORITY = 100
LONGEST_LEASE_SECONDS = 600.0
"""A lease that ends later than this from now was written before the database's clock was set back."""
LONGEST_WAIT_SECONDS = 3600.0
"""Longer than any job waits: for a flag, a rate limit, or its next try."""
BROUGHT_FORWARD_AT_ONCE = 10_000
_LOCK_WAIT = "200ms"
"""The longest wait for the relay's commit; a relay that hangs longer keeps its jobs until Postgres ends its session."""


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job to be added."""

    tenant_id: UUID
    job_type: JobType
    day: date
    """UTC day, the Dagster partition, that the work belongs to."""
    correlation_id: UUID
    subject_id: UUID | None = None
    user_id: UUID | None = None
    payload: dict[str, Any] = msgspec.field(default_factory=dict)
    """Ids and numbers; never what a message says."""
    priority: int = DEFAULT_PRIORITY
    """The lower goes first."""
    delay_seconds: float = 0.0


class ClaimedJob(NamedTuple):
    """A job that the caller may work on until its lease ends."""

    tenant_id: UUID
    job_id: UUID
    claim_token: UUID
    job_type: JobType
    subject_id: UUID | None
    user_id: UUID | None
    day: date
    payload: dict[str, Any]
    attempts: int
    """This one included."""
    claimed_alone: bool
    """An earlier claim was never answered: this job may end its worker."""
    correlation_id: UUID
    created_at: datetime

    @property
    def key(self) -> JobKey:
        return JobKey(self.tenant_id, self.job_id)


class ReclaimedJob(NamedTuple):
    """A job that was taken away from a silent worker."""

    tenant_id: UUID
    job_id: UUID
    state: JobState
    """`failed`, due at once, or `dead`."""
    job_type: JobType
    subject_id: UUID | None
    user_id: UUID | None
    attempts: int
    correlation_id: UUID

    @property
    def key(self) -> JobKey:
        return JobKey(self.tenant_id, self.job_id)


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a claimed job was not done."""

    claim: ClaimedJob
    error_class: str
    error_text: str
    retry: bool = True
    """False where trying again can't help: the job is dead at once."""


def enqueue(connection: Connection, jobs: Sequence[NewJob]) -> list[JobKey]:
    """Add jobs; return their keys in the same order. They exist when the caller's transaction commits.

    Raises InvalidRequestError for a type of work that no worker knows how to do: it would wait for ever.
    """
    if not jobs:
        return []
    unknown = sorted({job.job_type for job in jobs} - set(HANDLED_TYPES))
    if unknown:
        raise InvalidRequestError(
            f"no worker does jobs of type {', '.join(unknown)}, so none is added; there are {', '.join(HANDLED_TYPES)}."
        )
    rows = connection.execute(
        sql(PACKAGE, "jobs_enqueue"),
        {
            "tenant_ids": [job.tenant_id for job in jobs],
            "job_types": [job.job_type for job in jobs],
            "subject_ids": [job.subject_id for job in jobs],
            "user_ids": [job.user_id for job in jobs],
            "days": [job.day for job in jobs],
            "payloads": [Jsonb(job.payload) for job in jobs],
            "priorities": [job.priority for job in jobs],
            "delays": [job.delay_seconds for job in jobs],
            "correlation_ids": [job.correlation_id for job in jobs],
        },
    ).fetchall()
    return [JobKey(*row) for row in rows]


def claim_next(
    connection: Connection,
    worker: str,
    job_types: Sequence[JobType],
    limit: int,
    lease_seconds: float,
    *,
    first_day: date = date.min,
    last_day: date = date.max,
) -> list[ClaimedJob]:
    """Claim up to `limit` jobs that are due, by priority and then age; what another holds is left out, not waited for.

    A job whose last claim was never answered comes alone, so that it can't take others with it.
    """
    return _claims(
        connection,
        "jobs_claim_next",
        {
            "worker": worker,
            "job_types": list(job_types),
            "limit": limit,
            "lease_seconds": lease_seconds,
            "first_day": first_day,
            "last_day": last_day,
        },
    )


def claim_keys(connection: Connection, worker: str, keys: Sequence[JobKey], lease_seconds: float) -> list[ClaimedJob]:
    """Claim those of the named jobs that are due, in no order. What is not returned needs nothing of the caller: it is
    done, dead, not due or claimed by another, or (if it must come alone and was not asked for alone) stays pending and
    is published again.

    A job may be locked because its relay has not committed yet: that is waited for, for some tenths of a second.
    """
    if not keys:
        return []
    parameters: dict[str, object] = {"worker": worker, "lease_seconds": lease_seconds, "alone": len(keys) == 1}
    claims = _claims(connection, "jobs_claim_keys", parameters | _columns(keys))
    claimed = {claim.key for claim in claims}
    missing = [key for key in keys if key not in claimed]
    if missing and _wait_for(connection, missing):
        claims += _claims(connection, "jobs_claim_keys", parameters | _columns(missing))
    return claims


def heartbeat(connection: Connection, claims: Sequence[ClaimedJob], lease_seconds: float) -> set[JobKey]:
    """Renew the leases; return the jobs whose claim still held. Work on the others should stop."""
    return _keys(connection, "jobs_heartbeat", _tokens(claims) | {"lease_seconds": lease_seconds})


def lock_claims(connection: Connection, claims: Sequence[ClaimedJob]) -> None:
    """Lock the jobs whose claim still holds, in the one order of the ledger.

    For a transaction that ends a batch in more than one way: each of the functions below locks its own part in order,
    and a part that comes later may hold what a heartbeat locked first.
    """
    connection.execute(sql(PACKAGE, "jobs_lock_claims"), _tokens(claims))


def finish(connection: Connection, claims: Sequence[ClaimedJob]) -> set[JobKey]:
    """Mark jobs completed; return those whose claim still held. The others are not the caller's any more."""
    return _keys(connection, "jobs_finish", _tokens(claims))


def fail(connection: Connection, failures: Sequence[Failure], policy: RetryPolicy) -> dict[JobKey, JobState]:
    """Record failed attempts: tried again after a growing wait, or `dead` where they are used up or `retry` is false.

    Returns the new state of each job whose claim still held.
    """
    rows = connection.execute(
        sql(PACKAGE, "jobs_fail"),
        _tokens([failure.claim for failure in failures])
        | {
            "max_attempts": policy.max_attempts,
            "error_classes": [storable_text(failure.error_class) for failure in failures],
            "error_texts": [storable_text(failure.error_text) for failure in failures],
            "retries": [failure.retry for failure in failures],
            "delays": [backoff_seconds(policy, failure.claim.attempts, random.random()) for failure in failures],
        },
    ).fetchall()
    return {JobKey(tenant_id, job_id): state for tenant_id, job_id, state in rows}


def release(connection: Connection, claims: Sequence[ClaimedJob], *, delay_seconds: float = 0.0) -> set[JobKey]:
    """Give jobs back untried: due at once where the worker stops, or later where they wait for a limit or a provider.

    The attempt is given back too: a job that never failed must not end as dead because of many deployments, or because
    its provider was away. A job that kills its worker can't come this way. Returns those whose claim still held.
    """
    return _keys(connection, "jobs_release", _tokens(claims) | {"delay_seconds": delay_seconds})


def reclaim_expired(
    connection: Connection,
    policy: RetryPolicy,
    *,
    limit: int = 1000,
    longest_lease_seconds: float = LONGEST_LEASE_SECONDS,
) -> list[ReclaimedJob]:
    """Take jobs away from workers that let their lease end; return them as they are now.

    To be called every few seconds, by any number of processes.
    """
    parameters = {
        "max_attempts": policy.max_attempts,
        "limit": limit,
        "longest_lease_seconds": longest_lease_seconds,
        "error_class": LEASE_EXPIRED,
    }
    with connection.cursor(row_factory=class_row(ReclaimedJob)) as cursor:
        return cursor.execute(sql(PACKAGE, "jobs_reclaim"), parameters).fetchall()


def bring_forward(
    connection: Connection,
    longest_wait_seconds: float = LONGEST_WAIT_SECONDS,
    *,
    limit: int = BROUGHT_FORWARD_AT_ONCE,
) -> int:
    """Make due at once what waits because the database's clock was set back, up to `limit`; return how many.

    While the ledger holds times that are yet to come, that is all that waits; else what would wait longer than any job
    does. To be called every minute or so, with more than the longest backoff and the longest `delay_seconds` in use.
    """
    parameters = {"longest_wait_seconds": longest_wait_seconds, "limit": limit}
    return connection.execute(sql(PACKAGE, "jobs_bring_forward"), parameters).rowcount


def _claims(connection: Connection, statement: str, parameters: dict[str, Any]) -> list[ClaimedJob]:
    connection.execute(sql(PACKAGE, "jobs_brief_transaction"))
    with connection.cursor(row_factory=class_row(ClaimedJob)) as cursor:
        return cursor.execute(sql(PACKAGE, statement), parameters).fetchall()


def _wait_for(connection: Connection, keys: Sequence[JobKey]) -> bool:
    """Whether any of the jobs can be claimed, once whoever holds them has committed; False if that takes too long."""
    try:
        # Rolled back: the time-out ends with it, and the locks were only for waiting.
        with connection.transaction(force_rollback=True):
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_WAIT])
            return connection.execute(sql(PACKAGE, "jobs_wait_for_keys"), _columns(keys)).rowcount > 0
    except psycopg.errors.LockNotAvailable:
        return False


def _keys(connection: Connection, statement: str, parameters: dict[str, Any]) -> set[JobKey]:
    return {JobKey(*row) for row in connection.execute(sql(PACKAGE, statement), parameters).fetchall()}


def _columns(keys: Sequence[JobKey]) -> dict[str, list[UUID]]:
    return {"tenant_ids": [key.tenant_id for key in keys], "job_ids": [key.job_id for key in keys]}


def _tokens(claims: Sequence[ClaimedJob]) -> dict[str, Any]:
    return {
        "tenant_ids": [claim.tenant_id for claim in claims],
        "job_ids": [claim.job_id for claim in claims],
        "tokens": [claim.claim_token for claim in claims],
    }

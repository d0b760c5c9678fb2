"""Statements of the audit: what should be where, and the record of what was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from memory_pipeline.model.digests import IndexedVector
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

_PAGE_ROWS = 10_000
GAPS = (
    "memory_content_altered",
    "memory_without_source",
    "memory_without_vector",
    "message_content_altered",
    "message_without_episode",
)
"""What `gaps` looks for."""


class Gap(NamedTuple):
    """Something missing or dangling within Postgres; `total` counts all of this problem for the tenant."""

    tenant_id: UUID
    problem: str
    subject_id: UUID
    total: int


class SampledVector(NamedTuple):
    memory_id: UUID
    chunk: int
    embedding: Any


class Finding(msgspec.Struct, frozen=True):
    """One place where a store disagrees with Postgres."""

    tenant_id: UUID
    store: str
    problem: str
    subject_id: UUID | None
    detail: dict[str, Any]


def audit_time(connection: Connection) -> datetime:
    """Return the present by the clock that dates tenants."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    time: datetime = row[0]
    return time


def gaps(connection: Connection, model: str, limit: int) -> list[Gap]:
    """Return what is missing or dangling within Postgres, at most `limit` of each problem and tenant."""
    with connection.cursor(row_factory=class_row(Gap)) as cursor:
        return cursor.execute(sql(PACKAGE, "audit_gaps"), {"model": model, "limit": limit}).fetchall()


def expected_vectors(connection: Connection, tenant_id: UUID, model: str) -> Iterator[IndexedVector]:
    """Yield what the index of a tenant should hold, streamed."""
    with connection.cursor(name="expected_vectors") as cursor:
        cursor.itersize = _PAGE_ROWS
        cursor.execute(sql(PACKAGE, "audit_vectors"), {"tenant_id": tenant_id, "model": model})
        for memory_id, chunk, version, content_hash in cursor:
            yield IndexedVector(memory_id, chunk, version, content_hash)


def unembedded_of(connection: Connection, tenant_id: UUID, model: str, memory_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of the memories that should have a vector in Postgres and have none, or not all chunks."""
    rows = connection.execute(
        sql(PACKAGE, "audit_unembedded"), {"tenant_id": tenant_id, "model": model, "memory_ids": list(memory_ids)}
    ).fetchall()
    return {memory_id for (memory_id,) in rows}


def sampled_vectors(connection: Connection, tenant_id: UUID, model: str, limit: int, seed: int) -> list[SampledVector]:
    """Return a few stored vectors of a tenant; which ones depends on `seed` alone."""
    with connection.cursor(row_factory=class_row(SampledVector)) as cursor:
        return cursor.execute(
            sql(PACKAGE, "audit_sample"), {"tenant_id": tenant_id, "model": model, "limit": limit, "seed": seed}
        ).fetchall()


def record_audit(
    connection: Connection, started_at: datetime, checked: dict[str, Any], findings: Sequence[Finding], total: int
) -> UUID:
    """Store one finished audit and return its id. `total` may exceed what is listed in `findings`.

    `checked` says what was compared, and under `looked_for` (each as "store: problem") what an export shows as 0 where
    it was not found. Tenants that were there at `started_at` count as looked at.
    """
    row = connection.execute(
        "INSERT INTO audit_runs (started_at, finished_at, checked, findings)"
        " VALUES (%s, clock_timestamp(), %s, %s) RETURNING audit_id",
        [started_at, Jsonb(checked), total],
    ).fetchone()
    assert row is not None
    audit_id = UUID(str(row[0]))
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO audit_findings (audit_id, tenant_id, store, problem, subject_id, detail)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [
                (audit_id, finding.tenant_id, finding.store, finding.problem, finding.subject_id, Jsonb(finding.detail))
                for finding in findings
            ],
        )
    return audit_id

"""Statements of the checks on each product: one query each, over the days of a run or over all days."""

from __future__ import annotations

from datetime import date, datetime
from typing import NamedTuple, TypeVar
from uuid import UUID

from psycopg.rows import class_row

from memory_pipeline.model.window import DayWindow
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

Row = TypeVar("Row")


class DeadLetter(NamedTuple):
    """A memory that could not be processed; `total` counts all of them."""

    memory_id: UUID
    day: date
    failure_class: str
    failure_text: str
    total: int


class DeadJobs(NamedTuple):
    """Dead jobs of one type and error class, and what the newest of them says."""

    job_type: str
    error_class: str
    error_text: str
    jobs: int
    newest: datetime


class FactSoundness(NamedTuple):
    """Facts, and those that lack what every fact must have; a few of these as examples."""

    facts: int
    without_message: int
    without_confidence: int
    examples: list[UUID] | None


class VectorSoundness(NamedTuple):
    """Memories that should have vectors, the vectors of their present content, and what is wrong with them."""

    memories: int
    vectors: int
    incomplete: int
    """Memories without a vector for every chunk."""
    of_other_dimension: int
    not_unit: int
    examples: list[UUID] | None


class IndexedTenant(NamedTuple):
    """Vectors of one tenant: those the index should hold, those it is known to hold so, and those it should not."""

    tenant_id: UUID
    expected: int
    indexed: int
    surplus: int


class SummarySoundness(NamedTuple):
    """Summaries, and those that name no message or one that is not their user's."""

    summaries: int
    without_source: int
    examples: list[UUID] | None


class NewestAudit(NamedTuple):
    """The audit that finished last."""

    audit_id: UUID
    finished_at: datetime
    findings: int
    problems: list[str]


def dead_letters(connection: Connection, window: DayWindow, limit: int) -> list[DeadLetter]:
    """Return the newest dead letters of the window."""
    with connection.cursor(row_factory=class_row(DeadLetter)) as cursor:
        return cursor.execute(sql(PACKAGE, "check_dead_letters"), {**_days(window), "limit": limit}).fetchall()


def dead_jobs(connection: Connection, window: DayWindow) -> list[DeadJobs]:
    """Return the dead jobs of the window by type and error class."""
    with connection.cursor(row_factory=class_row(DeadJobs)) as cursor:
        return cursor.execute(sql(PACKAGE, "check_dead_jobs"), _days(window)).fetchall()


def fact_soundness(connection: Connection, window: DayWindow) -> FactSoundness:
    """Count the facts of the window without a message that exists, or without a confidence from 0 to 1."""
    with connection.cursor(row_factory=class_row(FactSoundness)) as cursor:
        return _only(cursor.execute(sql(PACKAGE, "check_facts"), _days(window)).fetchone())


def vector_soundness(connection: Connection, window: DayWindow, model: str, dimension: int) -> VectorSoundness:
    """Count the memories of the window that lack vectors under `model`, and vectors that are not as they should be."""
    parameters = {**_days(window), "model": model, "dimension": dimension}
    with connection.cursor(row_factory=class_row(VectorSoundness)) as cursor:
        return _only(cursor.execute(sql(PACKAGE, "check_vectors"), parameters).fetchone())


def indexed_tenants(connection: Connection, window: DayWindow, model: str) -> list[IndexedTenant]:
    """Return what the index entries of the window say against the vectors of the window, tenant by tenant."""
    with connection.cursor(row_factory=class_row(IndexedTenant)) as cursor:
        return cursor.execute(sql(PACKAGE, "check_index"), {**_days(window), "model": model}).fetchall()


def summary_soundness(connection: Connection, weeks: DayWindow) -> SummarySoundness:
    """Count the summaries of the weeks that begin in the window, and those that rest on nothing."""
    parameters = {"start_time": weeks.start_time, "end_time": weeks.end_time}
    with connection.cursor(row_factory=class_row(SummarySoundness)) as cursor:
        return _only(cursor.execute(sql(PACKAGE, "check_summaries"), parameters).fetchone())


def exported_rows(connection: Connection) -> dict[str, int]:
    """Return how many rows a complete export of each daily table has now."""
    return dict(connection.execute(sql(PACKAGE, "check_exported_rows")).fetchall())


def newest_audit(connection: Connection) -> NewestAudit | None:
    """Return the audit that finished last, if there was one."""
    with connection.cursor(row_factory=class_row(NewestAudit)) as cursor:
        return cursor.execute(sql(PACKAGE, "check_newest_audit")).fetchone()


def _days(window: DayWindow) -> dict[str, date]:
    return {"start": window.start, "end": window.end}


def _only(row: Row | None) -> Row:
    assert row is not None  # an aggregate always answers
    return row


def mart_numbers(connection: Connection) -> dict[tuple[str, UUID], int]:
    """Return numbers that the marts should give, by name and tenant, worked out from the record."""
    rows = connection.execute(sql(PACKAGE, "check_mart_numbers")).fetchall()
    return {(name, tenant): int(value) for name, tenant, value in rows}

"""Statements of the summarize stage: a user's week of turns and facts, and the summary memories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from memory_pipeline.model.window import DayWindow
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

User = tuple[UUID, UUID]
"""Tenant and user."""


class WeeklyTurn(NamedTuple):
    """A message of a user, as the summarizer needs it."""

    tenant_id: UUID
    user_id: UUID
    message_id: UUID
    conversation_id: UUID
    role: str
    speaker: str
    content: str
    sent_at: datetime


class WeeklyFact(NamedTuple):
    """A statement found in a user's messages, and which messages these are."""

    tenant_id: UUID
    user_id: UUID
    content: str
    day: date
    source_message_ids: list[UUID]


def lock_week(connection: Connection, week: date) -> None:
    """Wait until no other transaction summarizes this week: of two, the one that read less must not write last."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('summarize_week'), %s)", [week.toordinal()])


def refused_weeks(connection: Connection, window: DayWindow, barred: Sequence[UUID]) -> list[UUID]:
    """Return which tenants of `barred`, for whom the summarizer may not run, said something in the window."""
    parameters = {"barred": barred, "start": window.start_time, "end": window.end_time}
    return [tenant_id for (tenant_id,) in connection.execute(sql(PACKAGE, "refused_weeks"), parameters).fetchall()]


def weeks_of_users(
    connection: Connection, week: DayWindow, tenants: Sequence[UUID]
) -> Iterator[tuple[list[WeeklyTurn], list[WeeklyFact]]]:
    """Yield the turns and facts, each in order, of every user of these tenants who said something.

    Holds one user's week at a time.
    """
    tenant_ids = list(tenants)
    facts = _facts_by_user(connection, week, tenant_ids)
    # Both come in the order of tenant and user, so one pass over each brings them together.
    owner, found = next(facts, (None, []))
    for user, turns in _turns_by_user(connection, week, tenant_ids):
        while owner is not None and owner < user:
            owner, found = next(facts, (None, []))
        yield turns, found if owner == user else []


def _turns_by_user(
    connection: Connection, week: DayWindow, tenant_ids: list[UUID]
) -> Iterator[tuple[User, list[WeeklyTurn]]]:
    with connection.cursor(name="weekly_turns", row_factory=class_row(WeeklyTurn)) as cursor:
        cursor.itersize = 200  # messages may be long
        parameters = {"start": week.start_time, "end": week.end_time, "tenant_ids": tenant_ids}
        cursor.execute(sql(PACKAGE, "weekly_turns"), parameters)
        for user, turns in groupby(cursor, key=_user):
            yield user, list(turns)


def _facts_by_user(
    connection: Connection, week: DayWindow, tenant_ids: list[UUID]
) -> Iterator[tuple[User, list[WeeklyFact]]]:
    with connection.cursor(name="weekly_facts", row_factory=class_row(WeeklyFact)) as cursor:
        cursor.itersize = 1_000
        cursor.execute(sql(PACKAGE, "weekly_facts"), {"start": week.start, "end": week.end, "tenant_ids": tenant_ids})
        for user, facts in groupby(cursor, key=_user):
            yield user, list(facts)


def _user(row: WeeklyTurn | WeeklyFact) -> User:
    return row.tenant_id, row.user_id


class MadeSummary(NamedTuple):
    """A row of the temporary table `made_summary`, in the order of its columns."""

    tenant_id: UUID
    memory_id: UUID
    user_id: UUID
    day: date
    """UTC day of the first message it rests on: the partition that embeds, indexes and exports it."""
    content: str
    source_message_ids: list[UUID]


def begin_summaries(connection: Connection) -> None:
    """Make room for the summaries of a week, until the transaction ends."""
    connection.execute(sql(PACKAGE, "made_summary_table"))


def keep_summary(connection: Connection, summary: MadeSummary) -> None:
    """Put a summary aside. It locks nothing: a summarizer may take its time for the next."""
    connection.execute("INSERT INTO made_summary VALUES (%s, %s, %s, %s, %s, %s)", summary)


def write_summaries(connection: Connection, week: date, summarizer: str) -> int:
    """Store what was put aside for the week that begins on the Monday `week`; return how many are new or changed.

    Where one of the messages that a summary rests on was deleted since they were read, it is not stored: the next run
    makes it without them. All conversations are locked before any summary, as whoever deletes a conversation does.
    """
    connection.execute("ANALYZE made_summary")
    connection.execute(sql(PACKAGE, "hold_summary_sources"))
    connection.execute(sql(PACKAGE, "drop_unfounded_summaries"))
    return connection.execute(sql(PACKAGE, "upsert_summaries"), {"week": week, "summarizer": summarizer}).rowcount


def withdraw_summaries(connection: Connection, week: date, tenants: Sequence[UUID], kept: Sequence[UUID]) -> int:
    """Mark as deleted the week's summaries of these tenants that are not among `kept`; return how many."""
    parameters = {"week": week, "tenant_ids": list(tenants), "kept": list(kept)}
    return connection.execute(sql(PACKAGE, "withdraw_summaries"), parameters).rowcount

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


def write_summary(
    connection: Connection,
    *,
    tenant_id: UUID,
    memory_id: UUID,
    user_id: UUID,
    week: date,
    day: date,
    content: str,
    source_message_ids: Sequence[UUID],
    summarizer: str,
) -> bool:
    """Store the summary of the week that begins on the Monday `week`; return whether it is new or says something else.

    `day` is the UTC day of the first message it rests on: the partition that embeds, indexes and exports it. Where one
    of the messages was deleted since they were read, nothing is stored: the next run makes the summary without it.
    """
    sources = {"tenant_id": tenant_id, "source_message_ids": list(source_message_ids)}
    connection.execute(sql(PACKAGE, "hold_summary_sources"), sources)
    left = connection.execute(
        "SELECT count(*) FROM messages WHERE tenant_id = %(tenant_id)s AND message_id = ANY(%(source_message_ids)s)",
        sources,
    ).fetchone()
    if left is None or left[0] < len(set(source_message_ids)):
        return False
    changed = connection.execute(
        sql(PACKAGE, "upsert_summary"),
        {
            "tenant_id": tenant_id,
            "memory_id": memory_id,
            "user_id": user_id,
            "week": week,
            "day": day,
            "content": content,
            "source_message_ids": list(source_message_ids),
            "summarizer": summarizer,
        },
    ).rowcount
    return changed == 1


def withdraw_summaries(connection: Connection, week: date, tenants: Sequence[UUID], kept: Sequence[UUID]) -> int:
    """Mark as deleted the week's summaries of these tenants that are not among `kept`; return how many."""
    parameters = {"week": week, "tenant_ids": list(tenants), "kept": list(kept)}
    return connection.execute(sql(PACKAGE, "withdraw_summaries"), parameters).rowcount

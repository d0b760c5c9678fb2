"""Statements of the summarize stage: a user's week of turns and facts, and the summary memories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from memory_pipeline.model.window import DayWindow
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql


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

    content: str
    day: date
    source_message_ids: list[UUID]


def lock_week(connection: Connection, week: date) -> None:
    """Wait until no other transaction summarizes this week: of two, the one that read less must not write last."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('summarize_week'), %s)", [week.toordinal()])


def turns_by_user(connection: Connection, week: DayWindow) -> Iterator[tuple[UUID, UUID, list[WeeklyTurn]]]:
    """Yield (tenant, user, turns in order) of every user who said something; holds one user's week at a time."""
    with connection.cursor(name="weekly_turns", row_factory=class_row(WeeklyTurn)) as cursor:
        cursor.itersize = 200  # messages may be long
        cursor.execute(sql(PACKAGE, "weekly_turns"), {"start": week.start_time, "end": week.end_time})
        for (tenant_id, user_id), turns in groupby(cursor, key=attrgetter("tenant_id", "user_id")):
            yield tenant_id, user_id, list(turns)


def facts_of_week(connection: Connection, tenant_id: UUID, user_id: UUID, week: DayWindow) -> list[WeeklyFact]:
    """Return what was found in a user's messages of the week, in order."""
    with connection.cursor(row_factory=class_row(WeeklyFact)) as cursor:
        return cursor.execute(
            sql(PACKAGE, "weekly_facts"),
            {"tenant_id": tenant_id, "user_id": user_id, "start": week.start, "end": week.end},
        ).fetchall()


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

    `day` is the UTC day of the first message it rests on: the partition that embeds, indexes and exports it.
    """
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


def withdraw_summaries(connection: Connection, week: date, kept: Sequence[UUID]) -> int:
    """Mark as deleted the week's summaries that are not among `kept`; return how many."""
    return connection.execute(sql(PACKAGE, "withdraw_summaries"), {"week": week, "kept": list(kept)}).rowcount

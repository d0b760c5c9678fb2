"""Weekly summaries: one memory per user and week, resting on named messages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, timedelta
from uuid import UUID

import msgspec

from memory_pipeline.model import ids
from memory_pipeline.model.records import Role, Turn
from memory_pipeline.model.window import DayWindow, Progress, no_progress
from memory_pipeline.providers.base import Summarizer
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.summaries import (
    WeeklyTurn,
    facts_of_week,
    turns_by_user,
    withdraw_summaries,
    write_summary,
)


class SummarizeReport(msgspec.Struct):
    """What summarizing a range of weeks did."""

    weeks: int = 0
    summaries: int = 0
    changed: int = 0
    withdrawn: int = 0
    seconds: float = 0.0


def weeks_of(window: DayWindow) -> Iterator[DayWindow]:
    """Yield the weeks (Monday to Monday) that the window touches."""
    monday = window.start - timedelta(days=window.start.weekday())
    while monday < window.end:
        yield DayWindow(monday, monday + timedelta(days=7))
        monday += timedelta(days=7)


def summarize(
    database: Database, summarizer: Summarizer, window: DayWindow, *, progress: Progress = no_progress
) -> SummarizeReport:
    """Write each user's summary of every week the window touches. One transaction a week."""
    report = SummarizeReport()
    started = time.monotonic()
    for week in weeks_of(window):
        with database.transaction() as connection:
            kept: list[UUID] = []
            for tenant_id, user_id, turns in turns_by_user(connection, week):
                memory_id = ids.summary_id(tenant_id, user_id, week.start)
                changed = _summarize_user(connection, summarizer, week, memory_id, turns)
                if changed is not None:
                    kept.append(memory_id)
                    report.changed += changed
                    progress(1)
            report.withdrawn += withdraw_summaries(connection, week.start, kept)
        report.weeks += 1
        report.summaries += len(kept)
    report.seconds = time.monotonic() - started
    return report


def _summarize_user(
    connection: Connection, summarizer: Summarizer, week: DayWindow, memory_id: UUID, turns: list[WeeklyTurn]
) -> bool | None:
    """Write one summary; return whether it changed, or None where nothing was worth one."""
    tenant_id, user_id = turns[0].tenant_id, turns[0].user_id
    facts = facts_of_week(connection, tenant_id, user_id, week)
    content, sources = summarizer.summarize([_turn(turn) for turn in turns], facts)
    if not content:
        return None
    rests_on = [turns[index] for index in sorted(sources)] or turns
    return write_summary(
        connection,
        tenant_id=tenant_id,
        memory_id=memory_id,
        user_id=user_id,
        week=week.start,
        content=content,
        day=rests_on[0].sent_at.astimezone(UTC).date(),
        source_message_ids=[turn.message_id for turn in rests_on],
        summarizer=f"{summarizer.name}@{summarizer.version}",
    )


def _turn(turn: WeeklyTurn) -> Turn:
    return Turn(
        message_id=turn.message_id,
        conversation_id=turn.conversation_id,
        role=Role(turn.role),
        speaker=turn.speaker,
        content=turn.content,
        sent_at=turn.sent_at,
    )

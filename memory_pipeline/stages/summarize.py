"""Weekly summaries: one memory per user and week, resting on named messages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, timedelta
from uuid import UUID

import msgspec

from memory_pipeline.model import ids
from memory_pipeline.model.errors import ProviderError
from memory_pipeline.model.records import Role, Turn
from memory_pipeline.model.window import DayWindow, Progress, no_progress
from memory_pipeline.providers.base import Summarizer
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.planner import inform_planner
from memory_pipeline.stores.postgres.plugins import permitted_tenants, refuse_tenants
from memory_pipeline.stores.postgres.summaries import (
    MadeSummary,
    WeeklyFact,
    WeeklyTurn,
    begin_summaries,
    keep_summary,
    lock_week,
    refused_weeks,
    weeks_of_users,
    withdraw_summaries,
    write_summaries,
)


class SummarizeReport(msgspec.Struct):
    """What summarizing a range of weeks did."""

    weeks: int = 0
    summaries: int = 0
    changed: int = 0
    withdrawn: int = 0
    refused_tenants: list[UUID] = msgspec.field(default_factory=list)
    """Tenants who said something in these weeks and do not permit the summarizer."""
    seconds: float = 0.0


def weeks_of(window: DayWindow) -> Iterator[DayWindow]:
    """Yield the weeks (Monday to Monday) that the window touches."""
    weeks = window.whole_weeks()
    for monday in weeks.days():
        if monday.weekday() == 0:
            yield DayWindow(monday, monday + timedelta(days=7))


def summarize(
    database: Database, summarizer: Summarizer, window: DayWindow, *, plugin: str, progress: Progress = no_progress
) -> SummarizeReport:
    """Write each user's summary of every week the window touches. One transaction a week.

    Summaries of tenants for whom `plugin` (the summarizer's name in the plugin registry) may not run stay as they are.
    """
    report = SummarizeReport()
    started = time.monotonic()
    inform_planner(database)

    def find_refused(connection: Connection, barred: list[UUID]) -> list[UUID]:
        return refused_weeks(connection, window.whole_weeks(), barred)

    report.refused_tenants = refuse_tenants(database, "summarize", plugin, window, find_refused)
    for week in weeks_of(window):
        with database.transaction() as connection:
            lock_week(connection, week.start)
            begin_summaries(connection)
            # Asked once: who permits it from now on must not lose the summaries that nobody has looked at.
            tenants = permitted_tenants(connection, plugin)
            kept: list[UUID] = []
            for turns, facts in weeks_of_users(connection, week, tenants):
                summary = _summarize_user(summarizer, week, turns, facts)
                if summary is not None:
                    keep_summary(connection, summary)
                    kept.append(summary.memory_id)
                    progress(1)
            report.changed += write_summaries(connection, week.start, f"{summarizer.name}@{summarizer.version}")
            report.withdrawn += withdraw_summaries(connection, week.start, tenants, kept)
        report.weeks += 1
        report.summaries += len(kept)
    report.seconds = time.monotonic() - started
    return report


def _summarize_user(
    summarizer: Summarizer, week: DayWindow, turns: list[WeeklyTurn], facts: list[WeeklyFact]
) -> MadeSummary | None:
    """Return the summary of one user's week; None where nothing was worth one."""
    tenant_id, user_id = turns[0].tenant_id, turns[0].user_id
    content, indexes = summarizer.summarize([_turn(turn) for turn in turns], [fact.content for fact in facts])
    if not content:
        return None
    if not set(indexes) <= set(range(len(turns))):
        raise ProviderError(
            f"Summarizer {summarizer.name} rests the summary of user {user_id} and the week from {week.start} on turns "
            f"{sorted(indexes)}, but there are only {len(turns)}."
        )
    # Any fact may stand in the summary, so it rests on the messages of all: an erasure of one has to find it.
    sources = {turns[index].message_id: turns[index].sent_at.astimezone(UTC).date() for index in indexes}
    sources |= {message_id: fact.day for fact in facts for message_id in fact.source_message_ids}
    sources = sources or {turn.message_id: turn.sent_at.astimezone(UTC).date() for turn in turns}
    return MadeSummary(
        tenant_id=tenant_id,
        memory_id=ids.summary_id(tenant_id, user_id, week.start),
        user_id=user_id,
        day=min(sources.values()),
        content=content,
        source_message_ids=sorted(sources),  # message ids sort by time
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

"""What the schedules share: a tick speaks of the moment it was due, so it asks for the same run whenever it comes."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def tick_time(context: dg.ScheduleEvaluationContext) -> datetime:
    """Return the moment the tick was due, in UTC."""
    return context.scheduled_execution_time.astimezone(UTC)

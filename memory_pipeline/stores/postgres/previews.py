"""Small samples of what a stage made, for people. Counts, never words: Dagster's own history outlives an erasure."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from psycopg.rows import class_row

from memory_pipeline.model.window import DayWindow
from memory_pipeline.stores.postgres.database import Connection


class FactsOfDay(NamedTuple):
    day: date
    facts: int
    users: int
    confidence: float
    """Mean, 0 to 1."""


def newest_days_of_facts(connection: Connection, window: DayWindow, limit: int = 8) -> list[FactsOfDay]:
    """Return how many facts of how many users the newest days of the window have that have any."""
    with connection.cursor(row_factory=class_row(FactsOfDay)) as cursor:
        return cursor.execute(
            "SELECT day, count(*) AS facts, count(DISTINCT (tenant_id, user_id)) AS users,"
            " avg(confidence)::float8 AS confidence FROM memories"
            " WHERE kind = 'fact' AND status IN ('active', 'superseded') AND day >= %s AND day < %s"
            " GROUP BY day ORDER BY day DESC LIMIT %s",
            [window.start, window.end, limit],
        ).fetchall()

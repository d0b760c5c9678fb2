"""Small samples of what a stage made, for people: shown in Dagster and on the command line."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from psycopg.rows import class_row

from memory_pipeline.model.window import DayWindow
from memory_pipeline.stores.postgres.database import Connection


class FactPreview(NamedTuple):
    statement: str
    day: date
    confidence: float


def newest_facts(connection: Connection, window: DayWindow, limit: int = 8) -> list[FactPreview]:
    """Return the surest facts of the newest days in the window."""
    with connection.cursor(row_factory=class_row(FactPreview)) as cursor:
        return cursor.execute(
            "SELECT content AS statement, day, confidence FROM memories"
            " WHERE kind = 'fact' AND status = 'active' AND day >= %s AND day < %s"
            " ORDER BY day DESC, confidence DESC, memory_id LIMIT %s",
            [window.start, window.end, limit],
        ).fetchall()

"""Relations between facts: which one ended which, and which say the same again."""

from __future__ import annotations

import time

import msgspec

from memory_pipeline.model.window import DayWindow
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.enrichment import relate_facts
from memory_pipeline.stores.postgres.planner import inform_planner


class RelateReport(msgspec.Struct):
    """What ordering the facts of a window changed."""

    facts_changed: int = 0
    relations_written: int = 0
    seconds: float = 0.0


def relate(database: Database, window: DayWindow) -> RelateReport:
    """Work out validity and supersession for every slot that a fact of the window touches. One transaction."""
    started = time.monotonic()
    inform_planner(database)
    with database.transaction() as connection:
        changed, written = relate_facts(connection, window)
    return RelateReport(changed, written, time.monotonic() - started)

"""Relations between facts: which one ended which, and which say the same again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from memory_pipeline.model.window import DayWindow, NamedMemory, Selection
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.due import batch_transaction
from memory_pipeline.stores.postgres.enrichment import relate_facts
from memory_pipeline.stores.postgres.planner import inform_planner


class RelateReport(msgspec.Struct):
    """What ordering facts changed."""

    facts_changed: int = 0
    relations_written: int = 0
    seconds: float = 0.0


def relate(
    database: Database,
    selection: Selection,
    *,
    on_changed: Callable[[Connection, Sequence[NamedMemory]], object] | None = None,
) -> RelateReport:
    """Work out validity and supersession for every slot that a fact of the selection touches. One transaction.

    Of named memories: the facts among them and those found in them; `on_changed` is told in the transaction which facts
    changed, so that their entries in the index can be asked for. Raises BusyError, for these alone, where another
    run orders or writes facts for longer than they may wait.
    """
    started = time.monotonic()
    if isinstance(selection, DayWindow):
        inform_planner(database)
    with batch_transaction(database, selection) as connection:
        related = relate_facts(connection, selection)
        if on_changed is not None and related.changed_facts:
            on_changed(connection, related.changed_facts)
    return RelateReport(related.changed, related.written, time.monotonic() - started)

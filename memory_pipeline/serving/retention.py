"""Takes records of answers and of their cost away that are older than they are kept for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import structlog

from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.usage import forget_old_access, forget_old_usage

log = structlog.get_logger(__name__)

_AT_ONCE = 5000
_MOST_BATCHES = 100
"""In one go; the next goes on. So that a process that is told to stop is not kept."""


class Forgotten(NamedTuple):
    """Rows that were deleted."""

    accesses: int
    usage: int


def forget_old_records(
    database: Database, access_days: int, usage_days: int, *, at_once: int = _AT_ONCE, most_batches: int = _MOST_BATCHES
) -> Forgotten:
    """Delete rows of `memory_access_log` and `llm_usage` of UTC days longer ago than these; 0 keeps all.

    `database` is to be open as memory_pipeline. Each `at_once` rows go in a transaction of their own, at most
    `most_batches` times for each table. Raises StoreUnavailableError; what was deleted until then stays deleted.
    """
    forgotten = Forgotten(
        _forget(database, forget_old_access, access_days, at_once, most_batches),
        _forget(database, forget_old_usage, usage_days, at_once, most_batches),
    )
    if any(forgotten):
        log.info("old_records_forgotten", accesses=forgotten.accesses, usage=forgotten.usage)
    return forgotten


def _forget(
    database: Database, forget: Callable[[Connection, int, int], int], days: int, at_once: int, most_batches: int
) -> int:
    if days == 0:
        return 0
    total = 0
    for _ in range(most_batches):
        with database.transaction() as connection:
            deleted = forget(connection, days, at_once)
        total += deleted
        if deleted < at_once:
            break
    return total

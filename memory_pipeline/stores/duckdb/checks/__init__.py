"""What can be checked in a published file by itself. Apart from the SQL that a file is built with, whose every change
makes a new generation."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from memory_pipeline.stores.duckdb.query import query
from memory_pipeline.stores.sqlfiles import sql


class TableKeys(NamedTuple):
    """Rows of one table, and those whose key is missing or repeated."""

    table: str
    rows: int
    without_key: int
    repeated: int


def rows_and_keys(path: Path) -> list[TableKeys]:
    """Return the rows of every exported table and how sound their keys are. Raises MemoryPipelineError."""
    return [TableKeys(*row) for row in query(path, sql(__name__, "rows_and_keys")).rows]


def mart_numbers(path: Path) -> dict[tuple[str, UUID], int]:
    """Return numbers worked out from the marts, by name and tenant; `check_mart_numbers` finds the same in Postgres."""
    return {
        (name, UUID(str(tenant))): int(value) for name, tenant, value in query(path, sql(__name__, "mart_numbers")).rows
    }


def preview(path: Path, table: str) -> str:
    """Return the last rows of a table, in its own order, as Markdown. `table` is a name of ours, not of a user."""
    result = query(path, sql(__name__, f"preview_{table}"))
    head = f"| {' | '.join(result.columns)} |\n|{'---|' * len(result.columns)}\n"
    shown = (["" if value is None else str(value) for value in row] for row in result.rows)
    return head + "\n".join(f"| {' | '.join(row)} |" for row in shown)

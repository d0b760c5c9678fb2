"""What can be checked in a published file by itself. Apart from the SQL that a file is built with, whose every change
makes a new generation."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

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

"""What the API tells a tenant of its own: one `.sql` file for each report, which reads one mart of the same name.

Apart from the SQL that a file is built with, whose every change makes a new generation. The header of a report's file
is the sentence that people see; what its columns mean is said by the mart. Every statement takes the tenant and the
days as parameters; none selects a user, or a name that is in the facts of one user alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cache
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import msgspec

from memory_pipeline.stores.duckdb.marts import marts
from memory_pipeline.stores.duckdb.query import QueryResult, query
from memory_pipeline.stores.sqlfiles import sql

_NAMES = (
    *("daily_activity", "memory_growth", "retention", "fact_churn", "pipeline_response", "data_quality"),
    *("cost_daily", "recall_use", "weekly_topics"),
)
_WITHHELD = {"tenant_id", "tenant"}
"""Columns of the marts that would say the same in every row."""


class ReportColumn(msgspec.Struct, frozen=True):
    """One column of a report."""

    name: str
    type: str
    """Of DuckDB."""
    meaning: str


class Report(msgspec.Struct, frozen=True):
    """One report that may be asked for."""

    name: str
    sentence: str
    columns: list[ReportColumn]


@cache
def reports() -> Mapping[str, Report]:
    """Return all reports by name. Needs no DuckDB and no file."""
    columns = {mart.name: mart.columns for mart in marts()}
    return {
        name: Report(
            name,
            _sentence(sql(__name__, name)),
            [
                ReportColumn(column.name, column.type, column.comment)
                for column in columns[f"mart_{name}"]
                if column.name not in _WITHHELD
            ],
        )
        for name in _NAMES
    }


def statement_digest(name: str) -> str:
    """Return what tells apart the answers of releases that ask the same file differently."""
    return sha256(sql(__name__, name).encode()).hexdigest()


def run_report(
    path: Path, name: str, tenant_id: UUID, first_day: date, last_day: date, *, max_rows: int, timeout_seconds: float
) -> QueryResult:
    """Return the rows of one tenant from `first_day` to `last_day` (both included), the newest first.

    Raises QueryTimeoutError, and MemoryPipelineError where the file can't be read or has no such mart.
    """
    parameters = {"tenant_id": tenant_id, "first_day": first_day, "last_day": last_day, "rows": max_rows + 1}
    return query(path, sql(__name__, name), parameters, max_rows=max_rows, timeout_seconds=timeout_seconds)


def _sentence(statement: str) -> str:
    lines = statement[: statement.index("SELECT")].splitlines()
    return " ".join(line.removeprefix("--").strip() for line in lines)

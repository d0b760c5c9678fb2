"""`sql`: a query over the published DuckDB file. Needs no server."""

from __future__ import annotations

import sys
from pathlib import Path

from memory_pipeline.commands.output import err
from memory_pipeline.local.accounts import reachable_home
from memory_pipeline.settings import Settings, load_settings
from memory_pipeline.stores.duckdb.publish import current_export
from memory_pipeline.stores.duckdb.query import Format, query, write_result

MAX_ROWS = 10_000


def exports_folder(settings: Settings) -> Path:
    """Return where exports are published: with embedded stores below the home they really use (see reachable_home)."""
    if settings.data_dir is not None or settings.postgres_pipeline_url is not None:
        return settings.data / "exports"
    return reachable_home(settings.home, say=lambda line: None) / "data" / "exports"


def sql_command(statement: str, format_: Format, timeout_seconds: float) -> int:
    """Print the answer; at most MAX_ROWS rows as a table, all of them in the other formats."""
    shown = MAX_ROWS if format_ == "table" else None
    path = current_export(exports_folder(load_settings()))
    result = query(path, statement, max_rows=shown, timeout_seconds=timeout_seconds)
    write_result(result, format_, sys.stdout.buffer)
    if result.truncated:
        err.print(f"only the first {MAX_ROWS:,} rows are shown; ask for csv, json or parquet to get all")
    return 0

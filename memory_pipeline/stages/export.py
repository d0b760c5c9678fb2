"""Export: from Postgres to the Parquet lake, all tables of one export out of one snapshot.

The next step, from the lake to the DuckDB files, is `memory_pipeline.stores.duckdb.publish.publish_duckdb`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock

from memory_pipeline.model.window import DayWindow, Progress, no_progress
from memory_pipeline.stores.lake import DAILY_TABLES, DIMENSIONS, LakeReport, exporting, require_table
from memory_pipeline.stores.lake.manifest import statement_digest
from memory_pipeline.stores.postgres.export import export_statement, snapshot

_READERS = 2
"""Tables read at once: while one waits for Postgres, the other is compressed."""


def export_lake(
    pipeline_url: str,
    window: DayWindow | None,
    lake_root: Path,
    progress: Progress = no_progress,
    *,
    daily_tables: Sequence[str] = DAILY_TABLES,
    dimensions: Sequence[str] = DIMENSIONS,
) -> list[LakeReport]:
    """Bring the lake to one moment of Postgres: the days of `window`, every day exported before, and the dimensions.

    Only files whose rows changed are read and written, and all of them are switched together; `window` None asks for
    no day that is not there yet. `progress` counts rows, from several threads but one at a time. Raises
    StoreUnavailableError, SchemaVersionError, ExportError; then the lake is as it was.
    """
    for table in daily_tables:
        require_table(table, DAILY_TABLES)
    for table in dimensions:
        require_table(table, DIMENSIONS)
    lock = Lock()

    def counted(rows: int) -> None:
        with lock:
            progress(rows)

    with exporting(lake_root) as export, snapshot(pipeline_url) as source:
        present = source.fingerprints()

        def write(table: str) -> LakeReport:
            return export.write(
                table,
                source.source,
                statement_digest(export_statement(table)),
                present.get(table, {}),
                window,
                partial(source.read, table),
                counted,
            )

        with ThreadPoolExecutor(_READERS, thread_name_prefix="lake") as readers:
            reports = list(readers.map(write, [*dimensions, *daily_tables]))
        export.commit()
    return reports


def export_lake_table(
    pipeline_url: str, table: str, window: DayWindow | None, lake_root: Path, progress: Progress = no_progress
) -> LakeReport:
    """Export one daily table, in a snapshot of its own. Otherwise as `export_lake`."""
    (report,) = export_lake(pipeline_url, window, lake_root, progress, daily_tables=[table], dimensions=[])
    return report


def export_dimensions(pipeline_url: str, lake_root: Path, progress: Progress = no_progress) -> list[LakeReport]:
    """Export tenants, users and conversations whole, in one snapshot. Otherwise as `export_lake`."""
    return export_lake(pipeline_url, None, lake_root, progress, daily_tables=[])

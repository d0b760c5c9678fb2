"""Export: from Postgres to the Parquet lake, all tables of one export out of one snapshot.

The next step, from the lake to the DuckDB file, is `memory_pipeline.stores.duckdb.publish.publish_duckdb`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from memory_pipeline.model.window import DayWindow, Progress, no_progress
from memory_pipeline.stores.lake import (
    DAILY_TABLES,
    DIMENSIONS,
    LakeReport,
    require_table,
    write_days,
    write_whole,
)
from memory_pipeline.stores.postgres.export import Snapshot, snapshot


def export_lake(
    pipeline_url: str,
    window: DayWindow,
    lake_root: Path,
    progress: Progress = no_progress,
    *,
    daily_tables: Sequence[str] = DAILY_TABLES,
    dimensions: Sequence[str] = DIMENSIONS,
) -> list[LakeReport]:
    """Export the days of `window` of every daily table, and the dimensions whole, as they are at one moment.

    `progress` counts rows. Running it again changes no file unless rows changed. Raises StoreUnavailableError,
    SchemaVersionError, ExportError.
    """
    for table in daily_tables:
        require_table(table, DAILY_TABLES)
    for table in dimensions:
        require_table(table, DIMENSIONS)
    with snapshot(pipeline_url) as source:
        reports = [_export_dimension(source, table, lake_root, progress) for table in dimensions]
        reports += [_export_days(source, table, window, lake_root, progress) for table in daily_tables]
    return reports


def export_lake_table(
    pipeline_url: str, table: str, window: DayWindow, lake_root: Path, progress: Progress = no_progress
) -> LakeReport:
    """Export the days of `window` of one daily table, in a snapshot of its own. Otherwise as `export_lake`."""
    (report,) = export_lake(pipeline_url, window, lake_root, progress, daily_tables=[table], dimensions=[])
    return report


def export_dimensions(pipeline_url: str, lake_root: Path, progress: Progress = no_progress) -> list[LakeReport]:
    """Export tenants, users and conversations whole, in one snapshot. Otherwise as `export_lake`."""
    with snapshot(pipeline_url) as source:
        return [_export_dimension(source, table, lake_root, progress) for table in DIMENSIONS]


def _export_days(source: Snapshot, table: str, window: DayWindow, root: Path, progress: Progress) -> LakeReport:
    with source.read(table, window) as batches:
        return write_days(root, table, window, batches, progress)


def _export_dimension(source: Snapshot, table: str, root: Path, progress: Progress) -> LakeReport:
    with source.read(table) as batches:
        return write_whole(root, table, batches, progress)

"""What Dagster shows of each export as a small table: counts, sizes and days, as its history outlives an erasure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path

import dagster as dg

from memory_pipeline.stores.duckdb import checks
from memory_pipeline.stores.lake.manifest import LakeManifest
from memory_pipeline.stores.lake.published import PublishedManifest
from memory_pipeline.stores.lake.tables import day_of

LAKE_DAYS = 10
"""Days that the preview of a lake table shows."""


def mart_preview(path: Path, mart: str) -> dg.MarkdownMetadataValue:
    """Return the newest counts of a mart of the published file. Raises MemoryPipelineError."""
    return dg.MetadataValue.md(checks.preview(path, mart))


def file_preview(rows: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """Return the rows of every table and mart of a published file."""
    return _table(("table", "rows"), ((name, f"{count:,}") for name, count in sorted(rows.items())))


def lake_table_preview(manifest: LakeManifest, table: str) -> dg.MarkdownMetadataValue:
    """Return the newest days with rows of a daily table of the lake, then all of it as one row."""
    files = manifest.tables[table].files if table in manifest.tables else {}
    newest = sorted(((day_of(name), file) for name, file in files.items()), key=lambda one: str(one[0]), reverse=True)
    lines = [(str(day), f"{file.rows:,}", _kilobytes(file.bytes)) for day, file in newest[:LAKE_DAYS]]
    rows, size = sum(file.rows for file in files.values()), sum(file.bytes for file in files.values())
    return _table(("day", "rows", "kB"), [*lines, (f"all {len(files):,} days", f"{rows:,}", _kilobytes(size))])


def lake_preview(manifest: LakeManifest) -> dg.MarkdownMetadataValue:
    """Return every table of the lake with its rows, size, first and last day."""
    return _lake_table(
        (name, [(day_of(file_name), file.rows, file.bytes) for file_name, file in table.files.items()])
        for name, table in manifest.tables.items()
    )


def published_lake_preview(published: PublishedManifest) -> dg.MarkdownMetadataValue:
    """Return the same of the lake at its URL."""
    return _lake_table(
        (name, [(_published_day(file.path), file.rows, file.bytes) for file in table.files])
        for name, table in published.tables.items()
    )


def _published_day(path: str) -> date | None:
    """Return the day in the path of a published file: data/messages/day=2025-03-01/<SHA-256>.parquet."""
    _, _, later = path.partition("/day=")
    return date.fromisoformat(later.partition("/")[0]) if later else None


def _lake_table(tables: Iterable[tuple[str, Sequence[tuple[date | None, int, int]]]]) -> dg.MarkdownMetadataValue:
    lines = []
    for name, files in sorted(tables):
        days = sorted(day for day, _, _ in files if day is not None)
        first, last = (str(days[0]), str(days[-1])) if days else ("", "")
        rows, size = sum(rows for _, rows, _ in files), sum(size for _, _, size in files)
        lines.append((name, f"{rows:,}", f"{len(files):,}", _kilobytes(size), first, last))
    return _table(("table", "rows", "files", "kB", "first day", "last day"), lines)


def _kilobytes(size: int) -> str:
    return f"{size / 1000:,.1f}"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> dg.MarkdownMetadataValue:
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return dg.MetadataValue.md("\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *rows]))

"""Export: from Postgres to the Parquet lake, all tables out of one snapshot, and on to the DuckDB files."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from threading import Lock
from uuid import UUID

from memory_pipeline.model.errors import ExportError, SettingsError
from memory_pipeline.model.window import DayWindow, Progress, no_progress
from memory_pipeline.settings import Settings
from memory_pipeline.stores.duckdb.publish import ExportReport, Scope, publish_duckdb
from memory_pipeline.stores.duckdb.traces import files_naming
from memory_pipeline.stores.lake import DAILY_TABLES, DIMENSIONS, LEDGERS, LakeReport, exporting, require_table
from memory_pipeline.stores.lake.manifest import read_manifest, statement_digest
from memory_pipeline.stores.lake.pins import release_pins
from memory_pipeline.stores.lake.publish import LakePublication, publish_lake
from memory_pipeline.stores.permissions import allow, allow_below, group_id
from memory_pipeline.stores.postgres.export import export_statement, snapshot

EVERY_DAY = DayWindow(date.min, date.max)
"""A window that leaves no day with rows out; days that are up to date are not read for it."""
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
    """Bring the lake to one moment of Postgres: the days of `window`, those exported before, ledgers and dimensions.

    Only files whose rows changed are read and written, and all of them are switched together; `window` None asks for
    no day that is not there yet. `progress` counts rows, from several threads but one at a time. Raises
    StoreUnavailableError, SchemaVersionError, ExportError; then the lake is as it was.
    """
    for table in daily_tables:
        require_table(table, DAILY_TABLES)
    for table in dimensions:
        require_table(table, DIMENSIONS)
    lake_root.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = Lock()

    def counted(rows: int) -> None:
        with lock:
            progress(rows)

    with exporting(lake_root) as export:
        with snapshot(pipeline_url) as source:
            present = source.fingerprints()

            def write(table: str) -> LakeReport:
                return export.write(
                    table,
                    source.source,
                    statement_digest(export_statement(table)),
                    present.get(table, {}),
                    EVERY_DAY if table in LEDGERS else window,
                    partial(source.read, table),
                    counted,
                )

            with ThreadPoolExecutor(_READERS, thread_name_prefix="lake") as readers:
                reports = list(readers.map(write, [*dimensions, *daily_tables]))
        export.commit()  # it may wait for a publication; Postgres need not
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


def consumer_scopes(settings: Settings) -> dict[str, Scope]:
    """Return what each consumer of MEMORY_EXPORT_CONSUMERS may see. Raises SettingsError for a mask without its key."""
    key = settings.export_mask_key
    masked = sorted(name for name, consumer in settings.export_consumers.items() if consumer.masked)
    if masked and key is None:
        raise SettingsError(
            f"MEMORY_EXPORT_CONSUMERS masks the files of {', '.join(masked)}, so MEMORY_EXPORT_MASK_KEY has to be set: "
            "a secret of at least 16 characters."
        )
    return {
        name: Scope(
            tenant=consumer.tenant,
            mask_key=key.get_secret_value().encode() if consumer.masked and key is not None else None,
        )
        for name, consumer in settings.export_consumers.items()
    }


def publish(settings: Settings, lake_root: Path, exports_root: Path) -> ExportReport:
    """Publish the lake for everyone and for every consumer. Raises ExportError, SettingsError."""
    return _publish(settings, lake_root, exports_root, settings.export_generations)


def _publish(settings: Settings, lake_root: Path, exports_root: Path, generations_kept: int) -> ExportReport:
    if lake_root.exists():
        allow(lake_root, 0o700 if settings.export_group is None else 0o750, group_id(settings.export_group))
        if settings.export_group is not None:
            allow_below(lake_root)  # earlier versions made files as the umask said
    return publish_duckdb(
        lake_root,
        exports_root,
        generations_kept,
        consumer_scopes(settings),
        group=settings.export_group,
        consumer_groups={name: one.group for name, one in settings.export_consumers.items() if one.group is not None},
    )


def publish_lake_at_url(settings: Settings, lake_root: Path) -> LakePublication | None:
    """Publish the lake at MEMORY_LAKE_URL, or return None where that is not set.

    Raises StoreUnavailableError, ExportError, SettingsError; the local lake is as it was, and so is what is served.
    """
    if settings.lake_url is None:
        return None
    return publish_lake(lake_root, settings.lake_url, settings.export_generations, settings.export_group)


def forget_in_exports(
    settings: Settings, pipeline_url: str, lake_root: Path, exports_root: Path, user_id: UUID
) -> ExportReport | None:
    """Take a user who was erased from Postgres out of the lake and out of every published file, old generations too.

    Call it once their rows are gone from Postgres. Other generations than the new one are removed whole: their rows
    can't be taken out of files that readers have open. At MEMORY_LAKE_URL only the files of the lake are left, whose
    rows were looked through here; a publication that is under way is waited for, and replaced. Returns None where
    nothing was ever exported. Raises ExportError where any file still names the user, and as `export_lake`, `publish`
    and `publish_lake_at_url` do; then call it again. Where one file can't be made, the others are rid of the user
    before it says so.
    """
    if not lake_root.exists() and not exports_root.exists() and settings.lake_url is None:
        return None
    # Where the lake is gone, nothing says which days it had: all of them.
    export_lake(pipeline_url, EVERY_DAY if read_manifest(lake_root) is None else None, lake_root)
    problems = []
    report = None
    try:
        report = _publish(settings, lake_root, exports_root, 1)
    except ExportError as error:
        problems.append(str(error))  # whatever else was exported must be rid of them all the same
    release_pins(lake_root)
    left = files_naming(lake_root, exports_root, user_id, consumer_scopes(settings))
    if left:
        problems.append(
            f"user {user_id} is still in {', '.join(str(path) for path in left)}: erase them from Postgres first, "
            "then again from the exports."
        )
    if settings.lake_url is not None and not any(path.is_relative_to(lake_root) for path in left):
        published = publish_lake(lake_root, settings.lake_url, 1, settings.export_group)
        if published.newer_served:
            problems.append(
                f"{settings.lake_url} serves what another working copy of the lake published later, which may still "
                f"name user {user_id}: run this again where that copy is, or let it export everything first."
            )
    if problems:
        raise ExportError(" ".join(problems))
    return report

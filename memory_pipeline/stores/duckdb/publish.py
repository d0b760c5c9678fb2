"""Publishes the DuckDB files: built aside, verified by a fresh process, made durable, then switched atomically.

    <exports>/                       all tenants: files of mode 0444 that everyone on the machine may open; 0440 where
                                     a group is named, in a folder of mode 0751 (others pass through to their own)
    <exports>/consumers/<name>/      what one consumer may see (one tenant, masked, or both): files of mode 0440 in a
                                     folder of mode 0700, or 0750 where a group is named

Each is a folder of generations (see `generations`). A consumer's folder never holds a file made for another scope: what
the consumer may not see any more goes before anything is built.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import NamedTuple
from uuid import UUID

import msgspec

from memory_pipeline import __version__
from memory_pipeline.model.errors import ExportError
from memory_pipeline.stores import lake
from memory_pipeline.stores.duckdb.build import (
    EVERYTHING,
    Scope,
    build,
    build_from,
    made_of,
    recipe,
)
from memory_pipeline.stores.duckdb.fresh_reader import FreshReader, verify_in_fresh_process
from memory_pipeline.stores.duckdb.generations import (
    BUILDING,
    CURRENT,
    Manifest,
    TableSummary,
    content_digest,
    current_export,
    generations,
    manifest_path,
    next_name,
    place,
    prune,
    remove_litter,
    remove_unfit,
    served_manifest,
    switch,
)
from memory_pipeline.stores.duckdb.scopes import LakeRows, NoTenantError, may_see, scope_digest
from memory_pipeline.stores.duckdb.soundness import require_whole_lake
from memory_pipeline.stores.files import locked
from memory_pipeline.stores.permissions import allow, group_id

__all__ = ["ConsumersError", "ExportReport", "Scope", "current_export", "generations", "publish_duckdb"]

SCHEMA_VERSION = 3
"""Of the exported tables and marts: raised by a change that a reader's query may not survive."""
CONSUMERS = "consumers"
LOCK = ".publisher.lock"
# A copy never shrinks: once it has grown by this much over the last file that was built whole, so is the next one.
_GROWTH = 1.5


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is served after a publication."""

    path: Path
    rows: dict[str, int]
    """Per table and mart."""
    bytes: int
    digest: str
    published: bool
    """False where nothing had changed and the file from before is kept."""
    whole_because: str | None
    """Why the file was built whole; None where it was kept, or made from the last one by replacing days."""
    switch_seconds: float
    seconds: float
    consumers: dict[str, ExportReport]
    """The files of consumers, by name."""


class ConsumersError(ExportError):
    """The file of all tenants is published, but not those of some consumers."""

    def __init__(self, message: str, report: ExportReport) -> None:
        super().__init__(message)
        self.report = report
        """Of what is published."""


class _Readers(NamedTuple):
    """Who may open the files of a folder."""

    mode: int
    group: int | None


class _Made(NamedTuple):
    """What a file is made by and of; equal, and it need not be made again."""

    recipe: str
    made_of: dict[str, dict[str, str]]
    rows_digest: str


def publish_duckdb(
    lake_root: Path,
    exports_root: Path,
    generations_kept: int,
    consumers: Mapping[str, Scope] | None = None,
    *,
    group: str | None = None,
    consumer_groups: Mapping[str, str] | None = None,
) -> ExportReport:
    """Build the lake into a new generation of every file and serve it; where nothing changed, keep what is served.

    One publisher works at a time, others wait. A failure at any step leaves the last generation served; what it left
    behind is removed by the next publication. The newest `generations_kept` of each file stay. Folders of consumers
    that are not named (any more), or whose tenant is gone, are removed, and so is what was made for another scope.
    `group` alone may open the file of all tenants; unset, everyone on the machine. Raises ExportError; for a file that
    could not be made, after the others are.
    """
    if generations_kept < 1:
        raise ExportError("at least one generation must be kept, or nothing could be served.")
    consumers = consumers or {}
    report, refusal = None, None
    try:
        exports_root.mkdir(parents=True, exist_ok=True)
        with locked(exports_root / LOCK):
            _remove_other_consumers(exports_root / CONSUMERS, consumers)
            with lake.reading(lake_root) as manifest:
                try:
                    readers = _Readers(0o444, None) if group is None else _Readers(0o440, group_id(group))
                    if readers.group is not None:
                        allow(exports_root, 0o751, readers.group)
                    report = _publish(lake_root, manifest, exports_root, generations_kept, EVERYTHING, readers)
                except ExportError as error:
                    refusal = error
                except OSError as error:
                    refusal = _unwritable(exports_root, error)  # consumers have files of their own, to be rid of rows
                reports, problems = _publish_consumers(
                    lake_root, manifest, exports_root / CONSUMERS, generations_kept, consumers, consumer_groups or {}
                )
    except OSError as error:
        raise _unwritable(exports_root, error) from error
    told = " ".join(f"{name}: {problem}" for name, problem in problems.items())
    if report is None:
        raise ExportError(f"{refusal} {told}".strip()) from refusal
    if problems:
        raise ConsumersError(
            f"the file of all tenants is published, but not those of some consumers. {told}",
            msgspec.structs.replace(report, consumers=reports),
        )
    return msgspec.structs.replace(report, consumers=reports)


def _unwritable(exports_root: Path, error: OSError) -> ExportError:
    return ExportError(
        f"the export can't be written under {exports_root}: {error}. The last export is still served; "
        "mend the disk and export again."
    )


def _publish_consumers(
    lake_root: Path,
    manifest: lake.LakeManifest | None,
    root: Path,
    generations_kept: int,
    consumers: Mapping[str, Scope],
    groups: Mapping[str, str],
) -> tuple[dict[str, ExportReport], dict[str, str]]:
    """Bring every consumer's folder up to date; return what was published, and why not, by name."""
    reports: dict[str, ExportReport] = {}
    problems: dict[str, str] = {}
    if not consumers:
        return reports, problems
    try:
        rows = LakeRows(lake_root, manifest, consumers.values())
    except ExportError as error:
        return reports, dict.fromkeys(consumers, str(error))
    root.mkdir(exist_ok=True)
    allow(root, 0o711, None)  # to pass through, not to see who there is
    for name, scope in consumers.items():
        folder = root / name
        try:
            readers = _Readers(0o440, group_id(groups.get(name)))
            folder.mkdir(exist_ok=True, mode=0o700)
            allow(folder, 0o700 if readers.group is None else 0o750, readers.group)
            tenant_id = rows.tenant_id(scope)
            # An earlier tenant of the same slug. Files of versions that did not say so stay until there is a new one.
            remove_unfit(folder, lambda made, id_=tenant_id: not made.scope or made.tenant_id == id_)  # type: ignore[misc]
            reports[name] = _publish(lake_root, manifest, folder, generations_kept, scope, readers, rows)
            remove_unfit(folder, lambda made: bool(made.scope))
        except NoTenantError as error:
            shutil.rmtree(folder)
            problems[name] = str(error)
        except (ExportError, OSError) as error:
            problems[name] = str(error)
    return reports, problems


def _publish(
    lake_root: Path,
    manifest: lake.LakeManifest | None,
    folder: Path,
    generations_kept: int,
    scope: Scope,
    readers: _Readers,
    rows: LakeRows | None = None,
) -> ExportReport:
    """Bring one folder of generations up to date. Files of consumers are small, and always built whole."""
    started = perf_counter()
    remove_litter(folder)
    published_files = [file for path in generations(folder) for file in (path, manifest_path(path))]
    for path in (*published_files, folder / CURRENT):
        if path.exists():
            allow(path, readers.mode, readers.group)
    served = served_manifest(folder)
    if (folder / CURRENT).exists() and (served is None or served.source is not None):
        require_whole_lake(lake_root, manifest)  # rows must not go because their export is gone
    made = _Made(recipe(scope), made_of(manifest), "") if rows is None else _Made(recipe(scope), {}, rows.digest(scope))
    published = served is None or _Made(served.recipe, served.made_of, served.rows_digest) != made
    whole_because = None
    if served is None or published:
        building = folder / BUILDING
        building.mkdir(parents=True, mode=0o700)
        try:
            file = building / "memory.duckdb"
            tables: dict[str, TableSummary] | str = "there was none to build upon"
            base = served if served is not None and served.recipe == made.recipe and rows is None else None
            if base is not None and manifest is not None:
                tables = _replace_days(folder, base, lake_root, manifest, file)
            if isinstance(tables, str):
                base, whole_because = None, tables
                with FreshReader() as reader:
                    tables = build(lake_root, manifest, file, scope)
                    verify_in_fresh_process(reader, file, tables)
            tenant_id = rows.tenant_id(scope) if rows is not None else None
            served = _describe(folder, file, tables, manifest, scope, base, made, tenant_id)
            place(folder, file, served, readers.mode, readers.group)
        finally:
            shutil.rmtree(building)
    switched = perf_counter()
    switch(folder, served.name, readers.mode, readers.group)
    switch_seconds = perf_counter() - switched
    prune(folder, generations_kept)
    return ExportReport(
        path=folder / served.name,
        rows={name: table.rows for name, table in served.tables.items()},
        bytes=served.bytes,
        digest=served.digest,
        published=published,
        whole_because=whole_because,
        switch_seconds=switch_seconds,
        seconds=perf_counter() - started,
        consumers={},
    )


def _replace_days(
    folder: Path, base: Manifest, lake_root: Path, manifest: lake.LakeManifest, file: Path
) -> dict[str, TableSummary] | str:
    """Make `file` from the generation `base`, verify it and return what it holds; or why it has to be built whole."""
    if base.bytes > _GROWTH * base.bytes_when_built_whole:
        return "the file had grown by replacing days"
    try:
        with FreshReader() as reader:
            tables = build_from(folder / base.name, base.tables, base.made_of, lake_root, manifest, file)
            if tables is not None:
                verify_in_fresh_process(reader, file, tables)
                return tables
        reason = "rows are gone, or say something else"
    except ExportError as error:
        # It may be the last file that is damaged; the lake is what counts.
        reason = f"the last file could not be built upon: {error}"
    file.unlink(missing_ok=True)
    for wal in file.parent.glob(f"{file.name}.wal*"):
        wal.unlink()
    return reason


def _describe(
    folder: Path,
    file: Path,
    tables: dict[str, TableSummary],
    manifest: lake.LakeManifest | None,
    scope: Scope,
    base: Manifest | None,
    made: _Made,
    tenant_id: UUID | None,
) -> Manifest:
    import duckdb

    digest, size = content_digest(tables), file.stat().st_size
    return Manifest(
        name=next_name(folder, digest),
        bytes=size,
        digest=digest,
        recipe=made.recipe,
        made_of=made.made_of,
        rows_digest=made.rows_digest,
        tables=tables,
        tenant=scope.tenant,
        tenant_id=tenant_id,
        masked=scope.mask_key is not None,
        scope=scope_digest(scope) if made.rows_digest else "",
        # The oldest: of tables that were exported one by one, the file shows each as of its own moment.
        source=min((table.source for table in manifest.tables.values()), key=lambda one: one.taken_at, default=None)
        if manifest
        else None,
        schema_version=SCHEMA_VERSION,
        code_version=__version__,
        duckdb_version=duckdb.__version__,
        published_at=datetime.now(UTC),
        bytes_when_built_whole=base.bytes_when_built_whole if base else size,
    )


def _remove_other_consumers(folder: Path, consumers: Mapping[str, Scope]) -> None:
    """Remove what was published for consumers that are not named any more, or that may see something else now.

    Nobody would take erased rows out of the one; the other would show what was forbidden meanwhile.
    """
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name not in consumers:
                shutil.rmtree(path)
                continue
            remove_litter(path)
            scope = consumers[path.name]
            remove_unfit(path, lambda manifest, scope=scope: may_see(scope, manifest))  # type: ignore[misc]

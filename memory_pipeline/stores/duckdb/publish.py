"""Publishes the DuckDB files: built aside, verified by a fresh process, made durable, then switched atomically.

    <exports>/                       all tenants: files of mode 0444 that every analyst of the house may open
    <exports>/consumers/<name>/      what one consumer may see (one tenant, masked, or both): 0700, files of mode 0440

Each is a folder of generations (see `generations`).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

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
    verify_in_fresh_process,
)
from memory_pipeline.stores.duckdb.generations import (
    BUILDING,
    Manifest,
    TableSummary,
    content_digest,
    current_export,
    generations,
    next_name,
    place,
    prune,
    remove_litter,
    served_manifest,
    switch,
)
from memory_pipeline.stores.files import locked

__all__ = ["ExportReport", "Scope", "current_export", "generations", "publish_duckdb"]

SCHEMA_VERSION = 2
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


def publish_duckdb(
    lake_root: Path,
    exports_root: Path,
    generations_kept: int,
    consumers: Mapping[str, Scope] | None = None,
) -> ExportReport:
    """Build the lake into a new generation of every file and serve it; where nothing changed, keep what is served.

    One publisher works at a time, others wait. A failure at any step leaves the last generation served; what it left
    behind is removed by the next publication. The newest `generations_kept` of each file stay; folders of consumers
    that are not named (any more) are removed. Raises ExportError.
    """
    if generations_kept < 1:
        raise ExportError("at least one generation must be kept, or nothing could be served.")
    try:
        with locked(exports_root / LOCK), lake.reading(lake_root) as manifest:
            report = _publish(lake_root, manifest, exports_root, generations_kept, EVERYTHING)
            _remove_other_consumers(exports_root / CONSUMERS, set(consumers or {}))
            reports = {}
            for name, scope in (consumers or {}).items():
                folder = exports_root / CONSUMERS / name
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(0o700)
                reports[name] = _publish(lake_root, manifest, folder, generations_kept, scope)
    except OSError as error:
        raise ExportError(
            f"the export can't be written under {exports_root}: {error}. The last export is still served; "
            "mend the disk and export again."
        ) from error
    return msgspec.structs.replace(report, consumers=reports)


def _publish(
    lake_root: Path,
    manifest: lake.LakeManifest | None,
    folder: Path,
    generations_kept: int,
    scope: Scope,
) -> ExportReport:
    """Bring one folder of generations up to date. Files of consumers are small, and always built whole."""
    started = perf_counter()
    remove_litter(folder)
    served = served_manifest(folder)
    made_by, made = recipe(scope), made_of(manifest)
    published = served is None or (served.recipe, served.made_of) != (made_by, made)
    whole_because = None
    if served is None or published:
        building = folder / BUILDING
        building.mkdir(parents=True)
        try:
            file = building / "memory.duckdb"
            tables: dict[str, TableSummary] | str = "there was none to build upon"
            base = served if served is not None and served.recipe == made_by and scope == EVERYTHING else None
            if base is not None and manifest is not None:
                tables = _replace_days(folder, base, lake_root, manifest, file)
            if isinstance(tables, str):
                base, whole_because = None, tables
                tables = build(lake_root, manifest, file, scope)
                verify_in_fresh_process(file, tables)
            served = _describe(folder, file, tables, manifest, scope, base)
            place(folder, file, served, 0o444 if scope == EVERYTHING else 0o440)
        finally:
            shutil.rmtree(building)
    switched = perf_counter()
    switch(folder, served.name)
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
        tables = build_from(folder / base.name, base.tables, base.made_of, lake_root, manifest, file)
        if tables is not None:
            verify_in_fresh_process(file, tables)
            return tables
        reason = "rows are gone, or say something else"
    except ExportError as error:
        # It may be the last file that is damaged; the lake is what counts.
        reason = f"the last file could not be built upon: {error}"
    file.unlink(missing_ok=True)
    file.with_name(f"{file.name}.wal").unlink(missing_ok=True)
    return reason


def _describe(
    folder: Path,
    file: Path,
    tables: dict[str, TableSummary],
    manifest: lake.LakeManifest | None,
    scope: Scope,
    base: Manifest | None,
) -> Manifest:
    import duckdb

    digest, size = content_digest(tables), file.stat().st_size
    return Manifest(
        name=next_name(folder, digest),
        bytes=size,
        digest=digest,
        recipe=recipe(scope),
        made_of=made_of(manifest),
        tables=tables,
        tenant=scope.tenant,
        masked=scope.mask_key is not None,
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


def _remove_other_consumers(folder: Path, known: set[str]) -> None:
    """Remove what was published for consumers that are not named any more: nobody would take erased rows out of it."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name not in known:
                shutil.rmtree(path)

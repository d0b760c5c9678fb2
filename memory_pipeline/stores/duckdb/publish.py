"""Publishes the DuckDB file: built aside, verified by a fresh process, made durable, then switched atomically.

    <exports>/memory-000042-1a2b3c4d5e.duckdb   one generation, mode 0444, never written again
    <exports>/memory-000042-1a2b3c4d5e.json     its manifest
    <exports>/CURRENT                           the name of the generation that is served
    <exports>/memory.duckdb                     symbolic link to it

Generations are numbered rather than dated: a clock that steps back must not make the older file the newer one.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import msgspec

from memory_pipeline.model.errors import ExportError
from memory_pipeline.stores import lake
from memory_pipeline.stores.duckdb.build import TableSummary, build, source_digest, verify_in_fresh_process
from memory_pipeline.stores.files import flush, locked, replace_symlink, replace_text

CURRENT = "CURRENT"
LINK = "memory.duckdb"
_BUILDING = ".building"
_GENERATION = re.compile(r"memory-(\d{6,})-[0-9a-f]{10}\.duckdb")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one generation; the JSON file beside it."""

    name: str
    bytes: int
    digest: str
    """SHA-256 over the tables' names, rows and digests: equal content, equal digest, under one version of DuckDB."""
    source_digest: str
    """SHA-256 over the lake's files, the SQL and the version of DuckDB it was made with."""
    published_at: datetime
    tables: dict[str, TableSummary]


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is served after a publication."""

    path: Path
    rows: dict[str, int]
    """Per table and mart."""
    bytes: int
    digest: str
    published: bool
    """False where nothing had changed and the file from before is kept."""
    seconds: float


def publish_duckdb(lake_root: Path, exports_root: Path, generations_kept: int) -> ExportReport:
    """Build the lake into a new generation and serve it; where nothing changed, keep the one that is served.

    One publisher works at a time, others wait. A failure at any step leaves the last generation served; what it left
    behind is removed by the next publication. The newest `generations_kept` stay. Raises ExportError.
    """
    if generations_kept < 1:
        raise ExportError("at least one generation must be kept, or nothing could be served.")
    started = perf_counter()
    try:
        with locked(exports_root / ".publisher.lock"):
            _remove_litter(exports_root)
            with lake.reading(lake_root):
                source = source_digest(lake_root)
                manifest = _served_manifest(exports_root)
                published = manifest is None or manifest.source_digest != source
                if published:
                    manifest = _build_generation(lake_root, exports_root, source)
            assert manifest is not None
            _switch(exports_root, manifest.name)
            _prune(exports_root, generations_kept)
    except OSError as error:
        raise ExportError(
            f"the export can't be written under {exports_root}: {error}. The last export is still served; "
            "mend the disk and export again."
        ) from error
    return ExportReport(
        path=exports_root / manifest.name,
        rows={name: table.rows for name, table in manifest.tables.items()},
        bytes=manifest.bytes,
        digest=manifest.digest,
        published=published,
        seconds=perf_counter() - started,
    )


def current_export(exports_root: Path) -> Path:
    """Return the path of the generation that is served. Raises ExportError where there is none."""
    try:
        name = (exports_root / CURRENT).read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise ExportError(
            f"nothing has been exported to {exports_root} yet: run `memory-pipeline materialize`."
        ) from error
    path = exports_root / name
    if not _GENERATION.fullmatch(name) or not path.is_file():
        raise ExportError(f"{exports_root / CURRENT} names {name!r}, which is not there: export again.")
    return path


def generations(exports_root: Path) -> list[Path]:
    """Return the DuckDB files in `exports_root`, oldest first."""
    found = {path: match for path in exports_root.iterdir() if (match := _GENERATION.fullmatch(path.name))}
    return sorted(found, key=lambda path: int(found[path][1]))


def _build_generation(lake_root: Path, exports_root: Path, source: str) -> Manifest:
    building = exports_root / _BUILDING
    building.mkdir()
    try:
        return _build_in(building, lake_root, exports_root, source)
    finally:
        shutil.rmtree(building)


def _build_in(building: Path, lake_root: Path, exports_root: Path, source: str) -> Manifest:
    file = building / "memory.duckdb"
    tables = build(lake_root, file)
    verify_in_fresh_process(file, tables)
    manifest = _describe(file, tables, source, _next_number(exports_root))
    manifest_file = building / "manifest.json"
    manifest_file.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    for path in (file, manifest_file):
        path.chmod(0o444)
        flush(path)
    os.replace(manifest_file, _manifest_path(exports_root / manifest.name))
    os.replace(file, exports_root / manifest.name)
    flush(exports_root)
    return manifest


def _describe(file: Path, tables: dict[str, TableSummary], source: str, number: int) -> Manifest:
    content = hashlib.sha256()
    for name, table in sorted(tables.items()):
        content.update(f"{name} {table.rows} {table.digest}\n".encode())
    digest = content.hexdigest()
    return Manifest(
        name=f"memory-{number:06d}-{digest[:10]}.duckdb",
        bytes=file.stat().st_size,
        digest=digest,
        source_digest=source,
        published_at=datetime.now(UTC),
        tables=tables,
    )


def _served_manifest(exports_root: Path) -> Manifest | None:
    """Return the manifest of what is served, or None where there is nothing, or nothing whole."""
    try:
        path = current_export(exports_root)
        manifest = msgspec.json.decode(_manifest_path(path).read_bytes(), type=Manifest)
    except (ExportError, FileNotFoundError, msgspec.DecodeError):
        return None  # a new generation takes the place of whatever is wrong with this one
    return manifest if path.stat().st_size == manifest.bytes else None


def _switch(exports_root: Path, name: str) -> None:
    current = exports_root / CURRENT
    if not current.exists() or current.read_text(encoding="utf-8").strip() != name:
        replace_text(current, name + "\n")
    link = exports_root / LINK
    if not link.is_symlink() or os.readlink(link) != name:
        replace_symlink(link, name)


def _prune(exports_root: Path, generations_kept: int) -> None:
    served = current_export(exports_root)
    others = [path for path in generations(exports_root) if path != served]
    for path in others[: max(0, len(others) - (generations_kept - 1))]:
        path.unlink()
        _manifest_path(path).unlink(missing_ok=True)


def _remove_litter(exports_root: Path) -> None:
    """Remove what a killed publisher left, and any .wal: nothing writes to a generation, so it can hold nothing."""
    shutil.rmtree(exports_root / _BUILDING, ignore_errors=True)
    for path in [*exports_root.glob(".*.new"), *exports_root.glob("memory*.duckdb.wal")]:
        path.unlink()
    for path in exports_root.glob("memory-*.json"):
        if not path.with_suffix(".duckdb").exists():
            path.unlink()


def _next_number(exports_root: Path) -> int:
    existing = generations(exports_root)
    match = _GENERATION.fullmatch(existing[-1].name) if existing else None
    return int(match[1]) + 1 if match else 1


def _manifest_path(file: Path) -> Path:
    return file.with_suffix(".json")

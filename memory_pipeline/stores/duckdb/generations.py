"""One folder of published files: generations, which of them is served, and the switch from one to the next.

    memory-000042-1a2b3c4d5e.duckdb   one generation, never written again
    memory-000042-1a2b3c4d5e.json     its manifest
    CURRENT                           the name of the generation that is served
    memory.duckdb                     symbolic link to it

Generations are numbered rather than dated: a clock that steps back must not make the older file the newer one.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from uuid import UUID

import msgspec

from memory_pipeline.model.errors import ExportError, NoExportError
from memory_pipeline.model.snapshot import Source
from memory_pipeline.stores.files import flush, replace_symlink, replace_text
from memory_pipeline.stores.permissions import allow

CURRENT = "CURRENT"
LINK = "memory.duckdb"
BUILDING = ".building"
_GENERATION = re.compile(r"memory-(\d{6,})-[0-9a-f]{10}\.duckdb")


class TableSummary(msgspec.Struct, frozen=True):
    """What a table of a published file holds."""

    rows: int
    digest: str
    """Sum of the row hashes, in any order, in hexadecimal; comparable within one version of DuckDB."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one generation; the JSON file beside it."""

    name: str
    bytes: int
    digest: str
    """SHA-256 over the tables' names, rows and digests: equal content, equal digest, under one version of DuckDB."""
    recipe: str
    """SHA-256 over the SQL, the version of DuckDB, and for whom it is made."""
    made_of: dict[str, dict[str, str]]
    """The lake's files by table and name, each with the first digits of its SHA-256. Empty in files of consumers."""
    tables: dict[str, TableSummary]
    tenant: str | None
    """Slug of the one tenant whose rows it has; None: of all."""
    masked: bool
    scope: str = ""
    """Digest of tenant, masking and key; empty in the file of all tenants."""
    tenant_id: UUID | None = None
    rows_digest: str = ""
    """In files of consumers: of the rows of the lake that it shows, and of no others."""
    source: Source | None
    """The moment of Postgres it shows; None where nothing was exported yet."""
    schema_version: int
    """Of the exported tables: changes when a reader has to."""
    code_version: str
    duckdb_version: str
    published_at: datetime
    bytes_when_built_whole: int
    """Of the last generation that was not made from the one before it."""


def content_digest(tables: Mapping[str, TableSummary]) -> str:
    """Return the digest of a file by those of its tables."""
    content = hashlib.sha256()
    for name, table in sorted(tables.items()):
        content.update(f"{name} {table.rows} {table.digest}\n".encode())
    return content.hexdigest()


def current_export(exports_root: Path) -> Path:
    """Return the path of the generation that is served.

    Raises NoExportError where nothing was published yet, ExportError where what is served is not there.
    """
    try:
        name = (exports_root / CURRENT).read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise NoExportError(
            f"nothing has been exported to {exports_root} yet: run `memory-pipeline materialize`."
        ) from error
    path = exports_root / name
    if not _GENERATION.fullmatch(name) or not path.is_file():
        raise ExportError(f"{exports_root / CURRENT} names {name!r}, which is not there: export again.")
    return path


def generations(exports_root: Path) -> list[Path]:
    """Return the DuckDB files in `exports_root`, oldest first."""
    if not exports_root.is_dir():
        return []
    found = {path: match for path in exports_root.iterdir() if (match := _GENERATION.fullmatch(path.name))}
    return sorted(found, key=lambda path: int(found[path][1]))


def generation_number(path: Path) -> int:
    """Return the number of a generation, by the name of its file."""
    match = _GENERATION.fullmatch(path.name)
    if match is None:
        raise ExportError(f"{path} is not named as exported files are.")
    return int(match[1])


def manifest_of(path: Path) -> Manifest:
    """Return the manifest of a generation. Raises ExportError where it is missing or damaged."""
    try:
        return msgspec.json.decode(manifest_path(path).read_bytes(), type=Manifest)
    except (FileNotFoundError, msgspec.DecodeError) as error:
        raise ExportError(f"the manifest of {path} can't be read ({error}): export again.") from error


def served_manifest(exports_root: Path) -> Manifest | None:
    """Return the manifest of what is served, or None where there is nothing, or nothing whole."""
    try:
        path = current_export(exports_root)
        manifest = manifest_of(path)
    except ExportError:
        return None  # a new generation takes the place of whatever is wrong with this one
    return manifest if path.stat().st_size == manifest.bytes else None


def next_name(exports_root: Path, digest: str) -> str:
    """Return the name of the generation after the last."""
    existing = generations(exports_root)
    match = _GENERATION.fullmatch(existing[-1].name) if existing else None
    return f"memory-{int(match[1]) + 1 if match else 1:06d}-{digest[:10]}.duckdb"


def place(exports_root: Path, file: Path, manifest: Manifest, mode: int, group: int | None = None) -> None:
    """Make a built file durable and move it among the generations, for whom it is; it is not served yet."""
    manifest_file = file.with_name("manifest.json")
    manifest_file.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    for path in (file, manifest_file):
        allow(path, mode, group)
        flush(path)
    os.replace(manifest_file, manifest_path(exports_root / manifest.name))
    os.replace(file, exports_root / manifest.name)
    flush(exports_root)


def switch(exports_root: Path, name: str, mode: int = 0o444, group: int | None = None) -> None:
    """Serve a generation from now on; `mode` and `group` say who may ask which it is."""
    current = exports_root / CURRENT
    if not current.exists() or current.read_text(encoding="utf-8").strip() != name:
        replace_text(current, name + "\n", mode, group)
    link = exports_root / LINK
    if not link.is_symlink() or os.readlink(link) != name:
        replace_symlink(link, name)


def prune(exports_root: Path, generations_kept: int) -> list[str]:
    """Remove all but the newest generations and the one that is served; return the names of those removed."""
    served = current_export(exports_root)
    others = [path for path in generations(exports_root) if path != served]
    removed = others[: max(0, len(others) - (generations_kept - 1))]
    for path in removed:
        path.unlink()
        manifest_path(path).unlink(missing_ok=True)
    return [path.name for path in removed]


def remove_unfit(exports_root: Path, fits: Callable[[Manifest], bool]) -> None:
    """Remove every generation that does not fit, or whose manifest can't be read, the one that is served included.

    Where that one goes, nothing is served until the next is built.
    """
    for path in generations(exports_root):
        try:
            fitting = fits(manifest_of(path))
        except ExportError:
            fitting = False
        if not fitting:
            path.unlink()
            manifest_path(path).unlink(missing_ok=True)
    current = exports_root / CURRENT
    if current.exists() and not (exports_root / current.read_text(encoding="utf-8").strip()).is_file():
        current.unlink()
        (exports_root / LINK).unlink(missing_ok=True)


def remove_litter(exports_root: Path) -> None:
    """Remove what a killed publisher left, and any .wal (.checkpoint, .recovery): nothing writes to a generation."""
    shutil.rmtree(exports_root / BUILDING, ignore_errors=True)
    for path in [*exports_root.glob(".*.new"), *exports_root.glob("memory*.duckdb.wal*")]:
        path.unlink()
    for path in exports_root.glob("memory-*.json"):
        if not path.with_suffix(".duckdb").exists():
            path.unlink()


def manifest_path(file: Path) -> Path:
    return file.with_suffix(".json")

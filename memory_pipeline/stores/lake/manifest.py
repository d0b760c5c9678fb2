"""The lake's manifest: what each file holds, of which rows of Postgres it was made, and so which files are stale."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from pathlib import Path

import msgspec

from memory_pipeline.model.errors import ExportError
from memory_pipeline.model.snapshot import Fingerprint, Source
from memory_pipeline.model.window import DayWindow
from memory_pipeline.stores.lake.tables import day_of, file_name

MANIFEST = "manifest.json"
# Part of what makes a file: another way to write Parquet means other bytes, so every file is stale.
_FORMAT = "snappy/122880/64MiB"
_JOINED_GAP = timedelta(days=3)


class LakeFile(msgspec.Struct, frozen=True, kw_only=True):
    """One Parquet file."""

    rows: int
    bytes: int
    sha256: str
    fingerprint: str
    """Of the rows it was made from."""


class TableManifest(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one table."""

    source: Source
    made_by: str
    """Digest of the statement it was read with and of how files are written."""
    covered: list[DayWindow]
    """Days that were exported, with or without rows, as ranges that neither meet nor overlap. Empty for a dimension."""
    files: dict[str, LakeFile]
    """By name, in order of days."""
    counted: dict[str, int] | None = None
    """Rows by name of file that Postgres counted in the snapshot of `source`, of every day that was ever exported, read
    again or not: by a statement other than that which reads rows. None where an older version exported."""
    complete: bool = False
    """Whether no day was left out on which Postgres has rows."""

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files.values())

    @property
    def digest(self) -> str:
        return files_digest(self.files)


class LakeManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in the lake."""

    code_version: str
    tables: dict[str, TableManifest]

    @property
    def digest(self) -> str:
        """SHA-256 over the names and SHA-256 of all files: the same rows give the same digest, whenever exported."""
        digest = hashlib.sha256()
        for name, table in sorted(self.tables.items()):
            digest.update(f"{name} {table.digest}\n".encode())
        return digest.hexdigest()


def files_digest(files: Mapping[str, LakeFile]) -> str:
    """Return the SHA-256 over the names and SHA-256 of files, in order of their names."""
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        digest.update(f"{name} {file.sha256}\n".encode())
    return digest.hexdigest()


def statement_digest(statement: str) -> str:
    """Return what `TableManifest.made_by` says of a table that is read with this statement."""
    return hashlib.sha256(f"{_FORMAT}\n{statement}".encode()).hexdigest()


def read_manifest(root: Path) -> LakeManifest | None:
    """Return the manifest of a lake, or None where nothing was exported. Raises ExportError for one that is damaged."""
    path = root / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=LakeManifest)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ExportError(
            f"{path} is damaged ({error}): delete the folder {root} and export again; it holds nothing that is not in "
            "Postgres."
        ) from error


def stale_days(
    table: TableManifest | None,
    present: Mapping[date, Fingerprint],
    window: DayWindow | None,
    damaged: Iterable[str] = (),
) -> list[date]:
    """Return the days whose files are not as Postgres is: those in `window`, and all that were exported before.

    `present` has every day with rows, `damaged` names files to be written again in any case. A day outside of `window`
    that was never exported is not stale: nobody asked for it yet.
    """
    files = {day_of(name): file for name, file in table.files.items()} if table else {}
    asked = [*(table.covered if table else []), *([window] if window else [])]
    days = {day for day in present if covers(asked, day)}
    days |= {day for day in files if day is not None}
    broken = set(damaged)
    return sorted(
        day
        for day in days
        if file_name(day) in broken
        or day not in files
        or day not in present
        or files[day].fingerprint != present[day].digest
        or files[day].rows != present[day].rows
    )


def ranges(days: Iterable[date]) -> list[DayWindow]:
    """Return ascending days as windows; days a short gap apart are joined, because each window is one statement."""
    windows: list[DayWindow] = []
    for day in days:
        if windows and day - windows[-1].end < _JOINED_GAP:
            windows[-1] = DayWindow(windows[-1].start, day + timedelta(days=1))
        else:
            windows.append(DayWindow.of_day(day))
    return windows


def covers(covered: Iterable[DayWindow], day: date) -> bool:
    """Return whether a day lies in one of the windows."""
    return any(part.start <= day < part.end for part in covered)


def days_not_exported(manifest: LakeManifest, table: str) -> list[date]:
    """Return the days that some table has files of, but which were never exported of `table`."""
    covered = manifest.tables[table].covered if table in manifest.tables else []
    days = {day_of(name) for entry in manifest.tables.values() for name in entry.files}
    return sorted(day for day in days if day is not None and not covers(covered, day))


def merged(covered: Iterable[DayWindow], window: DayWindow | None) -> list[DayWindow]:
    """Return the windows with one more, those that meet or overlap as one."""
    windows: list[DayWindow] = []
    for part in sorted([*covered, *([window] if window else [])], key=lambda one: one.start):
        if part.start == part.end:
            continue
        if windows and part.start <= windows[-1].end:
            windows[-1] = DayWindow(windows[-1].start, max(windows[-1].end, part.end))
        else:
            windows.append(part)
    return windows

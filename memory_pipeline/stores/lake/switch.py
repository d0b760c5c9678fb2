"""Puts an export in place: everything it wrote, of all tables, or nothing.

Files are written into `.staging`. Renaming it to `.switching` is the moment the export holds; moving its files into
place and its manifest last can be taken up again by whoever comes next, should the exporter die in the middle.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import date
from pathlib import Path
from time import perf_counter, sleep
from typing import TYPE_CHECKING

import msgspec

from memory_pipeline import __version__
from memory_pipeline.model.errors import ExportError, ForbiddenError
from memory_pipeline.model.snapshot import Fingerprint, Source
from memory_pipeline.model.window import DayWindow, Progress
from memory_pipeline.stores.files import LockNotOursError, flush, locked, make_folders, sha256_of
from memory_pipeline.stores.lake.manifest import (
    MANIFEST,
    LakeFile,
    LakeManifest,
    TableManifest,
    covers,
    files_digest,
    merged,
    ranges,
    read_manifest,
    stale_days,
)
from memory_pipeline.stores.lake.tables import DIMENSIONS, TABLES, day_of, file_name, served_name
from memory_pipeline.stores.lake.writer import LakeReport, StagedFile, write_days, write_whole, writing

if TYPE_CHECKING:
    import pyarrow as pa

_STAGING = ".staging"
_SWITCHING = ".switching"
_LOOK_AGAIN_SECONDS = 1.0
_FLUSHERS = 8  # an fsync is waiting, not work

Read = Callable[[DayWindow | None], AbstractContextManager["pa.RecordBatchReader"]]
"""Opens the rows of a table: of a window, in order of days, or all of a dimension."""


class Export:
    """One export under way: tables are written aside (several at once, if need be), then all are switched."""

    def __init__(self, root: Path, manifest: LakeManifest | None) -> None:
        self._root = root
        self._before = dict(manifest.tables) if manifest else {}
        self._after = dict(self._before)

    def write(
        self,
        table: str,
        source: Source,
        made_by: str,
        present: Mapping[date | None, Fingerprint],
        window: DayWindow | None,
        read: Read,
        progress: Progress,
    ) -> LakeReport:
        """Write the stale files of a table: those in `window`, and those that were exported before and changed since.

        `present` says which rows Postgres has, by day (None for a dimension); what arrives has to agree with it.
        """
        started = perf_counter()
        before = self._before.get(table)
        comparable = before is not None and before.made_by == made_by and before.source.same_history(source)
        damaged = _damaged(self._root / table, before) if comparable and before else before.files if before else ()
        folder, staging = self._root / table, self._root / _STAGING / table
        with writing(folder, staging) as writer:
            if table in DIMENSIONS:
                stale = _stale_dimension(before, present, damaged)
                if stale:
                    with read(None) as batches:
                        write_whole(writer, batches, progress)
            else:
                by_day = {day: found for day, found in present.items() if day is not None}
                days = stale_days(before, by_day, window, damaged)
                stale = [file_name(day) for day in days]
                wanted = frozenset(days)
                for part in ranges(day for day in days if day in present):
                    with read(part) as batches:
                        write_days(writer, table, part, wanted, batches, progress)
            staged = writer.finish()
        files = dict(before.files) if before else {}
        removed = sum(files.pop(name, None) is not None for name in set(stale) - {file.name for file in staged})
        files |= {file.name: _described(table, file, present) for file in staged}
        covered = [] if table in DIMENSIONS else merged(before.covered if before else [], window)
        counted = {file_name(day): found.rows for day, found in present.items() if day is None or covers(covered, day)}
        _require_rows(table, files, counted)
        self._after[table] = TableManifest(
            source=source,
            made_by=made_by,
            covered=covered,
            files=dict(sorted(files.items())),
            counted=dict(sorted(counted.items())),
            complete=len(counted) == len(present),
        )
        asked = {name: file for name, file in self._after[table].files.items() if _in_window(name, window)}
        return LakeReport(
            table=table,
            rows=sum(file.rows for file in asked.values()),
            days=len(asked),
            stale=len(stale),
            written=sum(file.changed for file in staged),
            removed=removed,
            bytes=sum(file.bytes for file in asked.values()),
            digest=files_digest(asked),
            seconds=perf_counter() - started,
        )

    def commit(self) -> LakeManifest:
        """Switch everything that was written. From here on the export holds, even if this process dies."""
        manifest = LakeManifest(code_version=__version__, tables=self._after)
        staging = self._root / _STAGING
        path = staging / MANIFEST
        path.write_bytes(msgspec.json.encode(manifest))
        path.chmod(0o644)
        flush(path)
        for folder in (*(entry for entry in staging.iterdir() if entry.is_dir()), staging):
            flush(folder)
        with locked(self._root / ".lock"):
            os.replace(staging, self._root / _SWITCHING)
            flush(self._root)
            _roll_forward(self._root)
        return manifest


@contextmanager
def exporting(root: Path) -> Iterator[Export]:
    """Begin an export, when no other is under way; what it wrote is dropped unless it is committed.

    Raises ExportError where the disk refuses; then the lake is as it was.
    """
    with locked(root / ".export.lock"):
        try:
            with locked(root / ".lock"):
                _roll_forward(root)
            shutil.rmtree(root / _STAGING, ignore_errors=True)  # of an export that was killed
            (root / _STAGING).mkdir()
            yield Export(root, read_manifest(root))
        except OSError as error:
            raise ExportError(
                f"the lake can't be written under {root}: {error}. It is as it was; mend the disk and export again."
            ) from error
        finally:
            shutil.rmtree(root / _STAGING, ignore_errors=True)


@contextmanager
def reading(root: Path) -> Iterator[LakeManifest | None]:
    """Keep the lake as it is while reading it (exports wait with their switch), and yield its manifest."""
    while True:
        with locked(root / ".lock", shared=True):
            if not (root / _SWITCHING).exists():
                yield read_manifest(root)
                return
        with locked(root / ".lock"):  # an exporter died in the middle of its switch
            _roll_forward(root)


def lake_files(root: Path, manifest: LakeManifest | None, table: str) -> list[Path]:
    """Return the Parquet files of a table in order of their days."""
    if manifest is None or table not in manifest.tables:
        return []
    return [root / table / name for name in manifest.tables[table].files]


def verify_lake(root: Path) -> list[str]:
    """Read every file again and return what is not as the manifest says, a sentence each.

    Whoever may read the lake but is not who exports can't hold its lock, and looks twice at what seems wrong. Raises
    ForbiddenError for accounts that may not read it.
    """
    try:
        try:
            with reading(root) as manifest:
                return _problems(root, manifest)
        except LockNotOursError:
            problems = _problems(root, read_manifest(root))
            if problems:
                sleep(_LOOK_AGAIN_SECONDS)
                again = set(_problems(root, read_manifest(root)))
                problems = [problem for problem in problems if problem in again]
            if problems and (root / _SWITCHING).exists():
                return [f"an export is being put in place in {root}, or was cut short there: verify it again later"]
            return problems
    except PermissionError as error:
        raise ForbiddenError(
            f"this account may not open the lake in {root} ({error}): run this as whoever exports, or as a member of "
            "the group that MEMORY_EXPORT_GROUP names."
        ) from error


def _problems(root: Path, manifest: LakeManifest | None) -> list[str]:
    if manifest is None:
        return [f"there is no lake in {root}"]
    problems = []
    for table, entry in manifest.tables.items():
        for name, file in entry.files.items():
            path = root / table / name
            try:
                if sha256_of(path) != file.sha256:
                    problems.append(f"{path} is not the file that was exported")
            except (FileNotFoundError, IsADirectoryError):
                problems.append(f"{path} is missing")
    problems += [f"{path} belongs to no export" for path in sorted(_strays(root, manifest))]
    return problems


def _roll_forward(root: Path) -> None:
    """Finish a switch. Call it with the lock held exclusively."""
    switching = root / _SWITCHING
    manifest_file = switching / MANIFEST
    if manifest_file.exists():
        manifest = msgspec.json.decode(manifest_file.read_bytes(), type=LakeManifest)
        staged = sorted(switching.glob("*/*.parquet"))
        moves = [(path, root / path.parent.name / served_name(path.name)) for path in staged]
        with ThreadPoolExecutor(_FLUSHERS, thread_name_prefix="lake-switch") as flushers:
            for done in [flushers.submit(_move, source, target) for source, target in moves]:
                done.result()
        for path in _strays(root, manifest):
            _remove(path, root)
        for table in manifest.tables:
            if (root / table).is_dir():
                flush(root / table)
        flush(root)
        os.replace(manifest_file, root / MANIFEST)
        flush(root)
    shutil.rmtree(switching, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    make_folders(target.parent, 0o755)
    os.replace(source, target)
    flush(target.parent)


def _remove(path: Path, root: Path) -> None:
    path.unlink()
    if path.parent.parent.parent == root:  # the folder of a day
        path.parent.rmdir()


def _strays(root: Path, manifest: LakeManifest) -> list[Path]:
    """Return the Parquet files in tables' folders that the manifest does not name."""
    strays = []
    for table in TABLES:
        named = manifest.tables[table].files if table in manifest.tables else {}
        strays += [root / table / name for name in _parquet_files(root / table) if name not in named]
    return strays


def _parquet_files(folder: Path) -> Iterator[str]:
    """Yield the names of the Parquet files of a table. By scandir: pathlib takes five times as long for them."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".parquet"):
                yield entry.name
            elif entry.name.startswith("day=") and entry.is_dir():
                yield from (f"{entry.name}/{name}" for name in os.listdir(entry.path) if name.endswith(".parquet"))


def _damaged(folder: Path, before: TableManifest) -> list[str]:
    """Return the files that are missing or have another size than was written."""
    return [name for name, file in before.files.items() if _size(folder / name) != file.bytes]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _stale_dimension(
    before: TableManifest | None,
    present: Mapping[date | None, Fingerprint],
    damaged: Collection[str],
) -> list[str]:
    name = file_name(None)
    found = present.get(None)
    served = before.files.get(name) if before else None
    current = (served.fingerprint, served.rows) if served else None
    wanted = (found.digest, found.rows) if found else None
    return [name] if name in damaged or current != wanted else []


def _described(table: str, file: StagedFile, present: Mapping[date | None, Fingerprint]) -> LakeFile:
    fingerprint = present.get(day_of(file.name))
    if fingerprint is None:
        raise ExportError(f"table {table}: {file.rows} rows arrived for {file.name}, where Postgres counted none.")
    return LakeFile(rows=file.rows, bytes=file.bytes, sha256=file.sha256, fingerprint=fingerprint.digest)


def _require_rows(table: str, files: Mapping[str, LakeFile], counted: Mapping[str, int]) -> None:
    """Raise unless every file, written now or before, has the rows that Postgres counted in this snapshot."""
    for name in sorted(files.keys() | counted.keys()):
        expected, found = counted.get(name, 0), files[name].rows if name in files else 0
        if found != expected:
            raise ExportError(
                f"table {table}: {found} rows arrived for {name}, Postgres counted {expected}. The lake is as it was."
            )


def _in_window(name: str, window: DayWindow | None) -> bool:
    day = day_of(name)
    return day is None or window is None or window.start <= day < window.end

"""The Parquet lake: one folder per table, one file per UTC day (hive style), each switched atomically.

    <root>/messages/day=2025-03-01/part-0.parquet      daily tables
    <root>/users/part-0.parquet                        dimensions, written whole

The same rows give the same bytes, whatever batches they come in, so a file whose rows are unchanged is left alone, and
digests can be compared over time and between machines (under one version of pyarrow).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from memory_pipeline.model.errors import ExportError, MemoryPipelineError
from memory_pipeline.model.window import DayWindow, Progress
from memory_pipeline.stores.files import flush, locked, sha256_of

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

DAILY_TABLES = ("messages", "memories", "facts", "memory_relationships", "summaries")
"""Tables with a file per day."""
DIMENSIONS = ("tenants", "users", "conversations")
"""Tables written whole: their rows change long after they were made, and no day of theirs is that of their messages."""
TABLES = (*DIMENSIONS, *DAILY_TABLES)

FILE_NAME = "part-0.parquet"
_GROUP_ROWS = 122_880  # DuckDB's own row group
_GROUP_BYTES = 64 << 20
_LEVEL = 1
_FLUSHERS = 8  # an fsync is waiting, not work
_EPOCH = date(1970, 1, 1)
# Columns that repeat; for the others a dictionary is built only to be thrown away.
_DICTIONARY = frozenset(
    {"tenant_id", "user_id", "source", "role", "kind", "status", "predicate", "enricher", "project", "detector"}
)


class LakeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one export of one table found and changed."""

    table: str
    rows: int
    days: int
    """Files that hold these rows: non-empty days, or 1 for a dimension."""
    written: int
    """Files whose bytes changed; the others were left as they were."""
    removed: int
    """Files of days that have no rows any more."""
    bytes: int
    digest: str
    """SHA-256 over the names and SHA-256 of the files, in order; the same rows give the same digest."""
    seconds: float


class LakeFile(NamedTuple):
    """One finished Parquet file."""

    name: str
    rows: int
    bytes: int
    sha256: str
    changed: bool


def write_days(
    root: Path, table: str, window: DayWindow, batches: pa.RecordBatchReader, progress: Progress
) -> LakeReport:
    """Write the files of every day in `window` from batches that are ordered by their column `day` (date32).

    Each day is switched when it is complete, so a failure leaves every day old or new and whole; days without rows lose
    their file. Memory is bounded by two batches and one row group, whatever the number of rows. Raises ExportError
    where the disk refuses.
    """
    started = perf_counter()
    position = batches.schema.get_field_index("day")
    with _writing(root, table) as writer, closing(_read_ahead(batches)) as ahead:
        for batch in ahead:
            rows, sizes = batch.remove_column(position), _text_bytes(batch)
            for day, start, length in _runs(batch.column(position)):
                if not window.start <= day < window.end:
                    raise ExportError(
                        f"table {table}: a row of {day} came in the window {window.start} to {window.end}."
                    )
                writer.write(f"day={day}/{FILE_NAME}", rows.slice(start, length), sizes[start : start + length])
            progress(batch.num_rows)
        files = writer.finish()
        removed = _remove_empty_days(root / table, window, {file.name for file in files})
    return _report(table, files, removed, started)


def write_whole(root: Path, table: str, batches: pa.RecordBatchReader, progress: Progress) -> LakeReport:
    """Write a dimension as one file. Otherwise as `write_days`."""
    started = perf_counter()
    with _writing(root, table) as writer, closing(_read_ahead(batches)) as ahead:
        for batch in ahead:
            writer.write(FILE_NAME, batch, _text_bytes(batch))
            progress(batch.num_rows)
        files = writer.finish()
        removed = 0 if files else _remove(root / table / FILE_NAME)
    return _report(table, files, removed, started)


def lake_files(root: Path, table: str) -> list[Path]:
    """Return the Parquet files of a table in order of their days."""
    folder = root / table
    return sorted(folder.glob(FILE_NAME if table in DIMENSIONS else f"day=*/{FILE_NAME}"))


@contextmanager
def reading(root: Path) -> Iterator[None]:
    """Keep every table as it is while reading the lake: writers wait, other readers don't."""
    with ExitStack() as stack:
        for table in TABLES:
            stack.enter_context(locked(root / table / ".lock", shared=True))
        yield


@contextmanager
def _writing(root: Path, table: str) -> Iterator[_TableWriter]:
    folder = root / table
    with locked(folder / ".lock"):
        temporary = folder / ".writing"
        try:
            shutil.rmtree(temporary, ignore_errors=True)  # of an export that was killed
            temporary.mkdir()
            with ThreadPoolExecutor(_FLUSHERS, thread_name_prefix="lake-flush") as flushers:
                yield _TableWriter(folder, temporary, flushers)
        except OSError as error:
            raise ExportError(
                f"table {table} can't be written under {folder}: {error}. Days already switched are whole and the "
                "others as before; mend the disk and export again."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


class _TableWriter:
    """Collects the rows of one file after the other and hands finished files to the flushers."""

    def __init__(self, folder: Path, temporary: Path, flushers: ThreadPoolExecutor) -> None:
        self._folder = folder
        self._temporary = temporary
        self._flushers = flushers
        self._name: str | None = None
        self._open: Any = None
        self._rows = 0
        self._group: list[pa.RecordBatch] = []
        self._group_rows = 0
        self._group_bytes = 0
        self._finished: list[Future[LakeFile]] = []

    def write(self, name: str, rows: pa.RecordBatch, sizes: npt.NDArray[np.int64]) -> None:
        """Append rows, with the bytes of their texts, to the file `name`; another name than before closes that file."""
        if name != self._name:
            self._close()
            self._name = name
        while rows.num_rows:
            length, size = self._fitting(sizes)
            self._group.append(rows.slice(0, length))
            self._group_rows += length
            self._group_bytes += size
            rows, sizes = rows.slice(length), sizes[length:]
            if rows.num_rows:
                self._flush_group()

    def _fitting(self, sizes: npt.NDArray[np.int64]) -> tuple[int, int]:
        """Return how many of the next rows fit the open row group (which takes at least one), and their bytes.

        Counted row by row, because the cut must depend on the rows alone.
        """
        ends = np.cumsum(sizes[: _GROUP_ROWS - self._group_rows])
        length = int(np.searchsorted(ends, _GROUP_BYTES - self._group_bytes, side="right"))
        if length == 0 and self._group_rows == 0:
            length = 1
        return length, int(ends[length - 1]) if length else 0

    def finish(self) -> list[LakeFile]:
        """Close the last file and return all of them once each is durable and in place."""
        self._close()
        files = [pending.result() for pending in self._finished]
        flush(self._folder)
        return files

    def _flush_group(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._group:
            return
        # One chunk per group: where the batches happened to end must not show in the bytes.
        group = pa.Table.from_batches(self._group).combine_chunks().replace_schema_metadata(None)
        if self._open is None:
            self._open = pq.ParquetWriter(
                self._path(),
                group.schema,
                compression="zstd",
                compression_level=_LEVEL,
                use_dictionary=[name for name in group.column_names if name in _DICTIONARY],
            )
        self._open.write_table(group, row_group_size=_GROUP_ROWS)
        self._rows += self._group_rows
        self._group, self._group_rows, self._group_bytes = [], 0, 0

    def _close(self) -> None:
        self._flush_group()
        if self._open is None or self._name is None:
            return
        self._open.close()
        self._finished.append(
            self._flushers.submit(_switch, self._path(), self._folder / self._name, self._name, self._rows)
        )
        self._open, self._rows = None, 0

    def _path(self) -> Path:
        assert self._name is not None
        return self._temporary / self._name.replace("/", "_")


def _switch(temporary: Path, target: Path, name: str, rows: int) -> LakeFile:
    size, digest = temporary.stat().st_size, sha256_of(temporary)
    same = target.exists() and target.stat().st_size == size and sha256_of(target) == digest
    if same:
        temporary.unlink()
    else:
        flush(temporary)
        target.parent.mkdir(exist_ok=True)
        os.replace(temporary, target)
        flush(target.parent)
    return LakeFile(name, rows, size, digest, changed=not same)


def _text_bytes(rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return the bytes of text and binary values in each row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sizes = np.zeros(rows.num_rows, dtype=np.int64)
    for column in rows.columns:
        storage = column.storage if isinstance(column, pa.ExtensionArray) else column
        if pa.types.is_string(storage.type) or pa.types.is_binary(storage.type):
            sizes += pc.fill_null(pc.binary_length(storage), 0).to_numpy(zero_copy_only=False)
    return sizes


def _runs(days: pa.Array) -> Iterator[tuple[date, int, int]]:
    """Yield (day, start, length) for each run of equal days."""
    numbers = days.cast("int32").to_numpy()
    starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for start, end in pairwise(starts):
        if end > start:
            yield _EPOCH + timedelta(days=int(numbers[start])), start, end - start


def _read_ahead(batches: pa.RecordBatchReader) -> Generator[pa.RecordBatch]:
    """Yield the batches, with the next one on its way while this one is worked on. Close it before `batches`."""
    with ThreadPoolExecutor(1, thread_name_prefix="lake-read") as reader:
        pending = reader.submit(next, batches, None)
        while (batch := pending.result()) is not None:
            pending = reader.submit(next, batches, None)
            yield batch


def _remove_empty_days(folder: Path, window: DayWindow, kept: set[str]) -> int:
    removed = 0
    for file in folder.glob(f"day=*/{FILE_NAME}"):
        name = f"{file.parent.name}/{FILE_NAME}"
        day = date.fromisoformat(file.parent.name.removeprefix("day="))
        if window.start <= day < window.end and name not in kept:
            removed += _remove(file)
            file.parent.rmdir()
    if removed:
        flush(folder)
    return removed


def _remove(file: Path) -> int:
    if not file.exists():
        return 0
    file.unlink()
    flush(file.parent)
    return 1


def _report(table: str, files: list[LakeFile], removed: int, started: float) -> LakeReport:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {file.sha256}\n".encode())
    return LakeReport(
        table=table,
        rows=sum(file.rows for file in files),
        days=len(files),
        written=sum(file.changed for file in files),
        removed=removed,
        bytes=sum(file.bytes for file in files),
        digest=digest.hexdigest(),
        seconds=perf_counter() - started,
    )


def require_table(table: str, known: tuple[str, ...]) -> None:
    """Raise unless `table` is one of `known`."""
    if table not in known:
        raise MemoryPipelineError(f"there is no lake table {table!r}; there are {', '.join(known)}.")


def rows_in(paths: list[str]) -> int:
    """Return the number of rows of some Parquet files, from their footers."""
    import pyarrow.parquet as pq

    return sum(int(pq.read_metadata(path).num_rows) for path in paths)

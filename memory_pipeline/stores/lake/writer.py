"""Writes the Parquet files of one table from streamed batches, aside, to be put in place by `switch`.

The same rows give the same bytes, whatever batches they come in, so a file whose rows are unchanged is left alone, and
digests can be compared over time and between machines (under one version of pyarrow).
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from memory_pipeline.model.errors import ExportError
from memory_pipeline.model.window import DayWindow, Progress
from memory_pipeline.stores.files import flush, sha256_of
from memory_pipeline.stores.lake.tables import file_name, staged_name

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

_GROUP_ROWS = 122_880  # DuckDB's own row group
_GROUP_BYTES = 64 << 20
_FLUSHERS = 8  # an fsync is waiting, not work
# Of ids, texts and hashes the least and the greatest value say nothing that would spare a reader a row group.
_WITHOUT_RANGE = frozenset({"content", "content_hash", "statement", "raw_data", "detail", "message_id", "memory_id"})
_EPOCH = date(1970, 1, 1)
# Columns that repeat; for the others a dictionary is built only to be thrown away.
_DICTIONARY = frozenset(
    {
        *("tenant_id", "user_id", "source", "role", "kind", "status", "predicate", "enricher", "project", "detector"),
        *("job_type", "state", "error_class", "actor", "store", "problem", "audit_id"),
        *("what", "channel", "plugin", "model"),
    }
)


class LakeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one export of one table found and changed."""

    table: str
    rows: int
    """In the days that were asked for."""
    days: int
    """Files that hold these rows: non-empty days, or 1 for a dimension."""
    stale: int
    """Files that had to be read again, days that were not asked for but had changed since included."""
    written: int
    """Files whose bytes changed; the others were left as they were."""
    removed: int
    """Files of days that have no rows any more."""
    bytes: int
    digest: str
    """SHA-256 over the names and SHA-256 of the files, in order; the same rows give the same digest."""
    seconds: float


class StagedFile(NamedTuple):
    """One finished Parquet file."""

    name: str
    rows: int
    bytes: int
    sha256: str
    changed: bool


@contextmanager
def writing(folder: Path, staging: Path) -> Iterator[TableWriter]:
    """Write files of the table in `folder` into `staging`; those that turn out the same are not kept."""
    staging.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_FLUSHERS, thread_name_prefix="lake-flush") as flushers:
        yield TableWriter(folder, staging, flushers)


def write_days(
    writer: TableWriter,
    table: str,
    window: DayWindow,
    days: Collection[date],
    batches: pa.RecordBatchReader,
    progress: Progress,
) -> None:
    """Write the files of `days` from batches of a whole `window` that are ordered by their column `day` (date32).

    Memory is bounded by two batches and one row group, whatever the number of rows.
    """
    position = batches.schema.get_field_index("day")
    with closing(_read_ahead(batches)) as ahead:
        for batch in ahead:
            rows, sizes = batch.remove_column(position), _text_bytes(batch)
            for day, start, length in _runs(batch.column(position)):
                if not window.start <= day < window.end:
                    raise ExportError(
                        f"table {table}: a row of {day} came in the window {window.start} to {window.end}."
                    )
                if day in days:
                    writer.write(file_name(day), rows.slice(start, length), sizes[start : start + length])
            progress(batch.num_rows)


def write_whole(writer: TableWriter, batches: pa.RecordBatchReader, progress: Progress) -> None:
    """Write a dimension as one file."""
    with closing(_read_ahead(batches)) as ahead:
        for batch in ahead:
            writer.write(file_name(None), batch, _text_bytes(batch))
            progress(batch.num_rows)


class TableWriter:
    """Collects the rows of one file after the other and hands finished files to the flushers."""

    def __init__(self, folder: Path, staging: Path, flushers: ThreadPoolExecutor) -> None:
        self._folder = folder
        self._staging = staging
        self._flushers = flushers
        self._name: str | None = None
        self._open: Any = None
        self._rows = 0
        self._group: list[pa.RecordBatch] = []
        self._group_rows = 0
        self._group_bytes = 0
        self._finished: list[Future[StagedFile]] = []

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

    def finish(self) -> list[StagedFile]:
        """Close the last file and return all of them once each is durable."""
        self._close()
        return [pending.result() for pending in self._finished]

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
                compression="snappy",
                use_dictionary=[name for name in group.column_names if name in _DICTIONARY],
                write_statistics=[name for name in group.column_names if name not in _WITHOUT_RANGE],
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
            self._flushers.submit(_finish, self._path(), self._folder / self._name, self._name, self._rows)
        )
        self._open, self._rows = None, 0

    def _path(self) -> Path:
        assert self._name is not None
        return self._staging / staged_name(self._name)


def _finish(staged: Path, served: Path, name: str, rows: int) -> StagedFile:
    size, digest = staged.stat().st_size, sha256_of(staged)
    same = served.exists() and served.stat().st_size == size and sha256_of(served) == digest
    if same:
        staged.unlink()
    else:
        staged.chmod(0o644)  # the folder of the lake says who may read it, whatever the umask
        flush(staged)
    return StagedFile(name, rows, size, digest, changed=not same)


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

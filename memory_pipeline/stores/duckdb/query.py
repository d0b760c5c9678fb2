"""Answers SQL over a published file: read-only, without access to any file, and bounded in time, rows and memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Timer
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from memory_pipeline.model.errors import ExportError, MemoryPipelineError, QueryTimeoutError
from memory_pipeline.stores.duckdb.refusals import not_a_read, not_answered, not_one_statement, not_permitted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MEMORY_LIMIT = "1GB"
"""Of DuckDB's buffers, for all queries of a process over one file."""
MAX_BYTES = 256 * 1024 * 1024
_BATCH_ROWS = 2048  # as many as DuckDB makes at once: a batch of long texts stays small
_CONNECTING = Lock()
_EXPLAIN = re.compile(
    r"\s*EXPLAIN\b(\s+ANALYZE\b|\s*\(\s*(ANALYZE|FORMAT\s+\w+)(\s*,\s*(ANALYZE|FORMAT\s+\w+))*\s*\))?", re.IGNORECASE
)


class QueryResult(msgspec.Struct, frozen=True):
    """An answer, with the types DuckDB gave its columns."""

    table: pa.Table
    truncated: bool
    """True where there were more rows than asked for."""

    @property
    def columns(self) -> list[str]:
        return list(self.table.column_names)

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        if not self.table.num_columns:
            return []
        return list(zip(*(python_values(column) for column in self.table.columns), strict=True))


class Answer(NamedTuple):
    """An answer that is read while DuckDB makes it."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


class FirstRows:
    """The batches up to a number of rows; None: all. Once read, `truncated` says whether there were more."""

    def __init__(self, batches: Iterable[pa.RecordBatch], max_rows: int | None) -> None:
        self.truncated = False
        self._batches = batches
        self._max_rows = max_rows

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        left = self._max_rows
        for batch in self._batches:
            if left is None or batch.num_rows <= left:
                yield batch
                left = None if left is None else left - batch.num_rows
            else:
                self.truncated = True
                if left:
                    yield batch.slice(0, left)
                return


def query(
    path: Path,
    statement: str,
    parameters: Mapping[str, object] | None = None,
    *,
    max_rows: int | None = 10_000,
    max_bytes: int = MAX_BYTES,
    timeout_seconds: float | None = 60.0,
    threads: int | None = None,
) -> QueryResult:
    """Run one SELECT (or DESCRIBE, SHOW, SUMMARIZE, EXPLAIN) over the file and return at most `max_rows` rows.

    `parameters` are the values of `$name` in the statement; DuckDB then makes the whole answer before the first row of
    it is read, so the statement itself has to be bounded. Raises as `answering` does, and MemoryPipelineError where
    the rows take more than `max_bytes`.

    The time-out is DuckDB's interrupt, which a single function over a huge value does not notice: for statements that
    anybody may write there is `query_process`.
    """
    import pyarrow as pa

    with answering(path, statement, parameters, timeout_seconds=timeout_seconds, threads=threads) as answer:
        first = FirstRows(answer.batches, max_rows)
        batches, size = [], 0
        for batch in first:
            size += batch.nbytes
            if size > max_bytes:
                raise MemoryPipelineError(
                    f"the answer takes more than {max_bytes / 2**20:g} MiB, which is too much to hold at once: ask for "
                    "fewer rows or columns, or for csv, json or parquet, which are written as they are read."
                )
            batches.append(batch)
        return QueryResult(pa.Table.from_batches(batches, answer.schema), first.truncated)


@contextmanager
def answering(
    path: Path,
    statement: str,
    parameters: Mapping[str, object] | None = None,
    *,
    timeout_seconds: float | None,
    threads: int | None = None,
) -> Iterator[Answer]:
    """Run one read over the file and give its rows, batch by batch; to be read before the block ends.

    `threads` is how many DuckDB takes (None: one for each core); the same for all queries of a process over one file.

    Writing, attaching, loading extensions, settings and reading or writing files are refused. Raises
    MemoryPipelineError with a sentence for what is refused or wrong, QueryTimeoutError where the block is not left
    after `timeout_seconds` (None: never), ExportError where the file is not there any more.
    """
    import duckdb

    stopped = Event()

    def sentence(error: Exception) -> MemoryPipelineError:
        if stopped.is_set():
            return timed_out(timeout_seconds or 0.0)
        return _sentence(error)

    try:
        connection = _connect(path, threads)
    except duckdb.Error as error:
        if not path.exists():
            raise ExportError(f"{path} is not there any more: a newer export took its place. Ask again.") from error
        raise sentence(error) from error
    with connection, _interrupting(connection, timeout_seconds, stopped):
        try:
            reader = _start(connection, _single_read(connection, statement), parameters)
        except (duckdb.Error, MemoryError) as error:
            raise sentence(error) from error

        def batches() -> Iterator[pa.RecordBatch]:
            import pyarrow as pa

            while True:
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    return
                except (duckdb.Error, OSError, pa.ArrowException, MemoryError) as error:
                    raise sentence(error) from error  # what DuckDB meets on the way comes as an error of Arrow
                yield batch

        yield Answer(reader.schema, batches())


def timed_out(timeout_seconds: float) -> QueryTimeoutError:
    return QueryTimeoutError(
        f"the query took longer than {timeout_seconds:g} s and was stopped; narrow it, or allow it more time."
    )


def too_much_memory() -> MemoryPipelineError:
    return MemoryPipelineError(
        f"the query needs more memory than it may have ({MEMORY_LIMIT} in DuckDB): filter or group first, ask for "
        "shorter values, or open the file with DuckDB itself."
    )


def python_values(column: pa.ChunkedArray | pa.Array) -> list[Any]:
    """Return the values of a column, intervals as text."""
    import pyarrow as pa

    values: list[Any] = column.to_pylist()
    if not pa.types.is_interval(column.type):
        return values
    return [None if value is None else _interval_text(*value) for value in values]


def _connect(path: Path, threads: int | None = None) -> duckdb.DuckDBPyConnection:
    import duckdb

    # Resolved, so that a switch of the link between two looks can't mix two generations. Spilling is off: the only
    # folder DuckDB would spill to is that of the exports.
    config: dict[str, Any] = {
        "enable_external_access": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
        "temp_directory": "",
        "memory_limit": MEMORY_LIMIT,
    }
    if threads is not None:
        config["threads"] = threads
    # Connections of one process to one file share one instance of DuckDB, and so what the first of them locked.
    with _CONNECTING:
        connection = duckdb.connect(str(path.resolve()), read_only=True, config=config)
        if not connection.execute("SELECT current_setting('lock_configuration')").fetchall()[0][0]:
            connection.execute("SET GLOBAL TimeZone = 'UTC'")
            # DuckDB takes `python -c` for a terminal, and would draw it on standard output, into the answer.
            connection.execute("SET SESSION enable_progress_bar = false")
            # Without external access DuckDB still opens the database's own file, and its .wal, for whatever statement
            # asks, for writing too. It has them open by now and needs no other.
            connection.execute("SET GLOBAL disabled_filesystems = 'LocalFileSystem'")
            connection.execute("SET GLOBAL lock_configuration = true")
    return connection


def _start(
    connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement, parameters: Mapping[str, object] | None
) -> pa.RecordBatchReader:
    return connection.sql(statement, params=parameters).to_arrow_reader(_BATCH_ROWS)


@contextmanager
def _interrupting(
    connection: duckdb.DuckDBPyConnection, timeout_seconds: float | None, stopped: Event
) -> Iterator[None]:
    if timeout_seconds is None:
        yield
        return

    def stop() -> None:
        stopped.set()
        connection.interrupt()

    timer = Timer(timeout_seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _single_read(connection: duckdb.DuckDBPyConnection, statement: str) -> duckdb.Statement:
    from duckdb import StatementType

    found = _single_statement(connection, statement)
    read, explained = found, statement
    if found.type == StatementType.EXPLAIN:
        # EXPLAIN ANALYZE runs what it explains, so that has to be a read too.
        prefix = _EXPLAIN.match(statement)
        if prefix is None:
            raise MemoryPipelineError(
                "refused: what this EXPLAIN explains was not understood. Write EXPLAIN, EXPLAIN ANALYZE or "
                "EXPLAIN (FORMAT json) right before a SELECT."
            )
        explained = statement[prefix.end() :]
        read = _single_statement(connection, explained)
    if read.type == StatementType.MULTI:
        raise MemoryPipelineError(
            "refused: a PIVOT that looks for its columns itself would first create a type, and the exported file is "
            "read-only. Name the columns: PIVOT … ON role IN ('user', 'assistant') USING count(*)."
        )
    if read.type != StatementType.SELECT:
        raise not_a_read(read.type.name, explained)
    return found


def _single_statement(connection: duckdb.DuckDBPyConnection, statement: str) -> duckdb.Statement:
    statements = connection.extract_statements(statement)
    if len(statements) != 1:
        raise not_one_statement(len(statements))
    return statements[0]


def _sentence(error: Exception) -> MemoryPipelineError:
    import duckdb

    text = str(error).strip()
    if isinstance(error, duckdb.PermissionException) or text.startswith("Permission Error"):
        return not_permitted(text.splitlines()[0])
    if isinstance(error, MemoryError | duckdb.OutOfMemoryException) or text.startswith("Out of Memory Error"):
        return too_much_memory()
    return not_answered(text or type(error).__name__)


def _interval_text(months: int, days: int, nanoseconds: int) -> str:
    parts = ((months, "months"), (days, "days"), (nanoseconds / 1e9, "seconds"))
    return " ".join(f"{amount:.15g} {unit}" for amount, unit in parts if amount) or "0 seconds"

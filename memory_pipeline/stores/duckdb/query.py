"""Answers SQL over a published file: read-only, without access to other files, and bounded in time and rows."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event, Lock, Timer
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import msgspec

from memory_pipeline.model.errors import MemoryPipelineError, QueryTimeoutError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Format = Literal["table", "csv", "json", "parquet"]
FORMATS: tuple[Format, ...] = ("table", "csv", "json", "parquet")
_BATCH_ROWS = 10_000
_CONNECTING = Lock()


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
        return list(zip(*(_values(column) for column in self.table.columns), strict=True))


def query(
    path: Path,
    statement: str,
    parameters: Mapping[str, object] | None = None,
    *,
    max_rows: int | None = 10_000,
    timeout_seconds: float = 60.0,
) -> QueryResult:
    """Run one SELECT (or DESCRIBE, SHOW, SUMMARIZE, EXPLAIN) over the file and return at most `max_rows` rows.

    `parameters` are the values of `$name` in the statement; DuckDB then makes the whole answer before the first row of
    it is read, so the statement itself has to be bounded. Writing, attaching, loading extensions, settings and reading
    or writing other files are refused. Raises MemoryPipelineError with a sentence for what is refused or wrong,
    QueryTimeoutError for what takes longer than `timeout_seconds`.
    """
    import duckdb

    stopped = Event()
    try:
        with _connect(path) as connection:
            parsed = _single_read(connection, statement)

            def stop() -> None:
                stopped.set()
                connection.interrupt()

            timer = Timer(timeout_seconds, stop)
            timer.daemon = True
            timer.start()
            try:
                return _fetch(connection, parsed, parameters, max_rows)
            finally:
                timer.cancel()
    except duckdb.PermissionException as error:
        raise MemoryPipelineError(
            f"refused: a query may read the exported tables and nothing else ({_first_line(error)})."
        ) from error
    except duckdb.Error as error:
        if stopped.is_set():
            raise QueryTimeoutError(
                f"the query took longer than {timeout_seconds:g} s and was stopped; narrow it, or allow it more time."
            ) from error
        raise MemoryPipelineError(f"the query can't be answered: {str(error).strip()}") from error


def write_result(result: QueryResult, format_: Format, stream: BinaryIO) -> None:
    """Write the answer to a binary stream, in UTF-8 where it is text.

    `table` is for people, `csv` has a header, `json` is one array of objects (both show bytes as hexadecimal digits),
    `parquet` keeps the types.
    """
    writers: dict[Format, Callable[[QueryResult, BinaryIO], None]] = {
        "table": _write_table,
        "csv": _write_csv,
        "json": _write_json,
        "parquet": _write_parquet,
    }
    writers[format_](result, stream)


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    import duckdb

    # Resolved, so that a switch of the link between two looks can't mix two generations. Spilling is off: the only
    # folder DuckDB would spill to is that of the exports.
    config: dict[str, Any] = {
        "enable_external_access": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
        "temp_directory": "",
    }
    # Connections of one process to one file share one instance of DuckDB, and so what the first of them locked.
    with _CONNECTING:
        connection = duckdb.connect(str(path.resolve()), read_only=True, config=config)
        if not connection.execute("SELECT current_setting('lock_configuration')").fetchall()[0][0]:
            connection.execute("SET GLOBAL TimeZone = 'UTC'")
            connection.execute("SET GLOBAL lock_configuration = true")
    return connection


def _single_read(connection: duckdb.DuckDBPyConnection, statement: str) -> duckdb.Statement:
    from duckdb import StatementType

    statements = connection.extract_statements(statement)
    if len(statements) != 1:
        raise MemoryPipelineError(f"one statement at a time, please; these are {len(statements)}.")
    kind = statements[0].type
    if kind not in (StatementType.SELECT, StatementType.EXPLAIN):
        raise MemoryPipelineError(
            f"refused: {kind.name.replace('_', ' ')} is not a read. The exported file is read-only; use SELECT, "
            "DESCRIBE, SHOW, SUMMARIZE or EXPLAIN."
        )
    return statements[0]


def _fetch(
    connection: duckdb.DuckDBPyConnection,
    statement: duckdb.Statement,
    parameters: Mapping[str, object] | None,
    max_rows: int | None,
) -> QueryResult:
    import pyarrow as pa

    found = connection.sql(statement, params=parameters)
    reader: pa.RecordBatchReader = found.to_arrow_reader(_BATCH_ROWS)
    schema, batches, rows = reader.schema, [], 0
    for batch in reader:
        batches.append(batch)
        rows += batch.num_rows
        if max_rows is not None and rows > max_rows:
            break
    table = pa.Table.from_batches(batches, schema)
    truncated = max_rows is not None and rows > max_rows
    return QueryResult(table.slice(0, max_rows) if truncated else table, truncated)


def _values(column: pa.ChunkedArray) -> list[Any]:
    import pyarrow as pa

    values: list[Any] = column.to_pylist()
    if not pa.types.is_interval(column.type):
        return values
    return [None if value is None else _interval_text(*value) for value in values]


def _interval_text(months: int, days: int, nanoseconds: int) -> str:
    parts = ((months, "months"), (days, "days"), (nanoseconds / 1e9, "seconds"))
    return " ".join(f"{amount:.15g} {unit}" for amount, unit in parts if amount) or "0 seconds"


def _write_table(result: QueryResult, stream: BinaryIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for field in result.table.schema:
        drawn.add_column(Text(field.name), justify="right" if _is_number(field.type) else "left", overflow="fold")
    for row in result.rows:
        drawn.add_row(*(Text(_as_text(value)) for value in row))
    text = io.StringIO()
    Console(file=text, width=_terminal_width()).print(drawn)
    stream.write(text.getvalue().encode())
    note = "first " if result.truncated else ""
    stream.write(f"({note}{result.table.num_rows} row{'' if result.table.num_rows == 1 else 's'})\n".encode())


def _write_csv(result: QueryResult, stream: BinaryIO) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(result.columns)
    writer.writerows([None if value is None else _as_text(value) for value in row] for row in result.rows)
    stream.write(text.getvalue().encode())


def _write_json(result: QueryResult, stream: BinaryIO) -> None:
    records = [
        {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in zip(result.columns, row, strict=True)
        }
        for row in result.rows
    ]
    encoder = msgspec.json.Encoder(enc_hook=str, decimal_format="number")
    stream.write(msgspec.json.format(encoder.encode(records), indent=2) + b"\n")


def _write_parquet(result: QueryResult, stream: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = result.table
    for position, field in enumerate(table.schema):
        if pa.types.is_interval(field.type):  # has no Parquet form
            table = table.set_column(position, field.name, pa.array(_values(table.column(position)), pa.string()))
    pq.write_table(table, stream, compression="zstd")


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict | list):
        return msgspec.json.encode(value, enc_hook=str).decode()
    return str(value)


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size((160, 24)).columns if sys.stdout.isatty() else 160


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]

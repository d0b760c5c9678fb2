"""Writes answers of queries: for people as a table, for programs as CSV, JSON or Parquet, batch by batch."""

from __future__ import annotations

import csv
import io
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import msgspec

from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.stores.duckdb.query import QueryResult, python_values
from memory_pipeline.terminal import visible

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["table", "csv", "json", "parquet"]
StreamedFormat = Literal["csv", "json", "parquet"]
_GROUP_ROWS = 122_880  # of a row group of Parquet, or so many bytes
_GROUP_BYTES = 64 * 1024 * 1024


def write_result(result: QueryResult, format_: Format, stream: BinaryIO, *, width: int | None = None) -> None:
    """Write a whole answer to a binary stream, in UTF-8 where it is text.

    `table` is for people and `width` characters wide, as wide as the terminal where that is None; control characters
    are shown, not sent. For the other formats, same names and errors see `write_batches`.
    """
    if format_ == "table":
        with _writable(format_):
            _write_table(result, stream, width or terminal_width())
    else:
        write_batches(result.table.schema, result.table.to_batches(), format_, stream)


def write_batches(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], format_: StreamedFormat, stream: BinaryIO
) -> None:
    """Write rows while they are read, holding little more than a batch of them.

    `csv` has a header, `json` is one array of objects (both show bytes as hexadecimal digits; JSON has null for numbers
    that are not finite), `parquet` keeps the types. Columns of one name are numbered: `day`, `day_1`. Raises
    MemoryPipelineError for a value that the format has no form for.
    """
    writers: dict[StreamedFormat, Callable[[pa.Schema, Iterable[pa.RecordBatch], BinaryIO], None]] = {
        "csv": _write_csv,
        "json": _write_json,
        "parquet": _write_parquet,
    }
    names = _distinct(schema.names)
    with _writable(format_):
        if names == schema.names:
            writers[format_](schema, batches, stream)
        else:
            renamed = (batch.rename_columns(names) for batch in batches)
            writers[format_](_renamed(schema, names), renamed, stream)


@contextmanager
def _writable(format_: Format) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except MemoryError:
        raise
    except (ArithmeticError, ValueError, pa.ArrowException) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise MemoryPipelineError(
            f"the answer can't be written as {format_}: a value in it has no form there ({reason}). "
            "Ask for text instead: CAST(… AS VARCHAR)."
        ) from error


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names, those that were there before with a number: no column may hide another in a JSON object."""
    taken, distinct = set(names), list[str]()
    for name in names:
        new, number = name, 0
        while new in distinct or (number and new in taken):
            number += 1
            new = f"{name}_{number}"
        distinct.append(new)
    return distinct


def _renamed(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [field.with_name(name) for field, name in zip(schema, names, strict=True)], metadata=schema.metadata
    )


def terminal_width() -> int:
    """Return the width of the terminal; 160 where there is none."""
    return shutil.get_terminal_size((160, 24)).columns if sys.stdout.isatty() else 160


def _write_table(result: QueryResult, stream: BinaryIO, width: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False)
    schema = result.table.schema
    for field, name in zip(schema, _distinct(schema.names), strict=True):
        drawn.add_column(Text(visible(name)), justify="right" if _is_number(field.type) else "left", overflow="fold")
    for row in result.rows:
        drawn.add_row(*(Text(visible(_as_text(value))) for value in row))
    text = io.StringIO()
    Console(file=text, width=width).print(drawn)
    stream.write(text.getvalue().encode())
    note = "first " if result.truncated else ""
    stream.write(f"({note}{result.table.num_rows} row{'' if result.table.num_rows == 1 else 's'})\n".encode())


def _write_csv(schema: pa.Schema, batches: Iterable[pa.RecordBatch], stream: BinaryIO) -> None:
    def lines(rows: Iterable[Iterable[str | None]]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()

    stream.write(lines([schema.names]))
    for batch in batches:
        stream.write(lines([None if value is None else _as_text(value) for value in row] for row in _rows(batch)))


def _write_json(schema: pa.Schema, batches: Iterable[pa.RecordBatch], stream: BinaryIO) -> None:
    encoder = msgspec.json.Encoder(enc_hook=str, decimal_format="number")
    between = b"[\n"
    for batch in batches:
        records = [
            {
                name: value.hex() if isinstance(value, bytes) else value
                for name, value in zip(schema.names, row, strict=True)
            }
            for row in _rows(batch)
        ]
        if records:
            array = msgspec.json.format(encoder.encode(records), indent=2)
            stream.write(between + array.removeprefix(b"[\n").removesuffix(b"\n]"))
            between = b",\n"
    stream.write(b"[]\n" if between == b"[\n" else b"\n]\n")


def _write_parquet(schema: pa.Schema, batches: Iterable[pa.RecordBatch], stream: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def storable(table: pa.Table) -> pa.Table:
        for position, field in enumerate(table.schema):
            if pa.types.is_interval(field.type):  # has no Parquet form
                texts = pa.array(python_values(table.column(position)), pa.string())
                table = table.set_column(position, field.name, texts)
        return table

    with pq.ParquetWriter(stream, storable(schema.empty_table()).schema, compression="zstd") as writer:
        for group in _groups(batches):
            writer.write_table(storable(pa.Table.from_batches(group, schema)))


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    group: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        group.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
            yield group
            group, rows, size = [], 0, 0
    if group:
        yield group


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    return zip(*(python_values(column) for column in batch.columns), strict=True)


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

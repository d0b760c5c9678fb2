"""The published file from outside: plain DuckDB, pandas, Polars and Arrow see the same tables with the same rows."""

from __future__ import annotations

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from memory_pipeline.stores.duckdb.generations import manifest_of
from memory_pipeline_tests.stores.duckdb.conftest import SampleExport

pytestmark = pytest.mark.xdist_group("sample_export")


@pytest.fixture(scope="module")
def rows(sample_export: SampleExport) -> dict[str, int]:
    """Rows of every table, as the manifest beside the file says."""
    return {table: summary.rows for table, summary in manifest_of(sample_export.path).tables.items()}


def test_plain_duckdb_opens_it_read_only_and_finds_the_rows_of_its_manifest(
    sample_export: SampleExport, rows: dict[str, int]
) -> None:
    assert rows["messages"] == 1710
    with duckdb.connect(str(sample_export.path), read_only=True) as connection:
        assert {table: connection.table(table).shape[0] for table in rows} == rows
        with pytest.raises(duckdb.InvalidInputException, match="read-only"):
            connection.execute("DELETE FROM messages")


# DuckDB's own conversion still says what pandas 3.1 deprecates.
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.drop")
def test_pandas_gets_every_row(sample_export: SampleExport, rows: dict[str, int]) -> None:
    with duckdb.connect(str(sample_export.path), read_only=True) as connection:
        assert {table: len(connection.table(table).df()) for table in rows} == rows


def test_polars_gets_every_row(sample_export: SampleExport, rows: dict[str, int]) -> None:
    with duckdb.connect(str(sample_export.path), read_only=True) as connection:
        frames = {table: connection.table(table).pl() for table in rows}
    assert {table: frame.height for table, frame in frames.items()} == rows
    assert frames["messages"].schema["day"] == pl.Date
    assert frames["mart_daily_activity"]["messages"].sum() == rows["messages"]


def test_arrow_gets_every_row_and_the_types(sample_export: SampleExport, rows: dict[str, int]) -> None:
    with duckdb.connect(str(sample_export.path), read_only=True) as connection:
        tables = {table: connection.table(table).to_arrow_table() for table in rows}
    assert {table: found.num_rows for table, found in tables.items()} == rows
    messages = tables["messages"].schema
    assert (messages.field("day").type, messages.field("position").type) == (pa.date32(), pa.int64())
    assert pa.types.is_timestamp(messages.field("sent_at").type)

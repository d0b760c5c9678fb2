"""docs/analyst-guide.md: as the code generates it, true of real files, and its examples run."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from memory_pipeline.stores import lake
from memory_pipeline_tests.stores.duckdb.analyst_guide import (
    ANEW,
    COMMAND,
    DAY,
    FROM_DAY,
    GUIDE,
    HOUR,
    LEFT_OUT,
    PSEUDONYM,
    UNLESS_KNOWN,
    described_tables,
    masked_columns,
    write_guide,
)
from memory_pipeline_tests.stores.duckdb.conftest import SampleExport

_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_the_guide_is_what_the_code_generates() -> None:
    assert GUIDE.read_text(encoding="utf-8") == write_guide(), f"write it anew: {COMMAND}"


def test_every_table_and_column_of_a_published_file_is_explained(sample_export: SampleExport) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE))
    for table, described in described_tables(sample_export.path).items():
        assert described.comment in sections[table], table
        explained = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", sections[table], re.MULTILINE))
        assert explained == {column.name: column.comment for column in described.columns}, table


# DuckDB's own conversion still says what pandas 3.1 deprecates.
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.drop")
def test_the_python_of_the_guide_runs(sample_export: SampleExport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sample_export.path.parent)
    plain, pandas, polars = _BLOCK.findall(GUIDE.read_text(encoding="utf-8"))
    assert sum(messages for _, messages in _run(plain)["days"]) == 1710
    assert _run(pandas)["by_tenant"].to_dict() == {"parlando": 530, "tavola": 674, "wayfarer": 506}
    assert _run(polars)["activity"]["messages"].sum() == 1710


def _run(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(block, GUIDE.name, "exec"), names)
    return names


@pytest.mark.parametrize("table", lake.TABLES)
def test_a_masked_file_differs_in_the_columns_that_the_guide_names(sample_export: SampleExport, table: str) -> None:
    masked = masked_columns(table)
    full, other = (_values(path, table) for path in (sample_export.path, sample_export.masked))
    differing = {name for name in full if full[name] != other[name]}
    silent = {name for name, values in full.items() if values <= {None, "", "{}"}}
    assert differing <= masked.keys()
    alike = {name for name, how in masked.items() if how in (UNLESS_KNOWN, ANEW, HOUR)}  # in this sample
    assert masked.keys() <= differing | silent | alike
    for name, how in masked.items():
        if how == LEFT_OUT:
            assert other[name] <= {None, "", "{}"}, name
        elif how == UNLESS_KNOWN:
            assert full[name] == other[name] == {"sample"}, name
        elif how in (HOUR, DAY):
            assert other[name] == {_cut(moment, how) for moment in full[name]}, name
        elif how == PSEUDONYM:
            assert not (full[name] & other[name]) - {None}, name
            assert len({_lower(value) for value in full[name]}) == len(other[name]), name
        else:
            assert how in (ANEW, FROM_DAY), name  # compared row by row in test_masking.py


def _values(path: Path, table: str) -> dict[str, set[object]]:
    """Return the distinct values of every column."""
    with duckdb.connect(str(path), read_only=True) as connection:
        rows = connection.table(table)
        found = rows.fetchall()
        return {name: {_hashable(row[at]) for row in found} for at, name in enumerate(rows.columns)}


def _cut(moment: object, how: str) -> object:
    if not isinstance(moment, datetime):
        return moment
    utc = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return utc if how == HOUR else utc.replace(hour=0)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _hashable(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value

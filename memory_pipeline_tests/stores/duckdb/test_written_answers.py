"""Answers as they are written: every column, nothing that a terminal would obey, a sentence for what can't be."""

from __future__ import annotations

import io
import json
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.stores.duckdb.query import query
from memory_pipeline.stores.duckdb.query_process import write_answer
from memory_pipeline.stores.duckdb.writing import Format, write_result


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with one message, of somebody who knows terminals."""
    path = tmp_path_factory.mktemp("written") / "file.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE messages AS SELECT 'a' || chr(27) || '[2J' || chr(7) || 'b' AS content")
    return path


def written(path: Path, statement: str, format_: Format) -> bytes:
    stream = io.BytesIO()
    write_result(query(path, statement), format_, stream, width=1000)
    return stream.getvalue()


SAME_NAMES = "SELECT 1 AS n, 2 AS n, 3 AS n_1, 4 AS n, 5 AS N"
NAMES = ["n", "n_2", "n_1", "n_3", "N"]


def test_columns_of_one_name_are_numbered_and_all_of_them_written(file: Path) -> None:
    assert json.loads(written(file, SAME_NAMES, "json")) == [dict(zip(NAMES, range(1, 6), strict=True))]
    assert written(file, SAME_NAMES, "csv").decode().splitlines() == [",".join(NAMES), "1,2,3,4,5"]
    assert pq.read_table(io.BytesIO(written(file, SAME_NAMES, "parquet"))).to_pylist() == [
        dict(zip(NAMES, range(1, 6), strict=True))
    ]
    assert written(file, SAME_NAMES, "table").decode().split()[:5] == NAMES
    twice = "SELECT x.range AS day, y.range AS day FROM range(5000) x JOIN range(5000) y USING (range)"
    rows = json.loads(written(file, twice, "json"))
    assert rows == [{"day": n, "day_1": n} for n in range(5000)]


def test_a_table_shows_control_characters_and_does_not_send_them(file: Path) -> None:
    codes = [*range(1, 32), *range(127, 160)]
    text = "||".join(f"chr({code})" for code in codes)
    drawn = written(file, f"""SELECT {text} AS "title\x1b]0;x\x07", ['\x1b[1m'] AS list""", "table").decode()
    assert [code for code in codes if chr(code) in drawn] == [10]  # a tab is drawn as spaces
    assert r"title\x1b]0;x\x07" in drawn
    assert all(rf"\x{code:02x}" in drawn for code in codes if code not in (9, 10))
    assert r"a\x1b[2J\x07b" in written(file, "SELECT content FROM messages", "table").decode()
    text = "SELECT 'one' || chr(10) || 'two' || chr(9) || 'é' AS two_lines_of_text"
    lines = written(file, text, "table").decode().splitlines()
    assert [line.split() for line in lines[-3:-1]] == [["one"], ["two", "é"]]
    # Programs get what is there.
    assert json.loads(written(file, "SELECT content FROM messages", "json")) == [{"content": "a\x1b[2J\x07b"}]


@pytest.mark.parametrize(
    ("statement", "formats"),
    [
        ("SELECT 'infinity'::TIMESTAMPTZ AS t", ["table", "csv", "json"]),
        ("SELECT '-infinity'::TIMESTAMP AS t", ["table", "csv", "json"]),
        ("SELECT DATE '-4000-01-01' AS d", ["table", "csv", "json"]),
        ("SELECT union_value(a := 1) AS u", ["parquet"]),
        ("SELECT [INTERVAL 1 DAY] AS spans", ["parquet"]),
    ],
)
def test_a_value_that_a_format_has_no_form_for_is_a_sentence(
    file: Path, capfdbinary: pytest.CaptureFixture[bytes], statement: str, formats: list[Format]
) -> None:
    for format_ in formats:
        with pytest.raises(MemoryPipelineError, match=rf"can't be written as {format_}: .*VARCHAR") as told:
            write_answer(file, statement, format_, max_rows=None, timeout_seconds=60)
        assert "Traceback" not in str(told.value)
        assert "\n" not in str(told.value)
    assert b"Traceback" not in capfdbinary.readouterr().err


def test_json_has_null_for_numbers_that_it_has_no_form_for(file: Path) -> None:
    assert json.loads(written(file, "SELECT 'nan'::DOUBLE AS a, 'inf'::DOUBLE AS b", "json")) == [
        {"a": None, "b": None}
    ]

"""What a query over a published file may do, and how its answer is written."""

from __future__ import annotations

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memory_pipeline.model.errors import ExportError, MemoryPipelineError, QueryTimeoutError
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline.stores.duckdb.query import _connect, answering, query
from memory_pipeline.stores.duckdb.query_process import write_answer
from memory_pipeline.stores.duckdb.writing import Format, write_result
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.stores.export_sample import MESSAGES, WINDOW, fill

ENDLESS = "SELECT range AS n FROM range(1000000000000)"


THREADS = "SELECT current_setting('threads') AS t"


@pytest.fixture(scope="module")
def published(servers: Servers, migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The link to the sample's published file."""
    data = tmp_path_factory.mktemp("published")
    with fresh_database(servers, migrated_template) as database:
        fill(database.pipeline_url)
        export_lake(database.pipeline_url, WINDOW, data / "lake")
    publish_duckdb(data / "lake", data / "exports", 1)
    return data / "exports" / "memory.duckdb"


def count_messages(path: Path) -> int:
    with duckdb.connect(str(path), read_only=True) as connection:
        (found,) = connection.execute("SELECT count(*) FROM messages").fetchall()[0]
        return int(found)


def written(path: Path, statement: str, format_: Format, max_rows: int | None = None) -> bytes:
    """What `write_result` makes of the whole answer."""
    stream = io.BytesIO()
    write_result(query(path, statement, max_rows=max_rows), format_, stream)
    return stream.getvalue()


def test_queries_answer_with_columns_and_rows(published: Path) -> None:
    result = query(published, "SELECT tenant, sum(messages) AS said FROM mart_daily_activity GROUP BY 1 ORDER BY 1")
    assert result.columns == ["tenant", "said"]
    assert result.rows == [("acme", 12), ("globex", 12)]
    assert not result.truncated
    limited = query(published, "SELECT day FROM messages ORDER BY day", max_rows=2)
    assert (limited.rows, limited.truncated) == ([(date(2025, 3, 1),)] * 2, True)
    assert not query(published, "SELECT day FROM messages", max_rows=MESSAGES).truncated
    assert query(published, "SELECT day FROM messages WHERE false").rows == []


def test_parameters_are_values_and_never_sql(published: Path) -> None:
    asked = "SELECT slug FROM tenants WHERE slug = $slug ORDER BY slug LIMIT $rows"
    assert query(published, asked, {"slug": "acme", "rows": 5}).rows == [("acme",)]
    for slug in ("' OR true --", "acme'; DROP TABLE tenants; --", "$rows", "slug"):
        assert query(published, asked, {"slug": slug, "rows": 5}).rows == []
    several = query(published, "SELECT slug FROM tenants WHERE slug > $after ORDER BY slug", {"after": ""}, max_rows=1)
    assert (several.rows, several.truncated) == ([("acme",)], True)
    for wrong in ({"slug": "acme"}, {"slug": "acme", "rows": 1, "more": 1}, {"slug": "acme", "rows": "many"}):
        with pytest.raises(MemoryPipelineError, match="can't be answered"):
            query(published, asked, wrong)
    for statement in ("DELETE FROM tenants WHERE slug = $slug", "SELECT * FROM read_text($slug)"):
        with pytest.raises(MemoryPipelineError, match="refused"):
            query(published, statement, {"slug": "/etc/passwd"})


@pytest.mark.parametrize(
    "statement",
    [
        "DESCRIBE messages",
        "SHOW TABLES",
        "SUMMARIZE users",
        "EXPLAIN SELECT 1",
        "explain analyze SELECT count(*) FROM messages",
        "EXPLAIN (FORMAT json) (SELECT 1)",
        "EXPLAIN (ANALYZE, FORMAT json) FROM tenants",
        "EXPLAIN(SELECT 1)",
        "PIVOT messages ON role IN ('user', 'assistant') USING count(*)",
        "FROM tenants",
        "WITH a AS (SELECT 1) FROM a",
    ],
)
def test_statements_that_look_around_are_answered(published: Path, statement: str) -> None:
    assert query(published, statement).rows


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO tenants SELECT * FROM tenants",
        "UPDATE messages SET content = ''",
        "DELETE FROM messages",
        "DROP TABLE messages",
        "CREATE TABLE more (a INT)",
        "CREATE TEMP TABLE more AS SELECT 1",
        "COMMENT ON TABLE messages IS 'mine'",
        "ATTACH 'other.duckdb' AS other",
        "ATTACH ':memory:' AS other",
        "COPY messages TO 'messages.csv'",
        "COPY (SELECT 1) TO '/dev/stdout'",
        "EXPORT DATABASE 'folder'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "BEGIN",
        "CHECKPOINT",
        "PREPARE p AS SELECT 1",
        "EXPLAIN ANALYZE DELETE FROM messages",
        "EXPLAIN ANALYZE COPY messages TO 'messages.csv'",
        "EXPLAIN ANALYZE CREATE TEMP TABLE more AS SELECT 1",
        "EXPLAIN (ANALYZE) CREATE TEMP TABLE more AS SELECT 1",
        "EXPLAIN (ANALYZE, FORMAT json) CREATE TEMP TABLE more AS SELECT 1",
        "EXPLAIN /**/ ANALYZE CREATE TEMP TABLE more AS SELECT 1",
        "/**/ EXPLAIN ANALYZE CREATE TEMP TABLE more AS SELECT 1",
        "EXPLAIN ANALYZE CHECKPOINT",
        "EXPLAIN EXPLAIN ANALYZE CREATE TEMP TABLE more AS SELECT 1",
        "EXPLAIN PIVOT messages ON role USING count(*)",
        "PIVOT messages ON role USING count(*)",
        "WITH a AS (COPY messages TO 'messages.csv') SELECT 1",
        "FROM query('DROP TABLE messages')",
        "SELECT 1; SELECT 2",
        "SELECT 1; COPY messages TO 'messages.csv'",
        "",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_parquet('lake/messages/*/*.parquet')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM read_text('https://example.org/')",
        "SELECT getenv('HOME')",
        "SELECT * FROM sys",
        "SELECT * FROM frame",
        "SELECT nonsense FROM messages",
        "SELEC 1",
    ],
)
def test_what_is_not_a_read_of_the_tables_is_refused_with_a_sentence(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.chdir(tmp_path)
    frame = pa.table({"a": [1]})
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(MemoryPipelineError, match=r"(?s)^(refused: |the query can't be answered: ).+"):
        query(published, statement)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    assert frame.num_rows == 1
    assert count_messages(published) == MESSAGES


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM messages", "DELETE would change something"),
        ("-- all of them\nDELETE FROM messages", "DELETE would change something"),
        ("EXPLAIN ANALYZE DELETE FROM messages", "DELETE would change something"),
        ("CHECKPOINT", "CHECKPOINT would change something"),
        ("LOAD httpfs", "LOAD brings an extension"),
        ("USE other", "USE leads to another database"),
        ("EXPORT DATABASE 'folder'", "EXPORT reads or writes files"),
        ("SET threads = 1", "SET changes a setting"),
        ("CALL pragma_version()", "CALL is about DuckDB itself"),
        ("PREPARE p AS SELECT 1", "PREPARE is for statements that are kept"),
        ("BEGIN", "BEGIN is for changes"),
        ("; -- nothing", "the query is empty"),
        ("SELECT * FROM 'people.csv'", "the query names a file or an address"),
        ('SELECT * FROM "../people"', "'../people' is the name of a file"),
    ],
)
def test_a_refusal_names_what_is_refused(published: Path, statement: str, said: str) -> None:
    with pytest.raises(MemoryPipelineError) as refused:
        query(published, statement)
    assert str(refused.value).startswith(f"refused: {said}")
    assert "file system" not in str(refused.value).lower()


def test_a_misspelt_table_is_no_file(published: Path) -> None:
    with pytest.raises(MemoryPipelineError, match=r"(?s)Did you mean .messages.+SHOW TABLES lists") as refused:
        query(published, "SELECT * FROM message")
    assert "file" not in str(refused.value)


@pytest.mark.parametrize(
    "statement",
    [
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}' (FORMAT csv, USE_TMP_FILE false)",
        "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{file}.wal' (FORMAT csv, USE_TMP_FILE false)",
        "WITH a AS (COPY (SELECT 1) TO '{file}' (FORMAT csv, USE_TMP_FILE false)) SELECT 1",
        "WITH a AS (COPY (SELECT 1) TO '{file}.wal' (FORMAT csv, USE_TMP_FILE false)) SELECT 1",
        "SELECT size FROM read_blob('{file}')",
        "SELECT size FROM read_text('{file}.wal')",
        "SELECT count(*) FROM read_csv('{file}', ignore_errors = true)",
        "SELECT * FROM glob('{file}')",
        "FROM '{file}'",
        "ATTACH '{file}' AS other (READ_ONLY)",
    ],
)
def test_no_statement_opens_the_served_file_again_or_puts_one_beside_it(published: Path, statement: str) -> None:
    file = published.resolve()
    before = {path.name: path.read_bytes() for path in file.parent.iterdir() if path.is_file()}
    with pytest.raises(MemoryPipelineError, match=r"^(refused: |the query can't be answered: ).+"):
        query(published, statement.format(file=file))
    assert {path.name: path.read_bytes() for path in file.parent.iterdir() if path.is_file()} == before


def test_no_statement_that_duckdb_takes_for_a_read_reaches_a_file(published: Path) -> None:
    """Even where the check of the statement's kind would let it through."""
    file = published.resolve()
    with _connect(published) as connection:
        for path in (file, file.with_name(f"{file.name}.wal"), file.with_name("other.csv")):
            for statement in (f"COPY (SELECT 1) TO '{path}' (USE_TMP_FILE false)", f"FROM read_blob('{path}')"):
                with pytest.raises(duckdb.PermissionException):
                    connection.execute(statement)
    assert sorted(path.suffix for path in file.parent.glob("memory-*")) == [".duckdb", ".json"]
    assert count_messages(published) == MESSAGES


def test_a_pivot_without_its_columns_is_told_how_to_name_them(published: Path) -> None:
    for statement in ("PIVOT messages ON role USING count(*)", "EXPLAIN PIVOT messages ON role USING count(*)"):
        with pytest.raises(MemoryPipelineError, match=r"ON role IN \('user', 'assistant'\)"):
            query(published, statement)


def test_queries_side_by_side_in_one_process_are_all_answered_in_utc(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    asked = "SELECT count(*), current_setting('TimeZone'), current_setting('lock_configuration') FROM messages"

    def ask(_number: int) -> list[tuple[object, ...]]:
        return query(published, asked).rows

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(100))) == [[(MESSAGES, "UTC", True)]] * 100


def test_a_query_that_runs_long_is_stopped(published: Path) -> None:
    asked = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range % 7 < b.range % 5"
    for statement, parameters in ((asked, None), (asked.replace("7", "$divisor"), {"divisor": 7})):
        with pytest.raises(QueryTimeoutError, match=r"longer than 0\.2 s"):
            query(published, statement, parameters, timeout_seconds=0.2)


def read_all(path: Path, statement: str, timeout_seconds: float) -> int:
    with answering(path, statement, timeout_seconds=timeout_seconds) as answer:
        return sum(batch.num_rows for batch in answer.batches)


def test_a_query_is_stopped_while_its_rows_are_read(published: Path) -> None:
    with pytest.raises(QueryTimeoutError, match=r"longer than 1 s"):
        read_all(published, ENDLESS, timeout_seconds=1)


def test_what_goes_wrong_while_rows_are_read_is_a_sentence(published: Path) -> None:
    asked = "SELECT CASE WHEN range = 900000 THEN error('half way') ELSE range END FROM range(1000000)"
    with pytest.raises(MemoryPipelineError, match=r"can't be answered: .*half way"):
        read_all(published, asked, timeout_seconds=60)


def test_an_answer_too_large_to_hold_is_refused(published: Path) -> None:
    with pytest.raises(MemoryPipelineError, match="more than 1 MiB"):
        query(published, ENDLESS, max_rows=None, max_bytes=2**20)


def test_a_query_that_needs_too_much_memory_is_a_sentence(published: Path) -> None:
    with pytest.raises(MemoryPipelineError, match="more memory than it may have"):
        query(
            published,
            "SELECT length(max(l::text)) FROM (SELECT list(repeat('x', 1000000) || range) AS l FROM range(5000))",
        )


def test_a_file_that_is_gone_is_an_export_error(published: Path) -> None:
    with pytest.raises(ExportError, match="is not there any more"):
        query(published.with_name("memory-000000-0123456789.duckdb"), "SELECT 1")


@pytest.mark.parametrize("format_", ["table", "csv", "json", "parquet"])
@pytest.mark.parametrize(
    ("statement", "max_rows", "more"),
    [
        ("FROM mart_daily_activity ORDER BY ALL", None, False),
        ("SELECT range AS n, 'é\n\"' AS text, INTERVAL 1 MONTH AS span FROM range(5000)", None, False),
        ("SELECT range AS n FROM range(5000)", 4096, True),
        ("SELECT range AS n FROM range(5000)", 5000, False),
        ("SELECT content FROM messages WHERE false", None, False),
    ],
)
def test_a_process_of_its_own_writes_the_same_answer(
    published: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
    format_: Format,
    statement: str,
    max_rows: int | None,
    more: bool,
) -> None:
    assert write_answer(published, statement, format_, max_rows=max_rows, timeout_seconds=60) is more
    found = capfdbinary.readouterr().out
    expected = written(published, statement, format_, max_rows)
    if format_ == "parquet":
        assert pq.read_table(io.BytesIO(found)).equals(pq.read_table(io.BytesIO(expected)))
    else:
        assert found == expected


def test_a_process_of_its_own_ends_at_the_time_out_whatever_duckdb_does(
    published: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    one_function = "SELECT levenshtein(repeat('ab', 1000000), repeat('ba', 1000001))"
    for statement in (one_function, ENDLESS):
        with pytest.raises(QueryTimeoutError, match=r"longer than 1 s"):
            write_answer(published, statement, "csv", max_rows=None, timeout_seconds=1)
    assert b"Traceback" not in capfdbinary.readouterr().err


@pytest.mark.parametrize("format_", ["table", "csv", "json", "parquet"])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT list_sort(range(200000000))",
        "SELECT length(repeat('x', 2000000000))",
        "SELECT repeat('x', 1000000) FROM range(100000)",
    ],
)
def test_a_process_of_its_own_stays_within_its_memory(published: Path, format_: Format, statement: str) -> None:
    with pytest.raises(MemoryPipelineError, match=r"more memory than it may have|takes more than 64 MiB"):
        write_answer(published, statement, format_, max_rows=None, timeout_seconds=60)


def test_a_process_of_its_own_takes_no_more_threads_than_its_memory_has_room_for(
    published: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for cores, threads in ((256, 8), (3, 3)):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        for format_ in ("csv", "table"):
            write_answer(published, THREADS, format_, max_rows=5, timeout_seconds=60)
            assert str(threads).encode() in capfdbinary.readouterr().out.split()


def test_a_process_of_its_own_refuses_with_the_same_sentence(published: Path) -> None:
    for statement in ("DROP TABLE messages", "SELECT 1; SELECT 2", "SELEC 1", f"FROM read_blob('{published}')"):
        with pytest.raises(MemoryPipelineError) as here:
            query(published, statement)
        with pytest.raises(MemoryPipelineError) as there:
            write_answer(published, statement, "csv", max_rows=None, timeout_seconds=60)
        assert str(there.value) == str(here.value)
    with pytest.raises(ExportError, match="is not there any more"):
        write_answer(published.with_name("gone.duckdb"), "SELECT 1", "csv", max_rows=None, timeout_seconds=60)


def test_answers_are_written_in_every_format(published: Path) -> None:
    result = query(
        published,
        "SELECT tenant_id, tenant, messages, 'a,\"b\"' AS quoted, NULL AS missing, day, [1, 2] AS list,"
        " INTERVAL 26 HOUR AS span, '\\xFF'::BLOB AS raw, sum(messages) OVER () AS total, '[bold]' AS markup"
        " FROM mart_daily_activity ORDER BY tenant, day",
        max_rows=1,
    )

    def written(format_: Format) -> bytes:
        stream = io.BytesIO()
        write_result(result, format_, stream)
        return stream.getvalue()

    tenant_id = str(result.rows[0][0])
    assert json.loads(written("json")) == [
        {
            "tenant_id": tenant_id,
            "tenant": "acme",
            "messages": 4,
            "quoted": 'a,"b"',
            "missing": None,
            "day": "2025-03-01",
            "list": [1, 2],
            "span": "93600 seconds",
            "raw": "ff",
            "total": 24,
            "markup": "[bold]",
        }
    ]
    assert written("csv").decode().splitlines() == [
        "tenant_id,tenant,messages,quoted,missing,day,list,span,raw,total,markup",
        f'{tenant_id},acme,4,"a,""b""",,2025-03-01,"[1,2]",93600 seconds,ff,24,[bold]',
    ]
    table = written("table").decode()
    assert "[bold]" in table
    assert "(first 1 row)" in table
    assert pq.read_table(io.BytesIO(written("parquet"))).column("day").to_pylist() == [date(2025, 3, 1)]


def test_hours_are_those_of_utc_and_add_up_to_the_messages(published: Path) -> None:
    hours = "SELECT day, tenant, hour, messages, user_messages FROM mart_hourly_activity ORDER BY day, tenant, hour"
    assert [row[1:] for row in query(published, hours).rows[:8]] == [
        (tenant, hour, 1, 1) for tenant in ("acme", "globex") for hour in (0, 7, 12, 23)
    ]
    said = "SELECT day, slug, hour(sent_at), count(*), count(*) FILTER (role = 'user') FROM messages"
    said += " JOIN tenants USING (tenant_id) GROUP BY ALL ORDER BY ALL"
    assert query(published, hours).rows == query(published, said).rows


def test_no_progress_bar_is_drawn_into_an_answer(published: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    statement = "SELECT current_setting('enable_progress_bar') AS drawn"
    write_answer(published, statement, "csv", max_rows=None, timeout_seconds=60)
    assert capfdbinary.readouterr().out.split() == [b"drawn", b"False"]

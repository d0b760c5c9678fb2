"""Completed jobs that leave the ledger: they stay counted, here and in the published file, which is not built whole."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from math import ceil, log2
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores.duckdb import checks
from memory_pipeline.stores.duckdb.plots import response
from memory_pipeline.stores.duckdb.publish import ExportReport, publish_duckdb
from memory_pipeline.stores.duckdb.query import query
from memory_pipeline.stores.duckdb.questions import questions
from memory_pipeline.stores.postgres.checks import exported_rows, mart_numbers
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.job_reports import compact_completed
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.stores.export_sample import WINDOW, fill

# Of each user 200 jobs that were completed after 1 ms to some minutes, every tenth at the second try, and one dead job.
_JOBS = """
INSERT INTO memory_jobs (tenant_id, user_id, job_type, state, day, created_at, finished_at, attempts, correlation_id,
                         error_class, error_text)
SELECT tenant_id, user_id, 'enrich_and_embed', 'completed', date '2025-03-01', made,
       made + exp(n / 15.0) * interval '1 millisecond', 1 + (n % 10 = 0)::integer, gen_random_uuid(), NULL, NULL
FROM users, generate_series(0, 199) n, LATERAL (SELECT timestamptz '2025-03-01 12:00+00' + n * interval '1 s' AS made) m
UNION ALL
SELECT tenant_id, user_id, 'enrich_and_embed', 'dead', '2025-03-01', timestamptz '2025-03-01 13:00+00',
       timestamptz '2025-03-01 13:10+00', 5, gen_random_uuid(), 'TestError', 'no luck'
FROM users
"""
_MART = (
    "SELECT day, tenant, job_type, jobs, completed, failed, open, failure_rate, attempts, most_attempts,"
    " lag_p50_seconds, lag_p95_seconds, lag_p99_seconds FROM mart_pipeline_response ORDER BY ALL"
)
_EXACT = 10  # columns of them that compaction must not change


@pytest.fixture
def source(database: Urls) -> str:
    fill(database.pipeline_url)
    execute(database, _JOBS)
    return database.pipeline_url


def execute(database: Urls, statement: str, *values: object) -> list[Any]:
    with psycopg.connect(database.admin_url, options="-c search_path=memory,public -c timezone=UTC") as connection:
        cursor = connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def compacted(source: str, limit: int = 10_000) -> int:
    with Database(source) as opened, opened.transaction() as connection:
        return compact_completed(connection, 3, limit=limit)


def published(source: str, folder: Path) -> ExportReport:
    export_lake(source, WINDOW, folder / "lake")
    return publish_duckdb(folder / "lake", folder / "exports", 5)


def test_the_response_of_a_day_stays_when_its_completed_jobs_leave_the_ledger(source: str, tmp_path: Path) -> None:
    before = published(source, tmp_path)
    was, shown = query(before.path, _MART).rows, response(before.path)
    quantile = (
        "SELECT quantile_disc(date_diff('millisecond', created_at, finished_at), [0.5, 0.95, 0.99]) FROM jobs"
        " WHERE state = 'completed' GROUP BY tenant_id ORDER BY tenant_id"
    )
    assert [list(row[_EXACT:]) for row in was] == [
        [milliseconds / 1000 for milliseconds in found] for (found,) in query(before.path, quantile).rows
    ]
    # Part of them first, so that a day is in both.
    assert compacted(source, limit=150) == 150
    partly = published(source, tmp_path)
    assert compacted(source) == 250
    wholly = published(source, tmp_path)
    for report in (partly, wholly):
        rows = query(report.path, _MART).rows
        assert [row[:_EXACT] for row in rows] == [row[:_EXACT] for row in was]
        for row, old in zip(rows, was, strict=True):
            assert list(row[_EXACT:]) == pytest.approx(list(old[_EXACT:]), rel=0.046)
        assert [(one.day, one.job_type) for one in response(report.path)] == [(one.day, one.job_type) for one in shown]
        assert [one.p95 for one in response(report.path)] == pytest.approx([one.p95 for one in shown], rel=0.046)
    assert (wholly.rows["jobs"], query(wholly.path, "SELECT sum(completed) FROM job_days").rows) == (2, [(400,)])
    question = next(one for one in questions() if one.number == 15)
    answer = query(wholly.path, question.statement)
    (row,) = answer.rows
    found = dict(zip(answer.columns, row, strict=True))
    assert (found["jobs"], found["failure_rate"], found["attempts_per_job"]) == (402, round(2 / 402, 4), 1.12)


def test_the_checks_add_what_left_the_ledger(source: str, tmp_path: Path) -> None:
    compacted(source, limit=150)
    report = published(source, tmp_path)
    with Database(source) as opened, opened.transaction() as connection:
        numbers, rows = mart_numbers(connection), exported_rows(connection)
    assert sum(value for (name, _), value in numbers.items() if name == "completed jobs") == 400
    assert sum(value for (name, _), value in numbers.items() if name == "tries of jobs") == 2 * (220 + 5)
    shown = checks.mart_numbers(report.path)
    assert {key: value for key, value in numbers.items() if "jobs" in key[0]} == {
        key: value for key, value in shown.items() if "jobs" in key[0]
    }
    assert rows["job_days"] == report.rows["job_days"] > 0


def test_lags_are_counted_in_buckets_of_an_eighth_of_a_doubling(source: str, database: Urls) -> None:
    # Every tenth finished, by a clock that stepped back, before it began: as fast as can be.
    execute(database, "UPDATE memory_jobs SET finished_at = created_at - interval '1 s' WHERE attempts = 2")
    lags = execute(
        database,
        "SELECT extract(epoch FROM finished_at - created_at)::float * 1000 FROM memory_jobs WHERE state = 'completed'",
    )
    compacted(source)
    found = execute(database, "SELECT lag_bucket, sum(completed)::int FROM memory_job_days GROUP BY lag_bucket")
    assert Counter(dict(found)) == Counter(ceil(round(8 * log2(max(lag, 1)), 9)) for (lag,) in lags)
    assert dict(found)[0] >= 40


def test_jobs_that_go_by_age_let_the_file_be_made_from_the_last(source: str, tmp_path: Path) -> None:
    published(source, tmp_path)
    for _ in range(2):  # part of a day, then the rest of it with the file of the day
        assert compacted(source, limit=300) > 0
        report = published(source, tmp_path)
        assert report.whole_because is None
    assert report.digest == publish_duckdb(tmp_path / "lake", tmp_path / "whole", 1).digest


def test_jobs_of_a_day_without_any_left_go_from_a_copy_too(source: str, database: Urls, tmp_path: Path) -> None:
    execute(database, "DELETE FROM memory_jobs WHERE state = 'dead'")
    published(source, tmp_path)
    compacted(source)
    report = published(source, tmp_path)
    assert (report.whole_because, report.rows["jobs"]) == (None, 0)
    assert not list((tmp_path / "lake/jobs").rglob("*.parquet"))


def test_a_job_of_a_user_who_is_gone_leaves_no_byte_in_the_file(source: str, database: Urls, tmp_path: Path) -> None:
    stranger = "d4f1a2b3-0000-4000-8000-00000000beef"
    execute(
        database,
        "INSERT INTO memory_jobs (tenant_id, user_id, job_type, day, correlation_id)"
        " SELECT tenant_id, %s, 'erase', '2025-03-01', gen_random_uuid() FROM tenants WHERE slug = 'acme'",
        stranger,
    )
    published(source, tmp_path)
    execute(database, "DELETE FROM memory_jobs WHERE user_id = %s", stranger)
    report = published(source, tmp_path)
    assert report.whole_because == "rows are gone, or say something else"
    with duckdb.connect(str(report.path), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM jobs WHERE user_id = $1", [stranger]).fetchall() == [(0,)]


def test_relays_that_compact_at_once_count_every_job_once(source: str, database: Urls) -> None:
    def some(_: int) -> int:
        return compacted(source, limit=20)

    with ThreadPoolExecutor(4) as relays:
        moved = sum(relays.map(some, range(40)))
    moved += compacted(source)
    assert moved == 400
    assert execute(database, "SELECT sum(completed), sum(attempts), max(most_attempts) FROM memory_job_days") == [
        (400, 440, 2)
    ]
    assert execute(database, "SELECT state, count(*) FROM memory_jobs GROUP BY state") == [("dead", 2)]


def test_a_compaction_that_is_undone_counts_nothing(source: str, database: Urls) -> None:
    with psycopg.connect(source, options="-c search_path=memory,public") as connection:
        assert compact_completed(connection, 3) == 400
        connection.rollback()
    assert execute(database, "SELECT count(*) FROM memory_job_days") == [(0,)]
    assert execute(database, "SELECT count(*) FROM memory_jobs WHERE state = 'completed'") == [(400,)]


def test_a_tenant_reads_its_own_totals_and_changes_none(source: str, database: Urls) -> None:
    compacted(source)
    ((acme,),) = execute(database, "SELECT tenant_id FROM tenants WHERE slug = 'acme'")
    with psycopg.connect(database.app_url, autocommit=True) as connection:
        connection.execute("SET search_path = memory, public")
        assert connection.execute("SELECT count(*) FROM memory_job_days").fetchall() == [(0,)]
        connection.execute("SELECT set_config('app.tenant_id', %s, false)", [str(acme)])
        assert connection.execute("SELECT DISTINCT tenant_id FROM memory_job_days").fetchall() == [(acme,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("UPDATE memory_job_days SET completed = 1")

"""Marts of which only the changed days are made anew say what they say when they are made whole."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import psycopg

from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores.duckdb.generations import manifest_of
from memory_pipeline.stores.duckdb.marts import affected, marts
from memory_pipeline.stores.duckdb.publish import ExportReport, publish_duckdb
from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.stores.export_sample import WINDOW, add_messages, fill, message

# On each day given, for every user: jobs in all states, totals of compacted ones, recalls, costs.
_JOBS = """
INSERT INTO memory_jobs (tenant_id, user_id, job_type, state, day, created_at, finished_at, attempts, correlation_id,
                         error_class, error_text)
SELECT tenant_id, user_id, 'enrich_and_embed', state, %(day)s, made, made + n * interval '250 ms', n, gen_random_uuid(),
       CASE state WHEN 'dead' THEN 'TestError' END, CASE state WHEN 'dead' THEN 'no luck' END
FROM users, (VALUES ('completed', 1), ('completed', 3), ('dead', 5)) AS s (state, n),
     LATERAL (SELECT %(day)s + n * interval '1 hour' AS made) m
"""
_JOB_DAYS = """
INSERT INTO memory_job_days (tenant_id, day, job_type, lag_bucket, completed, attempts, most_attempts)
SELECT tenant_id, %(day)s, 'enrich_and_embed', 40, 7, 9, 3 FROM tenants
ON CONFLICT (tenant_id, day, job_type, lag_bucket) DO UPDATE SET completed = memory_job_days.completed + 7,
    attempts = memory_job_days.attempts + 9
"""
_RECALLS = """
INSERT INTO memory_access_log (tenant_id, user_id, accessed_at, correlation_id, what, channel, query_hash, memory_ids,
                               turns, degraded_parts, from_cache, milliseconds)
SELECT tenant_id, user_id, %(day)s + n * interval '1 minute', gen_random_uuid(), 'recall', 'api',
       sha256(n::text::bytea),
       ARRAY(SELECT memory_id FROM memories m WHERE m.user_id = u.user_id ORDER BY 1 LIMIT n), 2, '{}', n = 2, n * 1.5
FROM users u, generate_series(0, 3) n
"""
_COSTS = """
INSERT INTO llm_usage (tenant_id, used_at, correlation_id, plugin, model, what, requests, texts, prompt_tokens,
                       cost_usd)
SELECT tenant_id, %(day)s, gen_random_uuid(), 'embedder:openai', model, 'embedding', 1, 20, 300, cost
FROM tenants, (VALUES ('small', 0.00000123), ('large', NULL)) AS m (model, cost)
"""
CHANGES = {"jobs": _JOBS, "job_days": _JOB_DAYS, "memory_access": _RECALLS, "llm_usage": _COSTS}
FIRST, LAST = datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 3, 4, tzinfo=UTC)


def execute(database: Database, statement: str, day: datetime) -> None:
    with psycopg.connect(database.admin_url, options="-c search_path=memory,public -c timezone=UTC") as connection:
        connection.execute(statement.encode(), {"day": day})


def published(database: Database, folder: Path) -> ExportReport:
    export_lake(database.pipeline_url, WINDOW, folder / "lake")
    return publish_duckdb(folder / "lake", folder / "exports", 1)


def assert_made_by_day(report: ExportReport, table: str, folder: Path) -> None:
    assert (report.published, report.whole_because) == (True, None)
    by_day = [mart.name for mart in affected({table}) if mart.by_day]
    assert [name for name in by_day if report.rows[name]] == by_day != []
    whole = publish_duckdb(folder / "lake", folder / f"whole of {table}", 1)
    found, expected = manifest_of(report.path).tables, manifest_of(whole.path).tables
    assert {name: summary for name, summary in found.items() if summary != expected[name]} == {}
    assert found.keys() == expected.keys()


def test_changed_days_give_the_marts_that_all_days_give(database: Database, tmp_path: Path) -> None:
    fill(database.pipeline_url)
    for statement in CHANGES.values():
        for day in (FIRST, LAST):
            execute(database, statement, day)
    published(database, tmp_path)
    late = message("acme", "late", FIRST.replace(hour=9), "It is late")
    add_messages(database.pipeline_url, "acme", [late])
    assert_made_by_day(published(database, tmp_path), "messages", tmp_path)
    for table, statement in CHANGES.items():
        execute(database, statement, LAST)
        assert_made_by_day(published(database, tmp_path), table, tmp_path)


def test_what_is_made_by_day_has_the_day_in_its_key() -> None:
    by_day = [mart for mart in marts() if mart.by_day]
    assert by_day
    assert [mart.name for mart in by_day if "day" not in mart.key] == []

"""The records of recall use and of cost in the lake, in the DuckDB files and in their marts."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import psycopg
import pytest

from memory_pipeline.model.errors import ExportError
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.export import export_lake, forget_in_exports, publish
from memory_pipeline.stores.duckdb import checks
from memory_pipeline.stores.duckdb.publish import Scope, publish_duckdb
from memory_pipeline.stores.postgres.checks import exported_rows, mart_numbers
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.stages.test_export import sql_for_erasing
from memory_pipeline_tests.stores.export_sample import WINDOW, fill, lake_bytes

FIRST, LAST = datetime(2025, 3, 1, 10, tzinfo=UTC), datetime(2025, 3, 4, 23, 59, 59, 999999, tzinfo=UTC)
# Tenant, when, question, memories, degraded parts, from the cache, milliseconds.
RECALLS: tuple[tuple[str, datetime, bytes, int, list[str], bool, float], ...] = (
    ("acme", FIRST, b"tea?", 3, [], False, 10.0),
    ("acme", FIRST, b"tea?", 3, [], True, 0.5),
    ("acme", FIRST, b"more?", 0, ["chroma"], False, 20.25),
    ("acme", FIRST, b"who?", 1, ["embedder", "chroma"], False, 30.0),
    ("acme", LAST, b"why?", 0, [], False, 7.0),
    ("globex", LAST, b"tea?", 2, [], False, 1.0),
)
# Tenant, when, plugin, model, requests, texts, tokens, dollars.
COSTS: tuple[tuple[str, datetime, str, str, int, int, int | None, Decimal | None], ...] = (
    ("acme", FIRST, "embedder:openai", "small", 1, 700, 12_345, Decimal("0.0002469000")),
    ("acme", FIRST, "embedder:openai", "small", 2, 30, 1, Decimal("0.0000000200")),
    ("acme", FIRST, "embedder:openai", "small", 1, 5, 77, None),
    ("acme", FIRST, "embedder:openai", "large", 1, 5, None, None),
    ("globex", LAST, "embedder:openai", "small", 0, 9, 10**11, Decimal("99999.1234567891")),
)
_RECALL = """
INSERT INTO memory_access_log (tenant_id, user_id, accessed_at, correlation_id, what, channel, query_hash, memory_ids,
                               turns, degraded_parts, from_cache, milliseconds)
SELECT t.tenant_id, u.user_id, %s, gen_random_uuid(), 'recall', 'api', sha256(%s),
       ARRAY(SELECT memory_id FROM memories m WHERE m.user_id = u.user_id ORDER BY 1 LIMIT %s), 2, %s, %s, %s
FROM users u JOIN tenants t USING (tenant_id)
WHERE slug = %s
"""
_COST = """
INSERT INTO llm_usage (tenant_id, used_at, correlation_id, plugin, model, what, requests, texts, prompt_tokens,
                       cost_usd)
SELECT tenant_id, %s, gen_random_uuid(), %s, %s, 'embedding', %s, %s, %s, %s FROM tenants WHERE slug = %s
"""


def execute(urls: Urls, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(urls.admin_url, options="-c search_path=memory,public -c timezone=UTC") as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def source(database: Urls) -> str:
    fill(database.pipeline_url)
    for tenant, at, question, memories, degraded, cached, milliseconds in RECALLS:
        execute(database, _RECALL, at, question, memories, degraded, cached, milliseconds, tenant)
    for tenant, at, *columns in COSTS:
        execute(database, _COST, at, *columns, tenant)
    return database.pipeline_url


def ask(path: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(query).fetchall()


def test_the_lake_has_both_by_day_to_the_present_whatever_days_of_messages_are_asked_for(
    source: str, tmp_path: Path
) -> None:
    rows = {report.table: report.rows for report in export_lake(source, None, tmp_path)}
    assert (rows["memory_access"], rows["llm_usage"], rows["messages"]) == (len(RECALLS), len(COSTS), 0)
    assert sorted(name for name in lake_bytes(tmp_path) if name.startswith(("memory_access", "llm_usage"))) == [
        f"{table}/day=2025-03-0{day}/part-0.parquet" for table in ("llm_usage", "memory_access") for day in (1, 4)
    ]


def test_a_new_recall_rewrites_only_its_day(source: str, database: Urls, tmp_path: Path) -> None:
    export_lake(source, WINDOW, tmp_path)
    before = lake_bytes(tmp_path)
    execute(database, _RECALL, LAST, b"again?", 1, [], False, 3.0, "acme")
    export_lake(source, WINDOW, tmp_path)
    after = lake_bytes(tmp_path)
    assert {name for name in after if after[name] != before.get(name)} == {
        "memory_access/day=2025-03-04/part-0.parquet"
    }


def test_the_published_rows_are_those_of_postgres(source: str, database: Urls, tmp_path: Path) -> None:
    export_lake(source, WINDOW, tmp_path / "lake")
    path = publish_duckdb(tmp_path / "lake", tmp_path / "exports", 3).path
    accesses = (
        "SELECT access_id, user_id, correlation_id, query_hash, memories, memory_ids, turns, degraded, degraded_parts,"
        " from_cache, milliseconds, accessed_at FROM memory_access ORDER BY access_id"
    )
    logged = accesses.replace("FROM memory_access ", "FROM memory_access_log ")
    assert ask(path, accesses) == execute(database, logged)
    costs = (
        "SELECT usage_id, used_at, requests, texts, prompt_tokens, completion_tokens, cost_usd"
        " FROM llm_usage ORDER BY usage_id"
    )
    assert ask(path, costs) == execute(database, costs)


def test_the_mart_of_recall_use_agrees_with_postgres(source: str, database: Urls, tmp_path: Path) -> None:
    export_lake(source, WINDOW, tmp_path / "lake")
    path = publish_duckdb(tmp_path / "lake", tmp_path / "exports", 3).path
    expected = execute(
        database,
        """
        SELECT (accessed_at AT TIME ZONE 'UTC')::date, slug, count(*), count(DISTINCT user_id),
               count(DISTINCT query_hash), count(*) FILTER (WHERE cardinality(memory_ids) > 0),
               avg((cardinality(memory_ids) > 0)::int)::float8, avg(cardinality(memory_ids))::float8,
               avg((degraded_parts <> '{}')::int)::float8, avg(from_cache::int)::float8,
               percentile_disc(0.5) WITHIN GROUP (ORDER BY milliseconds),
               percentile_disc(0.95) WITHIN GROUP (ORDER BY milliseconds)
        FROM memory_access_log JOIN tenants USING (tenant_id)
        GROUP BY 1, 2
        ORDER BY 1, 2
        """,
    )
    found = ask(
        path,
        "SELECT day, tenant, recalls, users, questions, answered, hit_rate, memories_per_answer, degraded_share,"
        " cached_share, p50_milliseconds, p95_milliseconds FROM mart_recall_use ORDER BY day, tenant",
    )
    assert found == expected
    # And as counted by hand.
    assert found[0] == (date(2025, 3, 1), "acme", 4, 1, 3, 3, 0.75, 1.75, 0.5, 0.25, 10.0, 30.0)
    assert [row[:3] for row in found[1:]] == [(date(2025, 3, 4), "acme", 1), (date(2025, 3, 4), "globex", 1)]


def test_the_mart_of_cost_is_exact_and_says_what_has_no_price(source: str, tmp_path: Path) -> None:
    export_lake(source, WINDOW, tmp_path / "lake")
    path = publish_duckdb(tmp_path / "lake", tmp_path / "exports", 3).path
    assert ask(
        path,
        "SELECT day, tenant, model, requests, texts, tokens, cost_usd, rows_without_price, rows_without_tokens"
        " FROM mart_cost_daily ORDER BY ALL",
    ) == [
        (date(2025, 3, 1), "acme", "large", 1, 5, 0, None, 1, 1),
        (date(2025, 3, 1), "acme", "small", 4, 735, 12_423, Decimal("0.0002469200"), 1, 0),
        (date(2025, 3, 4), "globex", "small", 0, 9, 10**11, Decimal("99999.1234567891"), 0, 0),
    ]


def test_the_check_compares_both_marts_with_postgres(source: str, database: Urls, tmp_path: Path) -> None:
    export_lake(source, WINDOW, tmp_path / "lake")
    path = publish_duckdb(tmp_path / "lake", tmp_path / "exports", 3).path
    with Database(source) as pipeline, pipeline.transaction() as connection:
        expected, rows = mart_numbers(connection), exported_rows(connection)
        ((acme,),) = connection.execute("SELECT tenant_id FROM tenants WHERE slug = 'acme'").fetchall()
    assert checks.mart_numbers(path) == expected
    mine = {name: value for (name, tenant), value in expected.items() if tenant == acme}
    assert {name: mine[name] for name in ("recalls", "recalls with a memory", "degraded recalls", "tokens")} == {
        "recalls": 5,
        "recalls with a memory": 3,
        "degraded recalls": 2,
        "tokens": 12_423,
    }
    assert (mine["ten-billionths of a dollar"], mine["calls without a price"]) == (2_469_200, 2)
    keys = {table.table: (table.rows, table.without_key, table.repeated) for table in checks.rows_and_keys(path)}
    for table in ("memory_access", "llm_usage"):
        assert keys[table] == (rows[table], 0, 0)
    # A recall that the file does not have yet is told.
    execute(database, _RECALL, LAST, b"again?", 1, [], False, 3.0, "acme")
    with Database(source) as pipeline, pipeline.transaction() as connection:
        assert mart_numbers(connection)["recalls", acme] == 6


@pytest.mark.parametrize("mart", ["mart_recall_use", "mart_cost_daily"])
def test_previews_name_no_user(source: str, database: Urls, tmp_path: Path, mart: str) -> None:
    export_lake(source, WINDOW, tmp_path / "lake")
    path = publish_duckdb(tmp_path / "lake", tmp_path / "exports", 3).path
    shown = checks.preview(path, mart)
    assert "| acme |" in shown
    for user, email in execute(database, "SELECT user_id, email FROM users"):
        assert str(user) not in shown
        assert email not in shown


def test_a_row_of_no_known_user_is_not_published(source: str, database: Urls, tmp_path: Path) -> None:
    export_lake(source, WINDOW, tmp_path / "lake", dimensions=["tenants"])
    with pytest.raises(ExportError, match=r"memory_access\.user_id"):
        publish_duckdb(tmp_path / "lake", tmp_path / "exports", 3)


def test_masked_files_count_the_same_and_name_nothing(source: str, database: Urls, tmp_path: Path) -> None:
    export_lake(source, WINDOW, tmp_path / "lake")
    consumers = {"lab": Scope(mask_key=b"a key for these tests alone"), "globex": Scope(tenant="globex")}
    report = publish_duckdb(tmp_path / "lake", tmp_path / "exports", 3, consumers)
    counts = "SELECT * EXCLUDE (tenant_id) FROM mart_recall_use ORDER BY ALL"
    masked = report.consumers["lab"].path
    assert ask(masked, counts) == ask(report.path, counts)
    named = "SELECT access_id, user_id, correlation_id, query_hash, unnest(memory_ids) FROM memory_access"
    real = {value for row in ask(report.path, named) for value in row}
    assert len(real) > 10
    assert {value for row in ask(masked, named) for value in row} & real == set()
    content = masked.read_bytes()
    for value in real:
        stored = value if isinstance(value, bytes) else (value.int ^ (1 << 127)).to_bytes(16, "little")
        assert stored not in content
    ids = "SELECT usage_id, correlation_id FROM llm_usage"
    assert {one for row in ask(masked, ids) for one in row} & {
        one for row in ask(report.path, ids) for one in row
    } == set()
    joined = "SELECT count(*) FROM memory_access a, unnest(memory_ids) AS m (id) JOIN memories ON memory_id = m.id"
    assert ask(masked, joined) == ask(report.path, joined) != [(0,)]
    others = report.consumers["globex"].path
    assert ask(others, "SELECT tenant, recalls FROM mart_recall_use") == [("globex", 1)]
    assert ask(others, "SELECT tenant, tokens FROM mart_cost_daily") == [("globex", 10**11)]


def test_an_erased_users_recalls_are_gone_from_postgres_the_lake_and_every_file(
    source: str, database: Urls, tmp_path: Path
) -> None:
    settings = load_settings(home=tmp_path)
    lake, exports = tmp_path / "lake", tmp_path / "exports"
    export_lake(source, WINDOW, lake)
    publish(settings, lake, exports)
    ((user,),) = execute(database, "SELECT user_id FROM users WHERE email = 'ana@acme.example'")
    assert isinstance(user, UUID)
    with pytest.raises(ExportError, match=r"memory_access/day=2025-03-01"):
        forget_in_exports(settings, source, lake, exports, user)
    for table in ("memories", "messages", "conversations", "users"):
        execute(database, sql_for_erasing(table), user)
    assert execute(database, "SELECT count(*) FROM memory_access_log") == [(1,)]
    report = forget_in_exports(settings, source, lake, exports, user)
    assert report is not None
    assert (report.rows["memory_access"], report.rows["llm_usage"]) == (1, len(COSTS))
    for path in (file for file in tmp_path.rglob("*") if file.is_file() and not file.is_symlink()):
        content = path.read_bytes()
        assert user.bytes not in content, path
        assert (user.int ^ (1 << 127)).to_bytes(16, "little") not in content, path

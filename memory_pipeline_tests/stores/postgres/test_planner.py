"""Keeping the planner informed: who grew is analyzed, by the role that has to, and nobody twice."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.planner import inform_planner
from memory_pipeline_tests.conftest import Database as FreshDatabase

_FILL = """
INSERT INTO memory.users (tenant_id, email, display_name)
SELECT tenant_id, gen_random_uuid() || '@acme.test', 'U' FROM memory.tenants, generate_series(1, %s)
"""


@pytest.fixture
def pipeline(database: FreshDatabase) -> Iterator[Database]:
    with Database(database.pipeline_url) as pipeline:
        yield pipeline


def rows_expected(database: FreshDatabase, table: str) -> float:
    with psycopg.connect(database.admin_url) as connection:
        row = connection.execute("SELECT reltuples FROM pg_class WHERE relname = %s", [table]).fetchone()
    assert row is not None
    return float(row[0])


def test_a_table_that_grew_is_analyzed_once(database: FreshDatabase, pipeline: Database) -> None:
    with psycopg.connect(database.admin_url) as connection:
        connection.execute("INSERT INTO memory.tenants (slug, name) VALUES ('acme', 'Acme')")
        connection.execute(_FILL, [2_000])
    assert rows_expected(database, "users") == -1
    assert inform_planner(pipeline) == ["user_roles", "users"]
    assert rows_expected(database, "users") == 2_000
    assert inform_planner(pipeline) == []
    with psycopg.connect(database.admin_url) as connection:
        connection.execute(_FILL, [200])
    assert inform_planner(pipeline) == []
    with psycopg.connect(database.admin_url) as connection:
        connection.execute(_FILL, [2_000])
    assert inform_planner(pipeline) == ["user_roles", "users"]


def test_an_empty_database_needs_no_analysis(pipeline: Database) -> None:
    assert inform_planner(pipeline) == []


def test_a_table_that_somebody_else_is_working_on_is_left_to_them(database: FreshDatabase, pipeline: Database) -> None:
    with psycopg.connect(database.admin_url) as connection:
        connection.execute("INSERT INTO memory.tenants (slug, name) VALUES ('acme', 'Acme')")
        connection.execute(_FILL, [2_000])
    with psycopg.connect(database.admin_url) as connection:
        connection.execute("LOCK TABLE memory.users IN SHARE UPDATE EXCLUSIVE MODE")
        inform_planner(pipeline)
    assert rows_expected(database, "users") == -1

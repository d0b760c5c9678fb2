"""The shared fixtures: every test has stores of its own on the servers of the run."""

from __future__ import annotations

import httpx
import psycopg
import redis

from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.local.host import Servers


def test_a_database_is_empty_and_gone_afterwards(servers: Servers, empty_database: Database) -> None:
    with psycopg.connect(empty_database.admin_url) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == (empty_database.name,)
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_redis_is_empty(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left behind", "for the next test to find")


def test_redis_is_empty_again(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_a_chroma_database_exists_for_the_test(chroma_url: str, chroma_database: str) -> None:
    answer = httpx.get(f"{chroma_url}/api/v2/tenants/default_tenant/databases/{chroma_database}/collections")
    assert answer.json() == []

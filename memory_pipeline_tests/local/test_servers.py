"""Each embedded server alone: it starts, keeps its data over restarts and crashes, and leaves nothing behind."""

from __future__ import annotations

import httpx
import psycopg
import pytest
import redis

from memory_pipeline.local.chroma import ChromaServer
from memory_pipeline.local.postgres import PostgresServer
from memory_pipeline.local.processes import descendants, listens_on, process_identity
from memory_pipeline.local.redis import RedisServer


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_postgres_keeps_committed_rows_over_a_restart(postgres_server: PostgresServer, end: str) -> None:
    with psycopg.connect(postgres_server.url()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    pids = [postgres_server.running().pid, *descendants(postgres_server.running().pid)]
    assert len(pids) > 3
    getattr(postgres_server, end)()
    assert [pid for pid in pids if process_identity(pid)] == []
    postgres_server.start()
    with psycopg.connect(postgres_server.url()) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchall() == [(42,)]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_redis_keeps_its_keys_and_its_port_over_a_restart(redis_server: RedisServer, end: str) -> None:
    with redis.Redis.from_url(redis_server.url()) as client:
        client.set("kept", "42")
    url, pid = redis_server.url(), redis_server.running().pid
    getattr(redis_server, end)()
    assert process_identity(pid) is None
    redis_server.start()
    assert redis_server.url() == url
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"42"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_chroma_keeps_its_databases_and_its_port_over_a_restart(chroma_server: ChromaServer, end: str) -> None:
    databases = f"{chroma_server.url}/api/v2/tenants/default_tenant/databases"
    httpx.post(databases, json={"name": "kept"}).raise_for_status()
    pid, port = chroma_server.running().pid, chroma_server.port
    assert listens_on(pid, port)
    getattr(chroma_server, end)()
    assert process_identity(pid) is None
    chroma_server.start()
    assert httpx.get(f"{databases}/kept").json()["name"] == "kept"

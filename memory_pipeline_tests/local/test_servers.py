"""Each embedded server alone: it starts, keeps its data over restarts and crashes, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import threading
import time
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from memory_pipeline.local import postgres as postgres_module
from memory_pipeline.local.accounts import first_closed_folder, own_folder, server_account
from memory_pipeline.local.chroma import ChromaServer
from memory_pipeline.local.postgres import PostgresServer, installed_postgres
from memory_pipeline.local.processes import descendants, free_port, listens_on, process_identity
from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline_tests.local.inspect import processes_below

only_as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres under another account")


def postgres_in(folder: Path, *, port: int | None = None, socket_dir: Path | None = None) -> PostgresServer:
    return PostgresServer(
        folder / "postgres",
        socket_dir or folder / "socket",
        folder / "postgres.log",
        copies=folder / "lib",
        durable=False,
        port=port,
    )


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


def test_postgres_serves_every_client_library_by_its_url(postgres_server: PostgresServer) -> None:
    import sqlalchemy
    from adbc_driver_postgresql import dbapi

    url = postgres_server.url()
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT 42")).scalar() == 42
    engine.dispose()
    with dbapi.connect(url) as adbc, adbc.cursor() as cursor:
        cursor.execute("SELECT 42")
        assert cursor.fetchone() == (42,)


def test_postgres_is_durable_unless_told_otherwise_and_has_vectors_and_utc(server_folder: Path) -> None:
    server = PostgresServer(
        server_folder / "postgres", server_folder / "socket", server_folder / "log", copies=server_folder / "lib"
    )
    server.start()
    try:
        with psycopg.connect(server.url()) as connection:
            for name, value in {
                "fsync": "on",
                "full_page_writes": "on",
                "synchronous_commit": "on",
                "wal_level": "replica",
                "TimeZone": "UTC",
                "jit": "off",
                "listen_addresses": "",
                "server_encoding": "UTF8",
            }.items():
                assert connection.execute("SELECT current_setting(%s)", [name]).fetchone() == (value,), name
            connection.execute("CREATE EXTENSION vector")
            assert connection.execute("SELECT lower('ÄÖ')").fetchone() == ("äö",)
    finally:
        server.stop()


def test_postgres_ignores_variables_meant_for_other_servers(
    server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nonexistent")
    server = postgres_in(server_folder)
    server.start()
    try:
        with psycopg.connect(server.url()) as connection:
            assert connection.execute("SHOW data_directory").fetchone() == (str(server.data_dir),)
    finally:
        server.stop()


def test_postgres_listens_on_tcp_where_asked(server_folder: Path) -> None:
    server = postgres_in(server_folder, port=free_port())
    server.start()
    try:
        with psycopg.connect(server.tcp_url()) as over_tcp, psycopg.connect(server.url()) as over_socket:
            assert over_tcp.info.host == "127.0.0.1"
            ask = "SELECT pg_postmaster_start_time()"
            assert over_tcp.execute(ask).fetchone() == over_socket.execute(ask).fetchone()
    finally:
        server.stop()


def test_a_stale_lock_file_that_names_a_living_process_is_cleared(postgres_server: PostgresServer) -> None:
    """Not ours, but of the same account: Postgres itself would refuse to start."""
    account = server_account()
    postgres_server.stop()
    with subprocess.Popen(["sleep", "600"], user=account.uid if account else None) as bystander:
        lock = postgres_server.data_dir / "postmaster.pid"
        lock.write_text(f"{bystander.pid}\n{postgres_server.data_dir}\n1\n5432\n\n\n\nready\n")
        postgres_server.start()
        psycopg.connect(postgres_server.url()).close()
        assert bystander.poll() is None
        bystander.kill()


def test_a_second_postgres_on_the_same_data_is_refused(
    postgres_server: PostgresServer, server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "_LEFTOVER_SECONDS", 0.1)
    second = postgres_in(server_folder)
    with pytest.raises(
        StoreUnavailableError, match=f"in use by another Postgres .process {postgres_server.running().pid}"
    ):
        second.start()
    psycopg.connect(postgres_server.url()).close()


def test_an_interrupted_initdb_is_started_over(server_folder: Path) -> None:
    unfinished = server_folder / "postgres.unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    server = postgres_in(server_folder)
    server.start()
    try:
        psycopg.connect(server.url()).close()
    finally:
        server.stop()
    assert not unfinished.exists()


def test_a_foreign_folder_is_never_taken_for_a_data_directory(server_folder: Path) -> None:
    (server_folder / "postgres").mkdir()
    (server_folder / "postgres" / "thesis.txt").write_text("important")
    with pytest.raises(StoreUnavailableError, match="neither empty nor a Postgres data directory"):
        postgres_in(server_folder).start()
    assert (server_folder / "postgres" / "thesis.txt").read_text() == "important"


@pytest.mark.parametrize("name", ["x" * 90, "a,b"])
def test_a_socket_folder_that_postgres_cannot_use_is_replaced_by_a_private_one(server_folder: Path, name: str) -> None:
    server = postgres_in(server_folder, socket_dir=server_folder / name)
    server.start()
    try:
        psycopg.connect(server.url()).close()
        assert server.socket_dir.parent == Path("/tmp")
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
    finally:
        server.stop()
    assert not server.socket_dir.exists()


def test_a_folder_name_that_somebody_else_took_is_refused(server_folder: Path) -> None:
    (server_folder / "elsewhere").mkdir()
    (server_folder / "link").symlink_to(server_folder / "elsewhere")
    with pytest.raises(StoreUnavailableError, match="not a folder of ours"):
        own_folder(server_folder / "link", 0o700)


@only_as_root
def test_binaries_that_the_server_account_cannot_reach_are_copied_once(
    server_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = installed_postgres().parent
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(package / "pginstall18", closed / package.name / "pginstall18", symlinks=True)
    shutil.copytree(package.with_name(f"{package.name}.libs"), closed / f"{package.name}.libs")
    monkeypatch.setattr(postgres_module, "installed_postgres", lambda: closed / package.name / "pginstall18")
    for _ in range(2):
        server = postgres_in(server_folder)
        server.start()
        try:
            with psycopg.connect(server.url()) as connection:
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        finally:
            server.stop()
        copies = list((server_folder / "lib").iterdir())
        assert len(copies) == 1
        assert first_closed_folder(copies[0] / package.name / "pginstall18" / "bin", server_account()) is None
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_a_server_that_fails_to_start_shows_the_end_of_its_log(server_folder: Path) -> None:
    server = RedisServer(server_folder / "redis", server_folder / "redis.log", max_memory="plenty")
    with pytest.raises(StoreUnavailableError, match=r"(?s)Redis ended with code 1 while it started.*maxmemory"):
        server.start()
    assert processes_below(server_folder) == {}


def test_a_port_that_is_taken_is_an_error_if_it_was_asked_for(redis_server: RedisServer, server_folder: Path) -> None:
    second = ChromaServer(server_folder / "chroma", server_folder / "chroma.log", port=redis_server.port)
    with pytest.raises(StoreUnavailableError, match="Chroma ended"):
        second.start()


def test_a_free_port_that_somebody_takes_first_is_replaced(
    redis_server: RedisServer, server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offers = [redis_server.port, free_port()]
    monkeypatch.setattr("memory_pipeline.local.tcp_server.free_port", lambda: offers.pop(0))
    second = RedisServer(server_folder / "second", server_folder / "second.log")
    second.start()
    try:
        assert second.port != redis_server.port
        with redis.Redis.from_url(second.url()) as client:
            assert client.ping()
    finally:
        second.stop()


def test_a_server_outlives_the_thread_that_started_it(server_folder: Path) -> None:
    server = RedisServer(server_folder / "redis", server_folder / "redis.log")
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    time.sleep(0.3)
    assert server.running().exit_code is None
    server.stop()


def test_a_suspended_server_answers_nothing_until_it_is_resumed_and_can_be_stopped(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url(), socket_timeout=0.3, retry=None) as client:
        client.ping()
        redis_server.running().suspend()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        redis_server.running().resume()
        assert client.ping()
    redis_server.running().suspend()
    redis_server.stop()
    assert redis_server.child is None


def test_data_and_logs_are_readable_by_their_owner_alone(redis_server: RedisServer, server_folder: Path) -> None:
    assert stat.S_IMODE((server_folder / "redis").stat().st_mode) == 0o700
    assert stat.S_IMODE(redis_server.log.stat().st_mode) == 0o600

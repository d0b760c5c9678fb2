"""Fixtures on real servers: one Postgres, Redis and Chroma per test run, shared by all its pytest-xdist workers.

The pytest process that you start (not a worker) owns the servers, so they end with it, killed or not. They start when
the first test asks for them: a run of tests without stores starts nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from memory_pipeline.local.accounts import reachable_home
from memory_pipeline.local.chroma import ChromaServer
from memory_pipeline.local.postgres import PostgresServer
from memory_pipeline.local.redis import RedisServer
from memory_pipeline.settings import Settings, load_settings

_SOCKET_VARIABLE = "MEMORY_TEST_SERVERS"
_REDIS_DATABASES = 256
_TEMPLATE = "memory_template"
_TENANT = "default_tenant"


# -- servers: in the pytest process that outlives all workers --


def _folder_for_servers() -> Path:
    """A new folder that the servers' account can pass, in the system's temporary folder if it can pass that."""
    parent = reachable_home(Path(tempfile.gettempdir()), say=lambda line: None)
    folder = Path(tempfile.mkdtemp(prefix="memory-tests-", dir=parent))
    folder.chmod(0o711)
    return folder


class _ServerHost:
    """Starts the servers when the first test asks over a Unix socket, and answers every test with their addresses."""

    def __init__(self) -> None:
        self.folder = _folder_for_servers()
        self.postgres = PostgresServer(
            self.folder / "postgres",
            self.folder / "socket",
            self.folder / "postgres.log",
            copies=self.folder / "lib",
            durable=False,
        )
        self.redis = RedisServer(self.folder / "redis", self.folder / "redis.log", databases=_REDIS_DATABASES)
        self.chroma = ChromaServer(self.folder / "chroma", self.folder / "chroma.log")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.address = str(self.folder / "servers.sock")
        self._listener.bind(self.address)
        os.chmod(self.address, 0o600)
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._serve, name="test-servers", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        answer: bytes | None = None
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed: the run is over
                return
            with connection:
                answer = answer or self._start()
                with contextlib.suppress(BrokenPipeError):  # the asker is gone
                    connection.sendall(answer)

    def _start(self) -> bytes:
        try:
            self.chroma.launch()
            self.redis.launch()
            self.postgres.start()
            self.redis.wait_ready()
            self.chroma.wait_ready()
        except Exception as error:  # noqa: BLE001  # told to the test that asked, which raises it
            return json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()
        return json.dumps(
            {
                "postgres": self.postgres.url("{user}", "{database}"),
                "redis": self.redis.url(),
                "chroma": self.chroma.url,
            }
        ).encode()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        with contextlib.ExitStack() as stops:
            stops.callback(shutil.rmtree, self.folder)
            for server in (self.postgres, self.redis, self.chroma):
                stops.callback(server.stop)


_HOST = pytest.StashKey[_ServerHost]()


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    # Tests see the settings' defaults, whatever the caller's environment holds.
    for name in [name for name in os.environ if name.startswith("MEMORY_") or name == "DAGSTER_HOME"]:
        del os.environ[name]
    host = _ServerHost()
    config.stash[_HOST] = host
    os.environ[_SOCKET_VARIABLE] = host.address


def pytest_unconfigure(config: pytest.Config) -> None:
    host = config.stash.get(_HOST, None)
    if host is not None:
        host.close()


# -- fixtures --


@dataclass(frozen=True)
class Servers:
    """Addresses of the test run's servers."""

    postgres: str
    redis: str
    chroma: str

    def postgres_url(self, user: str = "postgres", database: str = "postgres") -> str:
        return self.postgres.replace("%7Buser%7D", user).replace("%7Bdatabase%7D", database)


@dataclass(frozen=True)
class Database:
    """A migrated database of one test."""

    name: str
    admin_url: str
    app_url: str
    pipeline_url: str


@pytest.fixture(scope="session")
def servers() -> Servers:
    """The test run's Postgres, Redis and Chroma; started by the first test of any worker that needs them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(os.environ[_SOCKET_VARIABLE])
        answer = json.loads(b"".join(iter(lambda: connection.recv(4096), b"")))
    if "error" in answer:
        pytest.fail(f"The servers of the test run did not start. {answer['error']}", pytrace=False)
    return Servers(**answer)


@pytest.fixture(scope="session")
def migrated_template(servers: Servers) -> str:
    """Name of a database with all migrations applied; made once per run, by the first worker that needs it."""
    import psycopg
    from psycopg import sql

    from memory_pipeline.stores.postgres.migrate import migrate

    with psycopg.connect(servers.postgres_url(), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [_TEMPLATE])
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_TEMPLATE]).fetchone() is None:
            unfinished = sql.Identifier(f"{_TEMPLATE}_unfinished")
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(unfinished))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(unfinished))
            migrate(servers.postgres_url(database=f"{_TEMPLATE}_unfinished"))
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(unfinished, sql.Identifier(_TEMPLATE)))
    return _TEMPLATE


@contextlib.contextmanager
def _fresh_database(servers: Servers, template: str) -> Iterator[Database]:
    import psycopg
    from psycopg import sql

    name = f"test_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(servers.postgres_url(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        try:
            yield Database(
                name=name,
                admin_url=servers.postgres_url("postgres", name),
                app_url=servers.postgres_url("memory_app", name),
                pipeline_url=servers.postgres_url("memory_pipeline", name),
            )
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database(servers: Servers, migrated_template: str) -> Iterator[Database]:
    """A fresh migrated database, dropped after the test."""
    with _fresh_database(servers, migrated_template) as fresh:
        yield fresh


@pytest.fixture
def empty_database(servers: Servers) -> Iterator[Database]:
    """A fresh database without any migration (roles are the cluster's: they may exist), dropped after the test."""
    with _fresh_database(servers, "template0") as fresh:
        yield fresh


@pytest.fixture
def redis_url(servers: Servers, worker_id: str) -> str:
    """An empty Redis database that no other worker uses. For FLUSHALL or a crash take `redis_server`."""
    import redis

    number = 0 if worker_id == "master" else 1 + int(worker_id.removeprefix("gw"))
    url = f"{servers.redis.rpartition('/')[0]}/{number}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def chroma_url(servers: Servers) -> str:
    """The test run's Chroma; collections belong into `chroma_database`."""
    return servers.chroma


@pytest.fixture
def chroma_database(chroma_url: str) -> Iterator[str]:
    """Name of a Chroma database of this test alone, deleted after it."""
    import httpx

    name = f"test_{uuid.uuid4().hex[:16]}"
    with httpx.Client(base_url=f"{chroma_url}/api/v2/tenants/{_TENANT}", trust_env=False, timeout=30) as client:
        client.post("/databases", json={"name": name}).raise_for_status()
        yield name
        client.delete(f"/databases/{name}").raise_for_status()


@pytest.fixture
def settings(database: Database, redis_url: str, chroma_url: str, chroma_database: str, tmp_path: Path) -> Settings:
    """Settings on the stores of this test alone, with its temporary folder as home."""
    return load_settings(
        home=tmp_path,
        postgres_admin_url=database.admin_url,
        postgres_app_url=database.app_url,
        postgres_pipeline_url=database.pipeline_url,
        redis_url=redis_url,
        chroma_url=chroma_url,
        chroma_database=chroma_database,
    )


# -- servers of one test alone: to be killed, suspended, filled up --


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder that the server account can reach (pytest's own are closed to it when root runs the tests)."""
    folder = _folder_for_servers()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def postgres_server(server_folder: Path) -> Iterator[PostgresServer]:
    """A Postgres server, without databases of ours, that this test may kill or suspend."""
    server = PostgresServer(
        server_folder / "postgres",
        server_folder / "socket",
        server_folder / "postgres.log",
        copies=server_folder / "lib",
        durable=False,
    )
    with contextlib.ExitStack() as stops:
        stops.callback(server.stop)
        server.start()
        yield server


@pytest.fixture
def redis_server(server_folder: Path) -> Iterator[RedisServer]:
    """A Redis server that this test may kill, suspend or flush."""
    server = RedisServer(server_folder / "redis", server_folder / "redis.log")
    with contextlib.ExitStack() as stops:
        stops.callback(server.stop)
        server.start()
        yield server


@pytest.fixture
def chroma_server(server_folder: Path) -> Iterator[ChromaServer]:
    """A Chroma server that this test may kill, suspend or rob of its directory."""
    server = ChromaServer(server_folder / "chroma", server_folder / "chroma.log")
    with contextlib.ExitStack() as stops:
        stops.callback(server.stop)
        server.start()
        yield server

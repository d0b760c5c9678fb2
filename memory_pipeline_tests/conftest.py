"""Fixtures on real servers: one Postgres, Redis and Chroma per test run, shared by all its pytest-xdist workers.

The pytest process that you start (not a worker) owns the servers, so they end with it, killed or not. They start when
the first test asks for them: a run of tests without stores starts nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from memory_pipeline.local.chroma import ChromaServer
from memory_pipeline.local.postgres import PostgresServer
from memory_pipeline.local.redis import RedisServer
from memory_pipeline.settings import Settings, load_settings
from memory_pipeline_tests.local.host import ServerHost, Servers, ask_for_servers
from memory_pipeline_tests.stores.lake_places import lake_place, s3  # noqa: F401  # fixtures of several folders

_HOST = pytest.StashKey[ServerHost]()
_HOST_VARIABLE = "MEMORY_TEST_SERVERS"
_TEMPLATE = "memory_template"
_TENANT = "default_tenant"


def pytest_configure(config: pytest.Config) -> None:
    # Tests print as on one and the same terminal, in pytest-xdist's workers too: GNU readline, which pdb loads, puts
    # COLUMNS and LINES into the environment that the workers get, and they would decide how tables are cut.
    for name in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        os.environ.pop(name, None)
    os.environ["TERM"] = "xterm"
    if hasattr(config, "workerinput"):
        return
    # Tests see the settings' defaults, whatever the caller's environment holds.
    for name in [name for name in os.environ if name.startswith("MEMORY_") or name == "DAGSTER_HOME"]:
        del os.environ[name]
    host = ServerHost()
    config.stash[_HOST] = host
    os.environ[_HOST_VARIABLE] = host.address


@pytest.fixture(autouse=True)
def logs_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands configure logs of the process they run in; where that is this one, their stream ends with the test.

    So no logger keeps it: modules' loggers outlive the test.
    """
    before, configure = structlog.get_config(), structlog.configure
    monkeypatch.setattr(structlog, "configure", lambda **how: configure(**how | {"cache_logger_on_first_use": False}))
    yield
    configure(**before)


def pytest_unconfigure(config: pytest.Config) -> None:
    host = config.stash.get(_HOST, None)
    if host is not None:
        host.close()


@dataclass(frozen=True)
class Database:
    """A database of one test."""

    name: str
    admin_url: str
    app_url: str
    pipeline_url: str


@pytest.fixture(scope="session")
def servers() -> Servers:
    """The test run's Postgres, Redis and Chroma; started by the first test of any worker that needs them."""
    try:
        return ask_for_servers(os.environ[_HOST_VARIABLE])
    except RuntimeError as error:
        pytest.fail(f"The servers of the test run did not start. {error}", pytrace=False)


@pytest.fixture(scope="session")
def migrated_template(servers: Servers) -> str:
    """Name of a database with all migrations applied; made once per run, by the first worker that needs it."""
    import psycopg
    from psycopg import sql

    from memory_pipeline.stores.postgres.migrate import migrate

    unfinished = sql.Identifier(f"{_TEMPLATE}_unfinished")
    with psycopg.connect(servers.postgres_url(), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [_TEMPLATE])
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_TEMPLATE]).fetchone() is None:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(unfinished))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(unfinished))
            migrate(servers.postgres_url(database=f"{_TEMPLATE}_unfinished"))
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(unfinished, sql.Identifier(_TEMPLATE)))
    return _TEMPLATE


@contextlib.contextmanager
def fresh_database(servers: Servers, template: str) -> Iterator[Database]:
    """A copy of `template`, dropped at the end; costs a third of a second, so a module of tests may share one."""
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
    """A fresh migrated database, dropped after the test. For a crash take `postgres_server`."""
    with fresh_database(servers, migrated_template) as fresh:
        yield fresh


@pytest.fixture
def empty_database(servers: Servers) -> Iterator[Database]:
    """A fresh database without any migration (roles are the cluster's: they may exist), dropped after the test."""
    with fresh_database(servers, "template0") as fresh:
        yield fresh


def redis_of_this_worker(servers: Servers) -> str:
    """An emptied Redis database that no other worker uses; tests of one worker come one after the other."""
    import redis

    worker = os.environ.get("PYTEST_XDIST_WORKER")
    url = servers.redis_url(0 if worker is None else 1 + int(worker.removeprefix("gw")))
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """An empty Redis database that no other worker uses. For FLUSHALL or a crash take `redis_server`."""
    return redis_of_this_worker(servers)


@pytest.fixture
def chroma_url(servers: Servers) -> str:
    """The test run's Chroma; collections belong into `chroma_database`. For a crash take `chroma_server`."""
    return servers.chroma_url


@pytest.fixture
def chroma_database(chroma_url: str) -> str:
    """Name of a Chroma database of this test alone."""
    import httpx

    name = f"test_{uuid.uuid4().hex[:16]}"
    with httpx.Client(base_url=f"{chroma_url}/api/v2/tenants/{_TENANT}", trust_env=False, timeout=30) as client:
        client.post("/databases", json={"name": name}).raise_for_status()
    # Left behind: it goes with the run's servers, and Chroma answers 500 when it is deleted while others write.
    return name


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


@pytest.fixture(scope="session")
def sample_lake(servers: Servers, migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake of `export_sample`, exported once by each worker. To be read or copied; `lake_root` may be changed."""
    from memory_pipeline.stages.export import export_lake
    from memory_pipeline_tests.stores.export_sample import WINDOW, fill

    root = tmp_path_factory.mktemp("sample") / "lake"
    with fresh_database(servers, migrated_template) as database:
        fill(database.pipeline_url)
        export_lake(database.pipeline_url, WINDOW, root)
    return root


@pytest.fixture
def lake_root(sample_lake: Path, tmp_path: Path) -> Path:
    """A copy of the sample's lake, of this test alone."""
    return Path(shutil.copytree(sample_lake, tmp_path / "lake"))


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder for servers of this test alone (pytest's own are closed to the servers' account when root tests)."""
    folder = Path(tempfile.mkdtemp(prefix="test-", dir=Path(os.environ[_HOST_VARIABLE]).parent))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def postgres_server(server_folder: Path) -> Iterator[PostgresServer]:
    """A Postgres server of this test alone, without any database of ours, to be killed or suspended."""
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
    """A Redis server of this test alone, to be killed, suspended, flushed or filled."""
    server = RedisServer(server_folder / "redis", server_folder / "redis.log")
    with contextlib.ExitStack() as stops:
        stops.callback(server.stop)
        server.start()
        yield server


@pytest.fixture
def chroma_server(server_folder: Path) -> Iterator[ChromaServer]:
    """A Chroma server of this test alone, to be killed, suspended or robbed of its directory."""
    server = ChromaServer(server_folder / "chroma", server_folder / "chroma.log")
    with contextlib.ExitStack() as stops:
        stops.callback(server.stop)
        server.start()
        yield server

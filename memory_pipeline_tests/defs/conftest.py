"""A deployment on the test's own stores: a dagster-postgres instance, the project's dagster.yaml, an embedder."""

from __future__ import annotations

import shutil
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from psycopg import sql

from memory_pipeline.settings import Settings, load_settings
from memory_pipeline_tests.defs.embedding_server import DIMENSION, EmbeddingServer
from memory_pipeline_tests.local.host import Servers

PROJECT = Path(__file__).parents[2]
_TEMPLATE = "dagster_template"


@dataclass(frozen=True)
class Deployment:
    """What a process of this project is told by its environment."""

    settings: Settings
    env: dict[str, str]
    embeddings: EmbeddingServer


@pytest.fixture(scope="session")
def dagster_template(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a database with Dagster's tables: making them takes a second, copying them does not."""
    with psycopg.connect(servers.postgres_url(), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [_TEMPLATE])
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_TEMPLATE]).fetchone() is None:
            unfinished = f"{_TEMPLATE}_unfinished"
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(unfinished)))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(unfinished)))
            home = tmp_path_factory.mktemp("dagster_template")
            shutil.copy(PROJECT / "dagster.yaml", home)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MEMORY_DAGSTER_POSTGRES_URL", servers.postgres_url(database=unfinished))
                with dg.DagsterInstance.from_config(str(home)) as instance:
                    instance.get_runs(limit=1)
                    instance.all_asset_keys()
                    instance.all_instigator_state()
            connection.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(unfinished), sql.Identifier(_TEMPLATE))
            )
    return _TEMPLATE


@pytest.fixture
def dagster_postgres_url(servers: Servers, dagster_template: str) -> Iterator[str]:
    """A database of Dagster's for one test."""
    name = f"dagster_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(servers.postgres_url(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(dagster_template))
        )
        yield servers.postgres_url(database=name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def small_postgres_instance(dagster_postgres_url: str) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance without anything else of a deployment, which keeps runs and events as a real one does."""
    storage = {"postgres": {"postgres_url": dagster_postgres_url}}
    with dg.instance_for_test(overrides={"storage": storage}) as opened:
        yield opened


@pytest.fixture
def embeddings() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def deployment(
    settings: Settings, dagster_postgres_url: str, embeddings: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> Deployment:
    """The environment of a process of this project, also set in this process; new tenants have its embedder."""
    with psycopg.connect(str(settings.postgres_admin_url)) as connection:
        connection.execute("UPDATE memory.plugin_registry SET default_install = true WHERE plugin = 'embedder:openai'")
    home = settings.home / "dagster"
    home.mkdir()
    shutil.copy(PROJECT / "dagster.yaml", home)
    env = {
        "DAGSTER_HOME": str(home),
        "DAGSTER_EVENT_BATCH_SIZE": "1000",
        "MEMORY_HOME": str(settings.home),
        "MEMORY_POSTGRES_APP_URL": str(settings.postgres_app_url),
        "MEMORY_POSTGRES_PIPELINE_URL": str(settings.postgres_pipeline_url),
        "MEMORY_REDIS_URL": str(settings.redis_url),
        "MEMORY_CHROMA_URL": str(settings.chroma_url),
        "MEMORY_CHROMA_DATABASE": settings.chroma_database,
        "MEMORY_DAGSTER_POSTGRES_URL": dagster_postgres_url,
        "MEMORY_EMBEDDER": "openai",
        "MEMORY_EMBEDDING_BASE_URL": embeddings.url,
        "MEMORY_EMBEDDING_MODEL": "test-8",
        "MEMORY_EMBEDDING_DIMENSION": str(DIMENSION),
        "MEMORY_RETRY_ATTEMPTS": "0",
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return Deployment(load_settings(), env, embeddings)


@pytest.fixture
def instance(deployment: Deployment) -> Iterator[dg.DagsterInstance]:
    """The deployment's Dagster instance."""
    with dg.DagsterInstance.get() as opened:
        yield opened

"""A queue for each test: one database for a module, emptied; and a worker's pauses made short."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from memory_pipeline.local.redis import RedisServer
from memory_pipeline.settings import load_settings
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.worker import consumer, outcomes, relay
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.stores.postgres.ledger import Ledger
from memory_pipeline_tests.worker.support import QUICK, Bench
from memory_pipeline_tests.worker.watch import forget, watch


@pytest.fixture(scope="module")
def shared_ledger(servers: Servers, migrated_template: str) -> Iterator[Ledger]:
    """The watched ledger of a database of this module alone; may hold jobs of the test before."""
    with fresh_database(servers, migrated_template) as urls:
        watch(urls.admin_url)
        with Database(urls.pipeline_url, role="memory_pipeline", pool_size=8) as database:
            yield Ledger(urls, database)


@pytest.fixture
def bench(shared_ledger: Ledger, redis_url: str, tmp_path: Path, short_pauses: None) -> Bench:
    """An empty queue on the run's servers."""
    return _bench(shared_ledger, redis_url, tmp_path)


@pytest.fixture
def fragile(shared_ledger: Ledger, redis_server: RedisServer, tmp_path: Path, short_pauses: None) -> Bench:
    """The same on a Redis of this test alone."""
    return _bench(shared_ledger, redis_server.url(), tmp_path)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(relay, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(relay, "FORGOTTEN_SECONDS", 0.3)
    monkeypatch.setattr(relay, "_AWAY_SECONDS", 0.05)
    monkeypatch.setattr(consumer, "_AWAY_SECONDS", 0.05)
    monkeypatch.setattr(outcomes, "AWAY_SECONDS", 0.1)
    monkeypatch.setattr(outcomes, "BUSY_SECONDS", 0.1)


def _bench(ledger: Ledger, redis_url: str, home: Path) -> Bench:
    forget(ledger.urls.admin_url)
    ledger.add_tenants()
    settings = load_settings(home=home, postgres_pipeline_url=ledger.urls.pipeline_url, redis_url=redis_url, **QUICK)
    return Bench(ledger, redis_url, settings)

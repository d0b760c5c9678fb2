"""Fixtures on one database for a module of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from memory_pipeline.stores.postgres.database import Database
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.stores.postgres.ledger import Ledger


@pytest.fixture(scope="module")
def shared_ledger(servers: Servers, migrated_template: str) -> Iterator[Ledger]:
    """The job ledger of a database of this module alone; may hold jobs of the test before."""
    with (
        fresh_database(servers, migrated_template) as urls,
        Database(urls.pipeline_url, role="memory_pipeline", pool_size=24) as database,
    ):
        yield Ledger(urls, database)


@pytest.fixture
def ledger(shared_ledger: Ledger) -> Ledger:
    """The same without any job."""
    shared_ledger.clear()
    return shared_ledger

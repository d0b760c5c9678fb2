"""The fixtures that the tests of ingestion share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.serving.ingest.support import Intake, opened


@pytest.fixture(scope="package")
def shared(servers: Servers, migrated_template: str) -> Iterator[Intake]:
    with fresh_database(servers, migrated_template) as urls, opened(urls) as intake:
        yield intake


@pytest.fixture
def intake(shared: Intake) -> Intake:
    return Intake(shared.urls, shared.app, shared.pipeline)


@pytest.fixture
def lone_intake(database: Urls) -> Iterator[Intake]:
    """For tests that change the schema or look at every tenant."""
    with opened(database) as intake:
        yield intake

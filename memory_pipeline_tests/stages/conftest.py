"""The fixtures that the tests of the stages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from memory_pipeline_tests.conftest import Database, fresh_database
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.stages.support import World


@pytest.fixture(scope="module")
def stage_database(servers: Servers, migrated_template: str) -> Iterator[Database]:
    """One database for the tests of a module: emptying it takes a tenth of the time of making another."""
    with fresh_database(servers, migrated_template) as fresh:
        yield fresh


@pytest.fixture
def speech(stage_database: Database) -> Iterator[World]:
    """An empty database to speak into. (`world` is the name that the index tests use for theirs.)"""
    world = World(stage_database.pipeline_url, stage_database.admin_url)
    world.empty()
    yield world
    world.close()

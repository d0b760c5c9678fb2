"""The fixture that the tests of the stages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.stages.support import World


@pytest.fixture
def speech(database: Database) -> Iterator[World]:
    """An empty database to speak into. (`world` is the name that the index tests use for theirs.)"""
    world = World(database.pipeline_url, database.admin_url)
    yield world
    world.close()

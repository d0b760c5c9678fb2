"""The fixtures that the tests of recall share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from memory_pipeline.settings import Settings
from memory_pipeline.stores.chroma.store import ChromaStore
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline_tests.serving.recall.support import World


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    assert settings.postgres_pipeline_url is not None
    assert settings.postgres_app_url is not None
    assert settings.chroma_url is not None
    with (
        Database(settings.postgres_pipeline_url) as pipeline,
        Database(settings.postgres_app_url) as app,
        ChromaStore(settings.chroma_url, settings.chroma_database) as chroma,
    ):
        yield World(settings, pipeline, app, chroma)

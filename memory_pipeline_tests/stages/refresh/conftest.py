"""The fixture that the tests of refreshing share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from memory_pipeline.settings import load_settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.stages.refresh.support import PickyEnricher
from memory_pipeline_tests.stages.support import HashedEmbedder, World


@pytest.fixture
def pipeline(speech: World, stage_database: Database, chroma_url: str, chroma_database: str) -> Iterator[Pipeline]:
    settings = load_settings(
        postgres_pipeline_url=stage_database.pipeline_url, chroma_url=chroma_url, chroma_database=chroma_database
    )
    with Pipeline(settings) as pipeline:
        pipeline.embedder = HashedEmbedder()
        pipeline.enricher = PickyEnricher()
        yield pipeline

"""Named memories on real Postgres and Chroma: they end as a run over their days would leave them, however they come."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from memory_pipeline.model.window import NamedMemories, NamedMemory
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.refresh import RefreshState, refresh
from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.stages.support import HashedEmbedder, World, at

TENANTS = {"acme": UUID(int=1), "globex": UUID(int=2)}


@pytest.fixture
def pipeline(speech: World, stage_database: Database, chroma_url: str, chroma_database: str) -> Iterator[Pipeline]:
    settings = load_settings(
        postgres_pipeline_url=stage_database.pipeline_url, chroma_url=chroma_url, chroma_database=chroma_database
    )
    with Pipeline(settings) as pipeline:
        pipeline.embedder = HashedEmbedder()
        yield pipeline


def episodes(speech: World) -> list[NamedMemory]:
    rows = speech.execute("SELECT tenant_id, memory_id, day FROM memories WHERE kind = 'episode'")
    return [NamedMemory(*row) for row in rows]


def test_a_named_message_becomes_facts_vectors_and_index_entries(speech: World, pipeline: Pipeline) -> None:
    speech.say("I live in Lisbon.", at(5))
    speech.say("I moved to Porto.", at(5), user="bob", tenant="globex")
    speech.say("I moved to Berlin.", at(5), user="bob", tenant="globex")
    named = episodes(speech)
    left = speech.memories("episode")["Bob: I moved to Berlin."]["memory_id"]
    report = refresh(pipeline, NamedMemories.of(memory for memory in named if memory.memory_id != left))
    assert [outcome.state for outcome in report.memories] == [RefreshState.DONE] * 2
    assert (report.enrich.messages, report.embed.memories, report.index.added) == (2, 4, 4)
    assert speech.statuses() == {
        "Ana: I live in Lisbon.": "active",
        "Ana lives in Lisbon.": "active",
        "Bob: I moved to Porto.": "active",
        "Bob moved to Porto.": "active",
        "Bob: I moved to Berlin.": "pending_enrichment",
    }
    assert len(speech.vectors()) == 4

"""Recall while a part of it is away."""

from __future__ import annotations

from memory_pipeline.providers.local_enricher import LocalEnricher
from memory_pipeline.stores.chroma.store import ChromaStore
from memory_pipeline.stores.postgres.index_generations import live_generation
from memory_pipeline_tests.serving.recall.support import ALL_DAYS, AbsentEmbedder, World, texts
from memory_pipeline_tests.stages.support import enrich


def test_without_chroma_full_text_answers_and_says_so(world: World) -> None:
    world.say("I like tea.", "The harbour opens at six.")
    world.derive()
    world.chroma = ChromaStore("http://127.0.0.1:9")
    result = world.ask("harbour", k=1)
    assert texts(result) == ["Ana: The harbour opens at six."]
    (reason,) = result.degraded
    assert reason.startswith("chroma: ")
    assert "127.0.0.1:9" in reason


def test_an_index_that_is_lost_or_was_never_built_is_said(world: World) -> None:
    world.say("The harbour opens at six.")
    enrich(world.pipeline, LocalEnricher(), ALL_DAYS)
    assert world.ask("harbour").degraded[0].startswith("chroma: there is no live words-64 index")
    world.derive()
    with world.pipeline.transaction() as connection:
        generation = live_generation(connection, world.user().tenant_id, world.embedder.model)
    assert generation is not None
    world.index.delete_collection(generation.collection_uuid)
    result = world.ask("harbour")
    assert result.degraded[0].startswith("chroma: ")
    assert result.memories


def test_without_the_embedder_full_text_answers_and_says_so(world: World) -> None:
    world.say("I like tea.", "The harbour opens at six.")
    world.derive()
    world.embedder = AbsentEmbedder()
    result = world.ask("harbour", k=1)
    assert texts(result) == ["Ana: The harbour opens at six."]
    assert result.degraded == ("embedder: the embedding service refuses connections.",)

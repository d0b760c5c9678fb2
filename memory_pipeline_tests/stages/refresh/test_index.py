"""Named memories and the index: what leaves it, what it refuses, and where it is lost or away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import numpy as np
import pytest

from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.refresh import RefreshState, refresh
from memory_pipeline.stores.postgres.index_generations import live_generation
from memory_pipeline_tests.faults.chroma_proxy import ChromaProxy, failing_for, refusing
from memory_pipeline_tests.stages.refresh.support import DONE, FAILED, UNKNOWN, assert_index_agrees, states
from memory_pipeline_tests.stages.support import MARCH, MODEL, ScriptedEnricher, World, embed, enrich


def test_deleted_and_vanished_memories_leave_the_index(speech: World, pipeline: Pipeline) -> None:
    for place in ("Lisbon", "Porto", "Berlin"):
        speech.say(f"I moved to {place}.")
    named = speech.named()
    refresh(pipeline, named)
    speech.execute("UPDATE memories SET status = 'deleted', version = version + 1 WHERE content LIKE '%%Lisbon%%'")
    speech.execute("DELETE FROM memories WHERE content = 'Ana: I moved to Porto.'")
    report = refresh(pipeline, named)
    assert (sorted(states(report)), report.index.removed) == ([DONE, DONE, UNKNOWN], 3)
    with pipeline.database.transaction() as connection:
        live = live_generation(connection, speech.tenant(), MODEL)
    assert live is not None
    held = {entry.memory_id for entry in pipeline.chroma.entries(live.collection_uuid)}
    memories = speech.memories()
    # The fact of the vanished message was not named and can't be found from it; a run over the days is for that.
    assert held == {
        memories[content]["memory_id"]
        for content in ("Ana: I moved to Berlin.", "Ana moved to Berlin.", "Ana moved to Porto.")
    }


def test_a_fact_may_be_named_by_itself_and_shorter_content_leaves_no_chunk(speech: World, pipeline: Pipeline) -> None:
    speech.say("I live in Lisbon.")
    refresh(pipeline, speech.named())
    for text in ("a long story " * 30, "short"):
        speech.execute(
            "UPDATE memories SET content = %s, content_hash = sha256(convert_to(%s, 'UTF8')), version = version + 1"
            " WHERE kind = 'fact'",
            *(text, text),
        )
        report = refresh(pipeline, speech.named(text))
        assert states(report) == [DONE]
    assert (report.index.updated, report.index.removed) == (1, 3)
    pipeline.enricher = enricher = ScriptedEnricher({}, "2")
    assert states(refresh(pipeline, speech.named("short"))) == [DONE]
    assert enricher.asked == []  # only messages are read, and this one was not named
    assert_index_agrees(pipeline)


def test_a_lost_collection_is_built_again_with_everything_in_it(speech: World, pipeline: Pipeline) -> None:
    speech.say("I live in Lisbon.")
    refresh(pipeline, speech.named())
    [(uuid,)] = speech.execute("SELECT collection_uuid FROM index_generations")
    pipeline.chroma.delete_collection(uuid)
    speech.say("I moved to Porto.")
    report = refresh(pipeline, speech.named("Ana: I moved to Porto."))
    assert (states(report), report.index.rebuilt) == ([DONE], [speech.tenant()])
    assert_index_agrees(pipeline)


def test_an_index_that_cannot_be_written_fails_the_memories_of_its_tenant_alone(
    speech: World, pipeline: Pipeline
) -> None:
    speech.say("I live in Lisbon.")
    speech.say("I live in Porto.", tenant="globex")
    globex = speech.tenant("globex")
    embed_and_spoil(speech, pipeline, globex)
    report = refresh(pipeline, speech.named())
    outcomes = {outcome.memory.tenant_id: outcome for outcome in report.memories}
    assert outcomes[speech.tenant()].state is DONE
    assert outcomes[globex].state is FAILED
    assert "dimensions" in str(outcomes[globex].failure_text)


def test_a_memory_whose_vector_has_no_place_in_the_index_fails_alone(speech: World, pipeline: Pipeline) -> None:
    for tenant in ("acme", "globex"):
        for place in ("Lisbon", "Porto", "Berlin"):
            speech.say(f"I moved to {place}.", tenant=tenant)
    enrich(pipeline.database, pipeline.enricher, MARCH)
    embed(pipeline.database, pipeline.embedder, MARCH)
    speech.execute(
        "UPDATE memory_embeddings e SET embedding = '[1,2,3]', dimension = 3 FROM memories m"
        " WHERE m.memory_id = e.memory_id AND m.content = 'Ana: I moved to Porto.' AND m.tenant_id = %s",
        speech.tenant("globex"),
    )
    report = refresh(pipeline, speech.named())
    [failed] = [outcome for outcome in report.memories if outcome.state is not DONE]
    assert (failed.state, failed.retryable, failed.memory.tenant_id) == (FAILED, True, speech.tenant("globex"))
    assert "dimensions" in str(failed.failure_text)
    assert str(failed.memory.memory_id) in str(failed.failure_text)


def test_a_message_fails_with_the_fact_of_it_that_chroma_refuses_and_its_neighbours_do_not(
    speech: World, pipeline: Pipeline
) -> None:
    for place in ("Lisbon", "Porto", "Berlin", "Oslo"):
        speech.say(f"I moved to {place}.")
    enrich(pipeline.database, pipeline.enricher, MARCH)
    with through_proxy(pipeline) as (proxy, through):
        proxy.script = refusing([speech.memories("fact")["Ana moved to Porto."]["memory_id"]])
        report = refresh(through, speech.named())
        by_state = {outcome.memory.memory_id: outcome.state for outcome in report.memories}
        of_porto = speech.memories("episode")["Ana: I moved to Porto."]["memory_id"]
        assert by_state.pop(of_porto) is FAILED
        assert list(by_state.values()) == [DONE] * 3
        proxy.script = None
        assert states(refresh(through, speech.named())) == [DONE] * 4
    assert_index_agrees(pipeline)


def test_memories_of_a_collection_that_fails_are_tried_again_and_have_not_failed(
    speech: World, pipeline: Pipeline
) -> None:
    speech.say("I live in Lisbon.")
    speech.say("I live in Porto.", tenant="globex")
    refresh(pipeline, speech.named())
    for tenant in ("acme", "globex"):
        speech.say("I moved to Berlin.", tenant=tenant)
    globex = speech.tenant("globex")
    with pipeline.database.transaction() as connection:
        live = live_generation(connection, globex, MODEL)
    assert live is not None
    with through_proxy(pipeline) as (proxy, through):
        proxy.script = failing_for(live.collection_uuid)
        for outcome in refresh(through, speech.named("Ana: I moved to Berlin.")).memories:
            assert outcome.state is (RefreshState.AWAY if outcome.memory.tenant_id == globex else DONE)
        proxy.script = None
        assert states(refresh(through, speech.named())) == [DONE] * 4
    assert_index_agrees(pipeline)


@contextmanager
def through_proxy(pipeline: Pipeline) -> Iterator[tuple[ChromaProxy, Pipeline]]:
    """The same pipeline, with a proxy before Chroma."""
    with (
        ChromaProxy(str(pipeline.settings.chroma_url)) as proxy,
        Pipeline(pipeline.settings.model_copy(update={"chroma_url": proxy.url})) as through,
    ):
        through.enricher, through.embedder = pipeline.enricher, pipeline.embedder
        yield proxy, through


def embed_and_spoil(speech: World, pipeline: Pipeline, tenant_id: UUID) -> None:
    """Have vectors of another dimension in a tenant."""
    enrich(pipeline.database, pipeline.enricher, MARCH)
    embed(pipeline.database, pipeline.embedder, MARCH)
    speech.execute(
        "UPDATE memory_embeddings SET embedding = %s::real[]::vector, dimension = 3 WHERE tenant_id = %s",
        *(np.ones(3).tolist(), tenant_id),
    )


def test_chroma_away_raises_and_the_next_refresh_goes_on(speech: World, pipeline: Pipeline) -> None:
    speech.say("I live in Lisbon.")
    settings = load_settings(postgres_pipeline_url=pipeline.settings.postgres_pipeline_url, chroma_url="http://[::1]:9")
    with Pipeline(settings) as lonely:
        lonely.enricher, lonely.embedder = pipeline.enricher, pipeline.embedder
        with pytest.raises(StoreUnavailableError, match="can't be reached"):
            refresh(lonely, speech.named())
    assert len(speech.vectors()) == 2
    assert states(refresh(pipeline, speech.named())) == [DONE]

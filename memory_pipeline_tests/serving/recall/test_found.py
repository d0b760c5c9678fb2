"""Recall: what is found, and how it is shown."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import numpy as np
import pytest

from memory_pipeline.serving.recall import RecallResult
from memory_pipeline.stores.postgres.search import Scope, turn_signals
from memory_pipeline_tests.serving.recall.support import START, World, texts


def test_the_memory_that_answers_comes_first_with_where_it_comes_from(world: World) -> None:
    (_, painted, _) = world.say("I slept badly again.", "The violin teacher praised my bowing.", "It rains outside.")
    world.derive()
    result = world.ask("what did the violin teacher say", k=1)
    (memory,) = result.memories
    assert memory.content == "Ana: The violin teacher praised my bowing."
    assert memory.kind == "episode"
    (source,) = memory.sources
    assert (source.source, source.source_message_id, source.speaker) == ("test", painted, "Ana")
    assert source.said_at == START + timedelta(seconds=2)
    assert result.degraded == ()
    assert msgspec.json.decode(msgspec.json.encode(result), type=RecallResult) == result


def test_a_fact_names_the_turn_and_the_time_it_comes_from(world: World) -> None:
    (said,) = world.say("I live in Lisbon.")
    world.derive()
    facts = [memory for memory in world.ask("Where does Ana live? Lisbon?").memories if memory.kind == "fact"]
    assert facts
    assert all([source.source_message_id for source in fact.sources] == [said] for fact in facts)
    assert all(fact.confidence and fact.valid_from for fact in facts)


def test_what_a_newer_fact_supersedes_is_not_shown(world: World) -> None:
    world.say("I live in Lisbon.")
    world.derive()
    world.execute("UPDATE memory.memories SET status = 'superseded' WHERE kind = 'fact'")
    assert {memory.kind for memory in world.ask("Lisbon").memories} == {"episode"}


@pytest.mark.parametrize("with_index", [True, False])
def test_an_answer_is_found_by_its_question(world: World, with_index: bool) -> None:
    world.say("Weather is fine.", "Which instrument does your brother play?", "The oboe!", "Trains were late.", "Hm.")
    world.say(*[f"Filler number {number} about nothing." for number in range(12)], conversation="c2", day=1)
    world.derive()
    if not with_index:
        world.chroma = None  # so that no word and no vector leads to the answer, its place alone
    assert "Ana: The oboe!" in texts(world.ask("instrument brother play", k=3))


def test_a_window_ends_with_the_day(world: World) -> None:
    (asked, answered), (late,) = world.say("Which instrument?", "The oboe!"), world.say("The oboe again!", day=1)
    world.derive()
    user, question = world.user(), world.embedder.embed(["Ana: Which instrument?"])[0]
    episodes = {said: world.episode(said) for said in (asked, answered, late)}
    with world.app.tenant_transaction(user.tenant_id) as connection:
        rows = connection.execute("SELECT source_message_id, message_id FROM messages").fetchall()
        turns = [(message_id, episodes[said]) for said, message_id in rows]
        scope = Scope(user.tenant_id, user.user_id, None)
        signals = {
            signal.memory_id: signal
            for signal in turn_signals(connection, scope, turns, world.embedder.model, question)
        }
    vectors = world.embedder.embed(["Ana: Which instrument?", "Ana: The oboe!", "Ana: The oboe again!"])
    both = vectors[0] + vectors[1]
    together, alone = signals[episodes[answered]], signals[episodes[late]]
    assert together.window_similarity == pytest.approx(question @ both / np.linalg.norm(both), abs=1e-5)
    assert together.answered_id == episodes[asked]
    assert alone.window_similarity == alone.lead_in_similarity == pytest.approx(question @ vectors[2], abs=1e-5)
    assert alone.answered_id is None


def test_only_the_named_project_is_searched(world: World) -> None:
    world.say("The harbour opens at six.", project="ships", conversation="c1")
    world.say("The harbour closes at nine.", project="night", conversation="c2")
    world.derive()
    assert texts(world.ask("harbour", project="ships")) == ["Ana: The harbour opens at six."]
    assert texts(world.ask("harbour", project="*")) == []
    assert len(world.ask("harbour").memories) == 2

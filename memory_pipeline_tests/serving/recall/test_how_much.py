"""Recall: how many memories and turns, within which budget."""

from __future__ import annotations

import pytest

from memory_pipeline.model import ids
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.serving.recall import estimate_tokens
from memory_pipeline_tests.serving.recall.support import World, texts


def test_k_bounds_the_memories(world: World) -> None:
    world.say(*[f"Harbour note number {number}." for number in range(8)])
    world.derive()
    assert [len(world.ask("harbour", k=k).memories) for k in (0, 1, 5, 50)] == [0, 1, 5, 8]


def test_the_last_turns_are_the_newest_of_the_newest_conversation_in_order(world: World) -> None:
    world.say("One.", "Two.", conversation="old")
    world.say("Three.", "Four.", "Five.", conversation="new")
    result = world.ask("", turns=2)
    assert [turn.content for turn in result.turns] == ["Four.", "Five."]
    named = ids.conversation_id(world.user().tenant_id, "test", "old")
    assert result.conversation_id != named
    assert [turn.content for turn in world.ask("", turns=9, conversation_id=named).turns] == ["One.", "Two."]


def test_a_turn_that_is_shown_is_not_shown_again_as_a_memory(world: World) -> None:
    world.say("The harbour opens at six.", "The harbour closes at nine.")
    world.derive()
    result = world.ask("harbour", turns=1)
    assert [turn.content for turn in result.turns] == ["The harbour closes at nine."]
    assert texts(result) == ["Ana: The harbour opens at six."]


@pytest.mark.parametrize("budget", [0, 1, 9, 20, 40, 100, 10_000])
def test_the_answer_stays_within_the_budget_and_says_what_it_left_out(world: World, budget: int) -> None:
    world.say(*[f"Harbour note number {number}{' and more' * number}." for number in range(8)])
    world.derive()
    whole, cut = world.ask("harbour", turns=3), world.ask("harbour", turns=3, budget=budget)
    assert cut.tokens <= budget
    assert cut.tokens == sum(turn.tokens for turn in cut.turns) + sum(memory.tokens for memory in cut.memories)
    assert sum(turn.tokens for turn in cut.turns) <= budget // 2
    assert [turn for turn in whole.turns if turn in cut.turns] == list(whole.turns)[len(whole.turns) - len(cut.turns) :]
    assert cut.omitted >= len(whole.turns) - len(cut.turns)
    assert (cut.omitted == 0) == (budget == 10_000)


def test_an_item_without_room_is_passed_over_for_a_shorter_one(world: World) -> None:
    world.say("The harbour harbour harbour opens " + "very " * 200 + "early.", "Harbour shut.")
    world.derive()
    result = world.ask("harbour", budget=10)
    assert texts(result) == ["Ana: Harbour shut."]
    assert result.omitted == 1


def test_negative_numbers_are_refused(world: World) -> None:
    world.say("I like tea.")
    with pytest.raises(MemoryPipelineError, match="negative"):
        world.ask("tea", k=-1)


def test_estimated_tokens_are_a_quarter_of_the_characters_rounded_up() -> None:
    assert [estimate_tokens(text) for text in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]

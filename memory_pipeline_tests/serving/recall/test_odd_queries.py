"""Recall: queries without words, with signs that mean something elsewhere, and of users without memories."""

from __future__ import annotations

import pytest

from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline_tests.serving.recall.support import World, texts


@pytest.mark.parametrize("query", ["", "   \n", "the of and", "???", "\0"])
def test_a_query_without_words_is_no_error(world: World, query: str) -> None:
    world.say("I like tea.")
    world.derive()
    result = world.ask(query, turns=1)
    assert len(result.turns) == 1
    if not query.strip():
        assert result.memories == ()


def test_a_user_without_memories_gets_an_empty_answer(world: World) -> None:
    world.say("Hello.")
    world.execute("DELETE FROM memory.memories")
    result = world.ask("tea", turns=3)
    assert (result.memories, result.turns, result.conversation_id) == ((), (), None)


@pytest.mark.parametrize(
    "query",
    [
        "' | 'tea",
        "tea & ! harbour:*",
        "\\'); DROP TABLE memory.memories; --",
        "%s %(query)s {} $1",
        "tea' OR ''='",
        "http://example.com/it's",
        "http://a.b/c?d='e'\\ x@y.z a\\'b ''' \\\\ 'don''t'",
        "\0tea\0",
        "🫖 ть चाय 茶",
    ],
)
def test_quotes_operators_and_injections_are_text(world: World, query: str) -> None:
    world.say("I like tea.", f"I wrote {query.replace(chr(0), ' ')} once.")
    world.derive()
    assert f"Ana: I wrote {query.replace(chr(0), ' ')} once." in texts(world.ask(query, k=2))
    assert len(world.ask("tea", k=50).memories) >= 1


def test_a_query_with_half_a_surrogate_pair_is_refused(world: World) -> None:
    world.say("I like tea.")
    with pytest.raises(MemoryPipelineError, match="character 5"):
        world.ask("tea \ud800")


def test_equal_memories_keep_one_order(world: World) -> None:
    world.say(*["Same words here."] * 12)
    world.derive()
    first = [memory.memory_id for memory in world.ask("same words", k=6).memories]
    assert all([memory.memory_id for memory in world.ask("same words", k=6).memories] == first for _ in range(3))

"""Recall: how full text scores."""

from __future__ import annotations

import numpy as np
import pytest

from memory_pipeline.serving.evaluation import source_turns
from memory_pipeline.stores.postgres.search import Scope, find_hits
from memory_pipeline_tests.serving.recall.support import World


def test_full_text_scores_are_bm25(world: World) -> None:
    """Against a direct computation: N=3, 'tea' in two memories (twice in one), 'harbour' in one."""
    texts = ["tea tea leaves", "tea cups", "harbour walls crumble slowly"]
    for number, text in enumerate(texts):
        world.say(text, conversation=f"c{number}", speaker="The")  # a stop word: adds no lexeme
    world.derive()
    user = world.user()
    with world.app.tenant_transaction(user.tenant_id) as connection:
        hits = find_hits(connection, Scope(user.tenant_id, user.user_id, None), "tea harbour", [], limit=10)
    lengths, mean = [2, 2, 4], 8 / 3

    def bm25(frequency: int, memories: int, length: int) -> float:
        idf = np.log(1 + (3 - memories + 0.5) / (memories + 0.5))
        return float(idf * frequency * 1.9 / (frequency + 0.9 * (1 - 0.4 + 0.4 * length / mean)))

    expected = [bm25(2, 2, lengths[0]), bm25(1, 2, lengths[1]), bm25(1, 1, lengths[2])]
    assert sorted(hit.text_score for hit in hits) == pytest.approx(sorted(expected))
    # one memory a session: the same passages, so the same scores
    assert [hit.session_text_score for hit in hits] == pytest.approx([hit.text_score for hit in hits])


def test_a_session_is_scored_as_one_text(world: World) -> None:
    world.say("Tea is hot.", "Cups are cold.", conversation="c1")
    world.say("Harbours are wide.", conversation="c2")
    world.derive()
    user = world.user()
    with world.app.tenant_transaction(user.tenant_id) as connection:
        hits = find_hits(
            connection,
            Scope(user.tenant_id, user.user_id, None),
            "tea",
            [world.episode("m2"), world.episode("m3")],
            limit=9,
        )
    by_id = {hit.memory_id: hit for hit in hits}
    beside, elsewhere = by_id[world.episode("m2")], by_id[world.episode("m3")]
    assert beside.text_score == 0
    assert beside.session_text_score == by_id[world.episode("m1")].session_text_score > 0
    assert elsewhere.session_text_score == 0


def test_source_turns_are_each_named_once(world: World) -> None:
    (said,) = world.say("I live in Lisbon.")
    world.derive()
    result = world.ask("Lisbon")
    assert len(result.memories) > 1
    assert source_turns(result) == [said]

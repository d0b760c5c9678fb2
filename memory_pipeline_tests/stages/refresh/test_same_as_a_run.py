"""Named memories end as a run over their days would leave them, however they come."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.refresh import refresh
from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.stages.refresh.support import (
    DONE,
    FAILED,
    PickyEnricher,
    assert_index_agrees,
    batches,
    converse,
    holdings,
    run_window,
    states,
    window_holdings,
)
from memory_pipeline_tests.stages.support import HashedEmbedder, ScriptedEnricher, World


@pytest.mark.parametrize("seed", [1, 2])
def test_small_batches_leave_the_same_rows_as_a_run_over_the_days(speech: World, pipeline: Pipeline, seed: int) -> None:
    expected = window_holdings(speech, pipeline)
    chance = random.Random(seed)
    for batch in batches(speech.named().memories, chance):
        assert set(states(refresh(pipeline, batch))) <= {DONE, FAILED}
    assert holdings(speech, pipeline) == expected
    assert_index_agrees(pipeline)


def test_refreshing_again_changes_nothing_and_asks_no_provider(speech: World, pipeline: Pipeline) -> None:
    converse(speech)
    first = refresh(pipeline, speech.named())
    assert {DONE, FAILED} == set(states(first))
    before = holdings(speech, pipeline)
    pipeline.enricher, pipeline.embedder = enricher, embedder = ScriptedEnricher({}), HashedEmbedder()
    enricher.name = "local"
    again = refresh(pipeline, speech.named())
    assert again.memories == first.memories
    assert (again.enrich.messages, again.embed.memories, again.index.added, again.index.updated) == (0, 0, 0, 0)
    assert (enricher.asked, embedder.asked) == ([], [])
    run_window(pipeline)
    assert holdings(speech, pipeline) == before


def test_refreshes_beside_each_other_and_beside_a_window_leave_the_same_rows(
    speech: World, pipeline: Pipeline, stage_database: Database
) -> None:
    expected = window_holdings(speech, pipeline)
    together = threading.Barrier(4)

    def work(seed: int) -> None:
        with Pipeline(pipeline.settings) as mine:
            mine.enricher, mine.embedder = PickyEnricher(), HashedEmbedder()
            together.wait()
            for batch in batches(speech_memories, random.Random(seed), largest=12):
                refresh(mine, batch)

    def window() -> None:
        together.wait()
        run_window(pipeline)

    speech_memories = speech.named().memories
    with ThreadPoolExecutor(4) as threads:
        for run in [threads.submit(window), *(threads.submit(work, seed) for seed in range(3))]:
            run.result()
    last = refresh(pipeline, speech.named())
    assert set(states(last)) == {DONE, FAILED}
    assert holdings(speech, pipeline) == expected
    assert_index_agrees(pipeline)

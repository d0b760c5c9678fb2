"""Named memories: what is reported of each, and what keeps it from being done."""

from __future__ import annotations

import random
from uuid import uuid4

import pytest

from memory_pipeline.model.errors import ProviderUnavailableError
from memory_pipeline.model.window import NamedMemories, NamedMemory
from memory_pipeline.stages import indexer
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.refresh import refresh
from memory_pipeline.stores.postgres import due
from memory_pipeline.stores.postgres.writer_lock import writer_lock
from memory_pipeline_tests.stages.refresh.support import (
    DONE,
    EMBEDDER,
    ENRICHER,
    FAILED,
    HELD,
    REFUSED,
    UNKNOWN,
    batches,
    holdings,
    states,
    window_holdings,
)
from memory_pipeline_tests.stages.support import MODEL, HashedEmbedder, ScriptedEnricher, World, at, draft


def test_a_batch_reports_each_memory_and_leaves_the_others_alone(speech: World, pipeline: Pipeline) -> None:
    speech.say("I live in Lisbon.", at(5))
    speech.say("choke", at(5, 13))
    speech.say("poison", at(5, 14))
    speech.say("I moved to Porto.", at(6), user="bob", tenant="globex")
    speech.say("I moved to Berlin.", at(6), user="bob", tenant="globex")
    named = speech.named("Ana: I live in Lisbon.", "Ana: choke", "Ana: poison", "Bob: I moved to Porto.")
    steps: list[str] = []
    report = refresh(pipeline, named, timings=lambda step, seconds: steps.append(step))
    by_content = {row["memory_id"]: content for content, row in speech.memories().items()}
    outcomes = {by_content[outcome.memory.memory_id]: outcome for outcome in report.memories}
    assert {content: outcome.state for content, outcome in outcomes.items()} == {
        "Ana: I live in Lisbon.": DONE,
        "Ana: choke": FAILED,
        "Ana: poison": FAILED,
        "Bob: I moved to Porto.": DONE,
    }
    assert outcomes["Ana: choke"].failure_class == "ValueError"
    assert outcomes["Ana: poison"].failure_text == "I refuse 'Ana: poison'"
    assert (report.enrich.messages, report.enrich.failed, report.embed.memories, report.index.added) == (3, 1, 4, 4)
    assert steps == ["enrich", "embed", "index", "report"]
    assert speech.statuses() == {
        "Ana: I live in Lisbon.": "active",
        "Ana lives in Lisbon.": "active",
        "Ana: choke": "failed",
        "Ana: poison": "failed",
        "Bob: I moved to Porto.": "active",
        "Bob moved to Porto.": "active",
        "Bob: I moved to Berlin.": "pending_enrichment",
    }
    assert len(speech.vectors()) == 4


def test_a_message_fails_with_the_fact_that_cannot_be_embedded(speech: World, pipeline: Pipeline) -> None:
    speech.say("I said things")
    pipeline.enricher = ScriptedEnricher({"I said things": [draft("Lisbon"), draft("poison", "likes")]})
    [outcome] = refresh(pipeline, speech.named()).memories
    assert (outcome.state, outcome.failure_class) == (FAILED, "ProviderError")
    assert speech.statuses() == {
        "Ana: I said things": "active",
        "Ana lives_in Lisbon": "active",
        "Ana likes poison": "failed",
    }


def test_ids_that_do_not_exist_or_belong_to_another_tenant_are_ignored(speech: World, pipeline: Pipeline) -> None:
    speech.say("I live in Lisbon.")
    speech.say("I live in Porto.", tenant="globex")
    [mine] = speech.named("Ana: I live in Lisbon.").memories
    globex = speech.tenant("globex")
    strangers = [
        NamedMemory(globex, mine.memory_id, mine.day),
        NamedMemory(mine.tenant_id, uuid4(), mine.day),
        NamedMemory(uuid4(), mine.memory_id, mine.day),
    ]
    report = refresh(pipeline, NamedMemories.of(strangers))
    assert states(report) == [UNKNOWN] * 3
    assert set(speech.statuses().values()) == {"pending_enrichment"}
    assert speech.execute("SELECT count(*) FROM index_generations") == [(0,)]
    together = refresh(pipeline, NamedMemories.of([*strangers, mine]))
    assert {outcome.memory: outcome.state for outcome in together.memories} == dict.fromkeys(strangers, UNKNOWN) | {
        mine: DONE
    }
    assert speech.memories("episode")["Ana: I live in Porto."]["status"] == "pending_enrichment"
    assert not refresh(pipeline, NamedMemories.of([])).memories


def test_what_another_run_holds_is_held_and_its_neighbours_are_done(speech: World, pipeline: Pipeline) -> None:
    for number in range(3):
        speech.say(f"I moved to City{number}.")
    with pipeline.database.transaction() as connection:
        connection.execute("SELECT FROM memories WHERE content = 'Ana: I moved to City1.' FOR NO KEY UPDATE")
        report = refresh(pipeline, speech.named())
    [held] = [outcome for outcome in report.memories if outcome.state is HELD]
    assert sorted(states(report)) == [DONE, DONE, HELD]
    assert speech.named("Ana: I moved to City1.").memories == (held.memory,)
    assert states(refresh(pipeline, speech.named())) == [DONE] * 3


def test_no_batch_waits_for_long_while_facts_are_being_ordered(
    speech: World, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "NAMED_WAIT_SECONDS", 0.05)
    speech.say("I live in Lisbon.")
    with pipeline.database.transaction() as connection:
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('relate_facts'))")
        report = refresh(pipeline, speech.named())
    assert (states(report), report.enrich.held) == ([HELD], 1)
    assert set(speech.statuses().values()) == {"pending_enrichment"}
    assert states(refresh(pipeline, speech.named())) == [DONE]


def test_no_batch_waits_for_long_for_the_writer_of_an_index(
    speech: World, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer, "_NAMED_WAIT_SECONDS", 0.05)
    speech.say("I live in Lisbon.")
    speech.say("I live in Porto.", tenant="globex")
    acme = speech.tenant()
    with writer_lock(pipeline.database, acme, MODEL):
        report = refresh(pipeline, speech.named())
    assert {outcome.memory.tenant_id: outcome.state for outcome in report.memories} == {
        acme: HELD,
        speech.tenant("globex"): DONE,
    }
    assert report.index.held == [acme]
    assert states(refresh(pipeline, speech.named())) == [DONE, DONE]


@pytest.mark.parametrize(("plugin", "stage"), [(ENRICHER, "enrich"), (EMBEDDER, "embed")])
def test_a_tenant_that_does_not_permit_a_plugin_waits_until_it_does(
    speech: World, pipeline: Pipeline, plugin: str, stage: str
) -> None:
    expected = window_holdings(speech, pipeline)
    globex = speech.tenant("globex")
    speech.uninstall(plugin, "globex")
    for batch in batches(speech.named().memories, random.Random(3), largest=30):
        report = refresh(pipeline, batch)
        for outcome in report.memories:
            if outcome.memory.tenant_id != globex:
                assert outcome.state in {DONE, FAILED}
            elif outcome.state is not FAILED:
                assert (outcome.state, outcome.plugin) == (REFUSED, plugin)
    assert set(speech.refusals()) == {(globex, f"stage:{stage}", plugin)}
    assert speech.execute("SELECT count(*) FROM memory_embeddings WHERE tenant_id = %s", globex) == [(0,)]
    statuses = {status for (status,) in speech.execute("SELECT status FROM memories WHERE tenant_id = %s", globex)}
    assert statuses == ({"pending_enrichment"} if stage == "enrich" else {"active", "failed"})
    speech.install(plugin, "globex")
    refresh(pipeline, speech.named())
    assert holdings(speech, pipeline) == expected


def test_a_model_that_is_away_raises_and_keeps_what_was_read(speech: World, pipeline: Pipeline) -> None:
    class Away(HashedEmbedder):
        def chunk(self, text: str) -> list[str]:
            raise ProviderUnavailableError("the endpoint is away")

    speech.say("I live in Lisbon.")
    pipeline.embedder = Away()
    with pytest.raises(ProviderUnavailableError, match="the endpoint is away"):
        refresh(pipeline, speech.named())
    assert set(speech.statuses().values()) == {"active"}
    pipeline.embedder = HashedEmbedder()
    assert states(refresh(pipeline, speech.named())) == [DONE]

"""Named memories on real Postgres and Chroma: they end as a run over their days would leave them, however they come."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import numpy as np
import pytest

from memory_pipeline.model.errors import ProviderUnavailableError, StoreUnavailableError
from memory_pipeline.model.records import FactDraft, Role, Turn
from memory_pipeline.model.window import NamedMemories, NamedMemory
from memory_pipeline.providers.local_enricher.enricher import LocalEnricher
from memory_pipeline.settings import load_settings
from memory_pipeline.stages import indexer
from memory_pipeline.stages.audit import audit
from memory_pipeline.stages.index import index_memories
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.refresh import RefreshReport, RefreshState, refresh
from memory_pipeline.stores.postgres import due
from memory_pipeline.stores.postgres.index_generations import live_generation
from memory_pipeline.stores.postgres.writer_lock import writer_lock
from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.faults.chroma_proxy import ChromaProxy, failing_for, refusing
from memory_pipeline_tests.stages.support import (
    DIMENSION,
    MARCH,
    MODEL,
    HashedEmbedder,
    ScriptedEnricher,
    World,
    at,
    draft,
    embed,
    enrich,
)

DONE, FAILED, REFUSED, HELD, UNKNOWN = (
    RefreshState.DONE,
    RefreshState.FAILED,
    RefreshState.REFUSED,
    RefreshState.HELD,
    RefreshState.UNKNOWN,
)
ENRICHER, EMBEDDER = "enricher:local", "embedder:minilm"
_USERS = [("acme", "ana"), ("acme", "bob"), ("globex", "ana")]
_SAYINGS = (
    "I live in {place}.",
    "I moved to {place}.",
    "I like coffee.",
    "I work as a nurse.",
    "I walked along the river in {place} for hours, and then some more. " * 4,
    "choke on {place}",
    "I moved to poison{place}.",
    "ok",
)


class _Picky(LocalEnricher):
    """Fails at some messages."""

    def enrich(self, turn: Turn) -> list[FactDraft]:
        if "choke" in turn.content:
            raise ValueError(f"no idea what {turn.content!r} means")
        return super().enrich(turn)


@pytest.fixture
def pipeline(speech: World, stage_database: Database, chroma_url: str, chroma_database: str) -> Iterator[Pipeline]:
    settings = load_settings(
        postgres_pipeline_url=stage_database.pipeline_url, chroma_url=chroma_url, chroma_database=chroma_database
    )
    with Pipeline(settings) as pipeline:
        pipeline.embedder = HashedEmbedder()
        pipeline.enricher = _Picky()
        yield pipeline


def converse(speech: World, messages: int = 60) -> None:
    """Say the same things under the same ids whenever it is called."""
    chance = random.Random(7)
    for number in range(messages):
        tenant, user = chance.choice(_USERS)
        speech.say(
            chance.choice(_SAYINGS).format(place=chance.choice(["Lisbon", "Berlin", "Paris"])),
            at(1) + timedelta(hours=5 * number),
            user=user,
            tenant=tenant,
            role=Role.ASSISTANT if number % 9 == 8 else Role.USER,
            name=f"said {number}",
        )


def run_window(pipeline: Pipeline) -> None:
    enrich(pipeline.database, pipeline.enricher, MARCH)
    embed(pipeline.database, pipeline.embedder, MARCH)
    index_memories(pipeline.database, pipeline.chroma, MODEL, DIMENSION, MARCH)


def states(report: RefreshReport) -> list[RefreshState]:
    return [outcome.state for outcome in report.memories]


def holdings(speech: World, pipeline: Pipeline) -> dict[str, list[str]]:
    """Every row that the stages write, without times of writing and ids drawn by chance; and what Chroma holds."""
    tables = {
        "memories": "SELECT to_jsonb(m) - 'created_at' - 'updated_at' FROM memories m",
        "memory_embeddings": "SELECT to_jsonb(e) - 'created_at' FROM memory_embeddings e",
        "index_entries": "SELECT to_jsonb(i) - 'generation_id' FROM index_entries i",
        "generations": "SELECT tenant_id, model, dimension, state FROM index_generations",
    }
    found = {name: sorted(map(repr, speech.execute(statement))) for name, statement in tables.items()}
    for tenant_id, uuid in speech.execute("SELECT tenant_id, collection_uuid FROM index_generations"):
        found[f"chroma {tenant_id}"] = sorted(map(repr, pipeline.chroma.entries(uuid)))
    return found


def window_holdings(speech: World, pipeline: Pipeline) -> dict[str, list[str]]:
    """What a run over the days leaves of the conversation, which is there again, untouched, afterwards."""
    converse(speech)
    run_window(pipeline)
    expected = holdings(speech, pipeline)
    assert all(expected.values())
    assert len(expected) == 6  # both tenants have a collection
    assert {"active", "failed"} == set(speech.execute("SELECT array_agg(DISTINCT status) FROM memories")[0][0])
    speech.forget()
    converse(speech)
    return expected


def batches(memories: Sequence[NamedMemory], chance: random.Random, largest: int = 9) -> Iterator[NamedMemories]:
    """Cut memories into batches, in another order."""
    rest = chance.sample(memories, len(memories))
    while rest:
        size = chance.randint(1, largest)
        yield NamedMemories.of(rest[:size])
        rest = rest[size:]


def assert_index_agrees(pipeline: Pipeline) -> None:
    report = audit(pipeline.database, pipeline.chroma, MODEL, seed=1)
    assert [finding for finding in report.listed if "dead" not in repr(finding)] == []


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
            mine.enricher, mine.embedder = _Picky(), HashedEmbedder()
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


def test_chroma_away_raises_and_the_next_refresh_goes_on(speech: World, pipeline: Pipeline) -> None:
    speech.say("I live in Lisbon.")
    settings = load_settings(postgres_pipeline_url=pipeline.settings.postgres_pipeline_url, chroma_url="http://[::1]:9")
    with Pipeline(settings) as lonely:
        lonely.enricher, lonely.embedder = pipeline.enricher, pipeline.embedder
        with pytest.raises(StoreUnavailableError, match="can't be reached"):
            refresh(lonely, speech.named())
    assert len(speech.vectors()) == 2
    assert states(refresh(pipeline, speech.named())) == [DONE]


@pytest.mark.parametrize("crowded", ["acme", "globex"])
def test_a_refresh_finds_rows_by_their_keys_alone_and_analyzes_nothing(
    speech: World, pipeline: Pipeline, crowded: str
) -> None:
    crowd(speech, "acme", 3_000)
    speech.execute("ANALYZE memories, memory_embeddings, index_entries, messages")
    if crowded != "acme":  # one that the planner has never heard of
        crowd(speech, crowded, 3_000)
    speech.say("I moved to Oslo.", tenant=crowded)
    refresh(pipeline, speech.named("Ana: I moved to Oslo."))  # what a first message needs is made
    for number in range(3):
        speech.say(f"I moved to City{number}.", tenant=crowded)
    named = speech.named("Ana: I moved to City0.", "Ana: I moved to City1.", "Ana: I moved to City2.")
    before = reading(speech, pipeline)
    report = refresh(pipeline, named)
    assert states(report) == [DONE] * 3
    assert report.index.added == 6
    after = reading(speech, pipeline)
    assert after["whole"] == before["whole"]
    assert after["analyzed"] == before["analyzed"]
    assert after["by index"] - before["by index"] < 1_000


def crowd(speech: World, tenant: str, memories: int) -> None:
    """Store many memories of one user and day, half of one text, each read, embedded, and in an index of before."""
    speech.say("crowd", at(1), tenant=tenant)
    tenant_id = speech.tenant(tenant)
    speech.execute(
        "INSERT INTO memories (tenant_id, memory_id, user_id, kind, status, content, content_hash, day,"
        " source_message_ids, enricher)"
        " SELECT tenant_id, gen_random_uuid(), user_id, 'episode', 'active', said, sha256(said::bytea), day,"
        " ARRAY[gen_random_uuid()], 'local@1' FROM memories, generate_series(1, %s) n,"
        " LATERAL (SELECT CASE n %% 2 WHEN 0 THEN 'ok' ELSE n::text END AS said) _ WHERE tenant_id = %s",
        *(memories, tenant_id),
    )
    speech.execute(
        "INSERT INTO memory_embeddings (tenant_id, memory_id, model, chunk, chunks, dimension, embedding, content_hash)"
        " SELECT tenant_id, memory_id, %s, 0, 1, 3, '[1,2,3]', content_hash FROM memories"
        " WHERE tenant_id = %s AND enricher IS NOT NULL",
        *(MODEL, tenant_id),
    )
    speech.execute(
        "INSERT INTO index_generations (tenant_id, model, dimension, collection_name, collection_uuid, state)"
        " VALUES (%s, %s, 3, %s, gen_random_uuid(), 'retired')",
        *(tenant_id, MODEL, f"before {tenant}"),
    )
    speech.execute(
        "INSERT INTO index_entries (tenant_id, generation_id, memory_id, chunk, version, content_hash)"
        " SELECT tenant_id, generation_id, memory_id, 0, 1, content_hash"
        " FROM index_generations JOIN memory_embeddings USING (tenant_id) WHERE tenant_id = %s",
        tenant_id,
    )


def reading(speech: World, pipeline: Pipeline) -> dict[str, int]:
    """Rows read from the large tables, and how often they were analyzed, once the sessions have told."""
    pipeline.database.close()
    vars(pipeline).pop("database")
    speech.execute("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
    [(whole, by_index, analyzed)] = speech.execute(
        "SELECT sum(t.seq_tup_read)::bigint, sum(i.idx_tup_read)::bigint, sum(t.analyze_count)::bigint"
        " FROM pg_stat_user_tables t"
        " CROSS JOIN LATERAL (SELECT sum(idx_tup_read) AS idx_tup_read FROM pg_stat_user_indexes i"
        " WHERE i.relid = t.relid) i"
        " WHERE t.relname IN ('memories', 'memory_embeddings', 'index_entries')"
    )
    return {"whole": whole, "by index": by_index, "analyzed": analyzed}

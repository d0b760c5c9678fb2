"""Conversations to refresh, and everything that the stages leave of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import timedelta

from memory_pipeline.model.records import FactDraft, Role, Turn
from memory_pipeline.model.window import NamedMemories, NamedMemory
from memory_pipeline.providers.local_enricher.enricher import LocalEnricher
from memory_pipeline.stages.audit import audit
from memory_pipeline.stages.index import index_memories
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.refresh import RefreshReport, RefreshState
from memory_pipeline_tests.stages.support import DIMENSION, MARCH, MODEL, World, at, embed, enrich

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


class PickyEnricher(LocalEnricher):
    """Fails at some messages."""

    def enrich(self, turn: Turn) -> list[FactDraft]:
        if "choke" in turn.content:
            raise ValueError(f"no idea what {turn.content!r} means")
        return super().enrich(turn)


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

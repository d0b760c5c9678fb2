"""What embedding costs, written down with the vectors: an OpenAI-compatible endpoint on localhost, a real Postgres."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest

from memory_pipeline.model.errors import ProviderError, ProviderUnavailableError
from memory_pipeline.providers.openai_embedder import OpenAIEmbedder
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.embed import EmbedReport
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.refresh import refresh
from memory_pipeline_tests.defs.embedding_server import DIMENSION, EmbeddingServer
from memory_pipeline_tests.stages.support import MARCH, HashedEmbedder, ScriptedEnricher, World, embed, enrich

OPENAI = "embedder:openai"
PRICE = Decimal("0.02")


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as server:
        server.counts_tokens = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def embedder(server: EmbeddingServer) -> Iterator[OpenAIEmbedder]:
    with OpenAIEmbedder(server.url, "test-model", DIMENSION, retries=0) as embedder:
        yield embedder


def say(speech: World, *texts: str, tenant: str = "acme") -> None:
    """Messages, enriched, of a tenant that has the embedder that costs."""
    for text in texts:
        speech.say(text, tenant=tenant)
    enrich(speech.database, ScriptedEnricher({}), MARCH)
    speech.execute(
        "INSERT INTO plugin_installs (tenant_id, plugin, installed_by) VALUES (%s, %s, 'test') ON CONFLICT DO NOTHING",
        *(speech.tenant(tenant), OPENAI),
    )


def run(speech: World, embedder: OpenAIEmbedder, price: Decimal | None = PRICE, batch: int = 1024) -> EmbedReport:
    return embed(speech.database, embedder, MARCH, plugin=OPENAI, price_per_million_tokens=price, batch_texts=batch)


def usage(speech: World) -> list[tuple[str, int, int, int | None, Decimal | None]]:
    rows = speech.execute(
        "SELECT slug, requests, texts, prompt_tokens, cost_usd FROM llm_usage JOIN tenants USING (tenant_id)"
        " ORDER BY usage_id, slug"
    )
    return [(slug, requests, texts, tokens, cost) for slug, requests, texts, tokens, cost in rows]


def embedded_bytes(speech: World, tenant: str) -> int:
    (found,) = speech.execute(
        "SELECT sum(octet_length(content)) FROM (SELECT DISTINCT content FROM memories WHERE tenant_id = %s) AS texts",
        speech.tenant(tenant),
    )
    return int(found[0])


def test_a_batch_of_two_tenants_gives_a_row_each_whose_sums_are_what_was_charged(
    speech: World, embedder: OpenAIEmbedder
) -> None:
    say(speech, "I like tea.", "I like coffee.", "I like coffee.")
    say(speech, "A much longer thing that somebody else has said today.", tenant="globex")
    report = run(speech, embedder)
    assert report.texts_embedded == 3
    mine, theirs = embedded_bytes(speech, "acme"), embedded_bytes(speech, "globex")
    charged = -(-(mine + theirs) // 4)
    rows = sorted(usage(speech))
    assert [(slug, texts) for slug, _, texts, _, _ in rows] == [("acme", 2), ("globex", 1)]
    assert sum(requests for _, requests, _, _, _ in rows) == 1
    assert sum(tokens or 0 for _, _, _, tokens, _ in rows) == charged
    for (_, _, _, tokens, cost), size in zip(rows, (mine, theirs), strict=True):
        assert tokens is not None
        assert abs(tokens - charged * size / (mine + theirs)) < 1
        assert cost == tokens * PRICE / 1_000_000
    columns = speech.execute("SELECT DISTINCT plugin, model, what, completion_tokens, correlation_id FROM llm_usage")
    assert [row[:4] for row in columns] == [(OPENAI, "test-model", "embedding", 0)]
    assert isinstance(columns[0][4], UUID)


def test_every_batch_of_a_run_has_rows_under_one_correlation_id_and_nothing_is_charged_twice(
    speech: World, embedder: OpenAIEmbedder
) -> None:
    say(speech, "one", "two", "three")
    run(speech, embedder, batch=1)
    assert [row[1:3] for row in usage(speech)] == [(1, 1)] * 3
    assert len(speech.execute("SELECT DISTINCT correlation_id FROM llm_usage")) == 1
    run(speech, embedder)
    say(speech, "two")  # its vector is copied
    run(speech, embedder)
    assert len(usage(speech)) == 3


def test_without_a_price_tokens_are_written_and_the_cost_is_open(speech: World, embedder: OpenAIEmbedder) -> None:
    say(speech, "one")
    run(speech, embedder, price=None)
    ((_, _, _, tokens, cost),) = usage(speech)
    assert (bool(tokens), cost) == (True, None)


def test_an_endpoint_that_does_not_count_leaves_tokens_and_cost_open(
    speech: World, embedder: OpenAIEmbedder, server: EmbeddingServer
) -> None:
    server.counts_tokens = False
    say(speech, "one")
    run(speech, embedder)
    assert usage(speech) == [("acme", 1, 1, None, None)]


def test_a_local_model_writes_nothing(speech: World) -> None:
    say(speech, "one")
    assert embed(speech.database, HashedEmbedder(), MARCH, price_per_million_tokens=PRICE).texts_embedded == 1
    assert usage(speech) == []


def test_a_plugin_that_is_said_to_cost_nothing_writes_nothing(speech: World, embedder: OpenAIEmbedder) -> None:
    say(speech, "one")
    speech.execute("UPDATE plugin_registry SET costs = false WHERE plugin = %s", OPENAI)
    try:
        assert run(speech, embedder).texts_embedded == 1
        assert usage(speech) == []
    finally:
        speech.execute("UPDATE plugin_registry SET costs = true WHERE plugin = %s", OPENAI)


def test_vectors_and_their_cost_are_written_together_or_not_at_all(speech: World, embedder: OpenAIEmbedder) -> None:
    say(speech, "one")
    speech.execute("ALTER TABLE llm_usage ADD CONSTRAINT full_up CHECK (requests < 0)")
    try:
        with pytest.raises(psycopg.errors.CheckViolation):
            run(speech, embedder)
    finally:
        speech.execute("ALTER TABLE llm_usage DROP CONSTRAINT full_up")
    assert speech.vectors("test-model") == {}
    assert run(speech, embedder).texts_embedded == 1
    assert len(usage(speech)) == 1


def test_a_batch_that_fails_after_it_was_charged_leaves_its_cost(speech: World, server: EmbeddingServer) -> None:
    say(speech, "one", "poison")
    server.refused_text = "poison"
    # One text a request: the first is answered, the second refused, and MEMORY_FAIL_FAST ends the run.
    with (
        OpenAIEmbedder(server.url, "test-model", DIMENSION, retries=0, max_request_inputs=1) as embedder,
        pytest.raises(ProviderError, match="MEMORY_FAIL_FAST"),
    ):
        embed(speech.database, embedder, MARCH, plugin=OPENAI, price_per_million_tokens=PRICE, fail_fast=True)
    assert speech.vectors("test-model") == {}
    ((slug, requests, texts, tokens, cost),) = usage(speech)
    assert (slug, texts) == ("acme", 2)
    assert requests >= 2  # "one", again by itself, and the plain sentence that tells who is to blame
    assert cost == (tokens or 0) * PRICE / 1_000_000 > 0


def test_an_endpoint_that_is_away_costs_nothing(
    speech: World, embedder: OpenAIEmbedder, server: EmbeddingServer
) -> None:
    say(speech, "one")
    server.refuses = True
    with pytest.raises(ProviderUnavailableError):
        run(speech, embedder)
    assert usage(speech) == []


def test_the_price_of_the_settings_reaches_the_rows_of_a_refresh(
    speech: World, server: EmbeddingServer, chroma_url: str, chroma_database: str, redis_url: str
) -> None:
    say(speech, "one")
    settings = load_settings(
        postgres_pipeline_url=speech.database.url,
        chroma_url=chroma_url,
        chroma_database=chroma_database,
        redis_url=redis_url,
        embedder="openai",
        embedding_base_url=server.url,
        embedding_model="test-model",
        embedding_dimension=DIMENSION,
        embedding_price_per_million_tokens="0.13",
    )
    with Pipeline(settings) as pipeline:
        refresh(pipeline, speech.named())
    ((_, _, _, tokens, cost),) = usage(speech)
    assert tokens
    assert cost == tokens * Decimal("0.13") / 1_000_000

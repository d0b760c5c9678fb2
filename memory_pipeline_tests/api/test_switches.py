"""MEMORY_SYSTEM_ENABLED=false: only health and metrics. MEMORY_WORKER_ENABLED=false: nothing waits for a worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from memory_pipeline.model.errors import ProviderUnavailableError
from memory_pipeline.providers.base import Embedder, Vectors
from memory_pipeline.serving.recall import recall
from memory_pipeline.stores.postgres.tenants import find_user
from memory_pipeline_tests.api.stack import ApiStack, api_stack
from memory_pipeline_tests.api.support import PREFIX, Person, message
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.serving.recall.support import WordEmbedder

# -- the system switched off --


@pytest.fixture(scope="module")
def switched_off(servers: Servers, migrated_template: str) -> Iterator[ApiStack]:
    with api_stack(servers, migrated_template, system_enabled=False) as stack:
        yield stack


def test_switched_off_everything_but_health_and_metrics_is_503(switched_off: ApiStack) -> None:
    stack, ana = switched_off, switched_off.person()
    document = stack.client.get(f"{PREFIX}/openapi.json").json()
    asked = 0
    for path, item in document["paths"].items():
        if path in {f"{PREFIX}/health", "/metrics"}:
            continue
        for method in item:
            for headers in (ana.headers, {}, {"Authorization": "Bearer x"}):
                answer = stack.client.request(
                    method,
                    path.format(conversation_id=ana.user_id, report="retention"),
                    json={"messages": [message()]},
                    headers=headers,
                )
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable"), path
                assert "MEMORY_SYSTEM_ENABLED" in answer.json()["error"]["message"]
                asked += 1
    assert asked == 21
    assert stack.client.post(f"{PREFIX}/messages", content=b"[[[", headers=ana.headers).status_code == 503
    assert stack.rows("SELECT count(*) FROM messages, user_sessions, auth_events") == [(0,)]


def test_switched_off_health_and_metrics_answer(switched_off: ApiStack) -> None:
    answer = switched_off.client.get(f"{PREFIX}/health")
    assert (answer.status_code, answer.json()["system_enabled"]) == (200, False)
    assert 'status="503"' in switched_off.client.get("/metrics").text


# -- without a worker --


class FailingEmbedder(WordEmbedder):
    """A provider that is down while `away`."""

    away = False

    def embed(self, texts: Sequence[str]) -> Vectors:
        if self.away:
            raise ProviderUnavailableError("the embedding service refuses connections.")
        return super().embed(texts)


@pytest.fixture(scope="module")
def embedder() -> FailingEmbedder:
    return FailingEmbedder()


@pytest.fixture(scope="module")
def without_worker(servers: Servers, migrated_template: str, embedder: Embedder) -> Iterator[ApiStack]:
    with api_stack(servers, migrated_template, worker_enabled=False) as stack:
        stack.services.pipeline.__dict__["embedder"] = embedder
        yield stack


def post(stack: ApiStack, person: Person, content: str, **fields: object) -> Any:
    answer = stack.client.post(
        f"{PREFIX}/messages", json={"messages": [message(content, **fields)]}, headers=person.headers
    )
    assert (answer.status_code, answer.json()["status"]) == (200, "durable")
    return answer.json()["messages"][0]


def statuses(stack: ApiStack, memory_id: str) -> list[tuple[Any, ...]]:
    return stack.rows("SELECT status FROM memories WHERE memory_id = %s", memory_id)


def found(stack: ApiStack, email: str, query: str) -> list[str]:
    """What recall finds with every store at hand."""
    with stack.services.pipeline.database.transaction() as connection:
        user = find_user(connection, email)
    result = recall(stack.services.database, stack.services.pipeline.chroma, WordEmbedder(), user, query, k=10)
    assert result.degraded == ()
    return [memory.content for memory in result.memories]


def test_without_a_worker_a_memory_is_found_as_soon_as_the_answer_is_there(without_worker: ApiStack) -> None:
    stack, ana = without_worker, without_worker.person()
    taken = post(stack, ana, "I live in Lisbon.", id="m1")
    assert statuses(stack, taken["memory_id"]) == [("active",)]
    assert stack.rows("SELECT * FROM memory_jobs") == []
    facts = stack.rows("SELECT memory_id, content FROM memories WHERE kind = 'fact'")
    assert len(facts) == 1
    named = {taken["memory_id"], str(facts[0][0])}
    embedded = stack.rows("SELECT DISTINCT memory_id::text FROM memory_embeddings WHERE model = %s", "words-64")
    assert {memory_id for (memory_id,) in embedded} == named
    assert "Lisbon" in facts[0][1]
    contents = found(stack, "ana@example.org", "Where in Lisbon do I live?")
    assert any("I live in Lisbon." in content for content in contents)
    # Again it changes nothing.
    assert post(stack, ana, "I live in Lisbon.", id="m1") == taken
    assert stack.rows("SELECT count(*) FROM memories") == [(2,)]


def test_without_a_worker_a_stage_that_fails_leaves_the_message_durable_and_the_memory_pending(
    without_worker: ApiStack, embedder: FailingEmbedder
) -> None:
    stack, ben = without_worker, without_worker.person("acme", "ben@example.org")
    embedder.away = True
    try:
        taken = post(stack, ben, "I play the cello.", id="m1")
    finally:
        embedder.away = False
    assert stack.rows("SELECT content FROM messages WHERE message_id = %s", taken["message_id"]) == [
        ("I play the cello.",)
    ]
    assert stack.rows("SELECT * FROM memory_embeddings WHERE memory_id = %s", taken["memory_id"]) == []
    # Posted again once the provider is back it is finished.
    assert post(stack, ben, "I play the cello.", id="m1") == taken
    assert statuses(stack, taken["memory_id"]) == [("active",)]
    assert stack.rows("SELECT count(*) FROM memory_embeddings WHERE memory_id = %s", taken["memory_id"]) == [(1,)]
    assert any("cello" in content for content in found(stack, "ben@example.org", "cello"))

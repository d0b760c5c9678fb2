"""Hostile and unusual texts over HTTP, in every field, id and parameter: text, and never anything else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
import redis

from memory_pipeline_tests.api.stack import ApiStack, api_stack
from memory_pipeline_tests.api.support import PREFIX, Json, Person
from memory_pipeline_tests.faults.test_texts import INJECTIONS, UNUSUAL
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.local.inspect import until

TEXTS = INJECTIONS + UNUSUAL
_COUNTS = (
    "SELECT (SELECT count(*) FROM conversations), (SELECT count(*) FROM messages), (SELECT count(*) FROM memories),"
    " (SELECT count(*) FROM memory_jobs), (SELECT count(*) FROM users), (SELECT count(*) FROM tenants)"
)


@pytest.fixture(scope="module")
def stack(servers: Servers, migrated_template: str) -> Iterator[ApiStack]:
    with api_stack(servers, migrated_template) as stack:
        yield stack


@pytest.fixture(scope="module")
def ana(stack: ApiStack) -> Person:
    return stack.person()


def everywhere(text: str) -> Json:
    """A message with this text in every field that takes one."""
    return {
        "conversation_id": text,
        "id": text,
        "role": "user",
        "content": text,
        "speaker": text,
        "project": text,
        "conversation_title": text,
        "metadata": {text: [text, {"deeper": text}]},
    }


@pytest.fixture(scope="module")
def posted(stack: ApiStack, ana: Person) -> dict[str, Json]:
    """One message for each text, posted in one request (copied) and in small ones (sent); the answers by text."""
    answers: dict[str, Json] = {}
    for batch in (TEXTS[:-5], *([text] for text in TEXTS[-5:])):
        answer = stack.client.post(
            f"{PREFIX}/messages", json={"messages": [everywhere(text) for text in batch]}, headers=ana.headers
        )
        assert answer.status_code == 200, answer.text
        answers.update(zip(batch, answer.json()["messages"], strict=True))
    return answers


def read(stack: ApiStack, ana: Person, taken: Json) -> Json:
    answer = stack.client.get(f"{PREFIX}/conversations/{taken['conversation_id']}", headers=ana.headers)
    assert answer.status_code == 200
    body: Json = answer.json()
    return body


def test_every_field_is_stored_as_it_was_sent(stack: ApiStack, ana: Person, posted: dict[str, Json]) -> None:
    assert len({taken["message_id"] for taken in posted.values()}) == len(TEXTS)
    stored = {
        message_id: row
        for message_id, *row in stack.rows(
            "SELECT m.message_id, m.source_message_id, c.source_conversation_id, m.content, m.speaker, c.project,"
            " c.title, m.raw_data FROM messages m JOIN conversations c USING (tenant_id, conversation_id)"
        )
    }
    for text, taken in posted.items():
        name = f"{ana.user_id}/{text}"
        raw_data = {text: [text, {"deeper": text}]}
        assert stored[UUID(taken["message_id"])] == [name, name, text, text, text, text, raw_data], repr(text)
        assert taken["id"] == text


def test_every_field_reads_back_as_it_was_sent_from_cache_and_from_postgres(
    stack: ApiStack, ana: Person, posted: dict[str, Json]
) -> None:
    cached: dict[str, Json] = {}

    def are_all_cached() -> bool:
        hits = stack.services.cache_stats().hits
        cached.update({text: read(stack, ana, taken) for text, taken in posted.items()})
        # Of a conversation, a session and a user each.
        return stack.services.cache_stats().hits - hits == 3 * len(TEXTS)

    until(are_all_cached, "every conversation is read from the cache")
    assert stack.settings.redis_url is not None
    with redis.Redis.from_url(stack.settings.redis_url) as client:
        for key in client.scan_iter("conversation:*"):
            client.delete(key)
    for text, taken in posted.items():
        body = read(stack, ana, taken)
        assert body == cached[text]
        (turn,) = body["messages"]
        assert (turn["id"], turn["content"], turn["speaker"]) == (text, text, text)
        conversation = body["conversation"]
        assert (conversation["id"], conversation["title"], conversation["project"]) == (text, text, text)
    listed = stack.client.get(f"{PREFIX}/conversations", params={"limit": 200}, headers=ana.headers).json()
    assert {row["id"] for row in listed["conversations"]} == set(TEXTS)


def test_posting_them_again_finds_every_one(stack: ApiStack, ana: Person, posted: dict[str, Json]) -> None:
    before = stack.rows(_COUNTS)
    again = stack.client.post(
        f"{PREFIX}/messages", json={"messages": [everywhere(text) for text in TEXTS]}, headers=ana.headers
    )
    assert again.json()["messages"] == list(posted.values())
    other = stack.client.post(
        f"{PREFIX}/messages", json={"messages": [everywhere(TEXTS[8]) | {"content": "x"}]}, headers=ana.headers
    )
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    assert stack.rows(_COUNTS) == before


@pytest.mark.parametrize("text", TEXTS)
def test_in_paths_and_parameters_they_are_no_ids(
    stack: ApiStack, ana: Person, posted: dict[str, Json], text: str
) -> None:
    before = stack.rows(_COUNTS)
    own = posted[TEXTS[0]]["conversation_id"]
    encoded = quote(text, safe="")
    asked: list[Any] = [
        stack.client.get(f"{PREFIX}/conversations", params={"after": text}, headers=ana.headers),
        stack.client.get(f"{PREFIX}/conversations", params={"limit": text}, headers=ana.headers),
        stack.client.get(f"{PREFIX}/conversations/{own}", params={"before": text}, headers=ana.headers),
        stack.client.get(f"{PREFIX}/conversations/{own}", params={"limit": text}, headers=ana.headers),
        stack.client.get(f"{PREFIX}/conversations/{own}", params={"before": f"{own}{text}"}, headers=ana.headers),
    ]
    for answer in asked:
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")
    for path in (f"{PREFIX}/conversations/{encoded}", f"{PREFIX}/conversations/{own}{encoded}"):
        for answer in (stack.client.get(path, headers=ana.headers), stack.client.delete(path, headers=ana.headers)):
            assert answer.status_code in {404, 405, 422}
    # Parameters nobody knows change nothing.
    extra = stack.client.get(
        f"{PREFIX}/conversations", params={"tenant_id": text, "user_id": text, text: text}, headers=ana.headers
    )
    assert (extra.status_code, len(extra.json()["conversations"])) == (200, 50)
    assert stack.rows(_COUNTS) == before

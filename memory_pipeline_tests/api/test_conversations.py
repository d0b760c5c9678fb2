"""Conversations over HTTP: read through the cache, listed, deleted; those of others are not there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from fastapi.testclient import TestClient

from memory_pipeline.serving.services import Services
from memory_pipeline_tests.api.support import PREFIX, Json, Person, message
from memory_pipeline_tests.api.test_messages import Rows, post

START = datetime(2026, 3, 1, 9, tzinfo=UTC)


def read(client: TestClient, person: Person, conversation_id: str, **params: str | int) -> Json:
    answer = client.get(f"{PREFIX}/conversations/{conversation_id}", params=params, headers=person.headers)
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


def turns(count: int, first: int = 0) -> list[Json]:
    return [
        message(f"turn {number}", id=f"m{number}", sent_at=(START + timedelta(seconds=number)).isoformat())
        for number in range(first, first + count)
    ]


def contents(body: Json) -> list[str]:
    return [turn["content"] for turn in body["messages"]]


def test_a_conversation_reads_alike_from_postgres_and_from_the_cache(
    client: TestClient, ana: Person, services: Services
) -> None:
    conversation_id = post(client, ana, *turns(3))["messages"][0]["conversation_id"]
    from_postgres = read(client, ana, conversation_id)
    hits = services.cache_stats().hits
    from_cache = read(client, ana, conversation_id)
    assert services.cache_stats().hits > hits
    assert from_cache == from_postgres
    assert contents(from_cache) == ["turn 0", "turn 1", "turn 2"]
    assert from_cache["conversation"]["id"] == "c1"
    assert from_cache["messages"][0]["id"] == "m0"


def test_what_is_posted_is_in_the_next_read(client: TestClient, ana: Person) -> None:
    conversation_id = post(client, ana, *turns(2))["messages"][0]["conversation_id"]
    read(client, ana, conversation_id)
    post(client, ana, *turns(2, first=2))
    assert contents(read(client, ana, conversation_id)) == ["turn 0", "turn 1", "turn 2", "turn 3"]


def test_the_newest_hundred_are_read_and_older_ones_page_by_page(client: TestClient, ana: Person) -> None:
    conversation_id = post(client, ana, *turns(250))["messages"][0]["conversation_id"]
    for _ in range(2):  # from Postgres, then from the cache
        newest = read(client, ana, conversation_id)
        assert contents(newest) == [f"turn {number}" for number in range(150, 250)]
        assert contents(read(client, ana, conversation_id, limit=2)) == ["turn 248", "turn 249"]
    older = read(client, ana, conversation_id, before=newest["messages"][0]["message_id"], limit=1000)
    assert contents(older) == [f"turn {number}" for number in range(150)]


def test_a_message_that_comes_late_is_in_its_place(client: TestClient, ana: Person) -> None:
    late, *others = turns(4)
    conversation_id = post(client, ana, *others)["messages"][0]["conversation_id"]
    read(client, ana, conversation_id)
    post(client, ana, late)
    assert contents(read(client, ana, conversation_id)) == ["turn 0", "turn 1", "turn 2", "turn 3"]


def test_conversations_are_listed_newest_first_in_pages(client: TestClient, ana: Person) -> None:
    names = [f"c{number}" for number in range(5)]
    for name in names:
        post(client, ana, message(conversation_id=name))
    found: list[str] = []
    after: str | None = None
    while True:
        params: dict[str, str | int] = {"limit": 2} | ({"after": after} if after else {})
        page = client.get(f"{PREFIX}/conversations", params=params, headers=ana.headers).json()["conversations"]
        found += [conversation["id"] for conversation in page]
        if len(page) < 2:
            break
        after = page[-1]["conversation_id"]
    assert found == names[::-1]


def test_another_users_conversation_is_answered_like_one_that_never_was(
    client: TestClient, ana: Person, person: Callable[..., Person], rows: Rows
) -> None:
    conversation_id = post(client, ana, *turns(2))["messages"][0]["conversation_id"]
    read(client, ana, conversation_id)
    for stranger in (person("acme", "ben@example.org"), person("other", "eve@example.org")):
        for verb in (client.get, client.delete):
            theirs = verb(f"{PREFIX}/conversations/{conversation_id}", headers=stranger.headers)
            nobodys = verb(f"{PREFIX}/conversations/{uuid4()}", headers=stranger.headers)
            assert theirs.status_code == nobodys.status_code == 404
            assert theirs.json()["error"]["code"] == nobodys.json()["error"]["code"] == "not_found"
            assert set(theirs.headers) == set(nobodys.headers)
        assert client.get(f"{PREFIX}/conversations", headers=stranger.headers).json() == {"conversations": []}
    assert rows("SELECT count(*) FROM messages") == [(2,)]


def test_a_deleted_conversation_is_gone_with_all_that_was_derived(
    client: TestClient, ana: Person, rows: Rows, services: Services
) -> None:
    kept = post(client, ana, message("I like tea.", conversation_id="other"))["messages"][0]["conversation_id"]
    doomed = post(client, ana, *turns(3))["messages"][0]["conversation_id"]
    read(client, ana, doomed)
    answer = client.delete(f"{PREFIX}/conversations/{doomed}", headers=ana.headers)
    assert (answer.status_code, answer.json()["messages"], answer.json()["memories"]) == (200, 3, 3)
    assert client.get(f"{PREFIX}/conversations/{doomed}", headers=ana.headers).status_code == 404
    assert client.delete(f"{PREFIX}/conversations/{doomed}", headers=ana.headers).status_code == 404
    assert [str(row[0]) for row in rows("SELECT conversation_id FROM messages")] == [kept]
    assert rows("SELECT count(*) FROM memories") == [(1,)]
    assert rows("SELECT detail FROM events WHERE kind = 'conversation_deleted'") == [({"messages": 3, "memories": 3},)]
    # Posted again it is a new conversation under the same name.
    assert post(client, ana, *turns(1))["messages"][0]["conversation_id"] == doomed
    assert contents(read(client, ana, doomed)) == ["turn 0"]

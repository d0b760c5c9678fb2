"""Posting messages over HTTP: what is stored, what is answered, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import anyio
import pytest
from fastapi.testclient import TestClient

from memory_pipeline.api.app import create_app
from memory_pipeline.model.ids import episode_hex
from memory_pipeline.serving.services import Services
from memory_pipeline_tests.api.support import PREFIX, Json, Person, message

_JSON = {"Content-Type": "application/json"}

Rows = Callable[..., list[tuple[object, ...]]]


def post(client: TestClient, person: Person, *messages: Json, **headers: str) -> Json:
    answer = client.post(f"{PREFIX}/messages", json={"messages": messages}, headers={**person.headers, **headers})
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


def refused(client: TestClient, person: Person, *messages: Json) -> tuple[int, str, str]:
    answer = client.post(f"{PREFIX}/messages", json={"messages": messages}, headers=person.headers)
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


def test_one_transaction_writes_conversation_messages_memories_events_and_jobs(
    client: TestClient, ana: Person, rows: Rows
) -> None:
    correlation_id = uuid4()
    body = post(
        client,
        ana,
        message("I live in Lisbon.", id="m1"),
        message("Noted.", id="m2", role="assistant"),
        message("be brief", id="m3", role="system"),
        **{"X-Correlation-Id": str(correlation_id)},
    )
    assert (body["status"], body["correlation_id"]) == ("durable", str(correlation_id))
    first, second, third = body["messages"]
    assert [taken["id"] for taken in body["messages"]] == ["m1", "m2", "m3"]
    assert UUID(first["memory_id"]).hex == episode_hex(UUID(first["message_id"]).hex)
    assert third["memory_id"] is None
    assert len(rows("SELECT * FROM conversations")) == 1
    assert rows("SELECT message_id, content FROM messages ORDER BY position") == [
        (UUID(first["message_id"]), "I live in Lisbon."),
        (UUID(second["message_id"]), "Noted."),
        (UUID(third["message_id"]), "be brief"),
    ]
    memories = {UUID(first["memory_id"]), UUID(second["memory_id"])}
    assert set(rows("SELECT memory_id, status FROM memories")) == {
        (memory, "pending_enrichment") for memory in memories
    }
    assert set(rows("SELECT subject_id, job_type, state, correlation_id, user_id FROM memory_jobs")) == {
        (memory, "enrich_and_embed", "pending", correlation_id, ana.user_id) for memory in memories
    }
    assert rows("SELECT kind, actor, correlation_id FROM events WHERE kind = 'messages_ingested'") == [
        ("messages_ingested", f"user:{ana.user_id}", correlation_id)
    ]


def test_the_same_message_again_answers_the_same_and_changes_nothing(
    client: TestClient, ana: Person, rows: Rows
) -> None:
    first = post(client, ana, message(id="m1"))
    before = rows("SELECT count(*) FROM messages, memory_jobs, memories, events")
    again = post(client, ana, message(id="m1"))
    assert again["messages"] == first["messages"]
    assert rows("SELECT count(*) FROM messages, memory_jobs, memories, events") == before


def test_other_content_under_an_id_is_a_conflict_and_nothing_of_the_request_is_stored(
    client: TestClient, ana: Person, rows: Rows
) -> None:
    post(client, ana, message(id="m1"))
    status, code, text = refused(client, ana, message("new", id="m2"), message("I live in Porto.", id="m1"))
    assert (status, code) == (409, "conflict")
    assert "'m1'" in text
    assert rows("SELECT content FROM messages") == [("I live in Lisbon.",)]
    assert refused(client, ana, message("one", id="m9"), message("two", id="m9"))[:2] == (409, "conflict")


def test_users_of_one_tenant_may_use_the_same_names_without_meeting(
    client: TestClient, ana: Person, person: Callable[..., Person]
) -> None:
    ben = person("acme", "ben@example.org")
    mine = post(client, ana, message("mine", id="m1"))
    his = post(client, ben, message("his", id="m1"))
    assert mine["messages"][0]["conversation_id"] != his["messages"][0]["conversation_id"]


def test_a_message_without_an_id_gets_one(client: TestClient, ana: Person) -> None:
    body = post(client, ana, message(), message())
    assert len({taken["id"] for taken in body["messages"]}) == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("content", "a\0b"),
        ("content", "half \ud83d a pair"),
        ("content", "   "),
        ("conversation_id", ""),
        ("conversation_id", "x" * 401),
        ("id", "\0"),
        ("role", "owner"),
        ("sent_at", "1900-01-01T00:00:00Z"),
        ("sent_at", "2999-01-01T00:00:00Z"),
        ("sent_at", "2026-01-01T00:00:00"),
        ("speaker", "a\0"),
        ("metadata", {"deep": "\0"}),
        ("metadata", "text"),
        ("colour", "blue"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place(
    client: TestClient, ana: Person, rows: Rows, field: str, value: object
) -> None:
    # By hand: half a surrogate pair goes over the wire as an escape.
    body = json.dumps({"messages": [message(), {**message("fine"), field: value}]})
    answer = client.post(f"{PREFIX}/messages", content=body, headers=ana.headers | _JSON)
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert error["code"] == "invalid"
    assert "messages" in error["message"]
    assert "1" in error["message"]
    assert rows("SELECT * FROM messages") == []


def test_a_request_takes_a_thousand_messages_and_not_one_more(client: TestClient, ana: Person, rows: Rows) -> None:
    thousand = [message(f"turn {number}", id=str(number)) for number in range(1000)]
    assert len(post(client, ana, *thousand)["messages"]) == 1000
    assert rows("SELECT count(*) FROM memory_jobs") == [(1000,)]
    assert refused(client, ana, *thousand, message())[:2] == (422, "invalid")
    assert refused(client, ana)[:2] == (422, "invalid")


def test_a_message_over_the_limit_and_a_request_over_the_limit_are_told_apart(
    client: TestClient, ana: Person, rows: Rows
) -> None:
    status, code, text = refused(client, ana, message("x" * 1_000_001))
    assert (status, code) == (422, "invalid")
    assert "1,000,001 bytes" in text
    huge = client.post(f"{PREFIX}/messages", content=b"[" + b" " * 16_000_001, headers=ana.headers)
    assert (huge.status_code, huge.json()["error"]["code"]) == (413, "too_large")

    def pieces() -> object:
        for _ in range(17):
            yield b" " * 1_000_000

    unannounced = client.post(f"{PREFIX}/messages", content=pieces(), headers=ana.headers)  # type: ignore[arg-type]
    assert (unannounced.status_code, unannounced.json()["error"]["code"]) == (413, "too_large")
    assert rows("SELECT * FROM messages") == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b'{"messages": {}}', b'{"messages": [1]}', b"\xff\xfe", b"[" * 50_000]
)
def test_a_body_that_is_not_the_documented_json_is_refused(client: TestClient, ana: Person, body: bytes) -> None:
    answer = client.post(f"{PREFIX}/messages", content=body, headers=ana.headers | _JSON)
    assert answer.status_code in {400, 422}
    assert answer.json()["error"]["message"]


def test_a_body_that_is_not_sent_as_json_is_told_so(client: TestClient, ana: Person) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client.post(f"{PREFIX}/messages", content=b'{"messages": []}', headers=ana.headers | form)
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["error"]["message"]


def test_a_reader_may_not_post(client: TestClient, person: Callable[..., Person]) -> None:
    reader = person("acme", "rita@example.org", role="reader")
    answer = client.post(f"{PREFIX}/messages", json={"messages": [message()]}, headers=reader.headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["permission"] == "messages:write"


def test_nobody_posts_without_a_token(client: TestClient, rows: Rows) -> None:
    answer = client.post(f"{PREFIX}/messages", json={"messages": [message()]})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert rows("SELECT * FROM messages") == []


@pytest.mark.parametrize("with_token", [False, True])
def test_a_body_that_comes_late_is_waited_for_only_where_its_sender_is_known(
    services: Services, ana: Person, rows: Rows, with_token: bool
) -> None:
    body = json.dumps({"messages": [message("late", id="m1")]}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))} | (
        ana.headers if with_token else {}
    )
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": f"{PREFIX}/messages",
        "raw_path": f"{PREFIX}/messages".encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    sent: list[Any] = []

    async def ask() -> None:
        known = anyio.Event()
        arrived = iter([{"type": "http.request", "body": body[:9], "more_body": True}])

        async def receive() -> dict[str, Any]:
            first = next(arrived, None)
            if first is not None:
                return first
            # The rest comes once the answer could have been a refusal; without a token it never does.
            with anyio.move_on_after(0.5 if with_token else 3600):
                await known.wait()
            return {"type": "http.request", "body": body[9:], "more_body": False}

        async def send(event: Any) -> None:
            sent.append(event)

        with anyio.fail_after(20):
            await create_app(services)(scope, receive, send)

    anyio.run(ask)
    assert sent[0]["status"] == (200 if with_token else 401)
    assert rows("SELECT content FROM messages") == ([("late",)] if with_token else [])

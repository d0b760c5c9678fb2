"""The Python clients against a real server: every verb, every kind of failure, both ways of calling."""

from __future__ import annotations

import asyncio
import inspect
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import uvicorn

from memory_pipeline.api.app import create_app
from memory_pipeline.client import ApiError, AsyncMemoryClient, MemoryClient
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline_tests.api.stack import ApiStack, api_stack
from memory_pipeline_tests.api.support import Person, message
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.local.inspect import until

pytestmark = pytest.mark.xdist_group("api_client")

_VERBS = (
    "post_messages",
    "conversations",
    "conversation",
    "delete_conversation",
    "analytics_reports",
    "analytics",
    "health",
    "cache_stats",
)


@pytest.fixture(scope="module")
def stack(servers: Servers, migrated_template: str) -> Iterator[ApiStack]:
    with api_stack(servers, migrated_template) as stack:
        yield stack


@pytest.fixture(scope="module")
def url(stack: ApiStack) -> Iterator[str]:
    """The API served by uvicorn on a port of its own."""
    server = uvicorn.Server(
        uvicorn.Config(create_app(stack.services), port=0, log_level="warning", server_header=False)
    )
    thread = threading.Thread(target=server.run, name="uvicorn")
    thread.start()
    try:
        until(lambda: server.started, "uvicorn listens")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


class Client:
    """Either client behind one face: the asynchronous one is called from a loop of its own."""

    def __init__(self, kind: str, url: str, token: str | None, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self.inner: Any = {"sync": MemoryClient, "async": AsyncMemoryClient}[kind](url, token, **options)

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        method = getattr(self.inner, verb)

        def call(*arguments: object, **named: object) -> Any:
            result = method(*arguments, **named)
            return self._loop.run_until_complete(result) if inspect.isawaitable(result) else result

        return call

    def done(self) -> None:
        self.close()
        self._loop.close()


Connect = Callable[..., Client]


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Make a client; it is closed after the test."""
    clients: list[Client] = []

    def make(url: str, token: str | None = None, **options: Any) -> Client:
        clients.append(Client(request.param, url, token, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.done()


@pytest.fixture
def person(stack: ApiStack, request: pytest.FixtureRequest) -> Person:
    """A user of this test alone."""
    return stack.person("acme", f"{uuid4().hex}@example.org")


def refused(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(ApiError) as told:
        call()
    assert told.value.code in str(told.value)
    assert told.value.message in str(told.value)
    return told.value.status, told.value.code


def test_both_clients_have_the_same_verbs() -> None:
    for verb in _VERBS:
        plain, waiting = getattr(MemoryClient, verb), getattr(AsyncMemoryClient, verb)
        assert inspect.signature(plain) == inspect.signature(waiting)
        assert inspect.iscoroutinefunction(waiting)


def test_every_verb(connect: Connect, url: str, person: Person) -> None:
    memory = connect(url, person.token)
    taken = memory.post_messages(
        [message(f"turn {number}", id=f"m{number}", conversation_id="c1") for number in range(3)]
    )
    assert taken["status"] == "durable"
    conversation_id = taken["messages"][0]["conversation_id"]
    memory.post_messages([message("elsewhere", conversation_id="c2")])

    whole = memory.conversation(conversation_id)
    assert [turn["content"] for turn in whole["messages"]] == ["turn 0", "turn 1", "turn 2"]
    last = memory.conversation(UUID(conversation_id), limit=1)["messages"]
    assert [turn["content"] for turn in last] == ["turn 2"]
    earlier = memory.conversation(conversation_id, before=last[0]["message_id"])["messages"]
    assert [turn["content"] for turn in earlier] == ["turn 0", "turn 1"]

    assert [row["id"] for row in memory.conversations()] == ["c2", "c1"]
    first = memory.conversations(limit=1)
    assert [row["id"] for row in memory.conversations(after=UUID(first[0]["conversation_id"]))] == ["c1"]

    deleted = memory.delete_conversation(conversation_id)
    assert deleted == {"conversation_id": conversation_id, "messages": 3, "memories": 3}
    assert [row["id"] for row in memory.conversations()] == ["c2"]

    assert memory.health()["stores"]["postgres"]["ok"]
    assert memory.cache_stats()["hits"] >= 0


def test_reports_are_read(connect: Connect, url: str, stack: ApiStack) -> None:
    admin = stack.person("acme", "admin@acme.example", "admin")
    memory = connect(url, admin.token)
    exports = stack.settings.data / "exports"
    shutil.rmtree(exports, ignore_errors=True)
    assert refused(lambda: memory.analytics("retention")) == (404, "no_export")
    export_lake(str(stack.settings.postgres_pipeline_url), None, stack.settings.data / "lake", dimensions=["tenants"])
    publish_duckdb(stack.settings.data / "lake", exports, 1)
    names = [report["name"] for report in memory.analytics_reports()]
    assert "retention" in names
    for name in names:
        answer = memory.analytics(name, from_day=date(2025, 3, 1), to_day="2025-03-31", limit=5)
        assert (answer["report"], answer["rows"]) == (name, [])
    # The days and the limit arrived.
    assert refused(lambda: memory.analytics("retention", from_day="2025-03-02", to_day=date(2025, 3, 1))) == (
        422,
        "invalid",
    )
    assert refused(lambda: memory.analytics("retention", limit=0)) == (422, "invalid")
    assert refused(lambda: memory.analytics("nonsense")) == (404, "not_found")


@pytest.mark.parametrize("name", ["../health", "..%2fhealth", "?limit=1", "#", "a/b", "", "..", "retention\n"])
def test_a_report_that_is_a_path_leads_nowhere(connect: Connect, url: str, person: Person, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a report"):
        connect(url, person.token).analytics(name)


def test_what_the_api_refuses_is_raised_with_its_code(connect: Connect, url: str, person: Person) -> None:
    memory = connect(url, person.token)
    memory.post_messages([message("first", id="m1")])
    assert refused(lambda: memory.post_messages([message("second", id="m1")])) == (409, "conflict")
    assert refused(lambda: memory.post_messages([])) == (422, "invalid")
    assert refused(lambda: memory.conversation(uuid4())) == (404, "not_found")
    assert refused(lambda: memory.delete_conversation(uuid4())) == (404, "not_found")
    assert refused(lambda: memory.conversations(limit=0)) == (422, "invalid")
    assert refused(lambda: memory.post_messages([message("x" * 900_000) for _ in range(20)])) == (413, "too_large")
    assert refused(connect(url).conversations) == (401, "token_missing")
    assert refused(connect(url, "a.b.c").conversations) == (401, "token_malformed")
    # Who asks without a token is told how things are all the same.
    assert connect(url).health()["ok"]


def test_a_refusal_carries_the_correlation_id(connect: Connect, url: str, person: Person) -> None:
    with pytest.raises(ApiError) as told:
        connect(url, person.token).conversation(uuid4())
    assert told.value.correlation_id is not None
    assert str(UUID(told.value.correlation_id)) == told.value.correlation_id


def test_texts_arrive_as_they_were_sent(connect: Connect, url: str, person: Person) -> None:
    memory = connect(url, person.token)
    text = "'; DROP TABLE messages; -- \u202e 👩\u200d👧 \x01 \u2028 \"\\"
    conversation_id = memory.post_messages([message(text)])["messages"][0]["conversation_id"]
    assert memory.conversation(conversation_id)["messages"][0]["content"] == text


@pytest.mark.parametrize("id_", ["../health", "..%2fhealth", "?limit=1", "#", "a/b", "", "..", "\r\nX: y"])
def test_an_id_that_is_a_path_leads_nowhere(connect: Connect, url: str, person: Person, id_: str) -> None:
    memory = connect(url, person.token)
    for verb in (memory.conversation, memory.delete_conversation):
        with pytest.raises(ValueError, match="no conversation id"):
            verb(id_)


def test_a_server_that_is_away_is_a_transport_error(connect: Connect) -> None:
    memory = connect("http://127.0.0.1:9", "token")
    calls: list[Callable[[], object]] = [
        memory.conversations,
        memory.health,
        lambda: memory.post_messages([message()]),
    ]
    for call in calls:
        with pytest.raises(httpx.TransportError):
            call()


class _Other(BaseHTTPRequestHandler):
    """A server that is not the API: what it answers is set on the server."""

    def do_GET(self) -> None:
        status, content_type, body = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the standard library's names
    do_DELETE = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output quiet."""


@contextmanager
def other_server(status: int, content_type: str, body: bytes) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Other) as server:
        server.answer = status, content_type, body  # type: ignore[attr-defined]
        with ThreadPoolExecutor(1) as pool:
            serving = pool.submit(server.serve_forever, 0.01)
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()
                serving.result()


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (200, "text/html", b"<html>Welcome to the gateway</html>"),
        (502, "text/html", b"<html>Bad gateway</html>"),
        (503, "text/html", b"<html>Maintenance</html>"),
        (503, "application/json", b'{"error": "maintenance"}'),
        (404, "application/json", b'{"detail": "Not Found"}'),
        (500, "application/json", b'["error"]'),
        (200, "application/json", b"null"),
        (200, "application/json", b"\xff\xfe"),
        (204, "application/json", b""),
    ],
)
def test_an_answer_that_is_not_the_apis_is_told_as_such(
    connect: Connect, status: int, content_type: str, body: bytes
) -> None:
    with other_server(status, content_type, body) as url:
        memory = connect(url, "token")
        for call in (
            memory.conversations,
            memory.health,
            lambda: memory.conversation(uuid4()),
            lambda: memory.post_messages([message()]),
        ):
            assert refused(call) == (status, "not_the_api")


def test_a_client_is_shared_by_threads(url: str, person: Person) -> None:
    with MemoryClient(url, person.token) as memory, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: memory.post_messages([message(id=f"m{number}")]), range(12)))
        assert len({answer["messages"][0]["message_id"] for answer in answers}) == 12
        assert len(memory.conversation(answers[0]["messages"][0]["conversation_id"])["messages"]) == 12


def test_clients_are_context_managers(url: str, person: Person) -> None:
    async def ask() -> list[dict[str, Any]]:
        async with AsyncMemoryClient(url, person.token) as memory:
            first, second = await asyncio.gather(memory.conversations(), memory.conversations())
            assert first == second
            return first

    with MemoryClient(url, person.token) as memory:
        assert memory.conversations() == asyncio.run(ask()) == []
    with pytest.raises(RuntimeError, match="closed"):
        memory.conversations()

"""What the API says of itself (log lines, error answers, metrics): ids and counts, never what was said or a token.

And the correlation id, by which a request is found in all of it.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import structlog

from memory_pipeline.logs import configure_logs
from memory_pipeline.model.errors import BusyError, MemoryPipelineError, StoreUnavailableError
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline_tests.api.stack import ApiStack, api_stack
from memory_pipeline_tests.api.support import PREFIX, Json, Person, message
from memory_pipeline_tests.local.host import Servers

CANARY = "kanarienvogel"
_JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def stack(servers: Servers, migrated_template: str) -> Iterator[ApiStack]:
    with api_stack(servers, migrated_template) as stack:
        yield stack


@pytest.fixture(scope="module")
def ana(stack: ApiStack) -> Person:
    return stack.person()


class Log:
    """What a process of the API would have written to standard error."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[Json]:
        return [json.loads(line) for line in self.text.split("\n")[:-1]]

    def events(self, name: str) -> list[Json]:
        return [line for line in self.lines if line["event"] == name]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """Logs as `configure_logs` makes them, caught; and what other libraries warn of."""
    log = Log()
    before = structlog.get_config()
    monkeypatch.setattr(sys, "stderr", log.stream)
    configure_logs()
    # Loggers of modules outlive this test.
    structlog.configure(**structlog.get_config() | {"cache_logger_on_first_use": False})
    handler = logging.StreamHandler(log.stream)
    handler.setFormatter(logging.Formatter('{"event": "%(name)s", "message": "%(message)s"}'))
    handler.setLevel(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield log
    finally:
        logging.getLogger().removeHandler(handler)
        structlog.configure(**before)


def telling(**changed: object) -> Json:
    """A message that holds the canary wherever somebody says something."""
    return (
        message(
            f"{CANARY} content",
            conversation_id=f"c-{uuid4().hex}",
            speaker=f"{CANARY} speaker",
            project=f"{CANARY} project",
            conversation_title=f"{CANARY} title",
            metadata={f"{CANARY} key": f"{CANARY} value"},
        )
        | changed
    )


def post(stack: ApiStack, person: Person, *messages: Json, **headers: str) -> Any:
    return stack.client.post(f"{PREFIX}/messages", json={"messages": messages}, headers={**person.headers, **headers})


def silent(log: Log, *answers: Any, token: str) -> None:
    """Nothing of the canary or of the token is in the log or the answers (which are refusals, or acknowledgements)."""
    for text in (log.text, *(f"{answer.text} {answer.headers}" for answer in answers)):
        assert CANARY not in text
        for part in token.split("."):
            assert part not in text


@contextmanager
def changed_database(stack: ApiStack, do: str, undo: str) -> Iterator[None]:
    stack.execute(do)
    try:
        yield
    finally:
        stack.execute(undo)


# -- what was said --


def test_taking_messages_tells_ids_and_counts(stack: ApiStack, ana: Person, log: Log) -> None:
    turn = telling(id="m-log")
    answers = [post(stack, ana, turn), post(stack, ana, turn), post(stack, ana, *(telling() for _ in range(60)))]
    assert {answer.status_code for answer in answers} == {200}
    silent(log, *answers, token=ana.token)
    assert [(line["messages"], line["inserted"]) for line in log.events("messages_ingested")] == [
        (1, 1),
        (1, 0),
        (60, 60),
    ]
    for line in log.events("messages_ingested"):
        assert (line["tenant_id"], line["user_id"]) == (str(ana.tenant_id), str(ana.user_id))


def refused_requests() -> dict[str, tuple[int, bytes]]:
    def body(**changed: object) -> bytes:
        return json.dumps({"messages": [telling(**changed)]}).encode()

    return {
        "NUL": (422, body(content=f"{CANARY}\0")),
        "half a pair": (422, body(speaker=f"{CANARY}\ud83d")),
        "too long": (422, body(content=CANARY * 100_000)),
        "long title": (422, body(conversation_title=CANARY * 100)),
        "role": (422, body(role=CANARY)),
        "time": (422, body(sent_at=CANARY)),
        "early": (422, body(sent_at="1990-01-01T00:00:00Z")),
        "wrong type": (422, body(content=[CANARY])),
        "wrong metadata": (422, body(metadata=CANARY)),
        "deep metadata": (422, json.dumps({"messages": [telling(metadata=nested(150))]}).encode()),
        "not JSON": (422, b'{"messages": [{"content": "' + CANARY.encode()),
        "not UTF-8": (400, b'{"messages": ["' + CANARY.encode() + b'\xff"]}'),
        "number": (
            400,
            b'{"messages": [{"content": "' + CANARY.encode() + b'", "metadata": {"n": ' + b"1" * 5000 + b"}}]}",
        ),
        "not a list": (422, json.dumps({"messages": CANARY}).encode()),
        "too much": (413, CANARY.encode() * 1_500_000),
    }


def nested(depth: int) -> Json:
    return {"a": CANARY} if depth == 0 else {"a": nested(depth - 1)}


@pytest.mark.parametrize("kind", refused_requests())
def test_a_refused_request_is_not_quoted(stack: ApiStack, ana: Person, log: Log, kind: str) -> None:
    status, body = refused_requests()[kind]
    answer = stack.client.post(f"{PREFIX}/messages", content=body, headers=ana.headers | _JSON)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
    silent(log, answer, token=ana.token)


def test_a_conflict_names_the_message_and_quotes_neither_of_the_two(stack: ApiStack, ana: Person, log: Log) -> None:
    first = telling(id="taken")
    assert post(stack, ana, first).status_code == 200
    answers = [
        post(stack, ana, first | {"content": f"{CANARY} changed"}),
        post(stack, ana, telling(id="twice"), telling(id="twice", content=f"{CANARY} 2")),
        post(stack, ana, *(telling() for _ in range(60)), first | {"content": f"{CANARY} changed"}),
    ]
    assert {answer.status_code for answer in answers} == {409}
    silent(log, *answers, token=ana.token)


def test_what_postgres_refuses_is_not_quoted(stack: ApiStack, ana: Person, log: Log) -> None:
    with changed_database(
        stack,
        f"ALTER TABLE memory.messages ADD CONSTRAINT no_birds CHECK (content !~ '{CANARY}') NOT VALID",
        "ALTER TABLE memory.messages DROP CONSTRAINT no_birds",
    ):
        answers = [post(stack, ana, telling()), post(stack, ana, *(telling() for _ in range(60)))]
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")
        assert "no_birds" in answer.json()["error"]["message"]
    silent(log, *answers, token=ana.token)


@contextmanager
def complaining_trigger(stack: ApiStack, complaint: str) -> Iterator[None]:
    """Every new message raises an error."""
    stack.execute(f"CREATE FUNCTION memory.complain() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {complaint}; END $$")
    with changed_database(
        stack,
        "CREATE TRIGGER complain BEFORE INSERT ON memory.messages FOR EACH ROW EXECUTE FUNCTION memory.complain()",
        "DROP FUNCTION memory.complain CASCADE",
    ):
        yield


def test_the_details_of_what_postgres_refuses_are_not_quoted(stack: ApiStack, ana: Person, log: Log) -> None:
    """Where row-level security does not keep it from that, Postgres quotes the row in the details of an error."""
    complaint = "RAISE EXCEPTION 'no birds' USING ERRCODE = 'data_exception', DETAIL = NEW.content, HINT = NEW.content"
    with complaining_trigger(stack, complaint):
        answer = post(stack, ana, telling())
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")
    assert "no birds" in answer.json()["error"]["message"]
    silent(log, answer, token=ana.token)


@pytest.fixture
def raising_trigger(stack: ApiStack) -> Iterator[None]:
    """Every new message raises an error of no class that anybody foresaw, which quotes it."""
    with complaining_trigger(stack, "RAISE EXCEPTION 'bad row: %%', NEW.content USING DETAIL = NEW.raw_data::text"):
        yield


@pytest.mark.usefixtures("raising_trigger")
def test_an_error_nobody_foresaw_is_logged_by_place_and_kind(stack: ApiStack, ana: Person, log: Log) -> None:
    correlation_id = uuid4()
    answer = post(stack, ana, telling(), **{"X-Correlation-Id": str(correlation_id)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert answer.headers["x-correlation-id"] == str(correlation_id)
    silent(log, answer, token=ana.token)
    (line,) = log.events("request_crashed")
    assert line["error"] == "RaiseException"
    assert line["correlation_id"] == str(correlation_id)
    assert any("insert_messages" in place for place in line["places"])
    # The next request is served.
    assert stack.client.get(f"{PREFIX}/conversations", headers=ana.headers).status_code == 200


def test_a_message_too_large_for_the_search_is_taken(stack: ApiStack, ana: Person, log: Log) -> None:
    """A search vector has a limit of one megabyte, and Postgres' error for it would name the words."""
    words = " ".join(f"{CANARY}{number:x}" for number in range(50_000))[:990_000]
    answer = post(stack, ana, telling(content=words, id="many-words"))
    assert answer.status_code == 200
    silent(log, answer, token=ana.token)


def copy_slowly(database: Database, ana: Person, killer: ApiStack | None) -> None:
    """Copy one row, which takes a while to check; have `killer` end the session meanwhile."""
    with database.tenant_transaction(ana.tenant_id) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE slow (content text CHECK (pg_sleep(1.5)::text IS NOT NULL))")
        kill = threading.Timer(
            0.2, lambda: killer and killer.rows("SELECT pg_terminate_backend(%s)", connection.info.backend_pid)
        )
        kill.start()
        try:
            with cursor.copy("COPY slow FROM STDIN") as copy:
                copy.write(f"{CANARY}\n")
        finally:
            kill.join()


@pytest.mark.parametrize(
    ("end", "kind"),
    [("timeout", BusyError), ("termination", StoreUnavailableError)],
)
def test_a_statement_that_is_ended_is_not_quoted(
    stack: ApiStack, ana: Person, end: str, kind: type[MemoryPipelineError]
) -> None:
    """A COPY that is ended while it stores a row tells the row as its context; the error's text is logged."""
    assert stack.settings.postgres_app_url is not None
    seconds = 0.2 if end == "timeout" else None
    with (
        Database(stack.settings.postgres_app_url, role="memory_app", statement_seconds=seconds) as database,
        pytest.raises(kind) as told,
    ):
        copy_slowly(database, ana, stack if end == "termination" else None)
    quoted = told.value.__cause__
    assert isinstance(quoted, psycopg.Error)
    assert CANARY in str(quoted)
    assert CANARY not in str(told.value)


# -- tokens, and lines that somebody forges --


def test_a_refused_token_is_not_told(stack: ApiStack, ana: Person, log: Log) -> None:
    header, payload, signature = ana.token.split(".")
    forged = f"{header}.{payload}.{signature[::-1]}"
    answers = [
        stack.client.get(f"{PREFIX}/conversations", headers={"Authorization": f"Bearer {token}"})
        for token in (forged, payload, f"{ana.token} {ana.token}")
    ]
    answers.append(stack.client.get(f"{PREFIX}/conversations", params={"access_token": ana.token}))
    assert {answer.status_code for answer in answers} == {401}
    silent(log, *answers, token=ana.token)
    silent(log, *answers, token=forged)


_FORGED = '\n{"event": "forged", "level": "info"}\r\n\x1b[31mred\x1b[0m\u2028{"event": "forged"}'


def test_nobody_forges_a_log_line(stack: ApiStack, ana: Person, log: Log) -> None:
    crafted = stack.issuer.token("ana@example.org", iss=f"https://evil.example.org/{_FORGED}")
    raw = _FORGED.encode()
    asks: list[Callable[[], Any]] = [
        lambda: stack.client.get(f"{PREFIX}/conversations", headers=[(b"X-Correlation-Id", raw)]),
        lambda: stack.client.get(f"{PREFIX}/conversations", headers=[(b"Authorization", b"Bearer " + raw)]),
        lambda: stack.client.get(f"{PREFIX}/conversations", headers=[(b"User-Agent", raw), (b"Host", raw)]),
        lambda: stack.client.get(f"{PREFIX}/conversations", headers={"Authorization": f"Bearer {crafted}"}),
        lambda: stack.client.get(f"{PREFIX}/conversations/%0A%7B%22event%22%3A%22forged%22%7D", headers=ana.headers),
        lambda: stack.client.get(f"{PREFIX}/%0A%1B[31m", headers=ana.headers),
        lambda: stack.client.get(f"{PREFIX}/conversations", params={"after": _FORGED}, headers=ana.headers),
        lambda: post(stack, ana, telling(id=_FORGED, conversation_id=_FORGED, content=_FORGED, speaker=_FORGED)),
        lambda: post(stack, ana, telling(id=_FORGED, conversation_id=_FORGED, content="other")),
    ]
    for ask in asks:
        assert ask().status_code < 500
    assert log.lines  # each is JSON
    assert log.events("forged") == []
    assert "\x1b" not in log.text
    assert "\u2028" not in log.text


@pytest.mark.usefixtures("raising_trigger")
def test_nobody_forges_a_log_line_of_a_crash(stack: ApiStack, ana: Person, log: Log) -> None:
    answer = post(stack, ana, telling(content=_FORGED), **{"X-Correlation-Id": "x"})
    assert answer.status_code == 500
    assert [line["event"] for line in log.lines if line["level"] == "error"] == ["request_crashed"]
    assert "forged" not in log.text


# -- metrics --


def test_metrics_hold_neither_texts_nor_ids(stack: ApiStack, ana: Person, log: Log) -> None:
    taken = post(stack, ana, telling()).json()["messages"][0]
    for path in (f"/conversations/{taken['conversation_id']}", f"/{CANARY}", f"/conversations/{CANARY}"):
        stack.client.get(f"{PREFIX}{path}", headers=ana.headers)
        stack.client.request(CANARY.upper(), f"{PREFIX}{path}", headers=ana.headers)
    stack.client.get(f"{PREFIX}/conversations", headers={"Authorization": f"Bearer {CANARY}"})
    text = stack.client.get("/metrics").text
    assert CANARY not in text.lower()
    for id_ in (ana.user_id, ana.tenant_id, taken["conversation_id"], taken["message_id"]):
        assert str(id_) not in text
    assert ana.token not in text


# -- the correlation id --


def test_a_correlation_id_is_followed_from_the_request_to_its_jobs(stack: ApiStack, ana: Person, log: Log) -> None:
    correlation_id = uuid4()
    header = {"X-Correlation-Id": str(correlation_id)}
    answer = post(stack, ana, telling(), **header)
    assert answer.headers["x-correlation-id"] == answer.json()["correlation_id"] == str(correlation_id)
    conversation_id = answer.json()["messages"][0]["conversation_id"]
    deleted = stack.client.delete(f"{PREFIX}/conversations/{conversation_id}", headers=ana.headers | header)
    assert deleted.status_code == 200
    assert {line["event"] for line in log.lines if line.get("correlation_id") == str(correlation_id)} == {
        "messages_ingested",
        "conversation_deleted",
    }
    kinds = stack.rows("SELECT kind FROM events WHERE correlation_id = %s", correlation_id)
    assert {"messages_ingested", "conversation_deleted"} <= {kind for (kind,) in kinds}
    jobs = stack.rows("SELECT job_type FROM memory_jobs WHERE correlation_id = %s", correlation_id)
    assert {("enrich_and_embed",), ("index",)} <= set(jobs)


def test_a_refusal_is_found_by_its_correlation_id(stack: ApiStack) -> None:
    reader = stack.person("acme", "rita@example.org", role="reader")
    for method, path, kind in (
        ("POST", "/messages", "messages:write"),
        ("DELETE", f"/conversations/{uuid4()}", "conversations:delete"),
    ):
        correlation_id = uuid4()
        headers = {**reader.headers, "X-Correlation-Id": str(correlation_id)}
        answer = stack.client.request(method, f"{PREFIX}{path}", json={"messages": [telling()]}, headers=headers)
        assert (answer.status_code, answer.headers["x-correlation-id"]) == (403, str(correlation_id))
        assert stack.rows(
            "SELECT kind, detail->>'permission' FROM events WHERE correlation_id = %s", correlation_id
        ) == [("permission_refused", kind)]


@pytest.mark.parametrize(
    "sent",
    ["", "7", "x" * 60_000, "00000000-0000-0000-0000-00000000000g", "\xff\xfe", "١٢٣", str(uuid4()) + " ", "null"],
    ids=range(8),
)
def test_what_is_no_correlation_id_is_replaced_by_one(stack: ApiStack, ana: Person, log: Log, sent: str) -> None:
    headers = [(b"Authorization", f"Bearer {ana.token}".encode()), (b"X-Correlation-Id", sent.encode())]
    answer = stack.client.post(f"{PREFIX}/messages", json={"messages": [telling()]}, headers=headers)
    assert answer.status_code == 200
    given = UUID(answer.headers["x-correlation-id"])
    assert str(given) == answer.headers["x-correlation-id"] != sent
    assert stack.rows("SELECT count(*) > 0 FROM events WHERE correlation_id = %s", given) == [(True,)]
    assert [line["correlation_id"] for line in log.events("messages_ingested")] == [str(given)]


def test_every_refusal_carries_a_correlation_id(stack: ApiStack, ana: Person) -> None:
    correlation_id = str(uuid4())
    headers = {**ana.headers, "X-Correlation-Id": correlation_id}
    answers = [
        stack.client.get(f"{PREFIX}/nothing", headers=headers),
        stack.client.put(f"{PREFIX}/messages", headers=headers),
        stack.client.get(f"{PREFIX}/conversations", headers=headers | {"Authorization": "Bearer x"}),
        stack.client.get(f"{PREFIX}/conversations", params={"limit": 0}, headers=headers),
        stack.client.get(f"{PREFIX}/conversations/{uuid4()}", headers=headers),
        stack.client.post(f"{PREFIX}/messages", content=b" " * 16_000_001, headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [404, 405, 401, 422, 404, 413]
    assert {answer.headers["x-correlation-id"] for answer in answers} == {correlation_id}

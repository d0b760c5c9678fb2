"""Postgres or Redis away, over HTTP: what is buffered, refused, read from the cache, and found when they are back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis

from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline.serving import services, sessions
from memory_pipeline.serving.ingest import UserDirectory, ingest
from memory_pipeline.serving.transcript import API_SOURCE
from memory_pipeline.settings import Settings
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.api.stack import ApiStack, running
from memory_pipeline_tests.api.support import PREFIX, Json, Person, TestIssuer, message
from memory_pipeline_tests.faults.proxy import TcpProxy
from memory_pipeline_tests.local.inspect import until

MESSAGES = f"{PREFIX}/messages"
CONVERSATIONS = f"{PREFIX}/conversations"

Response = Any
"""Of whichever HTTP library the test client uses."""


@dataclass
class Outage:
    """An API whose Postgres goes away and comes back when told."""

    api: ApiStack
    proxies: tuple[TcpProxy, TcpProxy]

    def begin(self) -> None:
        for proxy in self.proxies:
            proxy.refuse()
            proxy.cut()

    def end(self) -> None:
        for proxy in self.proxies:
            proxy.forward()

    def post(self, person: Person, *messages: Json, **headers: str) -> Response:
        return self.api.client.post(MESSAGES, json={"messages": messages}, headers={**person.headers, **headers})

    def read(self, person: Person, conversation_id: str) -> Response:
        return self.api.client.get(f"{CONVERSATIONS}/{conversation_id}", headers=person.headers)

    def stored(self) -> list[str]:
        """The messages in Postgres in the order of their transactions, then of their places."""
        return [row[0] for row in self.api.rows("SELECT content FROM messages ORDER BY received_at, position")]

    def replayed(self) -> bool:
        return self.api.services.buffer.stats().entries == 0


def give_redis_time(api: ApiStack) -> None:
    """A busy machine is not to be taken for a Redis that is away: what is asked here is not how fast it answers."""
    pool = api.services.redis._cache.quick.connection_pool
    pool.connection_kwargs.update(socket_timeout=5, socket_connect_timeout=5)
    pool.disconnect()


@contextmanager
def outages(settings: Settings, issuer: TestIssuer, **changed: object) -> Iterator[Outage]:
    """The API on these stores, with proxies between it and Postgres."""
    with ExitStack() as stack:
        assert settings.postgres_app_url is not None
        assert settings.postgres_pipeline_url is not None
        proxies = (
            stack.enter_context(TcpProxy(settings.postgres_app_url)),
            stack.enter_context(TcpProxy(settings.postgres_pipeline_url)),
        )
        urls: dict[str, Any] = {"postgres_app_url": proxies[0].url, "postgres_pipeline_url": proxies[1].url, **changed}
        # Whoever looks behind the API does so past the proxies, as the superuser.
        api = stack.enter_context(running(settings.model_copy(update=urls), issuer))
        give_redis_time(api)
        yield Outage(api, proxies)


@pytest.fixture
def outage(api_settings: Settings, issuer: TestIssuer) -> Iterator[Outage]:
    with outages(api_settings, issuer) as opened:
        yield opened


def refusal(answer: Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def contents(answer: Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [turn["content"] for turn in answer.json()["messages"]]


# -- writes --


def test_what_is_posted_while_postgres_is_away_is_buffered_and_stored_once_each_in_order(outage: Outage) -> None:
    ana, ben = outage.api.person(), outage.api.person(email="ben@example.org")
    known = outage.post(ana, message("before", id="m0")).json()["messages"][0]
    outage.begin()
    correlation_id = uuid4()
    first = outage.post(
        ana, message("one", id="m1"), message("two", id="m2"), **{"X-Correlation-Id": str(correlation_id)}
    )
    assert (first.status_code, first.json()["status"]) == (202, "buffered")
    assert first.json()["correlation_id"] == first.headers["x-correlation-id"] == str(correlation_id)
    assert [taken["id"] for taken in first.json()["messages"]] == ["m1", "m2"]
    for taken in first.json()["messages"]:
        assert (taken["message_id"], taken["memory_id"]) == (None, None)
        assert taken["conversation_id"] == known["conversation_id"]
    # Sent again, and one that Postgres had before: neither is stored twice.
    assert outage.post(ana, message("one", id="m1")).status_code == 202
    assert outage.post(ana, message("before", id="m0")).status_code == 202
    assert outage.post(ana, message("three", id="m3")).status_code == 202
    assert refusal(outage.post(ben, message("who?"))) == (503, "store_unavailable")
    assert outage.stored() == ["before"]

    outage.end()
    until(outage.replayed, "the buffer is replayed")
    assert outage.stored() == ["before", "one", "two", "three"]
    assert contents(outage.read(ana, known["conversation_id"])) == ["before", "one", "two", "three"]
    again = outage.post(ana, message("one", id="m1"), message("before", id="m0"))
    assert (again.status_code, again.json()["status"]) == (200, "durable")
    ids = dict(outage.api.rows("SELECT content, message_id FROM messages"))
    assert [UUID(taken["message_id"]) for taken in again.json()["messages"]] == [ids["one"], ids["before"]]
    assert again.json()["messages"][0]["sent_at"] == first.json()["messages"][0]["sent_at"]
    assert len(outage.stored()) == 4
    assert outage.api.rows(
        "SELECT DISTINCT correlation_id FROM memory_jobs WHERE subject_id IN (SELECT memory_id"
        " FROM memories WHERE content LIKE '%%two')"
    ) == [(correlation_id,)]


def test_what_a_message_of_the_outage_may_not_hold_is_refused_before_it_is_buffered(outage: Outage) -> None:
    ana = outage.api.person()
    assert outage.post(ana, message("before", id="m0")).status_code == 200
    outage.begin()
    assert refusal(outage.post(ana, message("fine"), message("a\0b"))) == (422, "invalid")
    assert outage.replayed()
    # What can't be known without Postgres is found when it is back, and nothing of it is lost.
    assert outage.post(ana, message("after", id="m0")).status_code == 202
    outage.end()
    until(outage.replayed, "the buffer is replayed")
    dead = outage.api.rows("SELECT error_class, payload FROM memory_jobs WHERE state = 'dead'")
    assert [error_class for error_class, _payload in dead] == ["ConflictError"]
    assert dead[0][1]["messages"][0]["content"] == "after"
    assert outage.stored() == ["before"]


def test_a_buffer_that_is_full_refuses_and_nothing_of_what_was_refused_is_stored(
    api_settings: Settings, issuer: TestIssuer
) -> None:
    with outages(api_settings, issuer, buffer_max_writes=3) as outage:
        ana = outage.api.person()
        assert outage.post(ana, message("before")).status_code == 200
        outage.begin()
        assert outage.post(ana, message("one"), message("two")).status_code == 202
        refused = outage.post(ana, message("not this"), message("nor this"))
        assert refusal(refused) == (503, "buffer_full")
        assert refused.headers["retry-after"]
        assert outage.post(ana, message("three")).status_code == 202
        assert refusal(outage.post(ana, message("not this"))) == (503, "buffer_full")
        outage.end()
        until(outage.replayed, "the buffer is replayed")
        assert outage.stored() == ["before", "one", "two", "three"]


def test_a_buffer_that_is_turned_off_refuses(api_settings: Settings, issuer: TestIssuer) -> None:
    with outages(api_settings, issuer, buffer_enabled=False) as outage:
        ana = outage.api.person()
        assert outage.post(ana, message("before")).status_code == 200
        outage.begin()
        assert refusal(outage.post(ana, message("one"))) == (503, "buffer_full")
        outage.end()
        until(lambda: outage.post(ana, message("two", id="m2")).status_code == 200, "Postgres is back")
        assert outage.stored() == ["before", "two"]


def test_with_redis_away_too_nothing_is_acknowledged(
    api_settings: Settings, issuer: TestIssuer, redis_server: RedisServer
) -> None:
    with outages(api_settings, issuer, redis_url=redis_server.url()) as outage:
        ana = outage.api.person()
        assert outage.post(ana, message("before")).status_code == 200
        outage.begin()
        redis_server.kill()
        assert refusal(outage.post(ana, message("one"))) == (503, "store_unavailable")
        health = outage.api.client.get(f"{PREFIX}/health")
        assert (health.status_code, health.json()["stores"]["redis"]["ok"]) == (503, False)
        # Redis back alone: who asks is in its file, and writes are buffered again.
        redis_server.start()
        until(lambda: outage.post(ana, message("two", id="m2")).status_code == 202, "writes are buffered")
        outage.end()
        until(lambda: "two" in outage.stored(), "the buffer is replayed")
        assert outage.stored() == ["before", "two"]


def test_a_postgres_that_takes_no_writes_buffers_them(outage: Outage) -> None:
    ana = outage.api.person()
    posted = outage.post(ana, message("before"))
    database = outage.api.rows("SELECT current_database()")[0][0]
    read_only = psycopg.sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
    name = psycopg.sql.Identifier(database)
    superuser = outage.api.settings.postgres_admin_url
    assert superuser is not None
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute(read_only.format(name, psycopg.sql.SQL("on")))
        for proxy in outage.proxies:
            proxy.cut()
        for number in range(3):
            answer = outage.post(ana, message(f"turn {number}", id=f"m{number}"))
            assert answer.status_code == 202, answer.text
        conversation_id = posted.json()["messages"][0]["conversation_id"]
        assert outage.read(ana, conversation_id).status_code == 200
        deletion = outage.api.client.delete(f"{CONVERSATIONS}/{conversation_id}", headers=ana.headers)
        assert refusal(deletion) == (503, "store_unavailable")
        until(lambda: outage.api.client.get(f"{PREFIX}/health").status_code == 503, "health tells of it")
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(read_only.format(name, psycopg.sql.SQL("off")))
    until(outage.replayed, "the buffer is replayed")
    assert outage.stored() == ["before", "turn 0", "turn 1", "turn 2"]
    until(lambda: outage.api.client.get(f"{PREFIX}/health").status_code == 200, "health is well again")


# -- reads and health --


def test_reads_come_from_the_cache_while_postgres_is_away(outage: Outage) -> None:
    ana = outage.api.person()
    cached = outage.post(ana, message("cached")).json()["messages"][0]["conversation_id"]
    uncached = outage.post(ana, message("uncached", conversation_id="c2")).json()["messages"][0]["conversation_id"]
    outage.api.services.cache.drop([UUID(uncached)])
    assert contents(outage.read(ana, cached)) == ["cached"]
    outage.begin()
    assert contents(outage.read(ana, cached)) == ["cached"]
    assert refusal(outage.read(ana, uncached)) == (503, "store_unavailable")
    # Whether there is such a conversation can't be said; "no" would be a guess.
    assert refusal(outage.read(ana, str(uuid4()))) == (503, "store_unavailable")
    assert refusal(outage.api.client.get(CONVERSATIONS, headers=ana.headers)) == (503, "store_unavailable")
    deletion = outage.api.client.delete(f"{CONVERSATIONS}/{cached}", headers=ana.headers)
    assert refusal(deletion) == (503, "store_unavailable")
    # A write that waits does not hide what is there.
    assert outage.post(ana, message("later", id="m1")).status_code == 202
    assert contents(outage.read(ana, cached)) == ["cached"]
    outage.end()
    until(outage.replayed, "the buffer is replayed")
    assert contents(outage.read(ana, cached)) == ["cached", "later"]
    assert contents(outage.read(ana, uncached)) == ["uncached"]


def test_health_tells_of_the_outage_and_of_its_end(outage: Outage) -> None:
    def health() -> tuple[int, bool, Json]:
        answer = outage.api.client.get(f"{PREFIX}/health")
        body: Json = answer.json()
        return answer.status_code, body["ok"], body["stores"]["postgres"]

    until(lambda: health()[:2] == (200, True), "all is well")
    outage.begin()
    until(lambda: health()[0] == 503, "the outage is told")
    status, ok, postgres = health()
    assert (status, ok, postgres["ok"]) == (503, False, False)
    assert "Postgres can't be reached" in postgres["detail"]
    body = outage.api.client.get(f"{PREFIX}/health").json()
    assert body["stores"]["redis"]["ok"]
    assert body["queue_stats"] is None
    assert outage.api.client.get("/metrics").status_code == 200
    outage.end()
    until(lambda: health()[:2] == (200, True), "all is well again")


# -- who is asking --


def test_a_user_who_is_at_work_goes_on_through_an_outage_longer_than_their_profile_is_kept(outage: Outage) -> None:
    ana = outage.api.person()
    assert outage.post(ana, message("before")).status_code == 200
    outage.begin()
    url = outage.api.settings.redis_url
    assert url is not None
    with redis.Redis.from_url(url) as client:
        profile = keys.auth(ana.user_id)
        client.expire(profile, 2)
        assert outage.post(ana, message("one")).status_code == 202
        lifetime: Any = client.ttl(profile)
        assert lifetime > 3500
        assert lifetime <= (keys.AUTH.seconds or 0)


def test_a_user_goes_on_through_an_outage_that_begins_when_postgres_has_just_been_asked(
    outage: Outage, api_settings: Settings, issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To ask whether all is as it was must not take away what Redis knows: nobody else would, in an outage."""
    ana = outage.api.person()
    assert outage.post(ana, message("before", id="m0")).status_code == 200
    with outages(api_settings, issuer) as another_process:
        assert another_process.post(ana, message("before", id="m0")).status_code == 200
        for process in (outage, another_process):
            process.begin()
            assert process.post(ana, message("one", id="m1")).status_code == 202


def test_a_profile_that_was_dropped_is_kept_again_after_a_while_however_much_its_user_asks(outage: Outage) -> None:
    ana = outage.api.person()
    profile = keys.auth(ana.user_id)
    assert outage.post(ana, message("one")).status_code == 200
    with RedisManager(str(outage.api.settings.redis_url), cache_seconds=5) as manager:
        assert manager.drop_values(profile)
    with redis.Redis.from_url(str(outage.api.settings.redis_url)) as client:
        client.pexpire(profile, 3000)
        assert outage.post(ana, message("two")).status_code == 200
        left: Any = client.pttl(profile)
        assert left <= 3000, "reading must not renew the mark that keeps new values away"
        client.persist(profile)
        client.pexpire(profile, 1)
        until(lambda: not client.exists(profile), "the mark is gone")
        assert outage.post(ana, message("three")).status_code == 200
        assert client.ttl(profile) > 3500


def test_a_redis_that_has_no_time_for_a_moment_refuses_nobody_while_postgres_is_away(outage: Outage) -> None:
    """What Redis does not answer at once is asked of Postgres; where that can't say, Redis is given its time."""
    ana = outage.api.person()
    assert outage.post(ana, message("before")).status_code == 200
    outage.begin()
    quick = outage.api.services.redis._cache.quick.connection_pool
    taken = [quick.get_connection() for _ in range(quick.max_connections)]
    assert not outage.api.services.redis.cache(lambda client: client.ping(), False)
    assert outage.post(ana, message("one")).status_code == 202
    for connection in taken:
        quick.release(connection)


def test_a_user_disabled_behind_the_back_of_redis_is_refused_once_postgres_is_asked(
    outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = outage.api.person()
    assert outage.post(ana, message("before")).status_code == 200
    outage.begin()
    outage.api.execute("UPDATE users SET status = 'disabled' WHERE user_id = %s", ana.user_id)
    assert outage.post(ana, message("one")).status_code == 202
    outage.end()
    monkeypatch.setattr(sessions, "_ACTIVITY_SECONDS", 0.0)
    monkeypatch.setattr(outage.api.services.sessions, "_not_told_until", 0.0)
    until(lambda: outage.post(ana, message("two")).status_code == 403, "the user is refused")
    assert refusal(outage.read(ana, str(uuid4()))) == (403, "user_disabled")
    # What was acknowledged before is kept for a person to decide about.
    until(outage.replayed, "the buffer is replayed")
    dead = outage.api.rows("SELECT error_class, error_text FROM memory_jobs WHERE state = 'dead'")
    assert dead
    assert {error_class for error_class, _text in dead} == {"ForbiddenError"}
    assert outage.stored() == ["before"]


# -- the cache --


def imported(settings: Settings, person: Person, *texts: str, conversation: str) -> None:
    """Import messages into a conversation of the API, past the API."""
    assert settings.postgres_app_url is not None
    records = [
        IncomingMessage(
            source=API_SOURCE,
            source_message_id=f"{person.user_id}/imported-{place}",
            source_conversation_id=f"{person.user_id}/{conversation}",
            role=Role.USER,
            content=text,
            sent_at=datetime(2026, 3, 1, 9, place, tzinfo=UTC),
            position=place,
        )
        for place, text in enumerate(texts)
    ]
    with Database(settings.postgres_app_url, role="memory_app") as database:
        users = UserDirectory(database, person.tenant_id, "ana@example.org")
        report = ingest(database, person.tenant_id, users, records, actor="import", on_reject=_not_expected)
    assert report.inserted == len(texts)


def _not_expected(rejection: object) -> None:
    raise AssertionError(json.dumps(repr(rejection)))


def test_what_is_imported_into_a_cached_conversation_is_read_once_the_cache_has_let_go(
    client: Any, ana: Person, api_settings: Settings, rows: Callable[..., list[tuple[Any, ...]]]
) -> None:
    posted = client.post(MESSAGES, json={"messages": [message("posted")]}, headers=ana.headers).json()
    path = f"{CONVERSATIONS}/{posted['messages'][0]['conversation_id']}"
    assert contents(client.get(path, headers=ana.headers)) == ["posted"]
    imported(api_settings, ana, "imported, first", "imported, second", conversation="c1")
    until(lambda: rows("SELECT * FROM cache_invalidations") == [], "the chore has run")
    expected = ["imported, first", "imported, second", "posted"]
    assert contents(client.get(path, headers=ana.headers)) == expected
    assert contents(client.get(path, headers=ana.headers)) == expected, "from the cache"


def test_what_is_written_while_redis_is_away_is_read_when_it_is_back(
    api_settings: Settings, issuer: TestIssuer, redis_server: RedisServer
) -> None:
    settings = api_settings.model_copy(update={"redis_url": redis_server.url()})
    with running(settings, issuer) as api, running(settings, issuer) as another_process:
        ana = api.person()

        def post(text: str) -> Json:
            answer = api.client.post(MESSAGES, json={"messages": [message(text)]}, headers=ana.headers)
            assert answer.status_code == 200, answer.text
            body: Json = answer.json()
            return body

        path = f"{CONVERSATIONS}/{post('one')['messages'][0]['conversation_id']}"
        for process in (api, another_process):
            assert contents(process.client.get(path, headers=ana.headers)) == ["one"]
        redis_server.running().suspend()  # the list it holds outlives this
        try:
            post("two")
            imported(settings, ana, "zero", conversation="c1")
            assert contents(api.client.get(path, headers=ana.headers)) == ["zero", "one", "two"]
            assert api.rows("SELECT count(*) > 0 FROM cache_invalidations") == [(True,)]
        finally:
            redis_server.running().resume()
        until(lambda: api.rows("SELECT * FROM cache_invalidations") == [], "the chore has run")
        for process in (api, another_process):
            for _ in range(2):
                assert contents(process.client.get(path, headers=ana.headers)) == ["zero", "one", "two"]


# -- order --


def test_messages_of_one_time_keep_the_order_they_were_posted_in(client: Any, ana: Person) -> None:
    sent_at = "2026-03-01T09:00:00+00:00"
    texts = [f"turn {number}" for number in range(30)]
    for text in texts[:-2]:
        answer = client.post(MESSAGES, json={"messages": [message(text, sent_at=sent_at)]}, headers=ana.headers)
    pair = [message(text, sent_at=sent_at) for text in texts[-2:]]
    answer = client.post(MESSAGES, json={"messages": pair}, headers=ana.headers)
    path = f"{CONVERSATIONS}/{answer.json()['messages'][0]['conversation_id']}"
    assert contents(client.get(path, headers=ana.headers)) == texts, "from the cache"
    assert contents(client.get(path, params={"limit": 1000}, headers=ana.headers)) == texts, "from Postgres"


# -- too much at once --


def test_a_busy_api_answers_so_at_once_and_still_tells_how_it_is(
    api_settings: Settings, issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requests in work are held until those that find the API busy have been answered: nothing here is timed."""
    monkeypatch.setattr(services, "_STATEMENT_SECONDS", 60.0)
    most = 4
    superuser = str(api_settings.postgres_admin_url)
    with running(api_settings.model_copy(update={"api_max_requests": most}), issuer) as api:
        ana = api.person()

        def post(name: str) -> Response:
            return api.client.post(MESSAGES, json={"messages": [message(name, id=name)]}, headers=ana.headers)

        first = post("first")
        assert first.status_code == 200
        path = f"{CONVERSATIONS}/{first.json()['messages'][0]['conversation_id']}"
        with (
            psycopg.connect(superuser, options="-c search_path=memory") as holder,
            ThreadPoolExecutor(most) as threads,
        ):
            holder.execute("LOCK TABLE messages IN SHARE ROW EXCLUSIVE MODE")
            held = [threads.submit(post, f"held {number}") for number in range(most)]
            waiters = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            until(lambda: len(api.rows(waiters)) == most, "all of them wait for Postgres")
            for busy in (post("one more"), api.client.get(path, headers=ana.headers)):
                assert refusal(busy) == (503, "busy")
                assert busy.headers["x-correlation-id"]
            for told in (f"{PREFIX}/health", f"{PREFIX}/cache/stats", "/metrics"):
                assert api.client.get(told).status_code == 200
            assert not any(request.done() for request in held)
            holder.rollback()
            assert [request.result().status_code for request in held] == [200] * most
        assert post("one more").status_code == 200
        assert len(contents(api.client.get(path, headers=ana.headers))) == most + 2

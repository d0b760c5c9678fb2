"""Health, cache statistics, metrics and the switch: what operators see while stores come and go."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from memory_pipeline.model.errors import WiringError
from memory_pipeline.serving.services import Services
from memory_pipeline.serving.wiring import Announcement
from memory_pipeline.stores.postgres.fingerprint import read_fingerprint
from memory_pipeline.stores.postgres.job_reports import forget_worker, note_worker
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.announcements import announce, withdraw
from memory_pipeline_tests.api.stack import ApiStack, running, stores
from memory_pipeline_tests.api.support import PREFIX, Json, Person, message
from memory_pipeline_tests.faults.proxy import TcpProxy
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.local.inspect import until

_BUFFER_WRITES = 5


@dataclass
class Ways:
    """What lies between the API and its stores."""

    app: TcpProxy
    pipeline: TcpProxy
    redis: TcpProxy
    chroma: TcpProxy

    @contextlib.contextmanager
    def closed(self, *names: str) -> Iterator[None]:
        ways = [getattr(self, name) for name in names]
        for way in ways:
            way.refuse()
            way.cut()
        try:
            yield
        finally:
            for way in ways:
                way.forward()


@pytest.fixture(scope="module")
def parts(servers: Servers, migrated_template: str) -> Iterator[tuple[ApiStack, Ways]]:
    with contextlib.ExitStack() as opened:
        settings, issuer = opened.enter_context(stores(servers, migrated_template, buffer_max_writes=_BUFFER_WRITES))
        ways = Ways(
            *(
                opened.enter_context(TcpProxy(str(url)))
                for url in (
                    settings.postgres_app_url,
                    settings.postgres_pipeline_url,
                    settings.redis_url,
                    settings.chroma_url,
                )
            )
        )
        proxied = settings.model_copy(
            update={
                "postgres_app_url": ways.app.url,
                "postgres_pipeline_url": ways.pipeline.url,
                "redis_url": ways.redis.url,
                "chroma_url": ways.chroma.url,
            }
        )
        yield opened.enter_context(running(proxied, issuer)), ways


@pytest.fixture
def stack(parts: tuple[ApiStack, Ways]) -> ApiStack:
    """The API, well again after whatever the test before did."""
    stack, _ways = parts
    until(lambda: well(stack), "the API is well")
    return stack


@pytest.fixture
def ways(parts: tuple[ApiStack, Ways]) -> Ways:
    return parts[1]


@pytest.fixture
def ana(stack: ApiStack) -> Person:
    return stack.person()


def health(stack: ApiStack) -> tuple[int, Json]:
    answer = stack.client.get(f"{PREFIX}/health")
    return answer.status_code, answer.json()


def well(stack: ApiStack) -> bool:
    status, body = health(stack)
    return status == 200 and body["ok"] and all(store["ok"] for store in body["stores"].values())


def until_told(stack: ApiStack, part: str, name: str, value: object) -> tuple[int, Json]:
    """Wait until health, which is a second old at most, tells this."""
    until(lambda: health(stack)[1][part][name] == value, f"{part}.{name} is {value}")
    return health(stack)


def store_ok(body: Json) -> dict[str, bool]:
    return {name: store["ok"] for name, store in body["stores"].items()}


def post(stack: ApiStack, person: Person, *names: str) -> Any:
    return stack.client.post(
        f"{PREFIX}/messages",
        json={"messages": [message(f"I am {name}.", id=name) for name in names]},
        headers=person.headers,
    )


# -- health --


def test_health_tells_how_every_part_is(stack: ApiStack, ana: Person) -> None:
    assert post(stack, ana, "first").status_code == 200
    status, body = until_told(stack, "queue_stats", "pending", 1)
    assert (status, body["ok"]) == (200, True)
    assert store_ok(body) == {"postgres": True, "redis": True, "chroma": True}
    for store in body["stores"].values():
        assert store["milliseconds"] >= 0
    assert (body["system_enabled"], body["worker_enabled"], body["worker_running"]) == (True, True, False)
    assert body["queue_stats"] == {"pending": 1, "processing": 0, "completed": 0, "failed": 0, "dead": 0}
    assert body["cache"]["connected"]
    assert (body["buffer"]["enabled"], body["buffer"]["writes"], body["buffer"]["alarm"]) == (True, 0, False)
    assert body["wiring"]["result"] == "same"
    with stack.services.pipeline.database.transaction() as connection:
        here = read_fingerprint(connection)
    assert (body["wiring"]["fingerprint"], body["wiring"]["schema_version"]) == (here.digest, here.schema_version)
    assert here.host not in str(body)


def test_redis_away_is_told_and_writes_are_durable_all_the_same(stack: ApiStack, ways: Ways, ana: Person) -> None:
    with ways.closed("redis"):
        answer = post(stack, ana, "without redis")
        assert (answer.status_code, answer.json()["status"]) == (200, "durable")
        until(lambda: not health(stack)[1]["stores"]["redis"]["ok"], "Redis is told to be away")
        status, body = health(stack)
        assert (status, body["ok"], store_ok(body)) == (200, True, {"postgres": True, "redis": False, "chroma": True})
        assert "Redis does not answer" in body["stores"]["redis"]["detail"]
        assert "problem" in body["buffer"]
        stats = stack.client.get(f"{PREFIX}/cache/stats").json()
        assert (stats["connected"], stats["keys_count"], stats["memory_used"]) == (False, None, None)


def test_chroma_away_is_told_and_keeps_nothing_from_going_on(stack: ApiStack, ways: Ways, ana: Person) -> None:
    with ways.closed("chroma"):
        until(lambda: not health(stack)[1]["stores"]["chroma"]["ok"], "Chroma is told to be away")
        status, body = health(stack)
        assert (status, store_ok(body)) == (200, {"postgres": True, "redis": True, "chroma": False})
        assert post(stack, ana, "without chroma").json()["status"] == "durable"


def test_postgres_away_is_503_and_named(stack: ApiStack, ways: Ways) -> None:
    with ways.closed("app", "pipeline"):
        until(lambda: health(stack)[0] == 503, "health is 503")
        status, body = health(stack)
        assert (status, body["ok"], store_ok(body)) == (503, False, {"postgres": False, "redis": True, "chroma": True})
        assert "Postgres" in body["stores"]["postgres"]["detail"]
        assert body["queue_stats"] is None


def test_a_buffer_that_fills_up_is_an_alarm_until_it_is_replayed(stack: ApiStack, ways: Ways, ana: Person) -> None:
    assert post(stack, ana, "before").status_code == 200
    with hold_replay(stack):
        with ways.closed("app", "pipeline"):
            for name in ("b1", "b2", "b3"):
                answer = post(stack, ana, name)
                assert (answer.status_code, answer.json()["status"]) == (202, "buffered")
                (taken,) = answer.json()["messages"]
                assert (taken["id"], taken["message_id"], taken["memory_id"]) == (name, None, None)
            assert not until_told(stack, "buffer", "writes", 3)[1]["buffer"]["alarm"]
            assert post(stack, ana, "b4").status_code == 202
            full = post(stack, ana, "b5", "b6")
            assert (full.status_code, full.json()["error"]["code"]) == (503, "buffer_full")
            assert full.headers["retry-after"]
        until(lambda: store_ok(health(stack)[1])["postgres"], "Postgres is back")
        status, body = until_told(stack, "buffer", "alarm", True)
        assert (status, body["ok"], body["buffer"]["writes"]) == (503, False, 4)
        assert body["buffer"]["max_writes"] == _BUFFER_WRITES
    status, body = until_told(stack, "buffer", "writes", 0)
    assert (status, body["buffer"]["alarm"]) == (200, False)
    names = stack.rows("SELECT source_message_id FROM messages WHERE source_message_id LIKE %s ORDER BY 1", "%/b_")
    assert [name.partition("/")[2] for (name,) in names] == ["b1", "b2", "b3", "b4"]


@contextlib.contextmanager
def hold_replay(stack: ApiStack) -> Iterator[None]:
    """Be the process that replays, and do nothing."""
    with psycopg.connect(str(stack.settings.postgres_admin_url)) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('replay_writes'))")
        yield


def test_a_worker_on_another_database_is_503_and_both_are_named(stack: ApiStack) -> None:
    with stack.services.pipeline.database.transaction() as connection:
        here = read_fingerprint(connection)
    there = msgspec.structs.replace(here, installation_id=uuid4(), database="elsewhere", host="db2.example.org")
    with another_process(stack, Announcement(process="worker", host="w1", pid=7, fingerprint=here)):
        stack.services._wiring.check()
        assert until_told(stack, "wiring", "result", "same")[0] == 200
    with another_process(stack, Announcement(process="worker", host="w1", pid=7, fingerprint=there)):
        stack.services._wiring.check()
        status, body = until_told(stack, "wiring", "result", "other_database")
        assert (status, body["ok"]) == (503, False)
        for told in (here.database, "elsewhere", "db2.example.org", "worker (host w1, pid 7)"):
            assert told in body["wiring"]["message"]
        # Another API that starts now refuses.
        with pytest.raises(WiringError, match="elsewhere"), Services(stack.settings, settle_seconds=0):
            pass
    stack.services._wiring.check()
    assert until_told(stack, "wiring", "result", "same")[0] == 200


def test_a_worker_counts_as_running_while_it_says_so(stack: ApiStack) -> None:
    assert not health(stack)[1]["worker_running"]
    with stack.services.pipeline.database.transaction() as connection:
        note_worker(connection, "w1")
    until(lambda: health(stack)[1]["worker_running"], "the worker is seen")
    with stack.services.pipeline.database.transaction() as connection:
        forget_worker(connection, "w1")
    until(lambda: not health(stack)[1]["worker_running"], "the worker has gone")


@contextlib.contextmanager
def another_process(stack: ApiStack, announcement: Announcement) -> Iterator[None]:
    key = keys.wiring(announcement.process, f"{announcement.host}:{announcement.pid}")
    announce(stack.services.redis, key, msgspec.json.encode(announcement))
    try:
        yield
    finally:
        withdraw(stack.services.redis, key)


def test_postgres_that_goes_away_between_two_questions_of_health_is_told(
    stack: ApiStack, monkeypatch: pytest.MonkeyPatch, ways: Ways
) -> None:
    """The ping is answered, and then the queue can't be counted."""
    ping = stack.services._background.ping

    def last_ping() -> float:
        seconds = ping()
        ways.pipeline.refuse()
        ways.pipeline.cut()
        return seconds

    answers: list[tuple[int, Json]] = []

    def told() -> bool:
        answers.append(health(stack))
        return answers[-1][0] == 503

    monkeypatch.setattr(stack.services._background, "ping", last_ping)
    try:
        until(told, "health is 503")
    finally:
        monkeypatch.undo()
        ways.pipeline.forward()
    _status, first = answers[-1]
    assert (store_ok(first)["postgres"], first["queue_stats"]) == (False, None)


# -- cache statistics and metrics --


@pytest.mark.nightly
def test_cache_statistics_count_reads(stack: ApiStack, ana: Person) -> None:
    conversation_id = post(stack, ana, "cached").json()["messages"][0]["conversation_id"]

    def counts() -> tuple[int, int]:
        stats = stack.client.get(f"{PREFIX}/cache/stats").json()
        return stats["hits"], stats["misses"]

    def is_answered_by_the_cache() -> bool:
        hits, misses = counts()
        answer = stack.client.get(f"{PREFIX}/conversations/{conversation_id}", headers=ana.headers)
        assert answer.status_code == 200
        # The conversation, and the session and user of the request.
        return counts() == (hits + 3, misses)

    # Not always the first: a Redis that is late for once is left alone for a moment.
    until(is_answered_by_the_cache, "a read is answered by the cache")
    until(lambda: bool(stack.client.get(f"{PREFIX}/cache/stats").json()["connected"]), "Redis answers")
    after = stack.client.get(f"{PREFIX}/cache/stats").json()
    assert after["keys_count"] >= 4
    assert after["memory_used"] > 100_000
    assert after["hit_rate"] == pytest.approx(after["hits"] / (after["hits"] + after["misses"]))


def samples(stack: ApiStack) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = stack.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_are_prometheus_text_and_count_what_is_done(stack: ApiStack, ana: Person) -> None:
    before = samples(stack)
    conversation_id = post(stack, ana, "counted 1", "counted 2").json()["messages"][0]["conversation_id"]
    for _ in range(3):
        stack.client.get(f"{PREFIX}/conversations/{conversation_id}", headers=ana.headers)
    stack.client.get(f"{PREFIX}/conversations/{uuid4()}", headers=ana.headers)
    stack.client.get(f"{PREFIX}/conversations")
    stack.client.get(f"{PREFIX}/nothing")
    stack.client.patch(f"{PREFIX}/messages")
    stack.client.request("WILD", f"{PREFIX}/messages")
    after = samples(stack)

    def grown(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0)

    messages, one = f"{PREFIX}/messages", f"{PREFIX}/conversations/{{conversation_id}}"
    assert grown("memory_api_requests_total", route=messages, method="POST", status="200") == 1
    assert grown("memory_api_requests_total", route=one, method="GET", status="200") == 3
    assert grown("memory_api_requests_total", route=one, method="GET", status="404") == 1
    assert grown("memory_api_requests_total", route=f"{PREFIX}/conversations", method="GET", status="401") == 1
    assert grown("memory_api_requests_total", route="unknown", method="GET", status="404") == 1
    assert grown("memory_api_requests_total", route=messages, method="PATCH", status="405") == 1
    assert grown("memory_api_requests_total", route=messages, method="other", status="405") == 1
    assert grown("memory_api_request_seconds_count", route=one) == 4
    assert grown("memory_messages_ingested_total", outcome="durable") == 2
    assert grown("memory_tokens_refused_total", reason="token_missing") == 1
    reads = [grown("memory_cache_reads_total", cache="conversation", result=result) for result in ("hit", "miss")]
    assert sum(reads) == 4

"""Postgres away, Redis away, both, and processes that die in between: no acknowledged message is lost or doubled."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from uuid import UUID

import pytest
import redis

from memory_pipeline.stores.redis.buffer import WriteBuffer
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.faults.api_process import (
    ledger,
    names_of,
    process,
)
from memory_pipeline_tests.faults.proxy import TcpProxy
from memory_pipeline_tests.local.inspect import until
from memory_pipeline_tests.serving.buffered_writes import (
    Person,
    link_person,
    request,
    requests,
    rows,
    stored_names,
)

_ADD = b"EVALSHA"


@pytest.fixture
def postgres_proxies(database: Urls) -> Iterator[tuple[TcpProxy, TcpProxy]]:
    """Ways to the database as memory_pipeline and as memory_app."""
    with TcpProxy(database.pipeline_url) as pipeline, TcpProxy(database.app_url) as app:
        yield pipeline, app


def test_what_arrives_while_postgres_is_away_is_replayed_once_each_in_order(
    postgres_proxies: tuple[TcpProxy, TcpProxy], database: Urls, redis_url: str
) -> None:
    with process(postgres_proxies[0].url, postgres_proxies[1].url, redis_url) as api:
        ana = link_person(api.pipeline)
        before, during, after = requests(ana, 3), requests(ana, 40, 3), requests(ana, 3, 43)
        assert {api.post(entry) for entry in before} == {"durable"}
        for proxy in postgres_proxies:
            proxy.refuse()
            proxy.cut()
        assert {api.post(entry) for entry in during} == {"buffered"}
        assert api.post(during[0]) == "buffered"  # sent again by a client that did not get the answer
        assert len(stored_names(database.admin_url)) == 3
        for proxy in postgres_proxies:
            proxy.forward()
        until(api.is_done, "the buffer is replayed")
        assert {api.post(entry) for entry in after} == {"durable"}
    assert stored_names(database.admin_url) == names_of(before + during + after)
    assert ledger(database.admin_url) == Counter((entry.entry_id, "completed") for entry in during)


def test_a_write_whose_commit_was_not_answered_is_buffered_and_has_one_effect(
    postgres_proxies: tuple[TcpProxy, TcpProxy], database: Urls, redis_url: str
) -> None:
    with process(postgres_proxies[0].url, postgres_proxies[1].url, redis_url) as api:
        ana = link_person(api.pipeline)
        assert api.post(request(ana, "first")) == "durable"
        entry = request(ana, "a", "b")
        postgres_proxies[1].lose_reply()
        assert api.post(entry) == "buffered"
        until(api.is_done, "the buffer is replayed")
    assert stored_names(database.admin_url) == ["first", "a", "b"]


def test_an_entry_whose_answer_from_redis_was_lost_is_in_the_buffer_once(redis_url: str) -> None:
    ana = Person(UUID(int=1), UUID(int=2), "ana@acme.example", "ana")
    with TcpProxy(redis_url) as proxy, RedisManager(proxy.url) as manager:
        buffer = WriteBuffer(manager, 100, 100_000)
        buffer.add(request(ana, "first"))
        entry = request(ana, "a", "b")
        proxy.lose_reply(_ADD)
        buffer.add(entry)
        assert proxy.lost == 1
        assert [held.entry_id for held in buffer.head(10)][1:] == [entry.entry_id]
        assert buffer.stats().writes == 3


def test_with_postgres_and_redis_away_every_write_is_refused_and_nothing_was_taken(
    postgres_proxies: tuple[TcpProxy, TcpProxy], database: Urls, redis_url: str
) -> None:
    with (
        TcpProxy(redis_url) as redis_proxy,
        process(postgres_proxies[0].url, postgres_proxies[1].url, redis_proxy.url) as api,
    ):
        ana = link_person(api.pipeline)
        entries = requests(ana, 5)
        for proxy in (*postgres_proxies, redis_proxy):
            proxy.refuse()
            proxy.cut()
        assert [api.post(entry) for entry in entries] == ["refused"] * 5
        for proxy in (*postgres_proxies, redis_proxy):
            proxy.forward()
        until(api.is_done, "Redis is back")
        assert stored_names(database.admin_url) == []
        until(lambda: api.post(entries[0]) == "durable", "Postgres is back")
    assert stored_names(database.admin_url) == ["m00000"]


def test_a_flush_during_an_outage_loses_buffered_messages_alone_and_is_reported(
    postgres_proxies: tuple[TcpProxy, TcpProxy], database: Urls, redis_url: str
) -> None:
    with process(postgres_proxies[0].url, postgres_proxies[1].url, redis_url) as api:
        ana = link_person(api.pipeline)
        durable, lost, kept = requests(ana, 4), requests(ana, 6, 4), requests(ana, 3, 10)
        assert {api.post(entry) for entry in durable} == {"durable"}
        for proxy in postgres_proxies:
            proxy.refuse()
            proxy.cut()
        assert {api.post(entry) for entry in lost} == {"buffered"}
        with redis.Redis.from_url(redis_url) as client:
            client.flushdb()
        assert {api.post(entry) for entry in kept} == {"buffered"}
        for proxy in postgres_proxies:
            proxy.forward()
        until(api.is_done, "the rest is replayed and the loss is known")
    assert stored_names(database.admin_url) == names_of(durable + kept)
    events = rows(database.admin_url, "SELECT tenant_id, detail FROM events WHERE kind = 'buffered_writes_lost'")
    assert sum(detail["messages"] for _tenant, detail in events) == 6
    assert {tenant for tenant, _detail in events} == {ana.tenant_id}
    assert {named for _tenant, detail in events for named in detail["correlation_ids"]} == {
        str(entry.correlation_id) for entry in lost
    }


@pytest.mark.parametrize("where", ["written", "recorded"])
def test_a_replayer_killed_before_it_removes_what_it_wrote_has_one_effect(
    where: str, database: Urls, redis_url: str
) -> None:
    with process(database.pipeline_url, database.app_url, redis_url, replays=False) as api:
        ana = link_person(api.pipeline)
        entries = requests(ana, 8)
        for entry in entries:
            api.buffer.add(entry)
        command = [sys.executable, "-m", "memory_pipeline_tests.faults.replay_process"]
        with subprocess.Popen(
            [*command, database.pipeline_url, database.app_url, redis_url, where, str(entries[4].entry_id)],
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            try:
                assert child.stdout is not None
                assert child.stdout.readline() == "there\n"
            finally:
                child.kill()
        assert len(api.buffer.head(10)) == 8
        found = {"written": 5, "recorded": 8}[where]
        assert len(stored_names(database.admin_url)) == found
        assert len(ledger(database.admin_url)) == {"written": 0, "recorded": 8}[where]

        api.replayer.start()
        until(api.is_done, "another process has replayed the rest")
        api.replayer.stop()
    assert stored_names(database.admin_url) == names_of(entries)
    assert ledger(database.admin_url) == Counter((entry.entry_id, "completed") for entry in entries)
    [[ingested]] = rows(database.admin_url, "SELECT count(*) FROM events WHERE kind = 'messages_ingested'")
    assert ingested == 8

"""Postgres away, Redis away, both, and processes that die in between: no acknowledged message is lost or doubled."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Literal
from uuid import UUID

import pytest
import redis

from memory_pipeline.local.postgres import PostgresServer
from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.errors import BufferFullError, BusyError, StoreUnavailableError
from memory_pipeline.model.records import BufferedWrite
from memory_pipeline.serving.buffering import report_lost
from memory_pipeline.serving.replayer import Replayer
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.migrate import migrate
from memory_pipeline.stores.redis.buffer import WriteBuffer
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.faults.proxy import TcpProxy
from memory_pipeline_tests.local.inspect import until
from memory_pipeline_tests.serving.buffered_writes import (
    Ingest,
    Person,
    link_person,
    request,
    requests,
    rows,
    stored_names,
)

Answer = Literal["durable", "buffered", "refused"]
_ADD = b"EVALSHA"


class Process:
    """What an API process does with a request: into Postgres, else into the buffer, else refused; and it replays."""

    def __init__(self, pipeline: Database, app: Database, manager: RedisManager) -> None:
        self.pipeline = pipeline
        self.write = Ingest(app)
        self.buffer = WriteBuffer(manager, 100_000, 100_000_000)
        self.replayer = Replayer(self.buffer, pipeline, self.write, interval=0.1, max_pause=0.5)

    def post(self, entry: BufferedWrite) -> Answer:
        try:
            self.write(entry)
        except BusyError:  # a Postgres that hangs keeps all connections for a while
            return "refused"
        except StoreUnavailableError:
            try:
                self.buffer.add(entry)
            except (BufferFullError, StoreUnavailableError):
                return "refused"
            self.replayer.wake()
            return "buffered"
        return "durable"

    def is_done(self) -> bool:
        """Nothing waits in the buffer, and the end of all that was added here is known."""
        try:
            return self.buffer.stats().entries == 0 and not self.buffer.unsettled()
        except StoreUnavailableError:
            return False


@contextmanager
def process(pipeline_url: str, app_url: str, redis_url: str, *, replays: bool = True) -> Iterator[Process]:
    """An API process; Postgres and Redis must be there when it starts."""
    with ExitStack() as stack:
        opened = Process(
            stack.enter_context(Database(pipeline_url, role="memory_pipeline", wait_seconds=2)),
            stack.enter_context(Database(app_url, role="memory_app", wait_seconds=2)),
            stack.enter_context(RedisManager(redis_url)),
        )
        if replays:
            opened.replayer.start()
            stack.callback(opened.replayer.stop)
        yield opened


@contextmanager
def process_on(postgres: PostgresServer, redis_url: str, *, replays: bool = True) -> Iterator[Process]:
    with process(postgres.url("memory_pipeline"), postgres.url("memory_app"), redis_url, replays=replays) as opened:
        yield opened


def link_first_person(postgres: PostgresServer) -> Person:
    """Migrate a server of the test's own and return its one user."""
    migrate(postgres.url())
    with Database(postgres.url("memory_pipeline"), role="memory_pipeline") as pipeline:
        return link_person(pipeline)


def names_of(entries: list[BufferedWrite]) -> list[str]:
    return [message.source_message_id.partition("/")[2] for entry in entries for message in entry.messages]


def ledger(admin_url: str) -> Counter[tuple[UUID, str]]:
    found = rows(admin_url, "SELECT job_id, state FROM memory_jobs WHERE job_type = 'replay_write'")
    return Counter((job_id, state) for job_id, state in found)


# -- fast: a proxy stands for the network, the servers stay --


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


# -- slow: servers are killed and suspended --


@pytest.mark.faults
def test_thousands_of_messages_of_an_outage_are_replayed_once_each_in_order_by_two_processes(
    postgres_server: PostgresServer, redis_server: RedisServer
) -> None:
    """Eight writers for half a minute, Postgres killed for most of it; two processes replay at the same time."""
    ana = link_first_person(postgres_server)
    answers: dict[str, tuple[Answer, BufferedWrite]] = {}
    over = threading.Event()

    with (
        process_on(postgres_server, redis_server.url()) as one,
        process_on(postgres_server, redis_server.url()) as other,
    ):

        def send(writer: int) -> None:
            number = 0
            while not over.is_set():
                entry = request(ana, f"w{writer}-{number:05d}", conversation=f"c{writer}")
                answers[f"w{writer}-{number:05d}"] = (one, other)[writer % 2].post(entry), entry
                number += 1
                time.sleep(0.06)

        with ThreadPoolExecutor(8) as pool:
            writers = [pool.submit(send, writer) for writer in range(8)]
            time.sleep(2)
            postgres_server.kill()
            time.sleep(24)
            postgres_server.start()
            time.sleep(4)
            over.set()
            for writer in writers:
                writer.result()
        until(lambda: one.is_done() and other.is_done(), "both processes are done", seconds=150)

    admin_url = postgres_server.url()
    buffered = [name for name, (answer, _entry) in answers.items() if answer == "buffered"]
    assert len(buffered) > 2000
    assert {answer for answer, _entry in answers.values()} == {"durable", "buffered"}
    stored = stored_names(admin_url)
    assert Counter(stored) == Counter(list(answers))
    assert ledger(admin_url) == Counter((answers[name][1].entry_id, "completed") for name in buffered)
    waited = set(buffered)
    for number in range(8):
        replayed = [name for name in stored if name in waited and name.startswith(f"w{number}-")]
        assert replayed == sorted(replayed)


@pytest.mark.faults
def test_a_postgres_that_goes_away_again_and_again_during_the_replay_changes_nothing(
    postgres_server: PostgresServer, redis_server: RedisServer
) -> None:
    ana = link_first_person(postgres_server)
    with process_on(postgres_server, redis_server.url(), replays=False) as api:
        entries = requests(ana, 400)
        for entry in entries:
            api.buffer.add(entry)
        api.replayer.start()
        for share in (60, 140, 220):
            until(lambda share=share: len(api.write.asked) >= share, f"{share} are written")  # type: ignore[misc]
            postgres_server.kill()
            time.sleep(0.3)
            postgres_server.start()
        until(api.is_done, "the buffer is replayed", seconds=60)
    assert stored_names(postgres_server.url()) == names_of(entries)
    assert ledger(postgres_server.url()) == Counter((entry.entry_id, "completed") for entry in entries)


@pytest.mark.faults
def test_a_redis_that_is_killed_during_the_replay_changes_nothing(
    postgres_server: PostgresServer, redis_server: RedisServer
) -> None:
    ana = link_first_person(postgres_server)
    with process_on(postgres_server, redis_server.url(), replays=False) as api:
        entries = requests(ana, 300)
        for entry in entries:
            api.buffer.add(entry)
        api.replayer.start()
        for share in (50, 150):
            until(lambda share=share: len(api.write.asked) >= share, f"{share} are written")  # type: ignore[misc]
            redis_server.kill()
            time.sleep(0.5)
            redis_server.start()
        until(api.is_done, "the buffer is replayed", seconds=60)
    assert stored_names(postgres_server.url()) == names_of(entries)
    assert ledger(postgres_server.url()) == Counter((entry.entry_id, "completed") for entry in entries)
    lost = rows(postgres_server.url(), "SELECT FROM events WHERE kind = 'buffered_writes_lost'")
    assert lost == []


@pytest.mark.faults
def test_a_redis_killed_in_the_outage_loses_nothing_and_one_that_starts_empty_is_reported(
    postgres_server: PostgresServer, redis_server: RedisServer
) -> None:
    ana = link_first_person(postgres_server)
    with process_on(postgres_server, redis_server.url()) as api:
        kept, lost = requests(ana, 50), requests(ana, 20, 50)

        postgres_server.kill()
        until(lambda: api.post(kept[0]) == "buffered", "Postgres is known to be away")
        assert {api.post(entry) for entry in kept[1:]} == {"buffered"}
        redis_server.kill()
        redis_server.start()
        postgres_server.start()
        until(api.is_done, "the buffer is replayed")
        assert stored_names(postgres_server.url()) == names_of(kept)

        postgres_server.kill()
        until(lambda: api.post(lost[0]) == "buffered", "Postgres is known to be away")
        assert {api.post(entry) for entry in lost[1:]} == {"buffered"}
        redis_server.kill()
        shutil.rmtree(redis_server.data_dir)
        redis_server.start()
        postgres_server.start()
        until(api.is_done, "the loss is known")
    assert stored_names(postgres_server.url()) == names_of(kept)
    events = rows(postgres_server.url(), "SELECT detail FROM events WHERE kind = 'buffered_writes_lost'")
    assert sum(detail["messages"] for (detail,) in events) == 20


@pytest.mark.faults
def test_with_both_servers_hanging_writes_are_refused_in_time_and_sending_again_has_one_effect(
    postgres_server: PostgresServer, redis_server: RedisServer
) -> None:
    """A server that hangs may carry out later what it was asked: nobody was told so, and it must not count twice."""
    ana = link_first_person(postgres_server)
    with process_on(postgres_server, redis_server.url()) as api:
        entries = requests(ana, 6)
        assert api.post(entries[0]) == "durable"
        api.buffer.stats()
        postgres_server.running().suspend()
        redis_server.running().suspend()
        started = time.monotonic()
        with ThreadPoolExecutor(5) as pool:
            answers = list(pool.map(api.post, entries[1:]))
        elapsed = time.monotonic() - started
        redis_server.running().resume()
        postgres_server.running().resume()
        assert answers == ["refused"] * 5
        assert elapsed < 60
        until(lambda: {api.post(entry) for entry in entries[1:]} == {"durable"}, "Postgres is back", seconds=60)
        until(api.is_done, "nothing is left in the buffer", seconds=60)
        assert report_lost(api.buffer, api.pipeline) == 0
    assert Counter(stored_names(postgres_server.url())) == Counter(names_of(entries))


@pytest.mark.faults
def test_a_postgres_that_hangs_is_given_up_and_what_came_meanwhile_is_replayed(
    postgres_server: PostgresServer, redis_server: RedisServer
) -> None:
    ana = link_first_person(postgres_server)
    with process_on(postgres_server, redis_server.url()) as api:
        entries = requests(ana, 30)
        assert api.post(entries[0]) == "durable"
        postgres_server.running().suspend()
        answers = [api.post(entry) for entry in entries[1:]]
        postgres_server.running().resume()
        until(api.is_done, "the buffer is replayed", seconds=60)
    assert answers == ["buffered"] * 29
    assert Counter(stored_names(postgres_server.url())) == Counter(names_of(entries))

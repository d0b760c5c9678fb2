"""Postgres and Redis killed and suspended while messages arrive and are replayed: none is lost, none doubled."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from memory_pipeline.local.postgres import PostgresServer
from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.records import BufferedWrite
from memory_pipeline.serving.buffering import report_lost
from memory_pipeline_tests.faults.api_process import (
    Answer,
    ledger,
    link_first_person,
    names_of,
    process_on,
)
from memory_pipeline_tests.local.inspect import until
from memory_pipeline_tests.serving.buffered_writes import (
    request,
    requests,
    rows,
    stored_names,
)


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
            for sent in writers:
                sent.result()
        until(lambda: one.is_done() and other.is_done(), "both processes are done", seconds=150)

    admin_url = postgres_server.url()
    buffered = [name for name, (answer, _entry) in answers.items() if answer == "buffered"]
    assert len(buffered) > 2000
    assert {answer for answer, _entry in answers.values()} == {"durable", "buffered"}
    stored = stored_names(admin_url)
    assert Counter(stored) == Counter(list(answers))
    assert ledger(admin_url) == Counter((answers[name][1].entry_id, "completed") for name in buffered)
    waited = set(buffered)
    for writer in range(8):
        replayed = [name for name in stored if name in waited and name.startswith(f"w{writer}-")]
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

"""What never reaches Redis, what Redis has lost, and the thread that looks after the buffer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
import redis
from structlog.testing import capture_logs

from memory_pipeline import metrics
from memory_pipeline.model.errors import InvalidRequestError, StoreUnavailableError
from memory_pipeline.model.records import BufferedWrite
from memory_pipeline.model.validation import Limits
from memory_pipeline.serving.buffering import accept_write, replay, report_lost
from memory_pipeline.serving.replayer import Replayer
from memory_pipeline.stores.redis.buffer import WriteBuffer
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.serving.buffered_writes import (
    ISSUER,
    START,
    World,
    link_person,
    opened_world,
    request,
    requests,
    stored_names,
)


@pytest.fixture
def world(database: Urls, redis_url: str) -> Iterator[World]:
    with opened_world(database, redis_url) as world:
        yield world


# -- checks before buffering --


def limits(max_message_bytes: int = 1000) -> Limits:
    return Limits.at(
        datetime.now(UTC), partition_start=datetime(2022, 1, 1, tzinfo=UTC).date(), max_message_bytes=max_message_bytes
    )


def test_a_message_over_the_limit_never_reaches_redis(world: World) -> None:
    large = request(world.ana, "small", "large", content="x" * 1200)
    with pytest.raises(InvalidRequestError, match="more than the 1,000 allowed"):
        accept_write(world.buffer, limits(), large)
    with redis.Redis.from_url(world.redis_url) as client:
        assert client.keys() == []


def test_a_message_within_the_limit_is_buffered(world: World) -> None:
    entry = request(world.ana, "a")
    accept_write(world.buffer, limits(), entry)
    assert world.buffer.head(1) == [entry]


# -- what Redis has lost --


def test_a_buffer_that_was_flushed_is_reported_by_tenant(world: World) -> None:
    eve = link_person(world.pipeline, "other", "eve")
    lost = [request(world.ana, "a", "b"), request(world.ana, "c"), request(eve, "d")]
    for entry in lost:
        world.buffer.add(entry)
    before = metrics.redis_buffer_lost._value.get()
    world.flush()
    with capture_logs() as logs:
        assert report_lost(world.buffer, world.pipeline) == 4
    assert metrics.redis_buffer_lost._value.get() - before == 4
    [line] = [line for line in logs if line["event"] == "buffered_writes_lost"]
    assert (line["log_level"], line["messages"], line["entries"], line["tenants"]) == ("error", 4, 3, 2)
    details = {tenant_id: detail for tenant_id, _subject, _correlation, detail in world.events("buffered_writes_lost")}
    assert details == {
        world.ana.tenant_id: {
            "entries": 2,
            "messages": 3,
            "correlation_ids": [str(entry.correlation_id) for entry in lost[:2]],
        },
        eve.tenant_id: {"entries": 1, "messages": 1, "correlation_ids": [str(lost[2].correlation_id)]},
    }
    assert report_lost(world.buffer, world.pipeline) == 0
    assert len(world.events("buffered_writes_lost")) == 2


def test_what_was_replayed_or_refused_by_another_process_is_not_lost(world: World) -> None:
    bob = link_person(world.pipeline, name="bob")
    world.change("UPDATE users SET status = 'disabled' WHERE user_id = %s", bob.user_id)
    for entry in (request(world.ana, "a"), request(bob, "b")):
        world.buffer.add(entry)
    with RedisManager(world.redis_url) as manager:
        replay(WriteBuffer(manager, 10, 10_000), world.pipeline, world.write)
    assert len(world.buffer.unsettled()) == 2
    assert report_lost(world.buffer, world.pipeline) == 0
    assert world.buffer.unsettled() == {}
    assert world.events("buffered_writes_lost") == []


def test_what_still_waits_in_the_buffer_is_not_lost(world: World) -> None:
    world.buffer.add(request(world.ana, "a"))
    assert report_lost(world.buffer, world.pipeline) == 0
    assert len(world.buffer.unsettled()) == 1


def test_each_process_reports_what_it_has_added_itself(world: World) -> None:
    with RedisManager(world.redis_url) as manager:
        other = WriteBuffer(manager, 10_000, 100_000_000)
        world.buffer.add(request(world.ana, "a"))
        other.add(request(world.ana, "b", "c"))
        world.flush()
        assert report_lost(world.buffer, world.pipeline) == 1
        assert report_lost(other, world.pipeline) == 2
    assert sorted(event[3]["messages"] for event in world.events("buffered_writes_lost")) == [1, 2]


def test_nothing_is_called_lost_while_redis_does_not_answer(world: World) -> None:
    world.buffer.add(request(world.ana, "a"))
    with RedisManager("redis://127.0.0.1:1") as away:
        blind = WriteBuffer(away, 10, 10_000)
        blind._remember(world.buffer.head(1)[0])
        with pytest.raises(StoreUnavailableError):
            report_lost(blind, world.pipeline)
        assert len(blind.unsettled()) == 1
    assert world.events("buffered_writes_lost") == []


# -- the thread --


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "did not happen within 20 s"
        time.sleep(0.01)


def test_the_thread_replays_by_itself_and_ends_when_told(world: World) -> None:
    replayer = Replayer(world.buffer, world.pipeline, world.write, interval=0.02)
    replayer.start()
    replayer.start()
    try:
        for entry in requests(world.ana, 20):
            world.buffer.add(entry)
        wait_for(lambda: not world.buffer.unsettled())
        assert len(stored_names(world.urls.admin_url)) == 20
        world.buffer.add(request(world.ana, "later"))
        wait_for(lambda: not world.buffer.unsettled())
    finally:
        replayer.stop()
    late = request(world.ana, "too late")
    world.buffer.add(late)
    replayer.stop()
    assert world.buffer.head(1) == [late]


def test_the_thread_wakes_when_told(world: World) -> None:
    replayer = Replayer(world.buffer, world.pipeline, world.write, interval=3600)
    replayer.start()
    try:
        world.buffer.add(request(world.ana, "a"))
        replayer.wake()
        wait_for(lambda: not world.buffer.unsettled())
    finally:
        replayer.stop()


def test_a_thread_whose_last_try_failed_is_not_woken_by_every_writer(world: World) -> None:
    tried: list[UUID] = []

    def write(entry: BufferedWrite) -> int:
        tried.append(entry.entry_id)
        raise StoreUnavailableError("away")

    replayer = Replayer(world.buffer, world.pipeline, write, interval=3600, max_pause=3600)
    replayer.start()
    try:
        for entry in requests(world.ana, 20):
            world.buffer.add(entry)
            replayer.wake()
        wait_for(lambda: bool(tried))
        for _waker in range(50):
            replayer.wake()
            time.sleep(0.002)
    finally:
        replayer.stop()
    assert len(tried) == 1


def test_the_thread_outlives_errors_and_says_each_once(world: World) -> None:
    calls: list[UUID] = []

    def write(entry: BufferedWrite) -> int:
        calls.append(entry.entry_id)
        if len(calls) <= 3:
            raise [StoreUnavailableError("away"), StoreUnavailableError("away"), KeyError("bug")][len(calls) - 1]
        return world.write(entry)

    replayer = Replayer(world.buffer, world.pipeline, write, interval=0.02, max_pause=0.05)
    world.buffer.add(request(world.ana, "a"))
    with capture_logs() as logs:
        replayer.start()
        try:
            wait_for(lambda: not world.buffer.unsettled())
        finally:
            replayer.stop()
    assert stored_names(world.urls.admin_url) == ["a"]
    waits = [line["problem"] for line in logs if line["event"] == "replay_waits"]
    assert waits[0] == "away"
    assert waits[1].endswith("failed with KeyError")
    assert len(waits) == 2


def test_the_thread_outlives_a_bug_of_its_own(world: World) -> None:
    class Broken(WriteBuffer):
        asked = 0

        def missing(self, entry_ids: Any) -> list[UUID]:
            Broken.asked += 1
            if Broken.asked < 3:
                raise RuntimeError("a bug")
            return super().missing(entry_ids)

    buffer = Broken(world.manager, 10, 10_000)
    replayer = Replayer(buffer, world.pipeline, world.write, interval=0.02, max_pause=0.05)
    buffer.add(request(world.ana, "a"))
    replayer.start()
    try:
        wait_for(lambda: not buffer.unsettled())
    finally:
        replayer.stop()
    assert Broken.asked >= 3


def test_a_process_that_ends_says_what_it_cannot_account_for_any_more(world: World) -> None:
    replayer = Replayer(world.buffer, world.pipeline, world.write, interval=3600)
    replayer.start()
    world.buffer.add(request(world.ana, "a", "b"))
    with capture_logs() as logs:
        replayer.stop()
    [line] = [line for line in logs if line["event"] == "buffered_writes_unsettled"]
    assert (line["entries"], line["messages"]) == (1, 2)


def test_a_request_is_the_same_after_its_way_through_redis(world: World) -> None:
    entry = msgspec.structs.replace(
        request(world.ana, "a"),
        messages=(
            msgspec.structs.replace(
                request(world.ana, "a").messages[0],
                content="Grüße \U0001f600 \\ \n\t\"' %s",
                raw_data={"a": [1, 2.5, None, True, {"b": "ü"}]},
                sent_at=START.replace(microsecond=123456),
                speaker="Ána",
                project="p",
                conversation_title="t",
            ),
        ),
        issuer=ISSUER,
    )
    world.buffer.add(entry)
    assert world.buffer.head(1) == [entry]

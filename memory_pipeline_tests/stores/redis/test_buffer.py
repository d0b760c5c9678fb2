"""The write buffer: its order and bounds, what it refuses, what it outlives, and what it notices."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from memory_pipeline import metrics
from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.errors import BufferFullError, StoreUnavailableError
from memory_pipeline.model.records import BufferedWrite
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.buffer import WriteBuffer
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.serving.buffered_writes import Person, request, requests

ANA = Person(uuid4(), uuid4(), "ana@acme.example", "ana")
MANY = 1_000_000


@pytest.fixture
def manager(redis_url: str) -> Iterator[RedisManager]:
    with RedisManager(redis_url) as manager:
        yield manager


def buffer_of(manager: RedisManager, max_writes: int = MANY, max_bytes: int = 100 * MANY) -> WriteBuffer:
    return WriteBuffer(manager, max_writes, max_bytes)


def size_of(entry: BufferedWrite) -> int:
    return len(msgspec.json.encode(entry))


def keys_in(url: str) -> list[str]:
    with redis.Redis.from_url(url) as client:
        return sorted(key.decode() for key in client.scan_iter())


def test_entries_come_back_whole_and_in_the_order_they_were_added(manager: RedisManager) -> None:
    buffer = buffer_of(manager)
    added = requests(ANA, 250)
    for entry in added:
        buffer.add(entry)
    assert buffer.head(100) == added[:100]
    assert buffer.head(1000) == added
    buffer.remove(*added[:100])
    assert buffer.head(1000) == added[100:]


def test_order_holds_when_the_clock_of_redis_was_set_back(manager: RedisManager, redis_url: str) -> None:
    buffer = buffer_of(manager)
    first, second, third = requests(ANA, 3)
    buffer.add(first)
    with redis.Redis.from_url(redis_url) as client:  # as if it had been added by a clock a day ahead
        client.zincrby(keys.BUFFER_KEY, 86_400_000_000, str(first.entry_id))
    buffer.add(second)
    buffer.add(third)
    assert buffer.head(10) == [first, second, third]


def test_a_buffer_that_was_emptied_leaves_nothing_in_redis(manager: RedisManager, redis_url: str) -> None:
    buffer = buffer_of(manager)
    added = requests(ANA, 5)
    for entry in added:
        buffer.add(entry)
    assert all(keys.family_of(key) is keys.BUFFER for key in keys_in(redis_url))
    buffer.remove(*added)
    assert keys_in(redis_url) == []
    assert buffer.stats().entries == buffer.stats().writes == buffer.stats().bytes == 0


def test_the_same_entry_added_again_is_there_once(manager: RedisManager) -> None:
    buffer = buffer_of(manager)
    entry = request(ANA, "a", "b")
    buffer.add(entry)
    before = metrics.redis_buffer_writes._value.get()
    buffer.add(entry)
    assert buffer.head(10) == [entry]
    assert (buffer.stats().writes, buffer.stats().bytes) == (2, size_of(entry))
    assert metrics.redis_buffer_writes._value.get() == before


def test_removing_again_gives_back_nothing_more(manager: RedisManager) -> None:
    buffer = buffer_of(manager)
    gone, stays = request(ANA, "a", "b"), request(ANA, "c")
    buffer.add(gone)
    buffer.add(stays)
    assert buffer.remove(gone) == 1
    assert buffer.remove(gone) == 0
    assert (buffer.stats().entries, buffer.stats().writes, buffer.stats().bytes) == (1, 1, size_of(stays))


def test_a_request_that_would_pass_the_bound_of_messages_is_refused_whole(manager: RedisManager) -> None:
    buffer = buffer_of(manager, max_writes=5)
    buffer.add(request(ANA, "a", "b", "c"))
    with pytest.raises(BufferFullError, match="3 of 5 messages"):
        buffer.add(request(ANA, "d", "e", "f"))
    buffer.add(request(ANA, "g", "h"))
    with pytest.raises(BufferFullError):
        buffer.add(request(ANA, "i"))
    assert buffer.stats().writes == 5
    assert len(buffer.unsettled()) == 2


def test_a_request_that_would_pass_the_bound_of_bytes_is_refused_whole(manager: RedisManager) -> None:
    first, second = request(ANA, "a"), request(ANA, "b", content="é" * 100)
    buffer = buffer_of(manager, max_bytes=size_of(first) + size_of(second))
    buffer.add(first)
    buffer.add(second)
    with pytest.raises(BufferFullError):
        buffer.add(request(ANA, "c"))
    buffer.remove(first)
    with pytest.raises(BufferFullError):
        buffer.add(request(ANA, "c", content="longer than the first"))
    assert buffer.stats().bytes == size_of(second)


def test_room_is_the_same_for_all_processes_and_never_passed_by_concurrent_writers(redis_url: str) -> None:
    with RedisManager(redis_url) as one, RedisManager(redis_url) as other:
        buffers = [buffer_of(one, max_writes=50), buffer_of(other, max_writes=50)]
        refused = threading.Semaphore(0)

        def add(number: int) -> bool:
            try:
                buffers[number % 2].add(request(ANA, f"m{number}", f"n{number}"))
            except BufferFullError:
                refused.release()
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            taken = list(pool.map(add, range(60)))
        assert sum(taken) == 25
        assert buffers[0].stats().writes == buffers[1].stats().writes == 50
        assert len(buffers[0].head(100)) == 25


def test_a_buffer_that_is_turned_off_refuses_and_can_be_drained(manager: RedisManager) -> None:
    entry, late = requests(ANA, 2)
    buffer_of(manager).add(entry)
    off = WriteBuffer(manager, MANY, MANY, enabled=False)
    with pytest.raises(BufferFullError, match="turned off"):
        off.add(late)
    assert off.head(10) == [entry]
    assert off.remove(entry) == 1


def test_the_alarm_is_raised_at_four_fifths_and_logged_once(manager: RedisManager) -> None:
    buffer = buffer_of(manager, max_writes=10)
    added = requests(ANA, 9)
    with capture_logs() as logs:
        for entry in added[:7]:
            buffer.add(entry)
        assert not buffer.stats().alarm
        assert not [line for line in logs if line["event"] == "write_buffer_filling"]
        for entry in added[7:]:
            buffer.add(entry)
    assert buffer.stats().alarm
    assert buffer.stats().fill == metrics.redis_buffer_fill._value.get() == 0.9
    assert len([line for line in logs if line["event"] == "write_buffer_filling"]) == 1
    buffer.remove(*added)
    assert not buffer.stats().alarm
    assert metrics.redis_buffer_fill._value.get() == 0


def test_the_age_of_the_oldest_entry_is_told(manager: RedisManager, redis_url: str) -> None:
    buffer = buffer_of(manager)
    assert buffer.stats().oldest_seconds == 0
    old, new = requests(ANA, 2)
    buffer.add(old)
    buffer.add(new)
    with redis.Redis.from_url(redis_url) as client:
        client.zincrby(keys.BUFFER_KEY, -600_000_000, str(old.entry_id))
    assert 600 <= buffer.stats().oldest_seconds < 700
    buffer.remove(old)
    assert buffer.stats().oldest_seconds < 60


def test_logs_name_a_buffered_entry_and_never_its_text(manager: RedisManager) -> None:
    entry = request(ANA, "a", content="a secret")
    with capture_logs() as logs:
        buffer_of(manager).add(entry)
    assert logs == [
        {
            "event": "write_buffered",
            "log_level": "info",
            "entry_id": str(entry.entry_id),
            "tenant_id": str(ANA.tenant_id),
            "correlation_id": str(entry.correlation_id),
            "messages": 1,
        }
    ]


def test_an_entry_that_cannot_be_read_is_set_aside_and_does_not_block_the_rest(
    manager: RedisManager, redis_url: str
) -> None:
    buffer = buffer_of(manager)
    bad, good = requests(ANA, 2)
    buffer.add(bad)
    buffer.add(good)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.BUFFER_ENTRIES_KEY, str(bad.entry_id), "{")
        with capture_logs() as logs:
            assert buffer.head(1) == [good]
        assert client.hgetall(keys.BUFFER_ASIDE_KEY) == {str(bad.entry_id).encode(): b"{"}
    assert [line["event"] for line in logs] == ["buffered_write_set_aside"]
    stats = buffer.stats()
    assert (stats.entries, stats.writes, stats.set_aside, stats.alarm) == (1, 1, 1, True)
    assert buffer.missing([bad.entry_id, good.entry_id]) == []


def test_entries_added_here_are_known_until_they_are_settled(manager: RedisManager) -> None:
    buffer, other = buffer_of(manager), buffer_of(manager)
    mine, theirs = request(ANA, "a", "b"), request(ANA, "c")
    buffer.add(mine)
    other.add(theirs)
    assert list(buffer.unsettled()) == [mine.entry_id]
    assert buffer.missing([mine.entry_id, theirs.entry_id]) == []
    other.remove(mine)
    assert buffer.missing([mine.entry_id, theirs.entry_id]) == [mine.entry_id]
    buffer.settle([mine.entry_id, theirs.entry_id])
    assert buffer.unsettled() == {}


def test_a_process_does_not_buffer_more_than_it_can_account_for(manager: RedisManager, redis_url: str) -> None:
    buffer = buffer_of(manager, max_writes=3)
    for _outage in range(2):
        first = request(ANA, "a", "b", "c")
        buffer.add(first)
        with redis.Redis.from_url(redis_url) as client:
            client.flushdb()
    with pytest.raises(BufferFullError, match="what became of 6 messages"):
        buffer.add(request(ANA, "d"))
    buffer.settle([first.entry_id])
    buffer.add(request(ANA, "d"))


def test_a_large_head_is_answered_in_parts(manager: RedisManager) -> None:
    buffer = buffer_of(manager)
    large = [request(ANA, f"m{place}", content="x" * 20_000_000) for place in range(3)]
    for entry in large:
        buffer.add(entry)
    assert [entry.entry_id for entry in buffer.head(10)] == [large[0].entry_id]


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 4), st.text(min_size=1, max_size=30)),
            st.tuples(st.just("remove"), st.integers(0, 8), st.just("")),
        ),
        max_size=25,
    )
)
def test_counts_and_order_are_those_of_a_plain_list(manager: RedisManager, steps: list[tuple[str, int, str]]) -> None:
    with redis.Redis.from_url(manager.url) as client:
        client.flushdb()
    buffer = buffer_of(manager, max_writes=12, max_bytes=6_000)
    held: list[BufferedWrite] = []
    for step, number, content in steps:
        if step == "add":
            entry = request(ANA, *(f"m{place}" for place in range(number)), content=content)
            fits = sum(len(one.messages) for one in [*held, entry]) <= 12 and sum(map(size_of, [*held, entry])) <= 6_000
            if fits:
                buffer.add(entry)
                held.append(entry)
            else:
                with pytest.raises(BufferFullError):
                    buffer.add(entry)
        elif number < len(held):
            gone = held.pop(number)
            assert buffer.remove(gone) == 1
            buffer.settle([gone.entry_id])
        stats = buffer.stats()
        assert stats.writes == sum(len(one.messages) for one in held)
        assert stats.bytes == sum(map(size_of, held))
        assert buffer.head(100) == held


def test_entries_outlive_a_redis_that_was_killed(redis_server: RedisServer) -> None:
    with RedisManager(redis_server.url()) as manager:
        buffer = buffer_of(manager)
        added = requests(ANA, 20)
        for entry in added:
            buffer.add(entry)
        redis_server.kill()
        redis_server.start()
        assert buffer.head(100) == added
        assert buffer.stats().writes == 20


def test_a_redis_that_is_away_means_refusal(redis_server: RedisServer) -> None:
    with RedisManager(redis_server.url()) as manager:
        buffer = buffer_of(manager)
        redis_server.kill()
        with pytest.raises(StoreUnavailableError):
            buffer.add(request(ANA, "a"))
        assert buffer.unsettled() == {}


def test_a_redis_without_memory_counts_as_full_and_can_be_drained(redis_server: RedisServer) -> None:
    with RedisManager(redis_server.url()) as manager, redis.Redis.from_url(redis_server.url()) as client:
        buffer = buffer_of(manager)
        kept = requests(ANA, 3)
        for entry in kept:
            buffer.add(entry)
        client.config_set("maxmemory", "100kb")
        before = buffer.stats()
        with pytest.raises(BufferFullError, match="no memory left"):
            buffer.add(request(ANA, "late"))
        assert buffer.stats().writes == before.writes == 3
        assert buffer.head(10) == kept
        assert buffer.remove(kept[0]) == 1
        buffer.set_aside(kept[1], "test")
        stats = buffer.stats()
        assert (stats.entries, stats.writes, stats.set_aside) == (1, 1, 1)

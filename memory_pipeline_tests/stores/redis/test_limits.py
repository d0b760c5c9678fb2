"""The windows of rate limits on a real Redis: exact for all processes together, and sliding."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.model.limits import WINDOW_SECONDS
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.limits import HourlyWindows, Taken
from memory_pipeline.stores.redis.manager import RedisManager

_SLACK_SECONDS = 60.0
"""A test takes less; times that it compares are further apart."""


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


@pytest.fixture
def windows(redis_url: str) -> Iterator[HourlyWindows]:
    with RedisManager(redis_url) as manager:
        yield HourlyWindows(manager)


def let_time_pass(client: Any, of: UUID, seconds: float) -> None:
    """Make all that was counted for a tenant or user older."""
    key = f"limits:embedding:{of}"
    for place, counted_at in enumerate(client.lrange(key, 0, -1)):
        client.lset(key, place, repr(float(counted_at) - seconds))


def test_no_more_is_granted_than_there_is_room_for(windows: HourlyWindows) -> None:
    of = uuid4()
    assert windows.take("embedding", of, 10, 4) == Taken(4, 0.0)
    assert windows.room("embedding", of, 10) == Taken(6, 0.0)
    rest = windows.take("embedding", of, 10, 9)
    assert rest.granted == 6
    assert WINDOW_SECONDS - _SLACK_SECONDS < rest.room_in <= WINDOW_SECONDS
    assert windows.take("embedding", of, 10, 1).granted == 0
    assert windows.take("embedding", uuid4(), 10, 1).granted == 1
    assert windows.take("relation_detection", of, 10, 1).granted == 1


def test_a_limit_of_nothing_grants_nothing_and_writes_nothing(windows: HourlyWindows, client: redis.Redis) -> None:
    assert windows.take("embedding", uuid4(), 0, 5) == Taken(0, WINDOW_SECONDS)
    assert windows.room("embedding", uuid4(), 0) == Taken(0, WINDOW_SECONDS)
    assert client.keys() == []


def test_every_key_is_of_the_family_of_limits_and_ends_by_itself(windows: HourlyWindows, client: Any) -> None:
    windows.take("embedding", uuid4(), 10, 4)
    windows.take("relation_detection", uuid4(), 5, 1)
    found = [key.decode() for key in client.scan_iter()]
    assert len(found) == 2
    for key in found:
        assert keys.family_of(key) == keys.LIMITS
        assert 0 < client.ttl(key) <= keys.lifetime(key)


def test_a_changed_limit_counts_what_was_done_under_the_old_one(windows: HourlyWindows) -> None:
    of = uuid4()
    assert windows.take("embedding", of, 5, 5).granted == 5
    assert windows.take("embedding", of, 8, 8).granted == 3
    assert windows.take("embedding", of, 4, 1).granted == 0


def test_two_workers_share_one_limit_exactly(redis_url: str) -> None:
    of, chance = uuid4(), random.Random(3)
    wanted = [[chance.randint(1, 7) for _ in range(40)] for _ in range(6)]
    with ExitStack() as opened:
        # A manager each, as processes of their own have.
        workers = [HourlyWindows(opened.enter_context(RedisManager(redis_url))) for _ in wanted]

        def work(number: int) -> int:
            return sum(workers[number].take("embedding", of, 211, amount).granted for amount in wanted[number])

        with ThreadPoolExecutor(len(wanted)) as pool:
            granted = list(pool.map(work, range(len(wanted))))
    assert sum(map(sum, wanted)) > 211
    assert sum(granted) == 211
    assert sum(1 for each in granted if each) > 1


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 12)),
        # Multiples of half an hour and some: nothing is so close to the edge that the time of the test matters.
        st.tuples(st.just("pass"), st.sampled_from([500, 1100, 1900, 2700, 3700])),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(per_hour=st.integers(1, 15), steps=_STEPS)
def test_within_any_hour_the_limit_holds_and_all_of_it_may_be_used(
    windows: HourlyWindows, client: redis.Redis, per_hour: int, steps: list[tuple[str, int]]
) -> None:
    of, now, done = uuid4(), 0, list[int]()
    for step, number in steps:
        if step == "pass":
            now += number
            let_time_pass(client, of, number)
            continue
        counted = [at for at in done if now - at < WINDOW_SECONDS]
        granted = min(number, per_hour - len(counted))
        taken = windows.take("embedding", of, per_hour, number)
        assert taken.granted == granted
        done += [now] * granted
        if granted < number:
            expected = (counted or [now])[0] + WINDOW_SECONDS - now
            assert expected - _SLACK_SECONDS < taken.room_in <= expected


def test_a_redis_that_is_away_is_an_error_and_counts_again_when_it_is_back(redis_server: RedisServer) -> None:
    of = uuid4()
    with RedisManager(redis_server.url()) as manager:
        windows = HourlyWindows(manager)
        assert windows.take("embedding", of, 3, 2).granted == 2
        redis_server.stop()
        with pytest.raises(StoreUnavailableError):
            windows.take("embedding", of, 3, 1)
        redis_server.start()
        assert windows.take("embedding", of, 3, 3).granted >= 1

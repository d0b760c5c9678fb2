"""The connection manager: bounded pools, failures told apart, values dropped on change, and coming back by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import redis

from memory_pipeline import metrics
from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.errors import SettingsError, StoreUnavailableError
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.connection import server_version
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.local.inspect import until


class Roles(msgspec.Struct):
    names: list[str]


@pytest.fixture
def manager(redis_url: str) -> Iterator[RedisManager]:
    with RedisManager(redis_url, cache_seconds=5) as manager:
        yield manager


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def own(redis_server: RedisServer) -> Iterator[RedisManager]:
    """A manager of a server that may be broken."""
    with RedisManager(redis_server.url(), cache_seconds=5) as manager:
        yield manager


def ping(manager: RedisManager) -> bool:
    return manager.cache(lambda client: bool(client.ping()), False)


def failures(reason: str) -> float:
    return metrics.REGISTRY.get_sample_value("memory_redis_failures_total", {"reason": reason}) or 0


# -- values --


def test_a_value_is_stored_once_and_lives_as_its_family_says(manager: RedisManager, client: redis.Redis) -> None:
    key = keys.auth(uuid4())
    assert manager.get_value(key, Roles, cache="auth") is None
    manager.warm_value(key, Roles(["member"]))
    manager.warm_value(key, Roles(["admin"]))
    assert manager.get_value(key, Roles, cache="auth") == Roles(["member"])
    assert 0 < client.ttl(key) <= keys.AUTH.seconds  # type: ignore[operator]


def test_a_value_never_lives_longer_than_its_family(manager: RedisManager, client: redis.Redis) -> None:
    short, long = keys.auth(uuid4()), keys.auth(uuid4())
    manager.warm_value(short, 1, 20)
    manager.warm_value(long, 1, 10**9)
    assert client.ttl(short) <= 20
    assert client.ttl(long) <= 3600


@pytest.mark.parametrize("key", ["auth:", "somebody:else", keys.JOBS_KEY, keys.BUFFER_KEY])
def test_a_key_of_no_family_with_a_lifetime_is_refused(manager: RedisManager, client: redis.Redis, key: str) -> None:
    with pytest.raises(ValueError, match=r"keys\.py"):
        manager.warm_value(key, 1)
    with pytest.raises(ValueError, match=r"keys\.py"):
        manager.drop_values(key)
    assert client.dbsize() == 0


def test_a_dropped_value_is_not_brought_back(manager: RedisManager, client: redis.Redis) -> None:
    key, other = keys.auth(uuid4()), keys.auth(uuid4())
    manager.warm_value(key, Roles(["admin"]))
    assert not manager.was_dropped(key)
    assert manager.drop_values(key, other)
    for each in (key, other):
        manager.warm_value(each, Roles(["admin"]))
        assert manager.get_value(each, Roles, cache="auth") is None
        assert manager.was_dropped(each)
        assert 0 < client.ttl(each) <= 10


def test_a_value_of_another_shape_is_a_miss_and_makes_room(manager: RedisManager) -> None:
    key = keys.auth(uuid4())
    manager.warm_value(key, ["of an older release"])
    assert manager.get_value(key, Roles, cache="auth") is None
    manager.warm_value(key, Roles(["member"]))
    assert manager.get_value(key, Roles, cache="auth") == Roles(["member"])


def test_what_could_not_be_dropped_is_not_read_and_dropped_at_the_next_chance(redis_url: str) -> None:
    key = keys.auth(uuid4())
    with RedisManager(redis_url, cache_seconds=5, pool_size=1) as manager:
        manager.warm_value(key, Roles(["admin"]))
        pool = manager._cache.quick.connection_pool
        only = pool.get_connection()
        assert not manager.drop_values(key)
        assert manager.was_dropped(key)
        pool.release(only)
        assert manager.get_value(key, Roles, cache="auth") is None
        manager.warm_value(key, Roles(["admin"]))
        assert manager.get_value(key, Roles, cache="auth") is None


def test_what_could_not_be_dropped_is_dropped_when_redis_is_back(redis_server: RedisServer, own: RedisManager) -> None:
    key = keys.auth(uuid4())
    own.warm_value(key, Roles(["admin"]))
    redis_server.stop()  # in good order, so that the value is surely in the file
    assert not own.drop_values(key)
    redis_server.start()
    with redis.Redis.from_url(redis_server.url()) as other:
        until(lambda: other.get(key) == b"!", "the value is dropped")
        until(lambda: ping(own), "calls go through")
    assert own.was_dropped(key)


# -- failures told apart --


def test_mistakes_of_ours_are_raised(manager: RedisManager) -> None:
    manager.cache(lambda client: client.set("shortterm:text", "x", ex=9), None)
    mistakes: list[Any] = [
        lambda client: client.lpush("shortterm:text", "y"),
        lambda client: client.eval("return redis.call('GET')", 0),
        lambda client: client.eval("this is no Lua", 0),
        lambda client: client.set("shortterm:text", {"not": "a string"}),
    ]
    for mistake in mistakes:
        with pytest.raises((redis.ResponseError, redis.DataError)):
            manager.cache(mistake, None)
        with pytest.raises((redis.ResponseError, redis.DataError)):
            manager.queue(mistake)
    assert ping(manager)


def test_a_full_redis_costs_the_cache_entry_and_refuses_the_queue(redis_server: RedisServer, own: RedisManager) -> None:
    key = keys.auth(uuid4())
    own.warm_value(key, Roles(["admin"]))
    own.queue(lambda client: client.config_set("maxmemory", "1"))
    before = failures("full")
    assert own.cache(lambda client: client.set("shortterm:a", "x", ex=9), None) is None
    script = "return redis.call('SET', 'shortterm:a', 'x', 'EX', 9)"
    assert own.cache(lambda client: client.eval(script, 0), "fallback") == "fallback"
    assert failures("full") == before + 2
    assert ping(own)
    with pytest.raises(StoreUnavailableError, match="Redis is full"):
        own.queue(lambda client: client.rpush(keys.BUFFER_KEY, "x"))
    assert own.drop_values(key), "what is dropped frees memory"
    assert own.get_value(key, Roles, cache="auth") is None


def test_a_replica_that_takes_no_writes_is_not_away(own: RedisManager) -> None:
    own.queue(lambda client: client.replicaof("127.0.0.1", 1))
    before = failures("refused")
    assert own.cache(lambda client: client.set("shortterm:a", "x", ex=9), None) is None
    assert failures("refused") == before + 1
    assert ping(own)
    with pytest.raises(StoreUnavailableError, match="Redis is refused"):
        own.queue(lambda client: client.rpush(keys.BUFFER_KEY, "x"))


def test_an_exhausted_pool_is_waited_for_and_then_busy(redis_url: str) -> None:
    with RedisManager(redis_url, cache_seconds=5, pool_size=1) as manager:
        pool = manager._cache.quick.connection_pool
        only = pool.get_connection()
        before = failures("busy")
        assert not ping(manager)
        assert failures("busy") == before + 1
        pool.release(only)
        assert ping(manager), "it was never away"

        patient = manager._queue.patient.connection_pool
        taken = patient.get_connection()
        threading.Timer(0.1, patient.release, [taken]).start()
        assert manager.queue(lambda client: client.ping())


def test_a_pool_never_grows_beyond_its_size(own: RedisManager, redis_server: RedisServer) -> None:
    with RedisManager(redis_server.url(), pool_size=3) as manager, ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(lambda _: manager.queue(lambda client: client.ping()), range(400)))
        assert answers == [True] * 400
        connected = own.queue(lambda client: client.info("clients"))["connected_clients"]
        assert connected <= 3 + 1


@pytest.mark.parametrize("url", ["localhost:6379", "http://127.0.0.1/", ""])
def test_what_is_no_address_is_a_settings_error(url: str) -> None:
    with pytest.raises(SettingsError, match="MEMORY_REDIS_URL is no address"):
        RedisManager(url)


# -- away and back --


def test_while_redis_is_refused_caches_answer_the_fallback_and_the_queue_says_so(
    redis_server: RedisServer, own: RedisManager
) -> None:
    assert ping(own)
    redis_server.kill()
    skipped = failures("skipped")
    assert not ping(own)
    assert not ping(own)
    assert failures("skipped") == skipped + 1
    assert metrics.REGISTRY.get_sample_value("memory_redis_connected") == 0
    with pytest.raises(StoreUnavailableError, match=r"Redis is away: .* MEMORY_REDIS_URL"):
        own.queue(lambda client: client.ping())
    assert not own.health().connected
    redis_server.start()
    until(lambda: ping(own), "calls go through")
    assert metrics.REGISTRY.get_sample_value("memory_redis_connected") == 1
    assert own.queue(lambda client: client.ping())


def test_the_queue_rides_out_a_lost_connection(redis_server: RedisServer, own: RedisManager) -> None:
    assert own.queue(lambda client: client.ping())
    redis_server.kill()
    redis_server.start()
    assert own.queue(lambda client: client.rpush(keys.BUFFER_KEY, "x")) == 1


def test_another_run_of_the_server_is_noticed(redis_server: RedisServer, own: RedisManager) -> None:
    first = own.health().run_id
    assert own.run_id == first
    redis_server.kill()
    assert not ping(own)
    redis_server.start()
    until(lambda: ping(own), "calls go through")
    assert own.run_id not in (None, first)
    assert own.health().run_id == own.run_id


def test_a_cache_server_of_its_own_may_be_away_while_the_queue_works(redis_url: str, redis_server: RedisServer) -> None:
    with RedisManager(redis_url, cache_url=redis_server.url(), cache_seconds=5) as manager:
        assert manager.health().connected
        redis_server.kill()
        assert not ping(manager)
        assert manager.queue(lambda client: client.ping())
        health = manager.health()
        assert (health.connected, health.queue_connected) == (False, True)


def test_a_server_without_our_scripts_gets_them(manager: RedisManager) -> None:
    manager.queue(lambda client: client.script_flush())
    key = keys.auth(uuid4())
    assert manager.drop_values(key)
    assert manager.was_dropped(key)


# -- what it says of itself --


def test_health_tells_memory_keys_and_hit_rate(own: RedisManager) -> None:
    before = own.health()
    key = keys.auth(uuid4())
    own.get_value(key, int, cache="auth")
    own.warm_value(key, 1)
    own.get_value(key, int, cache="auth")
    own.queue(lambda client: client.config_set("maxmemory", "1gb"))
    health = own.health()
    assert health.connected
    assert health.queue_connected
    assert health.keys_count == 1
    assert health.version == own.queue(lambda client: client.info("server"))["redis_version"]
    assert health.memory_used is not None
    assert health.memory_limit == 2**30
    assert health.fill == health.memory_used / 2**30
    assert (health.hits, health.misses) == (before.hits + 1, before.misses + 1)
    assert health.hit_rate == health.hits / (health.hits + health.misses)


def test_the_version_of_a_server_is_told(redis_server: RedisServer, own: RedisManager) -> None:
    assert server_version(redis_server.url()) == own.health().version
    redis_server.kill()
    with pytest.raises(StoreUnavailableError, match="MEMORY_REDIS_URL"):
        server_version(redis_server.url())

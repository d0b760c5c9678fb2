"""The relay by itself: what is due gets into the stream, and what Redis or a worker lost comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import redis
from structlog.testing import capture_logs

from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.model.jobs import RetryPolicy
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.redis.keys import JOBS_KEY
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline.stores.redis.stream import JobStream
from memory_pipeline.worker import relay as relay_module
from memory_pipeline.worker.relay import Relay
from memory_pipeline_tests.faults.proxy import TcpProxy
from memory_pipeline_tests.local.inspect import until
from memory_pipeline_tests.worker.support import Bench, count_of

RETRIES = RetryPolicy(max_attempts=2, backoff_seconds=0.01)


@pytest.fixture
def relay(bench: Bench) -> Iterator[Relay]:
    with RedisManager(bench.redis_url) as manager:
        yield relay_of(bench.ledger.database, manager)


def relay_of(database: Database, manager: RedisManager, **changes: float) -> Relay:
    options = {"poll": 0.05, "retention_days": 3, "lease": 1.0} | changes
    return Relay(database, JobStream(manager), RETRIES, threading.Event(), **options)  # type: ignore[arg-type]


def test_a_turn_publishes_all_that_is_due(bench: Bench, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "AT_ONCE", 10)
    bench.ledger.add(35)
    bench.ledger.add(2, delay_seconds=3600)
    relay.turn()
    assert bench.entries() == 35
    assert not relay.stream_refuses()


def test_a_running_relay_publishes_what_comes_and_what_becomes_due_and_ends_when_told(bench: Bench) -> None:
    with RedisManager(bench.redis_url) as manager:
        stop = threading.Event()
        relay = Relay(bench.ledger.database, JobStream(manager), RETRIES, stop, poll=0.05, retention_days=3, lease=1.0)
        thread = threading.Thread(target=relay.run)
        thread.start()
        bench.ledger.add(3)
        bench.ledger.add(2, delay_seconds=0.2)
        until(lambda: bench.entries() == 5, "all are published")
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def test_leases_that_ended_are_taken_away_and_published_or_dead(bench: Bench, relay: Relay) -> None:
    before = count_of("memory_jobs_reclaimed_total")
    (key,) = bench.ledger.add(1)
    for attempt in (1, 2):
        [claim] = bench.ledger.claim()
        assert claim.attempts == attempt
        bench.ledger.end_leases()
        relay._swept_at = float("-inf")
        with capture_logs() as lines:
            relay.turn()
        assert bench.row(key).error_class == "LeaseExpired"
    assert bench.row(key).state == "dead"
    assert bench.entries() == 1
    assert count_of("memory_jobs_reclaimed_total") == before + 2
    [line] = [line for line in lines if line["event"] == "job_dead"]
    assert (line["job_id"], line["memory_id"]) == (str(key.job_id), str(bench.row(key).subject_id))
    assert (line["correlation_id"], line["attempt"]) == (str(bench.row(key).correlation_id), 2)


def test_what_redis_lost_is_published_again_and_nothing_else(
    bench: Bench, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "SWEEP_SECONDS", 0.0)
    monkeypatch.setattr(relay_module, "LOOK_SECONDS", 0.0)
    bench.ledger.add(4)
    relay.turn()
    with redis.Redis.from_url(bench.redis_url) as client:
        client.xtrim(JOBS_KEY, maxlen=3, approximate=False)
    bench.ledger.publish_earlier(60)
    relay.turn()
    assert bench.entries() == 4
    relay.turn()
    assert bench.entries() == 4


def test_without_redis_leases_are_still_taken_away_and_the_stream_is_known_to_refuse(
    fragile: Bench, redis_server: RedisServer
) -> None:
    (key,) = fragile.ledger.add(1)
    fragile.ledger.claim()
    fragile.ledger.end_leases()
    with RedisManager(fragile.redis_url) as manager:
        relay = relay_of(fragile.ledger.database, manager)
        redis_server.kill()
        with pytest.raises(StoreUnavailableError):
            relay.turn()
        assert relay.stream_refuses()
        assert (fragile.row(key).state, fragile.row(key).published_at) == ("failed", None)
        redis_server.start()

        def published() -> bool:
            try:
                relay.turn()
            except StoreUnavailableError:
                return False
            return True

        until(published, "Redis is used again")
        assert not relay.stream_refuses()
        assert fragile.entries() == 1


def test_after_an_outage_of_postgres_the_living_renew_before_leases_are_taken_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "SWEEP_SECONDS", 0.0)
    (key,) = bench.ledger.add(1)
    bench.ledger.claim()
    with (
        TcpProxy(bench.ledger.urls.pipeline_url) as proxy,
        Database(proxy.url, role="memory_pipeline") as database,
        RedisManager(bench.redis_url) as manager,
    ):
        relay = relay_of(database, manager, lease=2.0)
        proxy.refuse()
        proxy.cut()
        with pytest.raises(StoreUnavailableError):
            relay.turn()
        proxy.forward()
        bench.ledger.end_leases()

        def swept() -> bool:
            try:
                relay.turn()
            except StoreUnavailableError:
                return False
            return True

        until(swept, "Postgres is back")
        assert bench.row(key).state == "processing"
        until(lambda: swept() and bench.row(key).state == "failed", "the lease is taken away in the end")


def test_old_completed_jobs_go_and_jobs_of_a_clock_set_back_come_forward(bench: Bench, relay: Relay) -> None:
    old, new = bench.ledger.add(2)
    bench.ledger.finish(bench.ledger.claim())
    (far,) = bench.ledger.add(1, delay_seconds=7200)
    with bench.ledger.database.transaction() as connection:
        connection.execute(
            "UPDATE memory_jobs SET finished_at = finished_at - interval '4 days' WHERE job_id = %s", [old.job_id]
        )
    relay.turn()
    assert bench.states().keys() == {new, far}
    assert bench.row(far).published_at is not None

"""The relay between real Postgres and real Redis: every job reaches a worker, whatever the relay or Redis forgets.

Rows are those of the fault matrix. Tests named `..._is_caught` see a check fail without one of the safety mechanisms.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.model.jobs import JobKey
from memory_pipeline.stores.postgres import job_outbox, jobs
from memory_pipeline.stores.postgres.job_outbox import Published
from memory_pipeline.stores.redis.keys import JOBS_KEY
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline.stores.redis.stream import JobStream
from memory_pipeline_tests.stores.postgres.ledger import Ledger, break_sql, until

FORGOTTEN_SECONDS = 30.0


class Queue:
    """Ledger and stream together, with the relay run by hand."""

    def __init__(self, ledger: Ledger, url: str) -> None:
        self.ledger = ledger
        self.manager = RedisManager(url)
        self.stream = JobStream(self.manager)
        self.redis = redis.Redis.from_url(url)
        self.done: Counter[JobKey] = Counter()

    def close(self) -> None:
        self.manager.close()
        self.redis.close()

    def relay(self, limit: int = 100, max_depth: int = 10_000) -> Published:
        with self.ledger.database.transaction() as connection:
            return job_outbox.publish(connection, self.stream, limit, max_depth=max_depth)

    def sweep(self) -> int:
        with self.ledger.database.transaction() as connection:
            return job_outbox.republish_forgotten(connection, self.stream, older_than_seconds=FORGOTTEN_SECONDS)

    def work(self, worker: str = "worker-1", count: int = 100) -> int:
        """One turn of a worker; returns how many entries it was given."""
        deliveries = self.stream.read(worker, count, 0)
        together = [delivery.key for delivery in deliveries if not delivery.alone]
        for keys in [together] + [[delivery.key] for delivery in deliveries if delivery.alone]:
            self.done.update(self.ledger.finish(self.ledger.claim_keys(keys, worker)))
        self.stream.acknowledge([delivery.entry_id for delivery in deliveries])
        return len(deliveries)

    def settle(self) -> None:
        """Relay, worker and sweeper take turns, with time in between, until nothing moves."""
        for _ in range(20):
            self.ledger.publish_earlier(2 * FORGOTTEN_SECONDS)
            moved = self.sweep() + self.relay().jobs + self.work()
            if not moved:
                return
        pytest.fail("the queue never came to rest")

    def assert_done_once(self, keys: list[JobKey]) -> None:
        assert self.done == Counter(keys)
        assert {row.state for row in self.ledger.rows().values()} == {"completed"}
        assert self.stream.depth() == self.stream.in_progress() == 0


@pytest.fixture
def queue(ledger: Ledger, redis_url: str) -> Iterator[Queue]:
    queue = Queue(ledger, redis_url)
    yield queue
    queue.close()


@pytest.fixture
def fragile(ledger: Ledger, redis_server: RedisServer) -> Iterator[Queue]:
    """The same on a Redis of this test alone."""
    queue = Queue(ledger, redis_server.url())
    yield queue
    queue.close()


def test_due_jobs_are_published_once_by_priority_and_age(queue: Queue) -> None:
    later = queue.ledger.add(2)
    (first,) = queue.ledger.add(priority=1)
    (waiting,) = queue.ledger.add(delay_seconds=3600)
    published = queue.relay()
    assert (published.jobs, published.stream_is_full) == (3, False)
    assert 0 <= published.lag_seconds < 60
    assert queue.relay().jobs == 0
    assert [delivery.key for delivery in queue.stream.read("w", 10, 0)] == [first, *later]
    assert queue.ledger.row(waiting).published_at is None
    queue.ledger.make_due()
    assert queue.relay().jobs == 1


def test_jobs_go_from_ledger_to_worker_and_back(queue: Queue) -> None:
    keys = queue.ledger.add(250)
    queue.settle()
    queue.assert_done_once(keys)


def test_several_relays_at_once_publish_each_job_once(queue: Queue) -> None:
    keys = queue.ledger.add(600)

    def relay(_: int) -> int:
        total = 0
        while True:
            jobs_published = queue.relay(25).jobs
            total += jobs_published
            if jobs_published == 0:
                return total

    with ThreadPoolExecutor(8) as threads:
        counts = list(threads.map(relay, range(8)))
    assert sum(counts) + queue.relay(600).jobs == len(keys)
    assert queue.stream.depth() == len(keys)
    assert queue.stream.holds(keys) == set(keys)


def test_beyond_the_depth_jobs_wait_in_postgres(queue: Queue) -> None:
    queue.ledger.add(10)
    assert queue.relay(max_depth=4)[:2] == (4, True)
    assert queue.relay(max_depth=4)[:2] == (0, True)
    (urgent,) = queue.ledger.add(priority=1)
    assert queue.work() == 4
    assert queue.relay(1, max_depth=4)[:2] == (1, False)
    assert [delivery.key for delivery in queue.stream.read("w", 10, 0)] == [urgent]


def test_what_is_due_again_is_published_again(queue: Queue) -> None:
    failed, released, expired = queue.ledger.add(3)
    queue.relay()
    claims = {claim.key: claim for claim in queue.ledger.claim_keys([failed, released, expired])}
    queue.stream.acknowledge([delivery.entry_id for delivery in queue.stream.read("w", 10, 0)])
    queue.ledger.release([claims[released]])
    queue.ledger.fail([claims[failed]])
    queue.ledger.end_leases()
    queue.ledger.reclaim()
    assert queue.relay().jobs == 2
    deliveries = queue.stream.read("w", 10, 0)
    assert {(delivery.key, delivery.alone) for delivery in deliveries} == {(released, False), (expired, True)}
    queue.ledger.make_due()
    assert queue.relay().jobs == 1
    assert [delivery.key for delivery in queue.stream.read("w", 10, 0)] == [failed]


def test_row_2_a_worker_killed_before_it_acknowledges_has_no_second_effect(queue: Queue) -> None:
    keys = queue.ledger.add(3)
    queue.relay()
    queue.stream.read("killed", 10, 0)
    queue.done.update(queue.ledger.finish(queue.ledger.claim_keys(keys, "killed")))
    again = queue.stream.claim_idle("worker-2", 0, 10)
    assert {delivery.key for delivery in again} == set(keys)
    assert queue.ledger.claim_keys([delivery.key for delivery in again], "worker-2") == []
    queue.stream.acknowledge([delivery.entry_id for delivery in again])
    queue.assert_done_once(keys)


def test_row_4_a_relay_killed_before_its_mark_delivers_twice_at_most(queue: Queue) -> None:
    keys = queue.ledger.add(5)
    relay = queue.ledger.open_connection()
    assert job_outbox.publish(relay, queue.stream, 100).jobs == 5
    relay.close()  # without its commit
    assert queue.stream.depth() == 5
    until(lambda: queue.relay().jobs == 5)  # the server has noticed
    assert queue.stream.depth() == 10
    queue.settle()
    queue.assert_done_once(keys)


def slow_transactions_are_not_skipped(queue: Queue) -> None:
    with queue.ledger.connection() as slow:
        (early,) = jobs.enqueue(slow, [queue.ledger.new_job()])
        keys = queue.ledger.add(3)
        assert early.job_id < min(key.job_id for key in keys)
        assert queue.relay().jobs == 3
        assert queue.work() == 3
        slow.commit()
    assert queue.relay().jobs == 1
    assert queue.work() == 1
    queue.assert_done_once([early, *keys])


def test_row_28_a_slow_transaction_with_a_smaller_id_is_not_skipped(queue: Queue) -> None:
    slow_transactions_are_not_skipped(queue)


def test_reading_above_the_last_published_id_is_caught(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    above = "job_id > ALL (SELECT o.job_id FROM memory_jobs o WHERE o.published_at IS NOT NULL)"
    break_sql(monkeypatch, "jobs_take_unpublished", "published_at IS NULL", above)
    with pytest.raises(AssertionError):
        slow_transactions_are_not_skipped(queue)


def test_row_29_delivery_goes_on_beside_a_long_open_writer(queue: Queue) -> None:
    with queue.ledger.connection() as writer:
        jobs.enqueue(writer, [queue.ledger.new_job()])
        keys = queue.ledger.add(20)
        queue.settle()
        queue.assert_done_once(keys)
        writer.rollback()


def test_row_30_a_hundred_deliveries_have_one_effect(queue: Queue) -> None:
    keys = queue.ledger.add(3)
    for _ in range(100):
        queue.relay()
        with queue.ledger.database.transaction() as connection:
            connection.execute("UPDATE memory_jobs SET published_at = NULL")
    assert queue.stream.depth() == 300
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lambda number: queue.work(f"worker-{number}", 40), range(8))) == 300
    queue.settle()
    queue.assert_done_once(keys)


# -- Redis forgets --


def forgetting_loses_nothing(queue: Queue, forget: Callable[[Queue], None]) -> None:
    keys = queue.ledger.add(30)
    queue.relay(20)
    queue.stream.read("dies", 5, 0)
    assert queue.work(count=5) == 5
    forget(queue)
    queue.relay()
    queue.settle()
    queue.assert_done_once(keys)


def flush(queue: Queue) -> None:
    queue.redis.flushall()


def trim(queue: Queue) -> None:
    queue.redis.xtrim(JOBS_KEY, maxlen=3, approximate=False)


def lose_the_newest(queue: Queue) -> None:
    """What a crash of Redis does that writes its file once a second; what comes later is there."""
    newest: Any = queue.redis.xrevrange(JOBS_KEY, count=4)
    queue.redis.xdel(JOBS_KEY, *[entry_id for entry_id, _ in newest])


@pytest.mark.parametrize("forget", [flush, trim, lose_the_newest])
def test_rows_14_and_19_what_redis_forgets_is_published_again(fragile: Queue, forget: Callable[[Queue], None]) -> None:
    def forget_and_recover(queue: Queue) -> None:
        forget(queue)
        # The entries of a worker that died come to another when they have been idle.
        if forget is not flush:
            deliveries = queue.stream.claim_idle("worker-1", 0, 100)
            queue.done.update(queue.ledger.finish(queue.ledger.claim_keys([found.key for found in deliveries])))
            queue.stream.acknowledge([found.entry_id for found in deliveries])

    forgetting_loses_nothing(fragile, forget_and_recover)


def test_row_15_a_redis_that_comes_back_empty_is_filled_again(fragile: Queue, redis_server: RedisServer) -> None:
    def restart_empty(queue: Queue) -> None:
        redis_server.kill()
        shutil.rmtree(redis_server.data_dir)
        redis_server.start()

    forgetting_loses_nothing(fragile, restart_empty)


def test_a_ledger_without_its_sweeper_is_caught(fragile: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_outbox, "republish_forgotten", lambda *_, **__: 0)
    with pytest.raises(AssertionError):
        forgetting_loses_nothing(fragile, flush)


def test_a_group_that_begins_at_the_end_is_caught(fragile: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    create = redis.Redis.xgroup_create

    def at_the_end(self: Any, name: Any, groupname: Any, id: Any = "$", **rest: Any) -> Any:
        return create(self, name, groupname, id="$", **rest)

    monkeypatch.setattr(redis.Redis, "xgroup_create", at_the_end)
    with pytest.raises(AssertionError):
        forgetting_loses_nothing(fragile, flush)


def test_jobs_that_are_still_in_the_stream_are_not_published_again(queue: Queue) -> None:
    queue.ledger.add(2500)
    queue.relay(2500)
    queue.stream.read("slow", 10, 0)
    queue.ledger.publish_earlier(2 * FORGOTTEN_SECONDS)
    assert queue.sweep() == 0
    assert queue.relay().jobs == 0
    assert queue.stream.depth() == 2500


def test_jobs_published_a_moment_ago_are_not_asked_for(queue: Queue) -> None:
    queue.ledger.add(3)
    queue.relay()
    queue.redis.delete(JOBS_KEY)
    assert queue.sweep() == 0
    queue.ledger.publish_earlier(2 * FORGOTTEN_SECONDS)
    assert queue.sweep() == 3


def test_a_job_claimed_while_the_sweeper_looks_stays_as_it_is(queue: Queue) -> None:
    keys = queue.ledger.add(2)
    queue.relay()
    queue.ledger.publish_earlier(2 * FORGOTTEN_SECONDS)
    queue.redis.delete(JOBS_KEY)

    class Claiming:
        """A stream that is asked just when a worker claims."""

        def publish(self, jobs: object) -> None:
            raise NotImplementedError

        def depth(self) -> int:
            raise NotImplementedError

        def holds(self, wanted: object) -> set[JobKey]:
            queue.ledger.claim_keys(keys[:1])
            return set()

    with queue.ledger.database.transaction() as connection:
        assert job_outbox.republish_forgotten(connection, Claiming(), older_than_seconds=FORGOTTEN_SECONDS) == 1
    assert queue.ledger.row(keys[0]).published_at is not None


# -- Redis refuses or is away --


def test_row_16_a_full_redis_leaves_the_jobs_in_postgres(ledger: Ledger, redis_server: RedisServer) -> None:
    queue = Queue(ledger, redis_server.url())
    keys = ledger.add(20)
    queue.redis.config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailableError, match="Redis"):
        queue.relay()
    assert {row.published_at for row in ledger.rows().values()} == {None}
    queue.done.update(ledger.finish(ledger.claim(5)))  # straight from Postgres
    queue.redis.config_set("maxmemory", 0)
    queue.settle()
    queue.assert_done_once(keys)
    queue.close()


def test_while_redis_is_away_jobs_are_claimed_from_postgres(fragile: Queue, redis_server: RedisServer) -> None:
    keys = fragile.ledger.add(5)
    fragile.relay(2)
    redis_server.kill()
    for attempt in (fragile.relay, fragile.work):
        with pytest.raises(StoreUnavailableError):
            attempt()
    claims = fragile.ledger.claim()
    assert {claim.key for claim in claims} == set(keys)
    fragile.done.update(fragile.ledger.finish(claims))
    redis_server.start()
    fragile.settle()
    fragile.assert_done_once(keys)


def test_the_sweeper_says_so_when_redis_is_away(fragile: Queue, redis_server: RedisServer) -> None:
    fragile.ledger.add(1)
    fragile.relay()
    fragile.ledger.publish_earlier(2 * FORGOTTEN_SECONDS)
    redis_server.kill()
    with pytest.raises(StoreUnavailableError):
        fragile.sweep()
    assert [claim.attempts for claim in fragile.ledger.claim()] == [1]

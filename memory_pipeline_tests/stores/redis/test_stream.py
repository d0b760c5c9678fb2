"""The job stream in real Redis: entries come once, come again when a consumer keeps them, and end for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import redis

from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.model.jobs import JobKey, StreamedJob
from memory_pipeline.stores.redis import keys as redis_keys
from memory_pipeline.stores.redis.keys import JOBS_KEY
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline.stores.redis.stream import GROUP, Delivery, JobStream
from memory_pipeline_tests.stores.postgres.ledger import until
from memory_pipeline_tests.stores.redis.scripted_server import scripted


def some_jobs(count: int, *, alone: bool = False) -> list[StreamedJob]:
    return [StreamedJob(JobKey(uuid4(), uuid4()), alone) for _ in range(count)]


def keys_of(deliveries: list[Delivery]) -> list[JobKey]:
    return [delivery.key for delivery in deliveries]


def ids_of(deliveries: list[Delivery]) -> list[str]:
    return [delivery.entry_id for delivery in deliveries]


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


@pytest.fixture
def stream(redis_url: str) -> Iterator[JobStream]:
    with RedisManager(redis_url) as manager:
        yield JobStream(manager)


def test_what_was_published_before_there_was_a_group_is_delivered(stream: JobStream) -> None:
    jobs = some_jobs(3) + some_jobs(1, alone=True)
    stream.publish(jobs)
    deliveries = stream.read("worker-1", 10, 0)
    assert [StreamedJob(delivery.key, delivery.alone) for delivery in deliveries] == jobs
    assert (stream.depth(), stream.in_progress()) == (4, 4)


def test_consumers_of_a_stream_that_is_not_there_are_none(stream: JobStream) -> None:
    assert stream.forget_consumers(0) == 0


def test_an_empty_stream_answers_with_nothing(stream: JobStream) -> None:
    stream.publish([])
    assert stream.read("worker-1", 10, 20) == stream.claim_idle("worker-1", 0, 10) == []
    assert (stream.depth(), stream.in_progress()) == (0, 0)
    stream.acknowledge([])


def test_entries_hold_ids_alone_in_the_one_key_of_the_queue(stream: JobStream, client: redis.Redis) -> None:
    (job,) = some_jobs(1)
    stream.publish([job])
    assert client.keys() == [JOBS_KEY.encode()]
    family = redis_keys.family_of(JOBS_KEY)
    assert family is not None
    assert family.seconds is None
    entries: Any = client.xrange(JOBS_KEY)
    ((_, fields),) = entries
    assert sorted(fields.values()) == sorted([job.key.tenant_id.bytes, job.key.job_id.bytes])


def test_a_reader_that_waits_is_given_what_comes(stream: JobStream) -> None:
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(stream.read, "worker-1", 10, 2000)
        jobs = some_jobs(1)
        stream.publish(jobs)
        assert keys_of(reading.result(30)) == [jobs[0].key]


def test_consumers_share_the_entries(stream: JobStream) -> None:
    jobs = some_jobs(1000)
    stream.publish(jobs)

    def consume(name: str) -> list[JobKey]:
        found: list[JobKey] = []
        while deliveries := stream.read(name, 7, 0):
            found += keys_of(deliveries)
            stream.acknowledge(ids_of(deliveries))
        return found

    with ThreadPoolExecutor(6) as threads:
        shares = list(threads.map(consume, [f"worker-{number}" for number in range(6)]))
    assert sorted(key for share in shares for key in share) == sorted(job.key for job in jobs)
    assert stream.depth() == 0


def test_acknowledged_entries_are_gone_from_the_group_and_from_the_stream(
    stream: JobStream, client: redis.Redis
) -> None:
    stream.publish(some_jobs(5))
    first, *rest = stream.read("worker-1", 5, 0)
    stream.acknowledge([first.entry_id])
    assert (stream.depth(), stream.in_progress()) == (4, 4)
    stream.acknowledge(ids_of(rest))
    stream.acknowledge(ids_of(rest))
    assert client.xlen(JOBS_KEY) == 0
    assert client.xpending(JOBS_KEY, GROUP)["pending"] == 0


def test_entries_that_a_consumer_keeps_too_long_go_to_another(stream: JobStream) -> None:
    jobs = some_jobs(3)
    stream.publish(jobs)
    stream.read("dead", 2, 0)
    assert stream.claim_idle("worker-2", 60_000, 10) == []
    assert keys_of(stream.claim_idle("worker-2", 0, 1)) == [jobs[0].key]
    assert keys_of(stream.claim_idle("worker-3", 0, 10)) == [jobs[0].key, jobs[1].key]
    assert keys_of(stream.read("worker-2", 10, 0)) == [jobs[2].key]


def test_trimmed_entries_do_not_stay_in_progress_for_ever(stream: JobStream, client: redis.Redis) -> None:
    jobs = some_jobs(5)
    stream.publish(jobs)
    stream.read("dead", 4, 0)
    client.xtrim(JOBS_KEY, maxlen=2, approximate=False)
    assert keys_of(stream.claim_idle("worker-2", 0, 10)) == [jobs[3].key]
    assert stream.in_progress() == 1


@pytest.mark.parametrize("lost", ["group", "stream"])
def test_a_lost_group_is_made_anew_at_the_beginning(stream: JobStream, client: redis.Redis, lost: str) -> None:
    jobs = some_jobs(4)
    stream.publish(jobs[:2])
    stream.read("worker-1", 1, 0)
    if lost == "group":
        client.xgroup_destroy(JOBS_KEY, GROUP)
    else:
        client.delete(JOBS_KEY)
    stream.publish(jobs[2:])
    expected = jobs if lost == "group" else jobs[2:]
    assert keys_of(stream.read("worker-1", 10, 0)) == [job.key for job in expected]


def test_a_group_lost_while_a_reader_waits_is_made_anew(stream: JobStream, client: redis.Redis) -> None:
    stream.read("worker-1", 1, 0)
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(stream.read, "worker-1", 10, 2000)
        until(lambda: any("b" in found["flags"] for found in client.client_list()))
        client.delete(JOBS_KEY)
        jobs = some_jobs(1)
        stream.publish(jobs)
        assert keys_of(reading.result(30)) == [jobs[0].key]


@pytest.mark.parametrize("call", ["claim_idle", "in_progress", "read"])
def test_every_call_that_needs_the_group_makes_it(stream: JobStream, client: redis.Redis, call: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "claim_idle": lambda: stream.claim_idle("w", 0, 1),
        "in_progress": stream.in_progress,
        "read": lambda: stream.read("w", 1, 0),
    }
    assert calls[call]() in ([], 0)
    ((group,),) = [client.xinfo_groups(JOBS_KEY)]
    assert group["name"] == GROUP.encode()


def test_the_stream_knows_which_jobs_it_holds(stream: JobStream) -> None:
    jobs = some_jobs(2345)
    stream.publish(jobs)
    (first,) = stream.read("worker-1", 1, 0)
    absent = some_jobs(2)
    wanted = [jobs[0].key, jobs[999].key, jobs[1000].key, jobs[2344].key, absent[0].key, absent[1].key]
    assert stream.holds(wanted) == set(wanted[:4])
    stream.acknowledge([first.entry_id])
    assert stream.holds(wanted) == set(wanted[1:4])
    assert stream.holds([]) == set()


def test_entries_of_others_are_dropped_and_harm_nothing(stream: JobStream, client: redis.Redis) -> None:
    foreign: list[dict[Any, Any]] = [{"x": "y"}, {"t": "short", "j": "short"}, {"t": b"\xff" * 16}]
    for fields in foreign:
        client.xadd(JOBS_KEY, fields)
    jobs = some_jobs(1)
    stream.publish(jobs)
    assert stream.holds([jobs[0].key]) == {jobs[0].key}
    assert keys_of(stream.read("worker-1", 10, 0)) == [jobs[0].key]
    assert stream.depth() == 1


def test_consumers_are_forgotten_when_they_hold_nothing(stream: JobStream, client: redis.Redis) -> None:
    stream.publish(some_jobs(2))
    stream.read("holds", 1, 0)
    stream.acknowledge(ids_of(stream.read("done", 1, 0)))
    assert stream.forget_consumers(60_000) == 0
    until(lambda: min(found["idle"] for found in client.xinfo_consumers(JOBS_KEY, GROUP)) > 1)
    assert stream.forget_consumers(1) == 1
    assert [consumer["name"] for consumer in client.xinfo_consumers(JOBS_KEY, GROUP)] == [b"holds"]
    assert len(stream.claim_idle("worker-2", 0, 10)) == 1


def test_a_wrong_type_under_the_key_is_an_error_not_an_empty_queue(stream: JobStream, client: redis.Redis) -> None:
    client.set(JOBS_KEY, "not a stream")
    calls: list[Callable[[], object]] = [
        stream.depth,
        stream.in_progress,
        lambda: stream.publish(some_jobs(1)),
        lambda: stream.read("w", 1, 0),
    ]
    for call in calls:
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            call()


def test_a_redis_that_is_gone_is_said_to_be_away_by_every_call(redis_server: RedisServer) -> None:
    with RedisManager(redis_server.url()) as manager:
        stream = JobStream(manager)
        stream.publish(some_jobs(1))
        deliveries = stream.read("w", 1, 0)
        redis_server.kill()
        for call in (
            stream.depth,
            stream.in_progress,
            lambda: stream.publish(some_jobs(1)),
            lambda: stream.read("w", 1, 0),
            lambda: stream.claim_idle("w", 0, 1),
            lambda: stream.acknowledge(ids_of(deliveries)),
            lambda: stream.holds(keys_of(deliveries)),
            lambda: stream.forget_consumers(0),
        ):
            with pytest.raises(StoreUnavailableError, match="Redis is away"):
                call()
        redis_server.start()
        jobs = some_jobs(1)
        stream.publish(jobs)
        # What was written in the second before the crash may be back or not.
        assert keys_of(stream.read("w", 10, 0))[-1:] == [jobs[0].key]


def test_a_reader_that_redis_7_0_wakes_because_the_stream_is_gone_makes_the_group_anew() -> None:
    gone = b"-UNBLOCKED the stream key no longer exists\r\n"
    nothing = b"*-1\r\n"
    with scripted("XREADGROUP", gone, nothing) as server, RedisManager(server.url) as manager:
        assert JobStream(manager).read("worker-1", 10, 1000) == []
        assert server.answers == []
        ((*_, key, group, first, _mkstream),) = server.commands("XGROUP")
        assert (key, group, first) == (JOBS_KEY.encode(), GROUP.encode(), b"0")


def test_another_error_of_redis_is_not_taken_for_a_lost_group() -> None:
    other = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
    with scripted("XREADGROUP", other) as server, RedisManager(server.url) as manager:
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            JobStream(manager).read("worker-1", 10, 1000)
        assert server.commands("XGROUP") == []

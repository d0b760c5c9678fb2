"""Workers on a real queue: what becomes of jobs that are well, jobs that are not, and workers told to stop."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import psycopg.sql
import pytest
import redis
from structlog.testing import capture_logs

from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.errors import (
    BusyError,
    MemoryPipelineError,
    ProviderUnavailableError,
    StoreUnavailableError,
)
from memory_pipeline.model.jobs import JobKey, JobType, StreamedJob
from memory_pipeline.stores.postgres.jobs import ClaimedJob, claim_keys
from memory_pipeline.stores.redis.keys import JOBS_KEY
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline.stores.redis.stream import JobStream
from memory_pipeline.worker import consumer
from memory_pipeline.worker.handlers import Handlers
from memory_pipeline.worker.leases import Leases
from memory_pipeline.worker.outcomes import Done, Failed, Handle, Outcome, Waits, work_through
from memory_pipeline.worker.process import _options
from memory_pipeline_tests.faults.proxy import TcpProxy
from memory_pipeline_tests.local.inspect import until
from memory_pipeline_tests.worker.support import ALL_TYPES, MAX_ATTEMPTS, Bench, Gate, Recorder, count_of


def refuse_poison(jobs: Sequence[ClaimedJob]) -> None:
    for job in jobs:
        if job.payload.get("poison"):
            raise ValueError(f"what {job.payload['poison']} said")


def via(source: str) -> float:
    return count_of("memory_job_claims_total", via=source)


def test_every_job_of_every_type_and_tenant_is_done_once(bench: Bench) -> None:
    keys = [key for job_type in ALL_TYPES for key in bench.ledger.add(40, job_type=job_type)]
    recorder = Recorder()
    before = via("stream"), via("postgres")
    with bench.worker(recorder):
        bench.check(keys)
    assert recorder.seen == Counter(keys)
    assert via("stream") > before[0]
    assert via("postgres") == before[1]
    assert {row.attempts for row in bench.ledger.rows().values()} == {1}


def test_what_comes_while_a_worker_runs_is_taken_together(bench: Bench) -> None:
    recorder = Recorder()
    with bench.worker(recorder, worker_batch_jobs=7):
        keys = bench.ledger.add(100)
        bench.check(keys)
    assert recorder.seen == Counter(keys)
    assert max(len(batch) for batch in recorder.batches) == 7


def test_a_poison_job_fails_alone_and_its_neighbours_are_done_at_once(bench: Bench) -> None:
    poison_is_isolated(bench)


def test_a_batch_that_is_not_split_is_caught(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(handle: Handle, jobs: Sequence[ClaimedJob], *_asked: object) -> Sequence[Outcome]:
        try:
            return handle(jobs)
        except ValueError as error:
            return [Failed(type(error).__name__, "refuse_poison", retry=True)] * len(jobs)

    monkeypatch.setattr(consumer, "work_through", whole)
    with pytest.raises(AssertionError, match="the wrong jobs are dead"):
        poison_is_isolated(bench)


def test_a_split_that_forgets_a_half_is_caught(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(
        handle: Handle, jobs: Sequence[ClaimedJob], stopped: Callable[[], bool], *_asked: object
    ) -> Sequence[Outcome]:
        """Answers that the second half is done where the first one raised."""
        middle = len(jobs) // 2
        return [*work_through(handle, jobs[:middle], stopped), *[Done()] * (len(jobs) - middle)]

    monkeypatch.setattr(consumer, "work_through", half)
    with pytest.raises(AssertionError, match="the wrong jobs are dead"):
        poison_is_isolated(bench)


def poison_is_isolated(bench: Bench) -> None:
    well = bench.ledger.add(15)
    poison = bench.ledger.add(1, payload={"poison": "secret"})
    well += bench.ledger.add(15)
    recorder = Recorder(refuse_poison)
    # In one micro-batch, so that there are neighbours.
    with bench.worker(recorder, worker_max_concurrent_jobs=1):
        bench.check(well + poison, dead=poison)
    assert any(poison[0] in batch and len(batch) > 1 for batch in recorder.batches)
    assert {bench.row(key).attempts for key in well} == {1}
    row = bench.row(poison[0])
    assert (row.attempts, row.error_class) == (MAX_ATTEMPTS, "ValueError")
    assert row.error_text is not None
    assert "refuse_poison" in row.error_text
    assert "secret" not in row.error_text


def test_a_job_that_wants_to_exit_the_interpreter_fails_like_any_other(bench: Bench) -> None:
    def leave(jobs: Sequence[ClaimedJob]) -> None:
        if any(job.payload for job in jobs):
            raise SystemExit(3)

    well, bad = bench.ledger.add(6), bench.ledger.add(1, payload={"leaves": 1})
    with bench.worker(Recorder(leave)) as worker:
        bench.check(well + bad, dead=bad)
        worker.require_running()
    assert bench.row(bad[0]).error_class == "SystemExit"


@contextmanager
def a_type_of_a_newer_release(bench: Bench, job_type: str) -> Iterator[None]:
    with psycopg.connect(bench.ledger.urls.admin_url, autocommit=True) as connection:
        (check,) = connection.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'memory_jobs_job_type_check'"
        ).fetchall()[0]
        connection.execute("ALTER TABLE memory.memory_jobs DROP CONSTRAINT memory_jobs_job_type_check")
        try:
            yield
        finally:
            connection.execute("DELETE FROM memory.memory_jobs WHERE job_type = %s", [job_type])
            connection.execute(
                psycopg.sql.SQL("ALTER TABLE memory.memory_jobs ADD CONSTRAINT memory_jobs_job_type_check {}").format(
                    psycopg.sql.SQL(check)
                )
            )


@pytest.mark.parametrize("job_type", ["erase", "of_a_newer_release"])
def test_a_job_that_this_worker_does_not_know_waits_for_one_that_does(bench: Bench, job_type: Any) -> None:
    with a_type_of_a_newer_release(bench, job_type):
        waits_for_a_worker_that_knows_it(bench, job_type)


def waits_for_a_worker_that_knows_it(bench: Bench, job_type: Any) -> None:
    waits = count_of("memory_jobs_ended_total", job_type=job_type, outcome="waits")
    well, unknown = bench.ledger.add(3), bench.ledger.add()
    with bench.ledger.database.transaction() as connection:  # a newer release may add what this one refuses to
        connection.execute("UPDATE memory_jobs SET job_type = %s WHERE job_id = %s", [job_type, unknown[0].job_id])
    with bench.worker(Recorder()):
        until(
            lambda: count_of("memory_jobs_ended_total", job_type=job_type, outcome="waits") == waits + 1, "it was seen"
        )
        until(lambda: all(bench.row(key).state == "completed" for key in well), "the others are done")
        assert (bench.row(unknown[0]).state, bench.row(unknown[0]).attempts) == ("pending", 0)
    bench.ledger.make_due()
    with bench.worker({job_type: Recorder()}):
        bench.check(well + unknown)


@pytest.mark.parametrize("error", [StoreUnavailableError, ProviderUnavailableError, BusyError])
def test_jobs_wait_for_what_is_away_and_lose_no_attempt(bench: Bench, error: type[MemoryPipelineError]) -> None:
    tries: list[int] = []

    def away(jobs: Sequence[ClaimedJob]) -> None:
        tries.append(len(jobs))
        if len(tries) <= 2 * MAX_ATTEMPTS:
            raise error("it is away")

    keys = bench.ledger.add(4)
    with bench.worker(Recorder(away), worker_max_concurrent_jobs=1):
        bench.check(keys)
    assert len(tries) > 2 * MAX_ATTEMPTS
    assert {row.attempts for row in bench.ledger.rows().values()} == {1}


def test_a_late_finish_is_discarded(bench: Bench) -> None:
    gate, turns = Gate(), []

    def hang(jobs: Sequence[ClaimedJob]) -> None:
        turns.append(jobs[0].claim_token)
        gate.wait()

    discarded = count_of("memory_jobs_ended_total", job_type="index", outcome="discarded")
    (key,) = bench.ledger.add(1)
    # No renewal takes place: the test says when the lease ends.
    options = {"worker_lease_ms": 100_000, "worker_max_concurrent_jobs": 1}
    with bench.worker(Recorder(hang), **options):
        assert gate.reached.wait(10)
        with bench.worker(Recorder(lambda jobs: turns.append(jobs[0].claim_token)), **options):
            bench.ledger.end_leases()
            bench.rest()
        gate.open()
        until(
            lambda: count_of("memory_jobs_ended_total", job_type="index", outcome="discarded") == discarded + 1,
            "the first finish is discarded",
        )
    bench.check([key])
    assert len(set(turns)) == 2
    assert (bench.row(key).attempts, bench.row(key).claimed_alone) == (2, True)


def test_a_job_whose_worker_never_answered_comes_alone(bench: Bench) -> None:
    keys = bench.ledger.add(6)
    lost = bench.ledger.claim_keys(keys[:2], "a worker that died")
    bench.ledger.end_leases()
    recorder = Recorder()
    with bench.worker(recorder):
        bench.check(keys)
    for claim in lost:
        assert [claim.key] in recorder.batches


@pytest.mark.nightly
@pytest.mark.parametrize("timeouts", [{"worker_job_timeout_ms": 200}, {"worker_job_timeouts_ms": {"index": 200}}])
def test_a_job_over_the_time_out_of_its_type_goes_to_another_worker(bench: Bench, timeouts: dict[str, Any]) -> None:
    gate = Gate()
    (key,) = bench.ledger.add(1)
    with bench.worker(Recorder(lambda _jobs: gate.wait()), **timeouts):
        assert gate.reached.wait(10)
        with bench.worker(Recorder()):
            bench.rest()
        gate.open()
    bench.check([key])
    assert (bench.row(key).attempts, bench.row(key).error_class) == (2, "LeaseExpired")


def test_a_job_whose_type_may_take_longer_than_others_is_left_to_its_slot(bench: Bench) -> None:
    (key,) = bench.ledger.add(1)
    slow = Recorder(lambda _jobs: time.sleep(3))  # three leases
    with bench.worker(slow, worker_job_timeout_ms=200, worker_job_timeouts_ms={"index": 30_000}):
        bench.check([key])
    assert (slow.seen, bench.row(key).attempts) == (Counter([key]), 1)


@pytest.mark.parametrize("through", ["stream", "postgres"])
def test_a_job_that_hangs_takes_one_slot_of_a_worker_and_no_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, through: str
) -> None:
    monkeypatch.setattr(consumer, "_IN_HAND_SECONDS", 0.05)
    gate, turns = Gate(), Counter[str]()

    def hang(jobs: Sequence[ClaimedJob]) -> None:
        if any(job.payload for job in jobs):
            turns["hung"] += 1
            gate.wait()

    (hung,) = bench.ledger.add(1, payload={"hangs": 1})
    redis_url = bench.redis_url if through == "stream" else "redis://127.0.0.1:1/0"
    options = {"worker_job_timeout_ms": 200, "worker_max_concurrent_jobs": 2, "redis_url": redis_url}
    with capture_logs() as lines, bench.worker(Recorder(hang), **options):
        assert gate.reached.wait(10)
        until(lambda: any(line["event"] == "jobs_still_in_hand" for line in lines), "it was claimed again")
        well = bench.ledger.add(5)
        until(lambda: all(bench.row(key).state == "completed" for key in well), "the other slot works")
        assert turns["hung"] == 1
        assert bench.row(hung).attempts <= 2  # given back as often as it was claimed
        gate.open()
        bench.check([hung, *well])


def test_a_stop_finishes_what_is_in_work_and_gives_back_what_was_not_begun(bench: Bench) -> None:
    gate = Gate()
    first = Recorder(lambda _jobs: gate.wait())
    second = Recorder(lambda _jobs: gate.wait())
    handlers: dict[JobType, Handle] = {"enrich_and_embed": first, "index": second}
    keys = bench.ledger.add(3, job_type="enrich_and_embed") + bench.ledger.add(3, job_type="index")
    with bench.worker(handlers, worker_max_concurrent_jobs=1, worker_batch_window_ms=200) as worker:
        assert gate.reached.wait(10)
        assert set(bench.states().values()) == {"processing"}
        worker.stop()
        gate.open()
    begun, not_begun = (first, second) if first.batches else (second, first)
    assert not_begun.batches == []
    done = set(begun.seen)
    assert {key for key, state in bench.states().items() if state == "completed"} == done
    rest = [bench.row(key) for key in keys if key not in done]
    assert {(row.state, row.attempts, row.published_at) for row in rest} == {("pending", 0, None)}
    with bench.worker(Recorder()):
        bench.check(keys)


def test_a_stop_in_a_batch_that_is_being_split_gives_back_the_rest(bench: Bench) -> None:
    stop: list[threading.Event] = []

    def stop_and_fail(jobs: Sequence[ClaimedJob]) -> list[Outcome]:
        stop[0].set()
        raise ValueError("somebody is to blame")

    keys = bench.ledger.add(8)
    with bench.worker(stop_and_fail, worker_max_concurrent_jobs=1) as worker:
        stop.append(worker._stop)
        until(worker._stop.is_set, "the batch has failed")
    assert {(row.state, row.attempts) for row in bench.ledger.rows().values()} == {("pending", 0)}
    with bench.worker(Recorder()):
        bench.check(keys)


def test_two_workers_share_the_work(bench: Bench) -> None:
    keys = bench.ledger.add(60)
    together = threading.Barrier(2, timeout=20)
    met = threading.Event()

    def meet(_jobs: Sequence[ClaimedJob]) -> None:
        if not met.is_set():
            together.wait()
            met.set()

    one, other = Recorder(meet), Recorder(meet)
    options = {"worker_max_concurrent_jobs": 1, "worker_batch_jobs": 5}
    with bench.worker(one, **options), bench.worker(other, **options):
        bench.check(keys)
    assert one.seen + other.seen == Counter(keys)
    assert one.batches
    assert other.batches


def test_a_hundred_deliveries_of_a_job_have_one_effect(bench: Bench) -> None:
    keys = bench.ledger.add(3)
    with RedisManager(bench.redis_url) as manager:
        JobStream(manager).publish([StreamedJob(key, False) for key in keys] * 100)
    recorder = Recorder()
    with bench.worker(recorder):
        bench.check(keys)
    assert recorder.seen == Counter(keys)


# -- stores away --


def test_without_redis_jobs_are_claimed_from_postgres_and_with_it_from_the_stream_again(
    fragile: Bench, redis_server: RedisServer
) -> None:
    recorder = Recorder()
    with fragile.worker(recorder):
        first = fragile.ledger.add(10)
        fragile.rest()
        redis_server.kill()
        before = via("postgres")
        second = fragile.ledger.add(10)
        fragile.rest()
        assert via("postgres") > before
        redis_server.start()
        back = via("stream")
        third: list[JobKey] = []

        def stream_again() -> bool:
            third.extend(fragile.ledger.add(2))
            fragile.rest()
            return via("stream") > back

        until(stream_again, "the stream is used again")
    fragile.check([*first, *second, *third])
    assert set(recorder.seen.values()) == {1}


def test_a_full_redis_leaves_jobs_in_postgres_where_workers_find_them(
    fragile: Bench, redis_server: RedisServer
) -> None:
    with redis.Redis.from_url(redis_server.url()) as client, fragile.worker(Recorder()):
        first = fragile.ledger.add(5)
        fragile.rest()
        client.config_set("maxmemory", 1)
        second = fragile.ledger.add(5)
        fragile.rest()
        client.config_set("maxmemory", 0)
        fragile.check(first + second)


@pytest.mark.parametrize("loss", ["flush", "trim"])
def test_what_redis_forgets_is_published_again(fragile: Bench, redis_server: RedisServer, loss: str) -> None:
    gate = Gate()
    recorder = Recorder(lambda _jobs: gate.wait())
    keys = fragile.ledger.add(30)
    with (
        redis.Redis.from_url(redis_server.url()) as client,
        fragile.worker(recorder, worker_batch_jobs=5, worker_lease_ms=100_000),
    ):
        assert gate.reached.wait(10)
        until(lambda: all(row.published_at for row in fragile.ledger.rows().values()), "all are published")
        if loss == "flush":
            client.flushall()
        else:
            client.xtrim(JOBS_KEY, maxlen=0, approximate=False)
        gate.open()
        fragile.check(keys)
    assert recorder.seen == Counter(keys)


def test_outcomes_wait_for_postgres_and_no_attempt_is_lost(bench: Bench) -> None:
    gate = Gate()
    keys = bench.ledger.add(1)
    with (
        TcpProxy(bench.ledger.urls.pipeline_url) as proxy,
        bench.worker(Recorder(lambda _jobs: gate.wait()), postgres_pipeline_url=proxy.url, worker_lease_ms=3000),
    ):
        assert gate.reached.wait(10)
        proxy.refuse()
        proxy.cut()
        # As long as the lease: nobody takes the jobs before the living had a chance to renew.
        bench.ledger.end_leases()
        gate.open()
        threading.Event().wait(0.5)
        assert set(bench.states().values()) == {"processing"}
        proxy.forward()
        bench.check(keys)
    assert {(row.attempts, row.claimed_alone) for row in bench.ledger.rows().values()} == {(1, False)}


def test_entries_read_while_postgres_is_away_are_worked_on_when_it_is_back(bench: Bench) -> None:
    recorder = Recorder()
    with (
        TcpProxy(bench.ledger.urls.pipeline_url) as proxy,
        bench.worker(recorder, postgres_pipeline_url=proxy.url, worker_lease_ms=100_000),
        RedisManager(bench.redis_url) as manager,
    ):
        bench.check(bench.ledger.add(1))
        proxy.refuse()
        proxy.cut()
        keys = bench.ledger.add(3)
        stream = JobStream(manager)
        stream.publish([StreamedJob(key, False) for key in keys])
        until(lambda: stream.in_progress() == 3, "a consumer has the entries")
        proxy.forward()
        bench.rest()
        until(lambda: bench.entries() == 0, "every entry is acknowledged")
    assert set(recorder.seen.values()) == {1}


def test_jobs_of_a_handler_that_answers_too_little_fail_and_say_so(bench: Bench) -> None:
    def forgetful(jobs: Sequence[ClaimedJob]) -> list[Outcome]:
        return [Done()] * (len(jobs) - 1)

    keys = bench.ledger.add(2)
    with bench.worker(forgetful, worker_max_concurrent_jobs=1):
        bench.check(keys, dead=keys)
    assert {row.error_class for row in bench.ledger.rows().values()} == {"MemoryPipelineError"}


def test_a_slot_goes_on_after_what_nobody_expected(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claims in hand end with their leases; entries go to whoever takes over what is idle."""
    failures: list[int] = []

    def fail_twice(*arguments: Any) -> list[ClaimedJob]:
        if len(failures) < 2:
            failures.append(1)
            raise psycopg.DataError("what nobody expected")
        return claim_keys(*arguments)

    monkeypatch.setattr(consumer, "claim_keys", fail_twice)
    keys = bench.ledger.add(3)
    with capture_logs() as lines, bench.worker(Recorder(), worker_max_concurrent_jobs=1) as worker:
        bench.check(keys)
        worker.require_running()
    said = [line for line in lines if line["event"] == "worker_turn_failed"]
    assert [line["in_a_row"] for line in said][:1] == [1]
    assert "DataError in fail_twice" in said[0]["error"]
    assert "nobody expected" not in repr(lines)


def test_a_batch_that_ends_in_several_ways_and_a_heartbeat_never_wait_in_a_circle(bench: Bench) -> None:
    # Finished before another fails, the last in order would be held while the first is waited for.
    kinds: list[Outcome] = [Failed("TestError", "no luck", retry=True), Waits(0.0, "not yet"), Done()]
    bench.ledger.add(30)
    claims = sorted(bench.ledger.claim(), key=lambda claim: claim.key)
    ends = [kinds[place * 3 // len(claims)] for place in range(len(claims))]
    with (
        RedisManager(bench.redis_url) as manager,
        bench.ledger.connection() as holder,
        ThreadPoolExecutor(2) as threads,
    ):
        slot = consumer.Consumer(
            "slot",
            bench.ledger.database,
            JobStream(manager),
            Handlers({}),
            Leases(bench.ledger.database, 1000),
            _options(bench.settings),
            threading.Event(),
        )
        holder.execute("SELECT FROM memory_jobs WHERE job_id = %s FOR UPDATE", [claims[15].job_id])
        renewing = threads.submit(bench.ledger.heartbeat, claims)
        until(lambda: waiting_for_locks(bench) == 1, "the heartbeat holds the first half and waits")
        telling = threads.submit(slot._tell, claims, ends)
        until(lambda: waiting_for_locks(bench) == 2, "the outcomes wait")
        holder.rollback()
        assert renewing.result(20) == {claim.key for claim in claims}
        telling.result(20)
    states = Counter(bench.states().values())
    assert states == {"completed": 10, "failed": 10, "pending": 10}


def waiting_for_locks(bench: Bench) -> int:
    with bench.ledger.connection() as connection:
        return connection.execute(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).rowcount

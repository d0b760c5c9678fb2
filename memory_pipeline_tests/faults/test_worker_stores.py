"""Stores killed, suspended, emptied and filled under workers that have work: nothing is lost, doubled or left behind.

Rows are those of the fault matrix. After each the rig's check of all invariants.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from memory_pipeline.local.chroma import ChromaServer
from memory_pipeline.local.postgres import PostgresServer
from memory_pipeline.local.redis import RedisServer
from memory_pipeline.stores.postgres import jobs
from memory_pipeline.stores.postgres.jobs import enqueue
from memory_pipeline.stores.redis.keys import JOBS_KEY
from memory_pipeline_tests.faults.proxy import TcpProxy
from memory_pipeline_tests.faults.worker_rig import EDIT, Rig, make_rig
from memory_pipeline_tests.local.inspect import until

pytestmark = pytest.mark.faults

Fault = Callable[[Rig], None]
_DELETE = "UPDATE memories SET status = 'deleted', version = version + 1 WHERE memory_id = %s"


def redis_client(rig: Rig) -> redis.Redis:
    return redis.Redis.from_url(rig.redis.url())


def suspend_redis(rig: Rig) -> None:
    rig.redis.running().suspend()
    time.sleep(8)
    rig.redis.running().resume()


def suspend_postgres(rig: Rig) -> None:
    rig.postgres.running().suspend()
    time.sleep(10)
    rig.postgres.running().resume()


def kill_postgres(rig: Rig) -> None:
    for _ in range(3):
        rig.postgres.kill()
        time.sleep(1)
        rig.postgres.start()
        time.sleep(2)


def end_all_sessions(rig: Rig) -> None:
    for _ in range(4):
        with psycopg.connect(rig.postgres.url(), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        time.sleep(0.7)


def flush_redis(rig: Rig) -> None:
    with redis_client(rig) as client:
        for _ in range(4):
            client.flushall()
            time.sleep(1)


def restart_redis_empty(rig: Rig) -> None:
    rig.redis.kill()
    time.sleep(2)
    shutil.rmtree(rig.redis.data_dir)
    rig.redis.start()


def fill_redis(rig: Rig) -> None:
    with redis_client(rig) as client:
        client.config_set("maxmemory", 1)
        posted = len(rig.names)
        until(lambda: len(rig.names) > posted + 20, "messages are taken while Redis is full", 30)
        done = set(rig.states())
        until(lambda: all(rig.states()[key] == "completed" for key in done), "their jobs are done from Postgres", 60)
        client.config_set("maxmemory", 0)


def kill_both(rig: Rig) -> None:
    rig.redis.kill()
    rig.postgres.kill()
    time.sleep(3)
    rig.postgres.start()
    time.sleep(2)
    rig.redis.start()


def flush_while_postgres_is_down(rig: Rig) -> None:
    rig.postgres.kill()
    flush_redis(rig)
    rig.postgres.start()


def trim_the_stream(rig: Rig) -> None:
    with redis_client(rig) as client:
        for _ in range(20):
            client.xtrim(JOBS_KEY, maxlen=0, approximate=False)
            time.sleep(0.2)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(suspend_redis, id="row 7 Redis"),
        pytest.param(suspend_postgres, id="row 7 Postgres"),
        pytest.param(kill_postgres, id="row 8"),
        pytest.param(end_all_sessions, id="row 9"),
        pytest.param(flush_redis, id="row 14"),
        pytest.param(restart_redis_empty, id="row 15"),
        pytest.param(fill_redis, id="row 16"),
        pytest.param(kill_both, id="row 17"),
        pytest.param(flush_while_postgres_is_down, id="row 18"),
        pytest.param(trim_the_stream, id="row 19"),
    ],
)
def test_a_fault_of_a_store_under_two_workers_with_traffic(rig: Rig, fault: Fault) -> None:
    workers = [rig.worker(), rig.worker()]
    with rig.traffic(10):
        until(lambda: len(rig.names) > 10, "messages come")
        fault(rig)
        posted = len(rig.names)
        until(lambda: len(rig.names) > posted + 10, "messages come again", 60)
    rig.check(seconds=120)
    assert [worker.exit_code for worker in workers] == [None, None], "a worker did not outlive it"
    assert not any(row.state == "dead" for row in rig.ledger.rows().values())


@pytest.mark.parametrize("store", ["redis", "postgres"])
def test_row_7_a_store_that_hangs_leaves_no_pile_of_threads_or_connections(rig: Rig, store: str) -> None:
    worker = rig.worker()
    rig.post(3)
    rig.check()
    before = threads_of(worker.pid)
    server = (rig.redis if store == "redis" else rig.postgres).running()
    server.suspend()
    most = 0
    for _ in range(12):
        time.sleep(1)
        most = max(most, threads_of(worker.pid))
    server.resume()
    # A watcher of each store may come, and the threads of a stage that was in work.
    assert most <= before + 8
    rig.post(3)
    rig.check()
    with rig.ledger.database.transaction() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('worker', 'stages')"
            " OR application_name LIKE 'memory_pipeline jobs%%'"
        ).fetchone()
    assert row is not None
    assert row[0] <= (3 + 5) + 2 * 3 + (3 + 1)


@pytest.mark.parametrize("broken", ["redis", "postgres"])
def test_row_13_a_connection_that_is_half_open_is_noticed_within_thirty_seconds(
    rig: Rig, broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with TcpProxy(rig.postgres.url("memory_pipeline")) as postgres, TcpProxy(rig.redis.url()) as redis_proxy:
        rig.worker(MEMORY_POSTGRES_PIPELINE_URL=postgres.url, MEMORY_REDIS_URL=redis_proxy.url)
        rig.post(5)
        rig.check()
        proxy = redis_proxy if broken == "redis" else postgres
        proxy.black_hole()
        time.sleep(1)
        proxy.forward()  # for new connections: those swallowed stay so, and nobody says that they are dead
        began = time.monotonic()
        rig.post(5)
        rig.rest(60)
        seconds = time.monotonic() - began
        rig.check()
    with capsys.disabled():
        print(f"\nhalf-open connections to {broken}: worked again after {seconds:.1f} s (aim: at most 30 s)")
    assert seconds <= 30


@pytest.mark.parametrize("how", ["killed", "suspended"])
def test_rows_7_and_22_chroma_away_makes_jobs_wait_and_not_fail(
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    chroma_server: ChromaServer,
    server_folder: Path,
    how: str,
) -> None:
    rig = make_rig(postgres_server, redis_server, chroma_server.url, "default_database", server_folder)
    try:
        rig.worker()
        with rig.traffic(8):
            until(lambda: len(rig.names) > 8, "messages come")
            if how == "killed":
                chroma_server.kill()
                time.sleep(6)
                chroma_server.start()
            else:
                chroma_server.running().suspend()
                time.sleep(12)
                chroma_server.running().resume()
        rig.check(seconds=120)
        assert not any(row.state == "dead" for row in rig.ledger.rows().values())
    finally:
        rig.close()


# -- clocks, slow writers, order --


@pytest.mark.parametrize("step", ["-1 hour", "1 hour"])
def test_row_27_clock_steps_leave_every_job_to_its_end(rig: Rig, step: str) -> None:
    """Leases know the database's clock alone: what a step does to it, moving the times does here."""
    rig.worker("obeying")
    rig.worker("obeying")
    rig.add(8, payload={"sleeps": 2})
    until(lambda: "processing" in set(rig.states().values()), "some are in work")
    for _ in range(3):
        rig.add(4, payload={"sleeps": 1})
        with rig.ledger.database.transaction() as connection:
            connection.execute(
                "UPDATE memory_jobs SET lease_until = lease_until + %s::interval WHERE state = 'processing'", [step]
            )
        time.sleep(1)
    rig.check(seconds=120)


def test_row_27_what_waits_too_long_after_the_clock_was_set_back_comes_forward(rig: Rig) -> None:
    rig.worker("obeying")
    rig.add(4, delay_seconds=2 * 3600)
    rig.check(seconds=90)


def test_rows_28_and_29_slow_writers_hide_no_job_and_stop_nobody(rig: Rig) -> None:
    rig.worker("obeying")
    with rig.ledger.connection() as slow:
        early = jobs.enqueue(slow, [rig.ledger.new_job() for _ in range(3)])
        rig.add(50)
        until(lambda: set(rig.states().values()) == {"completed"}, "those of others are done meanwhile")
        time.sleep(3)
        slow.commit()
    rig.keys += early
    rig.check()


def test_row_31_updates_and_deletions_in_any_order_end_with_the_tombstone(rig: Rig) -> None:
    workers = [rig.worker(MEMORY_WORKER_BATCH_JOBS="3"), rig.worker(MEMORY_WORKER_BATCH_JOBS="3")]
    rig.post(30)
    rig.check()
    with psycopg.connect(rig.postgres.url(), options="-c search_path=memory,public", autocommit=True) as connection:
        found = connection.execute(
            "SELECT tenant_id, memory_id, day FROM memories WHERE kind = 'episode' ORDER BY memory_id"
        ).fetchall()
        for place, (tenant_id, memory_id, day) in enumerate(found):
            for change in (EDIT, _DELETE):
                connection.execute(change, [memory_id])
                # The job of the deletion goes first, or last, or in the middle of others.
                with rig.ledger.database.transaction() as transaction:
                    new = rig.ledger.new_job(tenant_id=tenant_id, subject_id=memory_id, day=day, priority=place % 3)
                    rig.keys += enqueue(transaction, [new])
    rig.check(failed=rig.names)
    with psycopg.connect(rig.postgres.url(), options="-c search_path=memory,public") as connection:
        left = connection.execute(
            "SELECT count(*) FROM index_entries e JOIN memories m USING (tenant_id, memory_id)"
            " WHERE m.status = 'deleted'"
        ).fetchone()
    assert left == (0,)
    assert [worker.exit_code for worker in workers] == [None, None]


def test_row_34_a_backfill_beside_a_live_worker_leaves_the_newest_version(rig: Rig) -> None:
    rig.worker()
    over = threading.Event()
    failures: list[BaseException] = []

    def backfill() -> None:
        try:
            while not over.is_set():
                rig.run_window()
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    thread = threading.Thread(target=backfill)
    thread.start()
    try:
        with rig.traffic(12):
            for _ in range(6):
                time.sleep(1.5)
                rig.edit_some()
    finally:
        over.set()
        thread.join()
    assert failures == []
    rig.check(seconds=120)


def threads_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))

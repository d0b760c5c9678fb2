"""Sleeping until a job is added: nobody sleeps through one, and nothing is announced while nobody sleeps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.stores.postgres import jobs
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.job_signal import JobSignal
from memory_pipeline_tests.stores.postgres.ledger import Ledger, until

# Far beyond what a test takes: who sleeps so long was not woken.
LONG = 120.0


@pytest.fixture
def signal(ledger: Ledger) -> Iterator[JobSignal]:
    with JobSignal(ledger.urls.pipeline_url) as opened:
        yield opened


def somebody_sleeps(ledger: Ledger) -> bool:
    """Whether a session has the lock for itself, and waits for its client."""
    with psycopg.connect(ledger.urls.admin_url) as connection:
        found = connection.execute(
            "SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND datname ="
            " current_database() AND mode = 'ExclusiveLock' AND granted AND state = 'idle'"
        ).fetchone()
    return found is not None


def test_who_sleeps_is_woken_by_a_job(ledger: Ledger, signal: JobSignal) -> None:
    with ThreadPoolExecutor(1) as threads:
        sleeping = threads.submit(signal.wait_for_jobs, LONG)
        until(lambda: somebody_sleeps(ledger))
        assert not sleeping.done()
        ledger.add()
        assert sleeping.result(60) is True


def test_the_app_wakes_who_sleeps_too(ledger: Ledger, signal: JobSignal) -> None:
    with ThreadPoolExecutor(1) as threads, Database(ledger.urls.app_url, role="memory_app") as app:
        sleeping = threads.submit(signal.wait_for_jobs, LONG)
        until(lambda: somebody_sleeps(ledger))
        with app.tenant_transaction(ledger.tenants[0]) as connection:
            jobs.enqueue(connection, [ledger.new_job(0)])
        assert sleeping.result(60) is True


def test_nobody_sleeps_while_there_are_jobs(ledger: Ledger, signal: JobSignal) -> None:
    (key,) = ledger.add()
    assert signal.wait_for_jobs(LONG) is True
    with ledger.database.transaction() as connection:
        connection.execute("UPDATE memory_jobs SET published_at = clock_timestamp()")
    assert signal.wait_for_jobs(LONG, unpublished=False) is True
    assert signal.wait_for_jobs(0.05) is False
    ledger.finish(ledger.claim_keys([key]))
    assert signal.wait_for_jobs(0.05, unpublished=False) is False


def test_a_job_that_is_not_due_wakes_nobody_up_for_long(ledger: Ledger, signal: JobSignal) -> None:
    ledger.add(delay_seconds=3600)
    assert signal.wait_for_jobs(0.05) is False


def notifications_of(ledger: Ledger, connection: psycopg.Connection[tuple[object, ...]], add: int) -> int:
    for _ in range(add):
        ledger.add(3)
    connection.execute("SELECT pg_notify('memory_jobs', 'end')")
    payloads: list[str] = []
    for notification in connection.notifies(timeout=30):
        payloads.append(notification.payload)
        if notification.payload == "end":
            break
    assert payloads[-1:] == ["end"]
    return len(payloads) - 1


def test_jobs_are_announced_only_while_somebody_sleeps(ledger: Ledger) -> None:
    with psycopg.connect(ledger.urls.pipeline_url, autocommit=True) as listener:
        listener.execute("LISTEN memory_jobs")
        assert notifications_of(ledger, listener, add=20) == 0
        with ledger.connection() as sleeper:
            sleeper.execute("SELECT pg_try_advisory_lock(1785684595)")
            assert notifications_of(ledger, listener, add=20) == 20


def test_one_transaction_announces_once(ledger: Ledger) -> None:
    with psycopg.connect(ledger.urls.pipeline_url, autocommit=True) as listener, ledger.connection() as sleeper:
        listener.execute("LISTEN memory_jobs")
        sleeper.execute("SELECT pg_try_advisory_lock(1785684595)")
        with ledger.database.transaction() as connection:
            for _ in range(50):
                jobs.enqueue(connection, [ledger.new_job(), ledger.new_job()])
        assert notifications_of(ledger, listener, add=0) == 1


def every_job_is_heard(ledger: Ledger, count: int, patience: float = 60.0) -> None:
    """Two writers whose transactions stay open for a moment, and one sleeper that takes what there is."""
    taken = threading.Semaphore(0)
    ended = threading.Event()

    def sleep_and_take() -> None:
        with JobSignal(ledger.urls.pipeline_url) as signal:
            while not ended.is_set():
                signal.wait_for_jobs(LONG, unpublished=False)
                for _ in ledger.finish(ledger.claim(1000)):
                    taken.release()

    def write(number: int) -> None:
        pause = threading.Event()
        for turn in range(count // 2):
            with ledger.database.transaction() as connection:
                jobs.enqueue(connection, [ledger.new_job()])
                pause.wait(0.01 * ((turn + number) % 4))
            # Nobody adds more than is taken, so the sleeper is often just going to sleep when the next job comes.
            assert taken.acquire(timeout=patience), "a job was slept through"

    with ThreadPoolExecutor(3) as threads:
        sleeper = threads.submit(sleep_and_take)
        try:
            for writer in [threads.submit(write, number) for number in range(2)]:
                writer.result()
        finally:
            ended.set()
            with psycopg.connect(ledger.urls.admin_url, autocommit=True) as admin:
                until(lambda: bool(admin.execute("SELECT pg_notify('memory_jobs', '')") and sleeper.done()))
        sleeper.result()


def test_no_job_is_slept_through(ledger: Ledger) -> None:
    every_job_is_heard(ledger, 80)


@pytest.mark.faults
def test_writers_that_look_for_sleepers_without_the_lock_are_caught(ledger: Ledger) -> None:
    """They see nobody asleep, somebody looks and goes to sleep, and then their job can be seen."""
    with psycopg.connect(ledger.urls.admin_url) as admin:
        kept = admin.execute("SELECT pg_get_functiondef('memory.wake_job_waiters'::regproc)").fetchone()
        assert kept is not None
        text = str(kept[0])
        careless = text.replace("pg_try_advisory_xact_lock_shared(1785684595)", _LOOK_ONLY)
        assert careless != text
        admin.execute(careless.encode())
    try:
        with pytest.raises(AssertionError, match="slept through"):
            every_job_is_heard(ledger, 200, patience=3.0)
    finally:
        with psycopg.connect(ledger.urls.admin_url) as admin:
            admin.execute(text.encode())


_LOOK_ONLY = (
    "(NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 1785684595 AND mode = 'ExclusiveLock'))"
)


def test_a_long_open_writer_keeps_nobody_from_looking(ledger: Ledger, signal: JobSignal) -> None:
    with ledger.connection() as writer:
        jobs.enqueue(writer, [ledger.new_job()])
        # Its jobs were not announced, so nobody may sleep deeply before they can be seen.
        assert signal.wait_for_jobs(LONG) is False
        assert not somebody_sleeps(ledger)
        writer.commit()
    assert signal.wait_for_jobs(LONG) is True


def test_of_two_sleepers_both_hear_of_a_job(ledger: Ledger, signal: JobSignal) -> None:
    with JobSignal(ledger.urls.pipeline_url) as second, ThreadPoolExecutor(2) as threads:
        first_sleep = threads.submit(signal.wait_for_jobs, LONG)
        until(lambda: somebody_sleeps(ledger))
        assert second.wait_for_jobs(LONG) is False  # looks by itself, every now and then
        ledger.add()
        assert first_sleep.result(60) is True
        assert second.wait_for_jobs(LONG) is True


def test_a_lost_connection_is_said_so_and_made_anew(ledger: Ledger, signal: JobSignal) -> None:
    with ThreadPoolExecutor(1) as threads:
        sleeping = threads.submit(signal.wait_for_jobs, LONG)
        until(lambda: somebody_sleeps(ledger))
        with psycopg.connect(ledger.urls.admin_url, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'memory_pipeline jobs' AND datname = current_database()"
            )
        with pytest.raises(StoreUnavailableError, match="that waits for jobs was lost"):
            sleeping.result(60)
    ledger.add()
    assert signal.wait_for_jobs(LONG) is True


def test_where_there_is_no_postgres_it_is_said_so(ledger: Ledger) -> None:
    with JobSignal("postgresql://nobody@127.0.0.1:1/none") as signal, pytest.raises(StoreUnavailableError):
        signal.wait_for_jobs(1)

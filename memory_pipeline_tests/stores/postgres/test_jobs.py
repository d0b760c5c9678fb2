"""The job ledger in real Postgres: each job is there when its transaction commits, and claimed by one worker.

Where a test stands for a row of the fault matrix, its number is given. Tests named `..._is_caught` run the same check
on a ledger without one of its safety mechanisms, and see it fail.
"""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import psycopg
import pytest

from memory_pipeline.model.errors import BusyError, InvalidRequestError
from memory_pipeline.model.jobs import HANDLED_TYPES, JOB_TYPES, JobKey, JobType
from memory_pipeline.stores.postgres import job_reports, jobs
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline_tests.stores.postgres.ledger import DAY, LEASE, POLICY, Ledger, break_sql, until

# -- adding --


def test_added_jobs_are_pending_due_and_in_order(ledger: Ledger) -> None:
    new = [ledger.new_job(place, payload={"n": place}, priority=place) for place in range(5)]
    with ledger.database.transaction() as connection:
        keys = jobs.enqueue(connection, new)
    rows = ledger.rows()
    assert [rows[key].payload for key in keys] == [{"n": place} for place in range(5)]
    assert [(rows[key].tenant_id, rows[key].subject_id, rows[key].correlation_id) for key in keys] == [
        (job.tenant_id, job.subject_id, job.correlation_id) for job in new
    ]
    assert [key.job_id for key in keys] == sorted(key.job_id for key in keys)
    assert {(row.state, row.attempts, row.published_at) for row in rows.values()} == {("pending", 0, None)}


def test_jobs_of_a_transaction_that_is_rolled_back_never_were(ledger: Ledger) -> None:
    with ledger.connection() as connection:
        assert len(jobs.enqueue(connection, [ledger.new_job()])) == 1
        connection.rollback()
    assert ledger.rows() == {}


def test_the_app_adds_jobs_of_its_tenant_and_of_no_other(ledger: Ledger) -> None:
    with Database(ledger.urls.app_url, role="memory_app") as app:
        with app.tenant_transaction(ledger.tenants[0]) as connection:
            (key,) = jobs.enqueue(connection, [ledger.new_job(0)])
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"),
            app.tenant_transaction(ledger.tenants[0]) as connection,
        ):
            jobs.enqueue(connection, [ledger.new_job(1)])
        with app.tenant_transaction(ledger.tenants[1]) as connection:
            assert job_reports.list_jobs(connection) == []
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            app.tenant_transaction(ledger.tenants[0]) as connection,
        ):
            jobs.claim_next(connection, "app", JOB_TYPES, 1, LEASE)
    assert list(ledger.rows()) == [key]


def test_nothing_is_a_batch_too(ledger: Ledger) -> None:
    with ledger.database.transaction() as connection:
        assert jobs.enqueue(connection, []) == []
        assert jobs.claim_keys(connection, "w", [], LEASE) == []
        assert jobs.finish(connection, []) == set()
        assert jobs.heartbeat(connection, [], LEASE) == set()
        assert jobs.fail(connection, [], POLICY) == {}
        assert jobs.release(connection, []) == set()


# -- claiming --


def test_a_claim_holds_the_job_under_a_token_of_its_own_for_the_lease_by_the_databases_clock(ledger: Ledger) -> None:
    keys = ledger.add(3)
    claims = ledger.claim()
    assert {claim.key for claim in claims} == set(keys)
    assert len({claim.claim_token for claim in claims}) == 3
    assert {claim.attempts for claim in claims} == {1}
    with ledger.database.transaction() as connection:
        now = job_reports.database_now(connection)
    for row in ledger.rows().values():
        assert (row.state, row.claimed_by, row.attempts) == ("processing", "worker-1", 1)
        assert row.lease_until is not None
        assert timedelta(seconds=LEASE - 15) < row.lease_until - now <= timedelta(seconds=LEASE)
    assert ledger.claim() == ledger.claim_keys(keys) == []


def test_claims_go_by_priority_and_then_by_age(ledger: Ledger) -> None:
    later = ledger.add(2)
    sooner = ledger.add(2, priority=1)
    assert [claim.key for claim in ledger.claim(1)] == sooner[:1]
    assert {claim.key for claim in ledger.claim(2)} == {sooner[1], later[0]}
    assert [claim.key for claim in ledger.claim(5)] == later[1:]


def test_claims_keep_to_types_days_and_what_is_due(ledger: Ledger) -> None:
    (wanted,) = ledger.add(job_type="detect_relations")
    (early,) = ledger.add(job_type="detect_relations", day=date(2025, 2, 28))
    (late,) = ledger.add(job_type="detect_relations", day=date(2025, 3, 2))
    (other,) = ledger.add(job_type="enrich_and_embed")
    (waiting,) = ledger.add(job_type="detect_relations", delay_seconds=3600)
    with ledger.database.transaction() as connection:
        claims = jobs.claim_next(connection, "w", ["detect_relations"], 10, LEASE, first_day=DAY, last_day=DAY)
    assert [claim.key for claim in claims] == [wanted]
    assert {claim.key for claim in ledger.claim_keys([early, late, other, waiting])} == {early, late, other}
    ledger.make_due([waiting])
    assert [claim.key for claim in ledger.claim()] == [waiting]


def test_a_claim_waits_for_the_relay_that_is_about_to_commit(ledger: Ledger) -> None:
    keys = ledger.add(3)
    with ledger.connection() as relay, ThreadPoolExecutor(1) as threads:
        relay.execute("UPDATE memory_jobs SET published_at = clock_timestamp() WHERE job_id = %s", [keys[0].job_id])
        claiming = threads.submit(ledger.claim_keys, keys)
        until(lambda: somebody_waits_for_a_lock(ledger))
        relay.commit()
        assert {claim.key for claim in claiming.result(30)} == set(keys)


def test_a_claim_does_not_wait_for_ever_for_whoever_holds_a_job(ledger: Ledger) -> None:
    keys = ledger.add(3)
    with ledger.connection() as suspended:
        suspended.execute("SELECT FROM memory_jobs WHERE job_id = %s FOR UPDATE", [keys[0].job_id])
        assert {claim.key for claim in ledger.claim_keys(keys)} == set(keys[1:])
        assert ledger.claim() == []
    assert [claim.key for claim in ledger.claim()] == keys[:1]


def test_a_client_suspended_in_the_middle_of_a_claim_is_thrown_out(ledger: Ledger) -> None:
    ledger.add()
    suspended = ledger.open_connection()
    assert len(jobs.claim_next(suspended, "suspended", JOB_TYPES, 1, LEASE)) == 1
    assert suspended.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("1min",)
    suspended.execute("SET LOCAL idle_in_transaction_session_timeout = 1")
    until(lambda: ledger.claim() != [])
    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        suspended.commit()


def test_row_1_a_worker_killed_before_its_claim_commits_leaves_the_job_claimable(ledger: Ledger) -> None:
    (key,) = ledger.add()
    worker = ledger.open_connection()
    assert len(jobs.claim_next(worker, "killed", JOB_TYPES, 1, LEASE)) == 1
    assert ledger.claim() == []
    worker.close()
    claims: list[jobs.ClaimedJob] = []
    until(lambda: bool(claims.__iadd__(ledger.claim())))
    assert [(claim.key, claim.attempts) for claim in claims] == [(key, 1)]


def each_job_is_claimed_once(ledger: Ledger) -> None:
    """Twenty workers at once; half of them by id, as if the stream had delivered everything to everybody."""
    keys = ledger.add(2000)
    seen: Counter[JobKey] = Counter()
    lock, start = threading.Lock(), threading.Barrier(20)

    def work(number: int) -> None:
        start.wait()
        own = list(keys)
        while own:
            if number % 2:
                batch, own = own[:100], own[100:]
                claims = ledger.claim_keys(batch, f"worker-{number}")
            else:
                claims = ledger.claim(37, f"worker-{number}")
                own = own if claims else []
            with lock:
                seen.update(ledger.finish(claims))

    with ThreadPoolExecutor(20) as threads:
        for done in [threads.submit(work, number) for number in range(20)]:
            done.result()
    while claims := ledger.claim(500):
        seen.update(ledger.finish(claims))
    rows = ledger.rows()
    assert {row.state for row in rows.values()} == {"completed"}
    assert {row.attempts for row in rows.values()} == {1}
    assert seen == Counter(keys)


def test_of_twenty_workers_each_job_is_claimed_and_finished_by_one(ledger: Ledger) -> None:
    each_job_is_claimed_once(ledger)


def test_claims_without_a_lock_are_caught(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    break_sql(monkeypatch, "jobs_claim_next", "FOR NO KEY UPDATE SKIP LOCKED", "")
    # Postgres itself refuses some of what happens then: a completed job that is claimed, claims that wait in a circle
    # (a deadlock, which the database tells as a BusyError).
    with pytest.raises((AssertionError, psycopg.errors.CheckViolation, BusyError)) as caught:
        each_job_is_claimed_once(ledger)
    assert not isinstance(caught.value, BusyError) or "deadlock detected" in str(caught.value)


def somebody_waits_for_a_lock(ledger: Ledger) -> bool:
    with psycopg.connect(ledger.urls.admin_url) as connection:
        found = connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    return found is not None


@pytest.mark.parametrize("job_type", sorted(set(JOB_TYPES) - set(HANDLED_TYPES)))
def test_a_job_that_no_worker_could_do_is_refused_and_its_neighbours_with_it(ledger: Ledger, job_type: JobType) -> None:
    with pytest.raises(InvalidRequestError, match=job_type), ledger.database.transaction() as connection:
        jobs.enqueue(connection, [ledger.new_job(), ledger.new_job(job_type=job_type)])
    assert ledger.rows() == {}

"""The job ledger in real Postgres: each job is done once and by one worker, whatever happens to workers and clocks.

Where a test stands for a row of the fault matrix, its number is given. Tests named `..._is_caught` run the same check
on a ledger without one of its safety mechanisms, and see it fail.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from uuid import uuid4

import psycopg
import pytest

from memory_pipeline.model.errors import NotFoundError
from memory_pipeline.model.jobs import JOB_TYPES, LEASE_EXPIRED, JobKey
from memory_pipeline.stores.postgres import job_reports, jobs
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.tenants import ensure_tenant
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.stores.postgres.ledger import DAY, LEASE, POLICY, Ledger, break_sql, until

Check = Callable[[Ledger], None]


@pytest.fixture(scope="module")
def shared(servers: Servers, migrated_template: str) -> Iterator[Ledger]:
    with (
        fresh_database(servers, migrated_template) as urls,
        Database(urls.pipeline_url, role="memory_pipeline", pool_size=24) as database,
    ):
        yield Ledger(urls, database)


@pytest.fixture
def ledger(shared: Ledger) -> Ledger:
    shared.clear()
    return shared


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
    (wanted,) = ledger.add(job_type="summarize")
    (early,) = ledger.add(job_type="summarize", day=date(2025, 2, 28))
    (late,) = ledger.add(job_type="summarize", day=date(2025, 3, 2))
    (other,) = ledger.add(job_type="erase")
    (waiting,) = ledger.add(job_type="summarize", delay_seconds=3600)
    with ledger.database.transaction() as connection:
        claims = jobs.claim_next(connection, "w", ["summarize"], 10, LEASE, first_day=DAY, last_day=DAY)
    assert [claim.key for claim in claims] == [wanted]
    assert {claim.key for claim in ledger.claim_keys([early, late, other, waiting])} == {early, late, other}
    ledger.make_due([waiting])
    assert [claim.key for claim in ledger.claim()] == [waiting]


def test_a_claim_waits_for_the_relay_that_is_about_to_commit(ledger: Ledger) -> None:
    keys = ledger.add(3)
    with ledger.connection() as relay, ThreadPoolExecutor(1) as threads:
        relay.execute("UPDATE memory_jobs SET published_at = clock_timestamp() WHERE job_id = %s", [keys[0].job_id])
        claiming = threads.submit(ledger.claim_keys, keys)
        _until_somebody_waits_for_a_lock(ledger)
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
    # The table itself refuses some of what happens then, such as a completed job that is claimed.
    with pytest.raises((AssertionError, psycopg.errors.CheckViolation)):
        each_job_is_claimed_once(ledger)


# -- what becomes of a claim --


def test_a_finished_job_is_completed_and_never_claimed_again(ledger: Ledger) -> None:
    keys = ledger.add(2)
    claims = ledger.claim()
    assert ledger.finish(claims) == set(keys)
    assert ledger.finish(claims) == ledger.heartbeat(claims) == ledger.release(claims) == set()
    assert ledger.fail(claims) == {}
    assert ledger.claim_keys(keys) == ledger.claim() == []
    assert {(row.state, row.lease_until) for row in ledger.rows().values()} == {("completed", None)}


def late_finish_is_discarded(ledger: Ledger) -> None:
    (key,) = ledger.add()
    suspended = ledger.claim(worker="suspended")
    ledger.end_leases()
    assert ledger.reclaim() == {key: "failed"}
    current = ledger.claim(worker="current")
    assert ledger.heartbeat(suspended) == set()
    assert ledger.release(suspended) == set()
    assert ledger.fail(suspended) == {}
    assert ledger.finish(suspended) == set()
    assert (ledger.row(key).state, ledger.row(key).claimed_by) == ("processing", "current")
    assert ledger.finish(current) == {key}


def test_row_6_the_late_finish_of_a_worker_that_was_suspended_is_discarded(ledger: Ledger) -> None:
    late_finish_is_discarded(ledger)


@pytest.mark.parametrize("statement", ["jobs_heartbeat", "jobs_finish", "jobs_fail", "jobs_release"])
def test_a_claim_that_is_answered_without_its_token_is_caught(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    break_sql(monkeypatch, statement, "AND j.claim_token = c.token", "AND j.state = 'processing'")
    with pytest.raises(AssertionError):
        late_finish_is_discarded(ledger)


def test_heartbeats_keep_a_lease_from_ending(ledger: Ledger) -> None:
    kept, lost = ledger.add(2)
    claims = ledger.claim()
    ledger.end_leases()
    # Over, but not taken away yet: the claim still holds.
    assert ledger.heartbeat([claim for claim in claims if claim.key == kept]) == {kept}
    assert ledger.reclaim() == {lost: "failed"}
    assert ledger.finish(claims) == {kept}


def test_a_heartbeat_and_a_finish_of_the_same_claims_never_wait_in_a_circle(ledger: Ledger) -> None:
    ledger.add(400)
    claims = ledger.claim(400)
    stop = threading.Event()

    def beat() -> None:
        while not stop.is_set():
            ledger.heartbeat(claims)

    with ThreadPoolExecutor(2) as threads:
        beating = [threads.submit(beat) for _ in range(2)]
        try:
            for start in range(0, 400, 40):
                assert len(ledger.finish(claims[start : start + 40][::-1])) == 40
        finally:
            stop.set()
        for beats in beating:
            beats.result()


def test_a_heartbeat_changes_no_index(ledger: Ledger) -> None:
    ledger.add(20)
    claims = ledger.claim()
    with psycopg.connect(ledger.urls.admin_url) as connection:
        indexed = connection.execute(
            "SELECT DISTINCT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)"
            " WHERE indrelid = 'memory.memory_jobs'::regclass"
            " UNION SELECT 'lease_until' FROM pg_index WHERE indrelid = 'memory.memory_jobs'::regclass"
            " AND pg_get_expr(indpred, indrelid) LIKE '%lease_until%'"
        ).fetchall()
    assert ("claimed_by",) in indexed
    assert ("lease_until",) not in indexed
    assert len(ledger.heartbeat(claims)) == 20


def test_a_failed_job_waits_longer_each_time_and_is_dead_after_its_last_attempt(ledger: Ledger) -> None:
    (key,) = ledger.add()
    waits = []
    for attempt in range(1, POLICY.max_attempts + 1):
        claims = ledger.claim()
        assert [claim.attempts for claim in claims] == [attempt]
        state = ledger.fail(claims, text=f"failure {attempt}")[key]
        row = ledger.row(key)
        assert (row.state, row.error_class, row.error_text) == (state, "TestError", f"failure {attempt}")
        with ledger.database.transaction() as connection:
            waits.append((row.available_at - job_reports.database_now(connection)).total_seconds())
        assert ledger.claim() == []
        ledger.make_due()
    assert 490 < waits[0] <= 1000 < 1001 + 989 <= 2 * 1000 + 1
    assert 990 < waits[1] <= 2000
    assert (state, ledger.row(key).attempts) == ("dead", POLICY.max_attempts)
    assert ledger.claim() == ledger.claim_keys([key]) == []


def test_a_failure_that_no_retry_helps_is_dead_at_once(ledger: Ledger) -> None:
    keys = ledger.add(2)
    claims = ledger.claim()
    failures = [
        jobs.Failure(claim=claim, error_class="ValueError", error_text="x", retry=claim.key == keys[0])
        for claim in claims
    ]
    with ledger.database.transaction() as connection:
        assert jobs.fail(connection, failures, POLICY) == {keys[0]: "failed", keys[1]: "dead"}


def test_an_error_text_that_postgres_refuses_does_not_poison_the_batch(ledger: Ledger) -> None:
    keys = ledger.add(2)
    assert set(ledger.fail(ledger.claim(), text="nul \0, half \ud800, long " + "x" * 5000)) == set(keys)
    assert str(ledger.row(keys[0]).error_text).startswith("nul \N{REPLACEMENT CHARACTER}, half ?, long xxx")


def test_a_released_job_is_due_at_once_and_has_its_attempt_back(ledger: Ledger) -> None:
    (key,) = ledger.add()
    for _ in range(POLICY.max_attempts + 2):
        claims = ledger.claim()
        assert [claim.attempts for claim in claims] == [1]
        assert ledger.release(claims) == {key}
    assert ledger.release(ledger.claim(), delay_seconds=3600) == {key}
    assert ledger.claim() == []
    assert (ledger.row(key).state, ledger.row(key).attempts) == ("pending", 0)


# -- workers that die --


def poison_ends_as_dead(ledger: Ledger) -> None:
    (poison,) = ledger.add()
    claims = 0
    while claims < 10 and ledger.claim():
        claims += 1
        ledger.end_leases()
        ledger.reclaim()
    assert claims == POLICY.max_attempts
    row = ledger.row(poison)
    assert (row.state, row.attempts, row.error_class) == ("dead", POLICY.max_attempts, LEASE_EXPIRED)
    assert "worker-1 neither finished it nor renewed its lease" in str(row.error_text)


def test_row_32_a_job_that_ends_its_worker_is_dead_after_its_attempts(ledger: Ledger) -> None:
    poison_ends_as_dead(ledger)


def test_attempts_that_are_not_counted_when_claimed_are_caught(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    break_sql(monkeypatch, "jobs_claim_next", "attempts = j.attempts + 1,", "")
    with pytest.raises(AssertionError):
        poison_ends_as_dead(ledger)


def test_leases_taken_away_without_an_end_are_caught(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    break_sql(monkeypatch, "jobs_reclaim", "attempts >= %(max_attempts)s AS is_dead", "false AS is_dead")
    with pytest.raises(AssertionError):
        poison_ends_as_dead(ledger)


def poison_takes_no_other_job_along(ledger: Ledger) -> None:
    """Every worker that claims the poison dies with whatever it has claimed beside."""
    keys = ledger.add(50)
    poison = keys[7]
    for _ in range(500):
        claims = ledger.claim()
        if not claims:
            break
        if any(claim.key == poison for claim in claims):
            ledger.end_leases()
            ledger.reclaim()
        else:
            ledger.finish(claims)
    states = {key: row.state for key, row in ledger.rows().items()}
    assert states == {key: "dead" if key == poison else "completed" for key in keys}


def test_a_job_that_ends_its_worker_takes_no_other_along(ledger: Ledger) -> None:
    poison_takes_no_other_job_along(ledger)


def test_poison_claimed_together_with_others_is_caught(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    break_sql(
        monkeypatch, "jobs_claim_next", "CASE WHEN first_is_alone THEN place = 1 ELSE NOT claimed_alone END", "true"
    )
    with pytest.raises(AssertionError):
        poison_takes_no_other_job_along(ledger)


def test_by_id_a_suspect_is_claimed_only_where_it_is_asked_for_alone(ledger: Ledger) -> None:
    (suspect,) = ledger.add()
    ledger.claim()
    ledger.end_leases()
    assert ledger.reclaim() == {suspect: "failed"}
    clean = ledger.add(2)
    assert {claim.key for claim in ledger.claim_keys([suspect, *clean])} == set(clean)
    (claim,) = ledger.claim_keys([suspect])
    assert (claim.claimed_alone, claim.attempts) == (True, 2)
    # It answered: it fails, but does not kill.
    ledger.fail([claim])
    assert not ledger.row(suspect).claimed_alone


def test_a_reclaimed_job_is_due_at_once_and_published_anew(ledger: Ledger) -> None:
    (key,) = ledger.add()
    ledger.claim()
    assert ledger.reclaim() == {}
    with ledger.database.transaction() as connection:
        connection.execute("UPDATE memory_jobs SET published_at = clock_timestamp()")
    ledger.end_leases()
    assert ledger.reclaim() == {key: "failed"}
    row = ledger.row(key)
    assert (row.published_at, row.error_class, row.claimed_alone) == (None, LEASE_EXPIRED, True)
    assert [claim.attempts for claim in ledger.claim()] == [2]


def test_row_27_leases_do_not_depend_on_a_workers_clock(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.add()
    for step in (-3600.0, 3600.0):
        monkeypatch.setattr("time.time", lambda step=step: step)
        monkeypatch.setattr("time.time_ns", lambda step=step: int(step))
        claims = ledger.claim()
        assert ledger.reclaim() == {}
        with ledger.database.transaction() as connection:
            now = job_reports.database_now(connection)
        (row,) = ledger.rows().values()
        assert row.lease_until is not None
        assert timedelta(0) < row.lease_until - now <= timedelta(seconds=LEASE)
        ledger.release(claims)


def test_row_27_leases_and_waits_end_although_the_databases_clock_was_set_back(ledger: Ledger) -> None:
    held, waiting = ledger.add(2)
    ledger.claim_keys([held])
    with ledger.database.transaction() as connection:
        connection.execute(
            "UPDATE memory_jobs SET lease_until = lease_until + interval '1 hour',"
            " available_at = available_at + interval '1 hour'"
        )
    assert ledger.reclaim() == {held: "failed"}
    with ledger.database.transaction() as connection:
        assert jobs.bring_forward(connection, longest_wait_seconds=900) == 1
        assert jobs.bring_forward(connection, longest_wait_seconds=900) == 0
    assert {claim.key for claim in ledger.claim()} | {claim.key for claim in ledger.claim()} == {held, waiting}


# -- looking into it --


def test_stats_count_by_type_and_state_and_know_since_when_something_waits(ledger: Ledger) -> None:
    ledger.add(3)
    ledger.add(2, job_type="summarize")
    ledger.finish(ledger.claim(2, types=["index"]))
    ledger.fail(ledger.claim(1, types=["summarize"]), retry=False)
    ledger.claim(1, types=["index"])
    with ledger.database.transaction() as connection:
        stats = {(stat.job_type, stat.state): stat for stat in job_reports.job_stats(connection)}
    assert {key: stat.jobs for key, stat in stats.items()} == {
        ("index", "completed"): 2,
        ("index", "processing"): 1,
        ("summarize", "dead"): 1,
        ("summarize", "pending"): 1,
    }
    for (_, state), stat in stats.items():
        if state in ("completed", "dead"):
            assert stat.oldest_age is None
        else:
            assert stat.oldest_age is not None
            assert timedelta(0) <= stat.oldest_age < timedelta(minutes=5)


def test_stats_of_the_app_are_of_its_tenant(ledger: Ledger) -> None:
    ledger.add(3)  # two of the first tenant, one of the second
    with Database(ledger.urls.app_url, role="memory_app") as app:
        for tenant_id, jobs_of_it in zip(ledger.tenants, (2, 1), strict=True):
            with app.tenant_transaction(tenant_id) as connection:
                assert [stat.jobs for stat in job_reports.job_stats(connection)] == [jobs_of_it]


def test_the_backlog_is_what_is_due_by_day_and_age(ledger: Ledger) -> None:
    with ledger.database.transaction() as connection:
        assert job_reports.backlog(connection) == (0, 0.0, 0, 0.0)
    ledger.add(2)
    ledger.add(1, day=date(2025, 3, 2))
    ledger.add(1, delay_seconds=3600)
    with ledger.database.transaction() as connection:
        connection.execute(
            "UPDATE memory_jobs SET available_at = available_at - interval '90 s' WHERE day = '2025-03-02'"
        )
        connection.execute("UPDATE memory_jobs SET published_at = clock_timestamp() WHERE day = '2025-03-02'")
        backlog = job_reports.backlog(connection)
        by_day = job_reports.backlog_by_day(connection)
    assert (backlog.due, backlog.unpublished) == (3, 2)
    assert 90 <= backlog.oldest_seconds < 390
    assert 0 <= backlog.oldest_unpublished_seconds < 60
    assert [(day.day, day.job_type, day.jobs) for day in by_day] == [(DAY, "index", 2), (date(2025, 3, 2), "index", 1)]


def test_jobs_are_listed_in_pages_and_shown_one_by_one(ledger: Ledger) -> None:
    keys = ledger.add(5)
    ledger.fail(ledger.claim_keys(keys[:2]), retry=False)
    with ledger.database.transaction() as connection:
        dead = job_reports.list_jobs(connection, states=["dead"], error_class="TestError", job_type="index")
        assert {job.job_id for job in dead} == {key.job_id for key in keys[:2]}
        pages, before = [], None
        while page := job_reports.list_jobs(connection, limit=2, before=before):
            pages.append([job.job_id for job in page])
            before = page[-1].job_id
        assert [job_id for page in pages for job_id in page] == [key.job_id for key in reversed(keys)]
        assert job_reports.show_job(connection, keys[0].job_id).state == "dead"
        with pytest.raises(NotFoundError, match="there is no job"):
            job_reports.show_job(connection, uuid4())


# -- the dead and the old --


def test_dead_jobs_are_counted_by_class_and_retried_by_class_one_or_all(ledger: Ledger) -> None:
    keys = ledger.add(6)
    for place, claim in enumerate(sorted(ledger.claim(), key=lambda claim: claim.job_id)):
        failure = jobs.Failure(claim=claim, error_class="ABC"[place // 2], error_text="x", retry=False)
        with ledger.database.transaction() as connection:
            jobs.fail(connection, [failure], POLICY)
    with ledger.database.transaction() as connection:
        assert [(dead.error_class, dead.jobs) for dead in job_reports.dead_by_class(connection)] == [
            ("A", 2),
            ("B", 2),
            ("C", 2),
        ]
        now = job_reports.database_now(connection)
        retried = job_reports.retry_dead(connection, died_before=now, limit=10, error_class="B")
        assert set(retried) == set(keys[2:4])
        assert job_reports.retry_dead(connection, died_before=now, limit=10, job_id=keys[5].job_id) == keys[5:]
        assert set(job_reports.retry_dead(connection, died_before=now, limit=10)) == {keys[0], keys[1], keys[4]}
        assert job_reports.retry_dead(connection, died_before=now, limit=10) == []
    assert {(claim.key, claim.attempts) for claim in ledger.claim()} == {(key, 1) for key in keys}


def test_a_retry_of_all_ends_although_jobs_die_again_meanwhile(ledger: Ledger) -> None:
    ledger.add(5)
    ledger.fail(ledger.claim(), retry=False)
    with ledger.database.transaction() as connection:
        start = job_reports.database_now(connection)
    pages = []
    for _ in range(10):
        with ledger.database.transaction() as connection:
            page = job_reports.retry_dead(connection, died_before=start, limit=2)
        pages.append(len(page))
        if len(page) < 2:
            break
        ledger.fail(ledger.claim(), retry=False)
    assert pages == [2, 2, 1]


def test_a_dead_replay_of_a_buffered_write_is_not_a_workers_to_retry(ledger: Ledger) -> None:
    ledger.add(job_type="replay_write")
    ledger.fail(ledger.claim(), retry=False)
    with ledger.database.transaction() as connection:
        assert job_reports.retry_dead(connection, died_before=job_reports.database_now(connection), limit=9) == []


def test_completed_jobs_go_after_the_retention_and_others_never(ledger: Ledger) -> None:
    keys = ledger.add(6)
    ledger.finish(ledger.claim_keys(keys[:4]))
    ledger.fail(ledger.claim_keys(keys[4:5]), retry=False)
    with ledger.database.transaction() as connection:
        connection.execute(
            "UPDATE memory_jobs SET finished_at = finished_at - interval '3 days'"
            " WHERE job_id <> %s AND finished_at IS NOT NULL",
            [keys[0].job_id],
        )
        assert job_reports.compact_completed(connection, 4) == 0
        assert job_reports.compact_completed(connection, 2, limit=2) == 2
        assert job_reports.compact_completed(connection, 2, limit=2) == 1
        assert job_reports.compact_completed(connection, 2, limit=2) == 0
    assert {key: row.state for key, row in ledger.rows().items()} == {
        keys[0]: "completed",
        keys[4]: "dead",
        keys[5]: "pending",
    }


def test_of_many_open_jobs_a_claim_reads_no_more_than_it_takes(ledger: Ledger) -> None:
    """With statistics that know nothing of the backlog, the planner would read and sort all of it."""
    ledger.add(3000)
    with ledger.connection() as connection:
        jobs.claim_next(connection, "worker-1", JOB_TYPES, 5, LEASE)
        plan = connection.execute(
            "EXPLAIN SELECT job_id FROM memory_jobs WHERE state IN ('pending', 'failed')"
            " AND available_at <= clock_timestamp() ORDER BY priority, available_at LIMIT 5"
        ).fetchall()
    assert any("Index Scan using jobs_open" in line for (line,) in plan), plan
    assert not any("Sort" in line for (line,) in plan), plan


def test_jobs_of_a_tenant_that_does_not_exist_are_refused(ledger: Ledger) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation), ledger.database.transaction() as connection:
        jobs.enqueue(connection, [ledger.new_job(tenant_id=uuid4())])
    with ledger.database.transaction() as connection:
        assert ensure_tenant(connection, "acme") == ledger.tenants[0]


def _until_somebody_waits_for_a_lock(ledger: Ledger) -> None:
    def waiting() -> bool:
        with psycopg.connect(ledger.urls.admin_url) as connection:
            return (
                connection.execute(
                    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                ).fetchone()
                is not None
            )

    until(waiting)

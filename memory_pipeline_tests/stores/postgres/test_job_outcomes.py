"""What becomes of claims: each job is done once, whatever happens to workers and clocks.

Where a test stands for a row of the fault matrix, its number is given. Tests named `..._is_caught` run the same check
on a ledger without one of its safety mechanisms, and see it fail.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest

from memory_pipeline.model.jobs import LEASE_EXPIRED
from memory_pipeline.stores.postgres import job_reports, jobs
from memory_pipeline_tests.stores.postgres.ledger import LEASE, POLICY, Ledger, break_sql

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


def set_clock_back(ledger: Ledger) -> None:
    """What is in the ledger when the clock is set back by an hour, seen from then on."""
    with ledger.database.transaction() as connection:
        connection.execute(
            "UPDATE memory_jobs SET available_at = available_at + interval '1 hour',"
            " created_at = created_at + interval '1 hour', finished_at = finished_at + interval '1 hour'"
        )


def bring_forward(ledger: Ledger) -> int:
    with ledger.database.transaction() as connection:
        return jobs.bring_forward(connection, longest_wait_seconds=3600 * 3)


def test_row_27_what_was_pending_when_the_databases_clock_was_set_back_is_due_at_the_next_look(ledger: Ledger) -> None:
    new, late = ledger.add()[0], ledger.add(delay_seconds=3590)[0]
    assert bring_forward(ledger) == 0, "what is put aside is left alone while the clock goes on"
    set_clock_back(ledger)
    assert ledger.claim() == []
    with ledger.database.transaction() as connection:
        waiting = job_reports.backlog(connection)
    assert waiting.due == 0
    assert 3500 < waiting.oldest_seconds <= 3600, "the alarm sees it"
    assert bring_forward(ledger) == 2
    assert bring_forward(ledger) == 0
    assert {claim.key for claim in ledger.claim()} == {new, late}
    with ledger.database.transaction() as connection:
        assert job_reports.backlog(connection).oldest_seconds < 60


def test_row_27_what_was_put_aside_long_ago_is_due_too_where_the_ledger_shows_the_step(ledger: Ledger) -> None:
    ended, failed = ledger.add(2)
    ledger.finish(ledger.claim_keys([ended]))
    ledger.fail(ledger.claim_keys([failed]))
    with ledger.database.transaction() as connection:
        connection.execute("UPDATE memory_jobs SET created_at = created_at - interval '1 day'")
    assert bring_forward(ledger) == 0
    set_clock_back(ledger)
    assert bring_forward(ledger) == 1
    assert [claim.key for claim in ledger.claim()] == [failed]


def test_row_27_what_is_made_due_page_by_page_shows_the_step_to_the_last_page(ledger: Ledger) -> None:
    """First what was put aside long ago, which does not show it."""
    ledger.fail(ledger.claim_keys(ledger.add(3)))
    with ledger.database.transaction() as connection:
        connection.execute("UPDATE memory_jobs SET created_at = created_at - interval '1 day'")
    ledger.add(3)
    set_clock_back(ledger)

    def page() -> int:
        with ledger.database.transaction() as connection:
            return jobs.bring_forward(connection, longest_wait_seconds=3600 * 3, limit=2)

    assert [page() for _ in range(4)] == [2, 2, 2, 0]
    assert len(ledger.claim()) == 6

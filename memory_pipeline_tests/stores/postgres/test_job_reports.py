"""Looking into the job ledger and tidying it: counts, lists, the retry of dead jobs, the end of old ones."""

from __future__ import annotations

from datetime import date, timedelta
from uuid import uuid4

import psycopg
import pytest

from memory_pipeline.model.errors import NotFoundError
from memory_pipeline.model.jobs import JOB_TYPES
from memory_pipeline.stores.postgres import job_reports, jobs
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.tenants import ensure_tenant
from memory_pipeline_tests.stores.postgres.ledger import DAY, LEASE, POLICY, Ledger, until

# -- looking into it --


def test_stats_count_by_type_and_state_and_know_since_when_something_waits(ledger: Ledger) -> None:
    ledger.add(3)
    ledger.add(2, job_type="detect_relations")
    ledger.finish(ledger.claim(2, types=["index"]))
    ledger.fail(ledger.claim(1, types=["detect_relations"]), retry=False)
    ledger.claim(1, types=["index"])
    with ledger.database.transaction() as connection:
        stats = {(stat.job_type, stat.state): stat for stat in job_reports.job_stats(connection)}
    assert {key: stat.jobs for key, stat in stats.items()} == {
        ("index", "completed"): 2,
        ("index", "processing"): 1,
        ("detect_relations", "dead"): 1,
        ("detect_relations", "pending"): 1,
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
            "UPDATE memory_jobs SET available_at = available_at - interval '30 s' WHERE day = '2025-03-02'"
        )
        # What is put aside again and again is as old as it is.
        connection.execute(
            "UPDATE memory_jobs SET created_at = created_at - interval '90 s' WHERE available_at > clock_timestamp()"
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


def test_a_dead_replay_of_a_buffered_write_is_retried_like_any_other(ledger: Ledger) -> None:
    keys = ledger.add(job_type="replay_write")
    ledger.fail(ledger.claim(), retry=False)
    with ledger.database.transaction() as connection:
        assert job_reports.retry_dead(connection, died_before=job_reports.database_now(connection), limit=9) == keys


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

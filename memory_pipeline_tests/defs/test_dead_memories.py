"""Memories that fail where no job is (imports write none) have a dead job like any other, and come back by it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest

from memory_pipeline.model.window import DayWindow
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.enrichment import Failure, mark_failed
from memory_pipeline.stores.postgres.job_reports import database_now, job_stats, retry_dead
from memory_pipeline.stores.postgres.job_settling import Settled
from memory_pipeline_tests.defs.conftest import Deployment
from memory_pipeline_tests.defs.queued import DAY, execute, job_states, post
from memory_pipeline_tests.defs.test_settling import embed_week, enrich_week, run_week, settle
from memory_pipeline_tests.local.inspect import until

GREEN = "My favourite colour is green."


@pytest.fixture
def pipeline(deployment: Deployment) -> Iterator[Pipeline]:
    with Pipeline(deployment.settings) as opened:
        yield opened


def add_without_jobs(deployment: Deployment, texts: list[str], tenant: str = "acme") -> None:
    """As an import does."""
    post(deployment.settings, texts, tenant=tenant)
    execute(deployment.settings, "DELETE FROM memory_jobs WHERE state = 'pending'")


def fail_green(deployment: Deployment, pipeline: Pipeline) -> None:
    """Have a message and what was found in it fail in a run over days."""
    deployment.embeddings.refused_text = "green"
    add_without_jobs(deployment, [GREEN, "Hello."])
    run_week(pipeline)
    assert failed(deployment) == {"episode": 1, "fact": 1}


def failed(deployment: Deployment) -> dict[str, int]:
    return dict(
        execute(deployment.settings, "SELECT kind, count(*) FROM memories WHERE status = 'failed' GROUP BY kind")
    )


def failure_of(memory: tuple[UUID, UUID]) -> Failure:
    return Failure.of(*memory, ValueError("no luck"))


def retry(pipeline: Pipeline) -> int:
    with pipeline.database.transaction() as connection:
        return len(retry_dead(connection, died_before=database_now(connection), limit=100))


def test_what_fails_without_a_job_gets_one_dead_job_of_its_message_however_often_it_runs(
    deployment: Deployment, pipeline: Pipeline
) -> None:
    fail_green(deployment, pipeline)
    run_week(pipeline)
    assert settle(pipeline) == Settled()
    with pipeline.database.transaction() as connection:
        assert [(stat.job_type, stat.state, stat.jobs) for stat in job_stats(connection)] == [
            ("enrich_and_embed", "dead", 1)
        ]
    assert execute(
        deployment.settings,
        "SELECT m.kind, m.content, j.user_id = m.user_id, j.day = m.day, j.error_class, j.attempts FROM memory_jobs j"
        " JOIN memories m ON m.tenant_id = j.tenant_id AND m.memory_id = j.subject_id",
    ) == [("episode", f"ana: {GREEN}", True, True, "ProviderError", 0)]


def test_a_message_and_its_fact_that_fail_in_two_runs_at_once_and_again_have_one_dead_job(
    deployment: Deployment, pipeline: Pipeline
) -> None:
    add_without_jobs(deployment, [GREEN])
    enrich_week(pipeline)
    message, fact = [
        (tenant_id, memory_id)
        for tenant_id, memory_id in execute(
            deployment.settings, "SELECT tenant_id, memory_id FROM memories ORDER BY kind"
        )
    ]

    def mark(memory: tuple[UUID, UUID]) -> None:
        with pipeline.database.transaction() as connection:
            mark_failed(connection, [failure_of(memory), failure_of(memory)])

    def waits_for_the_other() -> bool:
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return marking.done() or execute(deployment.settings, waiting) == [(1,)]

    with ThreadPoolExecutor(1) as threads, pipeline.database.transaction() as connection:
        mark_failed(connection, [failure_of(fact)])
        marking = threads.submit(mark, message)
        until(waits_for_the_other, "the other run has come so far")
    marking.result()
    assert failed(deployment) == {"episode": 1, "fact": 1}
    assert job_states(deployment.settings) == {"dead": 1}
    mark(fact)
    mark(message)
    assert job_states(deployment.settings) == {"dead": 1}


def test_a_memory_that_a_job_speaks_for_gets_no_other(deployment: Deployment, pipeline: Pipeline) -> None:
    deployment.embeddings.refused_text = "green"
    post(deployment.settings, [GREEN])
    run_week(pipeline)
    assert job_states(deployment.settings) == {"pending": 1}
    assert settle(pipeline) == Settled(dead=1)
    assert retry(pipeline) == 1
    run_week(pipeline)
    assert job_states(deployment.settings) == {"pending": 1}
    assert settle(pipeline) == Settled(dead=1)
    assert job_states(deployment.settings) == {"dead": 1}


def test_each_tenant_has_dead_jobs_of_its_own(deployment: Deployment, pipeline: Pipeline) -> None:
    deployment.embeddings.refused_text = "green"
    for tenant in ("acme", "globex"):
        add_without_jobs(deployment, [GREEN], tenant)
    run_week(pipeline)
    assert execute(
        deployment.settings,
        "SELECT t.slug, m.tenant_id = j.tenant_id FROM memory_jobs j JOIN tenants t USING (tenant_id)"
        " JOIN memories m ON m.memory_id = j.subject_id ORDER BY t.slug",
    ) == [("acme", True), ("globex", True)]


def test_a_retry_brings_back_the_memory_with_its_job_and_a_run_that_succeeds_completes_it(
    deployment: Deployment, pipeline: Pipeline
) -> None:
    fail_green(deployment, pipeline)
    deployment.embeddings.refused_text = None
    assert retry(pipeline) == 1
    assert failed(deployment) == {}
    assert job_states(deployment.settings) == {"pending": 1}
    run_week(pipeline)
    assert settle(pipeline) == Settled(completed=1)
    assert job_states(deployment.settings) == {"completed": 1}
    assert retry(pipeline) == 0


def test_the_dead_job_of_a_memory_that_came_back_by_itself_is_completed_once_it_is_indexed(
    deployment: Deployment, pipeline: Pipeline
) -> None:
    fail_green(deployment, pipeline)
    deployment.embeddings.refused_text = None
    # As a summary that says something else this week.
    execute(deployment.settings, "UPDATE memories SET status = 'active', version = version + 1 WHERE kind = 'episode'")
    run_week(pipeline)
    assert settle(pipeline) == Settled(), "the fact found in it is still among the dead letters"
    execute(deployment.settings, "UPDATE memories SET status = 'active', version = version + 1 WHERE kind = 'fact'")
    embed_week(pipeline)
    assert settle(pipeline) == Settled(), "it is not indexed yet"
    run_week(pipeline)
    assert settle(pipeline, DayWindow(DAY + timedelta(days=7), DAY + timedelta(days=8))) == Settled()
    # Another day of its week: a summary belongs to one, and changes with each.
    assert settle(pipeline, DayWindow(DAY + timedelta(days=3), DAY + timedelta(days=4))) == Settled(completed=1)
    assert job_states(deployment.settings) == {"completed": 1}


def test_a_dead_job_that_a_worker_has_tried_stays_until_a_person_has_looked(
    deployment: Deployment, pipeline: Pipeline
) -> None:
    post(deployment.settings, ["Hello."])
    run_week(pipeline)
    execute(
        deployment.settings,
        "UPDATE memory_jobs SET state = 'dead', attempts = 4, finished_at = now(), error_class = 'LeaseExpired',"
        " error_text = 'it ends its worker'",
    )
    assert settle(pipeline) == Settled()
    assert job_states(deployment.settings) == {"dead": 1}


def test_what_a_job_failed_of_is_forgotten_when_a_run_ends_it_after_its_memory_is_gone(
    deployment: Deployment, pipeline: Pipeline
) -> None:
    post(deployment.settings, [GREEN, "Hello."])
    run_week(pipeline)
    execute(deployment.settings, "UPDATE memory_jobs SET state = 'failed', error_class = 'E', error_text = 'of green'")
    execute(deployment.settings, "DELETE FROM index_entries WHERE true")
    execute(
        deployment.settings,
        "DELETE FROM memories WHERE source_message_ids[1] IN"
        " (SELECT source_message_ids[1] FROM memories WHERE content LIKE '%%green%%')",
    )
    run_week(pipeline)
    assert settle(pipeline) == Settled(completed=2)
    assert execute(deployment.settings, "SELECT error_text FROM memory_jobs ORDER BY error_text") == [
        ("of green",),
        (None,),
    ]

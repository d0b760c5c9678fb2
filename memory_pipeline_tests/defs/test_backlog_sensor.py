"""`queue_backlog_sensor` on real stores: when it asks for runs, for which, and what they leave in the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from memory_pipeline.definitions import defs
from memory_pipeline.defs import sensing
from memory_pipeline.defs.queue import backlog
from memory_pipeline.defs.queue.backlog import JOB_TYPES, NAME, UNSEEN_SECONDS
from memory_pipeline.defs.sensing import ASKED_BY_TAG
from memory_pipeline.settings import Settings
from memory_pipeline.stages.audit import audit
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.job_reports import note_worker
from memory_pipeline.stores.postgres.jobs import claim_next, heartbeat
from memory_pipeline_tests.defs.conftest import Deployment
from memory_pipeline_tests.defs.queued import (
    DAY,
    age_jobs,
    age_memories,
    execute,
    execute_request,
    job_states,
    post,
    tick,
)
from memory_pipeline_tests.defs.sample import add_sample

ENOUGH, TOO_LONG = 4_000.0, 40_000.0
"""Seconds after which work is due for a run, and a worker does not get on."""


@pytest.fixture(scope="module")
def shared_instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def instance(shared_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    """Without the runs of the test before; the sensor's ages are so long that no test reaches one by itself."""
    monkeypatch.setenv("MEMORY_BACKLOG_SENSOR_SECONDS", str(ENOUGH / 2))
    monkeypatch.setenv("MEMORY_BACKLOG_SENSOR_WORKER_SECONDS", str(TOO_LONG / 2))
    monkeypatch.setenv("MEMORY_RETRY_ATTEMPTS", "1")
    for run in shared_instance.get_runs():
        shared_instance.delete_run(run.run_id)
    return shared_instance


def asked(instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    return tick(instance, NAME)[0]


def skipped(instance: dg.DagsterInstance) -> str:
    requests, reason, _events, _cursor = tick(instance, NAME)
    assert requests == []
    return reason


def see_worker(settings: Settings) -> None:
    """A worker is there, or says so."""
    with Database(str(settings.postgres_pipeline_url)) as database, database.transaction() as connection:
        note_worker(connection, "host:1:a")


def days_of(request: dg.RunRequest) -> tuple[str, str]:
    return request.tags[ASSET_PARTITION_RANGE_START_TAG], request.tags[ASSET_PARTITION_RANGE_END_TAG]


def test_a_burst_without_a_worker_is_drained_by_one_run_after_which_nothing_is_asked_for(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    settings = deployment.settings
    post(settings, [f"I live in town number {n}." for n in range(120)])
    post(settings, [f"I love song number {n}." for n in range(80)], day=DAY + timedelta(days=2), tenant="globex")
    assert skipped(instance).startswith("200 due, the oldest for ")
    age_jobs(settings, ENOUGH)
    (request,) = asked(instance)
    assert days_of(request) == ("2025-03-03", "2025-03-05")
    assert request.tags[ASKED_BY_TAG] == NAME
    assert [again.run_key for again in asked(instance)] == [request.run_key]

    result = execute_request(instance, request, "backlog_job")
    assert result.success
    (index,) = result.asset_materializations_for_node("chroma_index")[:1]
    assert (index.metadata["jobs_completed"].value, index.metadata["jobs_left"].value) == (200, 0)
    assert job_states(settings) == {"completed": 200}
    assert execute(settings, "SELECT count(*) FROM memories WHERE status = 'pending_enrichment'") == [(0,)]
    assert execute(settings, "SELECT DISTINCT claimed_by FROM memory_jobs") == [(f"dagster {result.run_id}",)]
    assert skipped(instance) == "Nothing is due."
    with Pipeline(settings) as pipeline:
        report = audit(pipeline.database, pipeline.chroma, pipeline.embedder.model, seed=1)
    assert report.findings == 0
    assert report.vectors >= 200


def test_much_is_enough_however_young(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(deployment.settings, ["one", "two", "three"])
    monkeypatch.setenv("MEMORY_BACKLOG_SENSOR_JOBS", "3")
    (request,) = asked(instance)
    assert request.tags["memory_pipeline/due"] == "3"


def test_jobs_are_left_to_a_worker_that_gets_on_and_taken_from_one_that_does_not_or_is_gone(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    settings = deployment.settings
    post(settings, ["one", "two"])
    age_jobs(settings, ENOUGH)
    see_worker(settings)
    assert skipped(instance).startswith("2 due jobs, the oldest for 400")
    assert skipped(instance).endswith("are left to 1 workers")
    age_jobs(settings, TOO_LONG)
    assert len(asked(instance)) == 1
    age_jobs(settings, -TOO_LONG)
    assert asked(instance) == []
    execute(settings, "UPDATE worker_heartbeats SET seen_at = seen_at - interval '1 hour'")
    assert len(asked(instance)) == 1


def test_memories_without_jobs_are_nobody_elses_even_with_a_worker(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    settings = deployment.settings
    add_sample(settings)
    age_memories(settings, ENOUGH)
    post(settings, ["one"], day=DAY + timedelta(days=100))
    see_worker(settings)
    (request,) = asked(instance)
    assert days_of(request) == ("2025-03-03", "2025-03-07")
    assert request.tags["memory_pipeline/due"] == "12"


def test_with_postgres_away_the_tick_says_so(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_POSTGRES_PIPELINE_URL", "postgresql://memory_pipeline@127.0.0.1:1/memory")
    assert skipped(instance).startswith("Nothing could be looked at: ")


def test_a_failed_run_is_asked_for_again_after_a_pause_and_drains_once_its_provider_is_back(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = deployment.settings
    add_sample(settings)  # no jobs: once they are enriched, nothing but the failed run says that they are not done
    age_memories(settings, ENOUGH)
    (request,) = asked(instance)
    deployment.embeddings.refuses = True
    assert not execute_request(instance, request, "backlog_job").success
    assert "waits" in skipped(instance)
    _let_an_hour_pass(monkeypatch)
    (again,) = asked(instance)
    assert again.run_key != request.run_key
    assert days_of(again) == days_of(request)
    deployment.embeddings.refuses = False
    assert execute_request(instance, again, "backlog_job").success
    assert skipped(instance) == "Nothing is due."
    with Pipeline(settings) as pipeline:
        assert audit(pipeline.database, pipeline.chroma, pipeline.embedder.model, seed=1).findings == 0


def test_no_second_run_is_asked_for_over_days_that_one_is_at(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    settings = deployment.settings
    post(settings, ["one"])
    age_jobs(settings, ENOUGH)
    (request,) = asked(instance)
    run = instance.create_run_for_job(
        defs.get_repository_def().get_job("backlog_job"), tags=dict(request.tags), status=dg.DagsterRunStatus.STARTED
    )
    post(settings, ["two"])
    age_jobs(settings, ENOUGH)
    assert f"run {run.run_id} over 2025-03-03..2025-03-03 is under way" in skipped(instance)
    post(settings, ["three"], day=DAY + timedelta(days=300))
    age_jobs(settings, ENOUGH)
    (other,) = asked(instance)
    assert days_of(other) == ("2025-12-28", "2025-12-28")


def test_jobs_that_a_dead_worker_held_are_asked_for(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = deployment.settings
    post(settings, ["one", "two"])
    with Database(str(settings.postgres_pipeline_url)) as database, database.transaction() as connection:
        assert len(claim_next(connection, "gone:1", JOB_TYPES, 10, 20.0)) == 2
    monkeypatch.setenv("MEMORY_BACKLOG_SENSOR_JOBS", "2")
    assert skipped(instance) == "Nothing is due."
    execute(settings, "UPDATE memory_jobs SET lease_until = lease_until - interval '1 hour'")
    _none, reason, _events, cursor = tick(instance, NAME)
    assert reason == "Nothing is due."
    requests, _reason, _events, cursor = tick(instance, NAME, a_while_ago(cursor))
    assert len(requests) == 1
    assert job_states(settings) == {"failed": 2}


def test_without_a_worker_old_completed_jobs_go_and_jobs_of_a_clock_set_back_come_forward(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = deployment.settings
    monkeypatch.setattr(backlog, "_COMPACTED_PER_TICK", 2)
    monkeypatch.setenv("MEMORY_BACKLOG_SENSOR_JOBS", "1")
    post(settings, [str(number) for number in range(6)])
    execute(settings, "UPDATE memories SET status = 'active'")
    for days, jobs in ((4, 4), (2, 1)):
        execute(
            settings,
            "UPDATE memory_jobs SET state = 'completed', finished_at = now() - make_interval(days => %s)"
            " WHERE job_id IN (SELECT job_id FROM memory_jobs WHERE state = 'pending' LIMIT %s)",
            days,
            jobs,
        )
    age_jobs(settings, -7200)
    see_worker(settings)
    skipped(instance)
    assert job_states(settings) == {"completed": 5, "pending": 1}
    execute(settings, "UPDATE worker_heartbeats SET seen_at = seen_at - interval '1 hour'")
    (request,) = asked(instance)
    assert request.tags["memory_pipeline/due"] == "1"
    assert job_states(settings) == {"completed": 3, "pending": 1}
    monkeypatch.setenv("MEMORY_ENRICHMENT_ENABLED", "false")
    skipped(instance)
    assert job_states(settings) == {"completed": 1, "pending": 1}
    skipped(instance)
    assert job_states(settings) == {"completed": 1, "pending": 1}


def a_while_ago(cursor: str | None) -> str:
    """The cursor of a tick as if no worker had been seen for UNSEEN_SECONDS more, at every look."""
    assert cursor
    since, looked_at = cursor.split(" ")
    return f"{(datetime.fromisoformat(since) - timedelta(seconds=UNSEEN_SECONDS)).isoformat()} {looked_at}"


def hold_jobs_of_a_dead_worker(settings: Settings) -> None:
    post(settings, ["one", "two"])
    with Database(str(settings.postgres_pipeline_url)) as database, database.transaction() as connection:
        assert len(claim_next(connection, "gone:1", JOB_TYPES, 10, 20.0)) == 2
    execute(settings, "UPDATE memory_jobs SET lease_until = lease_until - interval '1 hour'")


def test_a_look_of_long_ago_takes_no_jobs_from_a_worker_that_came_since(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    """No worker was seen, nobody looked for an hour, one began and lives, and Postgres was away just now."""
    settings = deployment.settings
    before = a_while_ago(tick(instance, NAME)[3])
    hold_jobs_of_a_dead_worker(settings)  # which lives
    since, looked_at = (datetime.fromisoformat(moment) - timedelta(hours=1) for moment in before.split(" "))
    cursor: str | None = f"{since.isoformat()} {looked_at.isoformat()}"
    for stale in (cursor, since.isoformat()):  # the second as an earlier version wrote it
        cursor = tick(instance, NAME, stale)[3]
        assert job_states(settings) == {"processing": 2}
    tick(instance, NAME, a_while_ago(cursor))
    assert job_states(settings) == {"failed": 2}


def test_jobs_of_a_dead_worker_are_taken_back_while_as_many_runs_as_may_be_are_under_way(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    settings = deployment.settings
    post(settings, ["three"])
    age_jobs(settings, ENOUGH)
    (request,) = asked(instance)
    for _ in range(2):
        job = defs.get_repository_def().get_job("backlog_job")
        instance.create_run_for_job(job, tags=dict(request.tags), status=dg.DagsterRunStatus.STARTED)
    execute(settings, "DELETE FROM memory_jobs")
    hold_jobs_of_a_dead_worker(settings)
    reasons = []
    _none, reason, _events, cursor = tick(instance, NAME)
    reasons.append(reason)
    assert job_states(settings) == {"processing": 2}
    reasons.append(tick(instance, NAME, a_while_ago(cursor))[1])
    assert job_states(settings) == {"failed": 2}
    assert set(reasons) == {"2 runs that this sensor asked for are under way."}
    see_worker(settings)
    assert (tick(instance, NAME, a_while_ago(cursor))[3] or "") == "", "a worker is seen while runs are under way"


def test_upkeep_that_takes_too_long_holds_up_neither_the_rest_of_it_nor_runs(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = deployment.settings
    cursor = a_while_ago(tick(instance, NAME)[3])
    hold_jobs_of_a_dead_worker(settings)
    post(settings, ["done"])
    execute(
        settings,
        "UPDATE memory_jobs SET state = 'completed', finished_at = now() - interval '9 days' WHERE state = 'pending'",
    )
    monkeypatch.setenv("MEMORY_BACKLOG_SENSOR_JOBS", "2")
    monkeypatch.setattr(sensing, "_STATEMENT_SECONDS", 1.0)
    monkeypatch.setattr(backlog, "bring_forward", lambda connection: connection.execute("SELECT pg_sleep(30)"))
    requests = tick(instance, NAME, cursor)[0]
    assert len(requests) == 1
    assert job_states(settings) == {"failed": 2}


def test_jobs_of_a_worker_that_lives_stay_its_own_after_an_outage_of_postgres(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could show itself or renew a lease for an hour; the sensor looks first when Postgres is back."""
    settings = deployment.settings
    post(settings, ["one", "two"])
    with Database(str(settings.postgres_pipeline_url)) as database, database.transaction() as connection:
        claims = claim_next(connection, "host:1", JOB_TYPES, 10, 20.0)
    see_worker(settings)
    monkeypatch.setenv("MEMORY_BACKLOG_SENSOR_JOBS", "2")
    before = tick(instance, NAME)[3]
    execute(settings, "UPDATE memory_jobs SET lease_until = lease_until - interval '1 hour'")
    execute(settings, "UPDATE worker_heartbeats SET seen_at = seen_at - interval '1 hour'")
    requests, reason, _events, cursor = tick(instance, NAME, before)
    assert (requests, reason) == ([], "Nothing is due.")
    see_worker(settings)
    requests, reason, _events, cursor = tick(instance, NAME, a_while_ago(cursor))
    assert (requests, reason, cursor or "") == ([], "Nothing is due.", "")
    assert job_states(settings) == {"processing": 2}
    with Database(str(settings.postgres_pipeline_url)) as database, database.transaction() as connection:
        assert len(heartbeat(connection, claims, 20.0)) == 2


def test_work_of_tenants_that_permit_no_enricher_is_not_asked_for(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    settings = deployment.settings
    tenant_id = post(settings, ["one"])
    age_jobs(settings, ENOUGH)
    execute(settings, "DELETE FROM plugin_installs WHERE tenant_id = %s AND plugin = 'enricher:local'", tenant_id)
    assert skipped(instance) == "Nothing is due."


def test_days_that_are_no_partition_are_told_and_left(deployment: Deployment, instance: dg.DagsterInstance) -> None:
    settings = deployment.settings
    post(settings, ["one"])
    age_jobs(settings, ENOUGH)
    execute(settings, "UPDATE memory_jobs SET day = '2021-12-31'")
    assert skipped(instance) == "1 due of days before 2022-01-01 or after today"


def test_a_run_that_a_rate_limit_held_up_is_asked_for_again(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = deployment.settings
    add_sample(settings)
    age_memories(settings, ENOUGH)
    monkeypatch.setenv("MEMORY_EMBEDDING_RATE_LIMIT", "3")
    (request,) = asked(instance)
    assert execute_request(instance, request, "backlog_job").success
    assert "waits" in skipped(instance)
    _let_an_hour_pass(monkeypatch)
    (again,) = asked(instance)
    assert days_of(again) == days_of(request)


def test_while_enrichment_is_switched_off_nothing_is_asked_for(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = deployment.settings
    post(settings, ["one"])
    age_jobs(settings, ENOUGH)
    monkeypatch.setenv("MEMORY_ENRICHMENT_ENABLED", "false")
    assert "MEMORY_ENRICHMENT_ENABLED" in skipped(instance)
    monkeypatch.delenv("MEMORY_ENRICHMENT_ENABLED")
    assert len(asked(instance)) == 1
    execute(settings, "UPDATE memory_jobs SET job_type = 'detect_relations'")
    assert len(asked(instance)) == 1
    monkeypatch.setenv("MEMORY_RELATIONS_ENABLED", "false")
    assert skipped(instance) == "Nothing is due."


def test_while_embedding_is_switched_off_what_needs_none_is_done_and_the_rest_once_it_is_on(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = deployment.settings
    add_sample(settings)  # no jobs: when they are enriched, nothing but the runs says that they have no vectors
    age_memories(settings, ENOUGH)
    post(settings, ["I live in Lisbon."])
    age_jobs(settings, ENOUGH)
    monkeypatch.setenv("MEMORY_EMBEDDING_ENABLED", "false")
    (request,) = asked(instance)
    result = execute_request(instance, request, request.job_name or "")
    assert result.success
    assert {event.step_key for event in result.get_step_success_events()} == {
        "facts",
        "memory_relationships",
        "chroma_index",
    }
    assert execute(settings, "SELECT count(*) FROM memories WHERE status = 'pending_enrichment'") == [(0,)]
    assert job_states(settings) == {"pending": 1}
    assert skipped(instance) == "Nothing is due."

    post(settings, ["I work as a nurse."], day=DAY + timedelta(days=1))
    age_jobs(settings, ENOUGH)
    (request,) = asked(instance)  # at once: the run before was not in vain
    assert days_of(request) == ("2025-03-04", "2025-03-04")
    assert execute_request(instance, request, request.job_name or "").success
    execute(settings, "UPDATE memories SET status = 'deleted' WHERE content ~ 'nurse'")
    _let_an_hour_pass(monkeypatch)
    (request,) = asked(instance)
    assert request.tags["memory_pipeline/due"] == "1"
    assert execute_request(instance, request, request.job_name or "").success
    assert job_states(settings) == {"pending": 1, "completed": 1}
    assert skipped(instance) == "Nothing is due."

    monkeypatch.delenv("MEMORY_EMBEDDING_ENABLED")
    (request,) = asked(instance)
    assert days_of(request) == ("2025-03-03", "2025-03-07")
    assert request.job_name == "backlog_job"
    assert execute_request(instance, request, request.job_name or "").success
    assert job_states(settings) == {"completed": 2}
    assert skipped(instance) == "Nothing is due."
    with Pipeline(settings) as pipeline:
        assert audit(pipeline.database, pipeline.chroma, pipeline.embedder.model, seed=1).findings == 0


def _let_an_hour_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour passes for the sensor alone, which compares the ends of runs with its clock."""
    later = datetime.now(UTC) + timedelta(hours=1)
    monkeypatch.setattr(backlog, "present", lambda: later)

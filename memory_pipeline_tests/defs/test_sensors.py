"""The smaller sensors: dead letters, the write buffer, workers' reports, new tenants, failed runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from structlog.testing import capture_logs

from memory_pipeline.definitions import defs
from memory_pipeline.defs.sensing import ASKED_BY_TAG
from memory_pipeline.settings import Settings
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.jobs import claim_next, finish
from memory_pipeline.stores.postgres.tenants import ensure_tenant
from memory_pipeline.stores.redis.buffer import WriteBuffer
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.defs.conftest import Deployment
from memory_pipeline_tests.defs.queued import (
    DAY,
    REPOSITORY,
    execute,
    execute_request,
    job_states,
    post,
    tick,
)
from memory_pipeline_tests.serving.buffered_writes import link_person, requests

REPORTED = ("facts", "memory_relationships", "memory_embeddings", "chroma_index")
"""The assets that workers bring up to date."""
NOWHERE = "postgresql://memory_pipeline@127.0.0.1:1/memory"


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def report(instance: dg.DagsterInstance, events: list[Any]) -> None:
    """What the daemon does with the events of a tick."""
    for event in events:
        instance.report_runless_asset_event(event)


def test_every_sensor_runs_by_itself_and_says_what_it_does() -> None:
    sensors = {sensor.name: sensor for sensor in REPOSITORY.sensor_defs}
    assert set(sensors) == {
        "queue_backlog_sensor",
        "dead_letter_sensor",
        "write_buffer_sensor",
        "worker_reports_sensor",
        "new_tenants_sensor",
        "run_failure_sensor",
        "after_facts_sensor",
    }
    for sensor in sensors.values():
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
        assert sensor.description
        assert sensor.tags["owner"] == "memory-platform"


@pytest.mark.parametrize(
    "name", ["queue_backlog_sensor", "dead_letter_sensor", "worker_reports_sensor", "new_tenants_sensor"]
)
def test_a_tick_without_postgres_says_so_and_keeps_its_cursor(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("MEMORY_POSTGRES_PIPELINE_URL", NOWHERE)
    requests, reason, events, cursor = tick(instance, name, "as before")
    assert (requests, events, cursor) == ([], [], "as before")
    assert reason.startswith("Nothing could be looked at: ")


# -- dead letters --


def test_dead_letters_show_in_the_checks_when_they_change_and_no_more_often(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    settings = deployment.settings
    name = "dead_letter_sensor"
    post(settings, ["one", "two"])
    _none, reason, events, cursor = tick(instance, name)
    assert (events, reason) == ([], "There are no dead letters.")

    execute(
        settings,
        "UPDATE memory_jobs SET state = 'dead', finished_at = now(), error_class = 'TestError', error_text = 'no luck'"
        " WHERE job_id = (SELECT min(job_id::text)::uuid FROM memory_jobs)",
    )
    requests, _reason, events, cursor = tick(instance, name, cursor)
    assert requests == []
    assert {(one.asset_key.to_user_string(), one.check_name): one.passed for one in events} == {
        ("facts", "no_dead_letters"): True,
        ("memory_embeddings", "no_dead_letters"): True,
        ("chroma_index", "no_dead_jobs"): False,
    }
    assert tick(instance, name, cursor)[2] == []
    report(instance, events)
    key = dg.AssetCheckKey(dg.AssetKey("chroma_index"), "no_dead_jobs")
    stored = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key].evaluation
    assert stored is not None
    assert (stored.description, stored.severity) == ("1 jobs are dead; the newest: no luck", dg.AssetCheckSeverity.WARN)
    assert stored.metadata["dead_jobs"].value == 1

    execute(
        settings,
        "UPDATE memories SET status = 'failed', failure_class = 'TestError', failure_text = 'unreadable'"
        " WHERE memory_id = (SELECT min(memory_id::text)::uuid FROM memories)",
    )
    assert {one.passed for one in tick(instance, name, cursor)[2]} == {False}
    execute(settings, "UPDATE memories SET status = 'active', failure_text = NULL WHERE status = 'failed'")
    execute(settings, "UPDATE memory_jobs SET state = 'pending', finished_at = NULL WHERE state = 'dead'")
    events = tick(instance, name, cursor)[2]
    assert [one.passed for one in events] == [True] * 3


# -- the write buffer --


def test_buffered_writes_that_nobody_replays_are_replayed_by_one_run(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = deployment.settings
    name = "write_buffer_sensor"
    assert tick(instance, name)[:2] == ([], "The write buffer is empty.")
    with Database(str(settings.postgres_pipeline_url)) as database:
        person = link_person(database)
    with RedisManager(str(settings.redis_url)) as redis:
        buffer = WriteBuffer(redis, 1000, 1_000_000)
        for entry in requests(person, 3):
            buffer.add(entry)
        monkeypatch.setenv("MEMORY_BUFFER_SENSOR_SECONDS", "1000")
        asked, reason, _events, _cursor = tick(instance, name)
        assert asked == []
        assert "an API process has until 1000 s" in reason
        monkeypatch.setenv("MEMORY_BUFFER_SENSOR_SECONDS", "0")
        (request,) = tick(instance, name)[0]
        assert [again.run_key for again in tick(instance, name)[0]] == [request.run_key]
        monkeypatch.setenv("MEMORY_POSTGRES_PIPELINE_URL", NOWHERE)
        assert tick(instance, name)[1].startswith("Nothing could be looked at: ")
        monkeypatch.setenv("MEMORY_POSTGRES_PIPELINE_URL", str(settings.postgres_pipeline_url))

        run = instance.create_run_for_job(
            REPOSITORY.get_job("replay_job"), tags=dict(request.tags), status=dg.DagsterRunStatus.STARTED
        )
        assert f"run {run.run_id} replays them" in tick(instance, name)[1]
        instance.report_run_failed(run)
        (again,) = tick(instance, name)[0]
        assert again.run_key != request.run_key

        assert execute_request(instance, again, "replay_job").success
        assert buffer.stats().entries == 0
    assert execute(settings, "SELECT count(*) FROM messages") == [(3,)]
    assert job_states(settings) == {"completed": 3, "pending": 3}  # the requests; a job for each message
    assert tick(instance, name)[:2] == ([], "The write buffer is empty.")


def test_a_buffer_sensor_without_redis_says_so(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_REDIS_URL", "redis://127.0.0.1:1")
    assert tick(instance, "write_buffer_sensor")[1].startswith("Nothing could be looked at: Redis is ")


# -- workers' reports --


def finish_jobs(settings: Settings, limit: int = 1000) -> int:
    """What a worker does to the ledger."""
    with Database(str(settings.postgres_pipeline_url)) as database:
        with database.transaction() as connection:
            claims = claim_next(
                connection, "host:1:a:0", ("enrich_and_embed", "index", "detect_relations"), limit, 20.0
            )
        with database.transaction() as connection:
            return len(finish(connection, claims))


def test_what_workers_did_shows_as_materialized_days_each_once_a_tick(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    settings = deployment.settings
    name = "worker_reports_sensor"
    post(settings, ["one", "two"])
    post(settings, ["three"], day=DAY + timedelta(days=1))
    _none, _reason, events, cursor = tick(instance, name)
    assert events == []
    assert finish_jobs(settings) == 3
    requests, reason, events, cursor = tick(instance, name, cursor)
    assert requests == []
    assert reason == "Reported 8 materializations; 0 wait for the next tick."
    assert [(one.asset_key.to_user_string(), one.partition, one.metadata["jobs"].value) for one in events] == [
        (asset, day, jobs) for asset in REPORTED for day, jobs in (("2025-03-04", 1), ("2025-03-03", 2))
    ]
    report(instance, events)
    for asset in REPORTED:
        assert instance.get_materialized_partitions(dg.AssetKey(asset)) == {"2025-03-03", "2025-03-04"}
    assert tick(instance, name, cursor)[2] == []


def test_relations_are_reported_only_where_they_were_looked_for(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = deployment.settings
    monkeypatch.setenv("MEMORY_RELATIONS_ENABLED", "false")
    cursor = tick(instance, "worker_reports_sensor")[3]
    post(settings, ["one", "two"])
    execute(
        settings,
        "UPDATE memory_jobs SET job_type = 'detect_relations'"
        " WHERE job_id = (SELECT job_id FROM memory_jobs ORDER BY job_id LIMIT 1)",
    )
    assert finish_jobs(settings) == 2
    events = tick(instance, "worker_reports_sensor", cursor)[2]
    assert {one.asset_key.to_user_string(): one.metadata["jobs"].value for one in events} == dict.fromkeys(REPORTED, 1)
    cursor = tick(instance, "worker_reports_sensor", cursor)[3]
    post(settings, ["three"])
    assert finish_jobs(settings) == 1
    events = tick(instance, "worker_reports_sensor", cursor)[2]
    assert [one.asset_key.to_user_string() for one in events] == [
        asset for asset in REPORTED if asset != "memory_relationships"
    ]


def test_todays_work_is_told_at_once_beside_an_import_of_old_days_and_no_day_is_left_out(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    settings = deployment.settings
    name = "worker_reports_sensor"
    days = 4
    post(settings, [f"text {n}" for n in range(days)])
    execute(
        settings,
        "UPDATE memory_jobs j SET day = j.day + n.number::int FROM"
        " (SELECT job_id, row_number() OVER () AS number FROM memory_jobs) n WHERE n.job_id = j.job_id",
    )
    cursor = tick(instance, name)[3]
    assert finish_jobs(settings) == days
    imported = None
    told: list[list[str]] = []
    for today in (False, True, True, False):
        if today:
            post(settings, [f"of today, after {len(told)}"], day=DAY + timedelta(days=300))
            assert finish_jobs(settings) == 1
        _none, _reason, events, cursor = tick(instance, name, cursor)
        assert len(events) <= 2 * len({one.asset_key for one in events})
        of_facts = [one for one in events if one.asset_key == dg.AssetKey("facts")]
        told.append([one.partition for one in of_facts])
        imported = imported or datetime.now(UTC).timestamp()
        for one in of_facts:  # however long it waited, a day was done when its jobs ended
            new = one.partition == (DAY + timedelta(days=300)).isoformat()
            assert (one.metadata["until"].value > imported) == new
    first, second, third, fourth = (str(DAY + timedelta(days=n)) for n in (1, 2, 3, 4))
    today_too = str(DAY + timedelta(days=300))
    assert told == [[fourth, third], [today_too, second], [today_too, first], []]


# -- tenants, failures --


def test_a_new_tenant_is_written_into_the_lake_and_one_without_plugins_is_named(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    settings = deployment.settings
    name = "new_tenants_sensor"
    post(settings, ["one"])
    asked, reason, _events, cursor = tick(instance, name)
    assert asked == []
    assert reason.startswith("There are 1 tenants")
    assert tick(instance, name, cursor)[0] == []
    with Database(str(settings.postgres_pipeline_url)) as database, database.transaction() as connection:
        ensure_tenant(connection, "globex")
        connection.execute(
            "DELETE FROM plugin_installs WHERE plugin = 'enricher:local' AND tenant_id ="
            " (SELECT tenant_id FROM tenants WHERE slug = 'globex')"
        )
    with capture_logs() as lines:
        (request,), _reason, _events, cursor = tick(instance, name, cursor)
    assert [(line["event"], line["tenant"], line["lacks"]) for line in lines] == [
        ("tenant_without_plugins", "globex", ["enricher:local"])
    ]
    assert request.tags[ASKED_BY_TAG] == name
    result = execute_request(instance, request, "tenants_job")
    assert result.success
    (dimensions,) = result.asset_materializations_for_node("lake_dimensions")
    assert dimensions.metadata["rows_tenants"].value == 2
    assert tick(instance, name, cursor)[0] == []


def test_a_failed_run_is_a_line_in_the_log(instance: dg.DagsterInstance) -> None:
    @dg.op
    def fail() -> None:
        raise ValueError("on purpose")

    @dg.job(tags={ASKED_BY_TAG: "somebody"})
    def failing() -> None:
        fail()

    result = failing.execute_in_process(instance=instance, raise_on_error=False)
    context = dg.build_run_status_sensor_context(
        sensor_name="run_failure_sensor",
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        dagster_event=result.get_run_failure_event(),
    ).for_run_failure()
    with capture_logs() as lines:
        defs.resolve_sensor_def("run_failure_sensor")(context)
    (line,) = lines
    assert (line["event"], line["job"], line["asked_by"], line["steps"]) == (
        "run_failed",
        "failing",
        "somebody",
        ["fail"],
    )

"""Runs through `launch.materialize` on a real dagster-postgres instance and real stores."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import msgspec
import psycopg
import pytest
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from memory_pipeline.defs.launch import Observer, RunReport, StepReport, end_dead_runs, materialize
from memory_pipeline.local.processes import boot_id, process_identity
from memory_pipeline.local.stack import RESTARTED_MARK
from memory_pipeline.model.errors import MemoryPipelineError, NotFoundError
from memory_pipeline.model.window import DayWindow
from memory_pipeline.providers.registry import plugin_names
from memory_pipeline.stages.audit import audit
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline_tests.defs.conftest import PROJECT, Deployment
from memory_pipeline_tests.defs.sample import DAYS, FACTS, FIRST_DAY, TENANTS, WINDOW, add_sample, store_state

UNWATCHED = Observer(lambda name: None, lambda total, unit: None, lambda step: None)
DAILY = (
    "facts",
    "memory_relationships",
    "memory_embeddings",
    "chroma_index",
    "lake_messages",
    "lake_memories",
    "lake_facts",
    "lake_memory_relationships",
    "lake_summaries",
)
EXPORTED = (*DAILY, "lake_dimensions", "duckdb_analytics")


def run(window: DayWindow, *assets: str) -> list[RunReport]:
    return list(materialize(assets, window, UNWATCHED))


def assert_sound(reports: list[RunReport]) -> None:
    for report in reports:
        assert [step.error for step in report.steps if not step.succeeded] == []
        assert (report.succeeded, report.failed_checks, report.warnings) == (True, [], [])


def planned_days(instance: dg.DagsterInstance, run_id: str) -> dict[str, list[str]]:
    """Days of each asset that the run's log announces, in the order of the log."""
    planned: dict[str, list[str]] = {}
    found = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    for record in found.records:
        event = record.event_log_entry.get_dagster_event()
        assert event.asset_key is not None
        planned.setdefault(event.asset_key.to_user_string(), []).append(str(event.partition))
    return planned


def assert_days_known(instance: dg.DagsterInstance, reports: list[RunReport]) -> None:
    """Every daily asset's days were announced, are materialized, and are so in what the UI asks for."""
    days = days_of(WINDOW)
    announced = {asset: report.run_id for report in reports for asset in report.assets}
    planned = {report.run_id: planned_days(instance, report.run_id) for report in reports}
    for asset in DAILY:
        key, run_id = dg.AssetKey(asset), announced[asset]
        assert planned[run_id][asset] == days
        assert sorted(instance.get_materialized_partitions(key)) == days
        (record,) = instance.get_asset_records([key])
        assert record.asset_entry.last_run_id == run_id
        assert record.asset_entry.last_materialization is not None
        assert record.asset_entry.last_materialization.run_id == run_id
    assert instance.get_materialized_partitions(dg.AssetKey("duckdb_analytics")) == set()
    assert instance.get_materialized_partitions(dg.AssetKey("weekly_summaries")) == {FIRST_DAY.isoformat()}


def days_of(window: DayWindow) -> list[str]:
    return [day.isoformat() for day in window.days()]


def test_everything_over_a_range_is_three_runs_and_every_check_passes(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    add_sample(deployment.settings)
    started: list[str] = []
    ended: list[StepReport] = []
    reports = list(materialize([], WINDOW, Observer(started.append, lambda total, unit: None, ended.append)))
    assert_sound(reports)
    assert [report.assets for report in reports[:2]] == [["facts"], ["weekly_summaries"]]
    assert len(reports) == 3
    assert [step.name for step in ended] == started == [step.name for report in reports for step in report.steps]
    (facts,) = (step for step in ended if step.name == "facts")
    assert facts.metadata["messages"] == len(TENANTS) * (DAYS + 1)

    from memory_pipeline.definitions import defs

    checks = defs.get_repository_def().asset_graph.asset_check_keys
    evaluated = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks))
    assert len(checks) == 13
    assert {str(evaluated[key].status) for key in checks} == {"AssetCheckExecutionRecordStatus.SUCCEEDED"}

    assert_days_known(instance, reports)
    state = store_state(deployment.settings)
    found = sorted(memory[6] for memory in state["memories"] if memory[4] == "fact")
    assert found == sorted(FACTS * len(TENANTS))
    assert sum(memory[4] == "summary" for memory in state["memories"]) == len(TENANTS)
    assert {slug: len(entries) for slug, entries in state["chroma"].items()} == dict.fromkeys(TENANTS, DAYS + 1 + 8)


@pytest.mark.nightly
def test_days_materialized_at_once_and_again_leave_the_stores_as_once_does(deployment: Deployment) -> None:
    add_sample(deployment.settings)
    module = "memory_pipeline_tests.defs.materialize_process"
    command = [sys.executable, "-m", module, str(WINDOW.start), str(WINDOW.end), *EXPORTED]
    other = subprocess.Popen(
        command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "ready\n"
        other.stdin.write("start\n")
        other.stdin.flush()
        reports = run(WINDOW, *EXPORTED)
        output, errors = other.communicate(timeout=120)
    finally:
        other.kill()
        other.wait()
    assert (other.returncode, errors) == (0, "")
    reports += msgspec.json.decode(output, type=list[RunReport])
    assert [step.error for report in reports for step in report.steps if not step.succeeded] == []
    assert [(report.succeeded, report.failed_checks) for report in reports] == [(True, []), (True, [])]
    state = store_state(deployment.settings)
    assert sorted(memory[6] for memory in state["memories"] if memory[4] == "fact") == sorted(FACTS * len(TENANTS))
    with Pipeline(deployment.settings) as pipeline:
        assert audit(pipeline.database, pipeline.chroma, pipeline.embedder.model, seed=1).findings == 0
    for again in (DayWindow.of_day(FIRST_DAY + timedelta(days=2)), WINDOW):
        assert_sound(run(again, *EXPORTED))
        assert store_state(deployment.settings) == state


def test_an_announcement_longer_than_one_statement_is_stored_whole(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "5000")
    window = DayWindow(date(2022, 1, 1), date(2025, 1, 1))
    days = days_of(window)
    tags = {ASSET_PARTITION_RANGE_START_TAG: days[0], ASSET_PARTITION_RANGE_END_TAG: days[-1]}
    run_id = created_run(instance, "facts", tags)
    assert planned_days(instance, run_id) == {"facts": days}
    assert len(days) == 3 * 365 + 1
    (record,) = instance.get_asset_records([dg.AssetKey("facts")])
    assert record.asset_entry.last_run_id == run_id


def test_two_runs_may_be_the_first_to_enter_a_pool(instance: dg.DagsterInstance) -> None:
    log = instance.event_log_storage
    assert [log.initialize_concurrency_limit_to_default("lake") for _ in range(2)] == [True, True]
    assert log.get_concurrency_info("lake").slot_count == 1
    assert log.claim_concurrency_slot("lake", "a run", "a step").is_claimed


def test_a_failing_asset_ends_the_run_with_its_sentence_and_its_days_show_as_failed(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    add_sample(deployment.settings)
    deployment.embeddings.refuses = True
    ended: list[StepReport] = []
    observer = Observer(lambda name: None, lambda total, unit: None, ended.append)
    reports = list(materialize(DAILY[:4], WINDOW, observer))
    assert [report.succeeded for report in reports] == [False]
    failed = {step.name: step.error for step in reports[-1].steps if not step.succeeded}
    assert list(failed) == ["memory_embeddings"]
    sentence = str(failed["memory_embeddings"])
    assert sentence.startswith("Embedding model test-8 at 127.0.0.1:")
    assert "it answered 401. Check MEMORY_EMBEDDING_API_KEY" in sentence
    assert "Traceback" not in sentence
    assert failed == {step.name: step.error for step in ended if not step.succeeded}
    run_id = reports[-1].run_id
    assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.FAILURE  # type: ignore[union-attr]
    # As the UI asks: announced, attempted last by this run, and not there.
    for asset in ("memory_embeddings", "chroma_index"):
        attempts = (
            instance.event_log_storage.get_latest_asset_partition_materialization_attempts_without_materializations(
                dg.AssetKey(asset)
            )
        )
        assert {day: attempt[0] for day, attempt in attempts.items()} == dict.fromkeys(days_of(WINDOW), run_id)
        assert instance.get_materialized_partitions(dg.AssetKey(asset)) == set()
    assert sorted(instance.get_materialized_partitions(dg.AssetKey("facts"))) == days_of(WINDOW)


def test_what_cannot_be_embedded_waits_in_the_dead_letters_and_is_told_as_a_warning(deployment: Deployment) -> None:
    add_sample(deployment.settings)
    deployment.embeddings.refused_text = "green"
    (report,) = run(WINDOW, "facts", "memory_relationships", "memory_embeddings")
    assert (report.succeeded, report.failed_checks) == (True, [])
    (warning,) = report.warnings
    # A message and the fact in it, of each tenant.
    assert warning.startswith("memory_embeddings: no_dead_letters: 4 memories could not be processed; the newest: ")


def test_a_run_whose_process_died_is_ended_and_frees_its_pool_slot(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    add_sample(deployment.settings)
    run(WINDOW, "facts", "memory_relationships")
    dead = _left_by_a_dead_process(instance)
    instance.event_log_storage.initialize_concurrency_limit_to_default("embedder")
    assert instance.event_log_storage.claim_concurrency_slot("embedder", dead, "memory_embeddings").is_claimed
    (report,) = run(WINDOW, "memory_embeddings")
    assert_sound([report])
    ended = instance.get_run_by_id(dead)
    assert ended is not None
    assert ended.status == dg.DagsterRunStatus.FAILURE
    assert instance.event_log_storage.get_concurrency_info("embedder").active_run_ids == set()


def test_a_run_whose_process_lives_is_left_alone(deployment: Deployment, instance: dg.DagsterInstance) -> None:
    alive = process_identity(os.getpid())
    assert alive is not None
    run_id = _started_run(instance, f"{boot_id()} {alive.pid} {alive.start_time}")
    run(WINDOW, "facts")
    assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.STARTED  # type: ignore[union-attr]


def test_runs_of_the_daemon_end_when_the_stores_were_restarted_and_only_then(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    run_id = _started_run(instance, None)
    run(WINDOW, "facts")
    assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.STARTED  # type: ignore[union-attr]
    mark = Path(os.environ["DAGSTER_HOME"]) / RESTARTED_MARK
    mark.touch()
    end_dead_runs()
    assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.FAILURE  # type: ignore[union-attr]
    assert not mark.exists()


def test_an_unknown_asset_is_refused_with_the_known_ones(deployment: Deployment) -> None:
    with pytest.raises(NotFoundError, match=r"there is no asset fact; there are chroma_index, .*, weekly_summaries\."):
        run(WINDOW, "fact")


def test_days_before_the_first_partition_are_refused(deployment: Deployment) -> None:
    with pytest.raises(MemoryPipelineError, match=r"2021-12-31 lies before the first partition \(2022-01-01\)"):
        run(DayWindow.of_day(date(2021, 12, 31)), "facts")


def _left_by_a_dead_process(instance: dg.DagsterInstance) -> str:
    """A run as it stands after `kill -9` of its process."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = process_identity(child.pid)
    assert identity is not None
    run_id = _started_run(instance, f"{boot_id()} {identity.pid} {identity.start_time}")
    child.kill()
    child.communicate()
    return run_id


def _started_run(instance: dg.DagsterInstance, process: str | None) -> str:
    """A run that says it is going on, in this process of ours or (None) in one of the daemon's."""
    tags = {PARTITION_NAME_TAG: str(FIRST_DAY)} | ({"memory_pipeline/process": process} if process else {})
    run_id = created_run(instance, "facts", tags)
    started = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, "__ASSET_JOB", message="Started.")
    instance.report_dagster_event(started, run_id)
    return run_id


def created_run(instance: dg.DagsterInstance, asset: str, tags: dict[str, str]) -> str:
    """A run of one asset as it stands before it is executed."""
    from memory_pipeline.definitions import defs

    keys = frozenset({dg.AssetKey(asset)})
    job = defs.get_repository_def().get_implicit_job_def_for_assets(list(keys))
    assert job is not None
    subset = job.get_subset(asset_selection=keys)
    return instance.create_run_for_job(subset, tags=tags, asset_selection=keys).run_id


def test_a_run_says_whose_data_it_may_not_touch(deployment: Deployment, instance: dg.DagsterInstance) -> None:
    add_sample(deployment.settings)
    refused, permitted = TENANTS
    plugins = plugin_names(deployment.settings)
    with psycopg.connect(str(deployment.settings.postgres_pipeline_url), options="-c search_path=memory") as connection:
        [(tenant_id,)] = connection.execute("SELECT tenant_id FROM tenants WHERE slug = %s", [refused]).fetchall()
        connection.execute("DELETE FROM plugin_installs WHERE tenant_id = %s", [tenant_id])
    reports = run(WINDOW, "facts", "weekly_summaries")
    with psycopg.connect(str(deployment.settings.postgres_pipeline_url), options="-c search_path=memory") as connection:
        readers = connection.execute(
            "SELECT DISTINCT slug FROM memories JOIN tenants USING (tenant_id) WHERE kind IN ('fact', 'summary')"
        ).fetchall()
        events = connection.execute(
            "SELECT tenant_id, actor, detail FROM events WHERE kind = 'plugin_refused' ORDER BY actor"
        ).fetchall()
    assert readers == [(permitted,)]
    assert events == [
        (tenant_id, "stage:enrich", {"plugin": plugins.enricher}),
        (tenant_id, "stage:summarize", {"plugin": plugins.summarizer}),
    ]
    said = {
        step.name: (step.metadata["refused_tenants"], step.metadata["refused_examples"])
        for report in reports
        for step in report.steps
        if "refused_tenants" in step.metadata
    }
    assert said == dict.fromkeys(("facts", "weekly_summaries"), (1, str(tenant_id)))

"""What each schedule asks for at a given moment."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import dagster as dg
import pytest
from dagster._core.definitions.schedule_definition import ScheduleExecutionData
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from memory_pipeline.definitions import defs

REPOSITORY = defs.get_repository_def()


@pytest.fixture(scope="module")
def small_instance() -> Iterator[dg.DagsterInstance]:
    """An instance in a temporary folder: schedules ask it for runs and nothing else."""
    with dg.instance_for_test() as instance:
        yield instance


def tick(instance: dg.DagsterInstance, name: str, moment: str) -> ScheduleExecutionData:
    """Evaluate a schedule as the daemon does for the moment (ISO 8601, UTC) it was due."""
    due = datetime.fromisoformat(f"{moment}+00:00")
    context = dg.build_schedule_context(instance=instance, scheduled_execution_time=due, repository_def=REPOSITORY)
    return REPOSITORY.get_schedule_def(name).evaluate_tick(context)


def only_request(data: ScheduleExecutionData) -> dg.RunRequest:
    assert data.skip_message is None
    assert data.run_requests is not None
    assert len(data.run_requests) == 1
    return data.run_requests[0]


def test_every_schedule_runs_by_itself_says_what_it_does_and_keeps_utc() -> None:
    schedules = {schedule.name: schedule for schedule in REPOSITORY.schedule_defs}
    assert {name: (schedule.cron_schedule, schedule.job_name) for name, schedule in schedules.items()} == {
        "hourly_observation_schedule": ("5 * * * *", "observation_job"),
        "hourly_export_schedule": ("10 * * * *", "export_job"),
        "weekly_summaries_schedule": ("0 2 * * 1", "weekly_summaries_job"),
        "daily_audit_schedule": ("0 3 * * *", "audit_job"),
    }
    for schedule in schedules.values():
        assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
        assert schedule.execution_timezone == "UTC"
        assert schedule.description
        assert schedule.owners == ["team:memory-platform"]


def test_monday_asks_for_the_week_that_ended(small_instance: dg.DagsterInstance) -> None:
    request = only_request(tick(small_instance, "weekly_summaries_schedule", "2025-03-10T02:00"))
    assert (request.run_key, request.partition_key) == ("summaries 2025-03-03", "2025-03-03")


def test_no_week_before_the_first_is_summarized(small_instance: dg.DagsterInstance) -> None:
    data = tick(small_instance, "weekly_summaries_schedule", "2021-12-27T02:00")
    assert data.run_requests == []
    assert data.skip_message == "The week of 2021-12-20 lies before the first partition (2021-12-27)."


def test_the_audit_is_asked_for_once_a_day(small_instance: dg.DagsterInstance) -> None:
    request = only_request(tick(small_instance, "daily_audit_schedule", "2025-03-10T03:00"))
    assert (request.run_key, request.partition_key) == ("audit 2025-03-10", None)


def test_the_observation_is_asked_for_once_an_hour(small_instance: dg.DagsterInstance) -> None:
    request = only_request(tick(small_instance, "hourly_observation_schedule", "2025-03-10T03:05"))
    assert request.run_key == "observation 2025-03-10T03:05"


@pytest.mark.parametrize(
    ("moment", "first", "last"),
    [
        pytest.param("2025-03-10T00:10", "2025-03-03", "2025-03-10", id="the last eight days"),
        pytest.param("2022-01-03T23:10", "2022-01-01", "2022-01-03", id="no day before the first partition"),
    ],
)
def test_the_hourly_export_is_one_run_over_a_range(
    small_instance: dg.DagsterInstance, moment: str, first: str, last: str
) -> None:
    request = only_request(tick(small_instance, "hourly_export_schedule", moment))
    assert request.run_key == f"export {moment}"
    assert request.partition_key is None
    assert request.tags[ASSET_PARTITION_RANGE_START_TAG] == first
    assert request.tags[ASSET_PARTITION_RANGE_END_TAG] == last


@pytest.mark.parametrize("name", ["export_job", "after_facts_job", "__ASSET_JOB"])
def test_the_hourly_export_waits_for_another_export(small_instance: dg.DagsterInstance, name: str) -> None:
    # The last is what `memory-pipeline materialize` and the UI start.
    selected = frozenset({dg.AssetKey("duckdb_analytics")}) if name == "__ASSET_JOB" else None
    run = small_instance.create_run_for_job(
        REPOSITORY.get_job(name), status=dg.DagsterRunStatus.STARTED, asset_selection=selected
    )
    data = tick(small_instance, "hourly_export_schedule", "2025-03-10T04:10")
    assert data.run_requests == []
    assert data.skip_message == f"Run {run.run_id} exports; the next hour takes over."
    small_instance.report_run_failed(run)
    only_request(tick(small_instance, "hourly_export_schedule", "2025-03-10T05:10"))


def test_the_export_job_holds_the_daily_pipeline_the_file_and_their_checks() -> None:
    graph = REPOSITORY.asset_graph
    assets = set(REPOSITORY.get_job("export_job").asset_layer.selected_asset_keys)
    left_out = {key.to_user_string() for key in graph.materializable_asset_keys if key not in assets}
    assert left_out == {"weekly_summaries", "consistency_audit"}
    steps = {node.name for node in REPOSITORY.get_job("export_job").nodes}
    assert steps >= {
        "facts_no_dead_letters",
        "facts_facts_cite_messages",
        "embedding_checks",
        "chroma_index_entries_match_vectors",
        "chroma_index_chroma_holds_entries",
        "chroma_index_no_dead_jobs",
        "analytics_checks",
    }


def test_every_job_says_what_it_does_and_whose_it_is() -> None:
    jobs = [job for job in REPOSITORY.get_all_jobs() if not job.name.startswith("__")]
    assert len(jobs) == 9
    for job in jobs:
        assert job.description
        assert job.tags["owner"] == "memory-platform"

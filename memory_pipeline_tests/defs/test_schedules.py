"""What each schedule asks for at a given moment."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.schedule_definition import ScheduleExecutionData
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from memory_pipeline.definitions import defs
from memory_pipeline.defs.analytics import schedule as export_schedule
from memory_pipeline_tests.defs.exports import delete, exported, run_of, serve, told

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


@pytest.fixture
def instance(small_postgres_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """An instance of its own."""
    return small_postgres_instance


@pytest.fixture
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of exports, with a file."""
    return serve(tmp_path, monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """How much time has passed, for the schedule."""
    passed = [timedelta()]
    monkeypatch.setattr(export_schedule, "present", lambda: datetime.now(UTC) + passed[0])
    return passed


def hourly(instance: dg.DagsterInstance) -> str | None:
    """Why the hourly schedule skips; None where it asks for its run."""
    data = tick(instance, "hourly_export_schedule", "2025-03-10T04:10")
    if data.skip_message is None:
        only_request(data)
    return data.skip_message


def hourly_run(instance: dg.DagsterInstance) -> None:
    """A run of the schedule that succeeds."""
    run = run_of(instance, "export_job")
    ended = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, run.job_name)
    instance.report_dagster_event(ended, run.run_id)


def test_the_hourly_export_waits_for_its_last_run_however_long(
    instance: dg.DagsterInstance, clock: list[timedelta]
) -> None:
    run = run_of(instance, "export_job")
    clock[0] = timedelta(hours=5)
    assert hourly(instance) == f"Run {run.run_id}, of an hour before, is unfinished; the next hour takes over."
    instance.report_run_failed(run)
    assert hourly(instance) is None


@pytest.mark.parametrize("job", ["after_facts_job", "__ASSET_JOB"])
def test_the_hourly_export_gives_way_to_an_export_at_work_but_not_two_hours_in_a_row(
    instance: dg.DagsterInstance, clock: list[timedelta], job: str
) -> None:
    hourly_run(instance)
    run = run_of(instance, job)
    clock[0] = timedelta(hours=1)
    assert hourly(instance) == f"Run {run.run_id} exports; the next hour takes over, whatever exports then."
    clock[0] = timedelta(hours=2)
    assert hourly(instance) is None


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING])
def test_no_hourly_export_is_asked_for_beside_one_that_still_waits_to_begin(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    run = run_of(instance, "after_facts_job", status)
    assert (
        hourly(instance)
        == f"Run {run.run_id} waits to export and will read all there is by then; the next hour takes over."
    )


def test_an_hour_is_left_out_where_all_was_just_exported_and_nothing_was_materialized_since(
    instance: dg.DagsterInstance, clock: list[timedelta], exports: Path
) -> None:
    told(instance, "facts", "2025-03-03")
    exported_run = exported(instance)
    assert hourly(instance) is None  # which has never taken the days through the whole pipeline
    hourly_run(instance)
    clock[0] = timedelta(minutes=10)
    assert hourly(instance) == (
        f"Run {exported_run} read everything 10 min ago and finished, and nothing was materialized since; "
        "the next hour exports in any case."
    )
    clock[0] = timedelta(minutes=31)  # a second hour without a file would be late
    assert hourly(instance) is None
    clock[0] = -timedelta(minutes=31)
    assert hourly(instance) is None
    clock[0] = timedelta(minutes=10)
    told(instance, "facts", "2022-01-03")
    assert hourly(instance) is None
    exported(instance)
    assert hourly(instance) is not None
    delete(exports)
    assert hourly(instance) is None


@pytest.mark.parametrize(("hours", "left_out"), [(1, True), (2, False)])
def test_exports_after_facts_do_not_keep_the_hourly_one_away_two_hours_in_a_row(
    instance: dg.DagsterInstance, clock: list[timedelta], exports: Path, hours: int, left_out: bool
) -> None:
    hourly_run(instance)
    clock[0] = timedelta(hours=hours)
    now = time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: now() + 3600 * hours)
        exported(instance)
    assert (hourly(instance) is not None) == left_out


def test_no_hour_is_left_out_for_an_export_that_published_and_then_failed(
    instance: dg.DagsterInstance, exports: Path
) -> None:
    hourly_run(instance)
    exported(instance, succeeds=False)
    assert hourly(instance) is None


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

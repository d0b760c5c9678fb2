"""Exports follow facts: one run for what is new, none for what is not, never two without a pause, in quiet times."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import msgspec
import pytest
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    MAX_RUNTIME_SECONDS_TAG,
)
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from memory_pipeline.definitions import defs
from memory_pipeline.defs.analytics import changes, sensor
from memory_pipeline.stores.duckdb.publish import current_export
from memory_pipeline.stores.duckdb.query import query
from memory_pipeline_tests.defs.conftest import Deployment
from memory_pipeline_tests.defs.exports import delete, exported, run_of, run_over, serve, told
from memory_pipeline_tests.defs.queued import execute_request, tick
from memory_pipeline_tests.stores.export_sample import WINDOW, fill

NAME = "after_facts_sensor"
INTERVAL = 600
QUIET = 60
NOTHING = "Nothing was materialized since."
REPOSITORY = defs.get_repository_def()


@pytest.fixture(autouse=True)
def far_from_the_hourly_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the tests run, the schedule's minute is half an hour away."""
    monkeypatch.setattr(sensor, "MINUTE", (datetime.now(UTC).minute + 30) % 60)


@pytest.fixture
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of exports, with a file."""
    return serve(tmp_path, monkeypatch)


@pytest.fixture
def quick(
    small_postgres_instance: dg.DagsterInstance, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> dg.DagsterInstance:
    """An instance of its own, for which things are always quiet: the sensor asks nothing else."""
    monkeypatch.setenv("MEMORY_EXPORT_QUIET_SECONDS", "0")
    return small_postgres_instance


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """How much time has passed, for the sensor."""
    passed = [timedelta()]
    monkeypatch.setattr(sensor, "present", lambda: datetime.now(UTC) + passed[0])
    monkeypatch.setenv("MEMORY_EXPORT_MIN_INTERVAL_SECONDS", str(INTERVAL))
    return passed


@pytest.fixture
def paced(quick: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    """An instance for which things become quiet after a minute."""
    monkeypatch.setenv("MEMORY_EXPORT_QUIET_SECONDS", str(QUIET))
    return quick


def asked(instance: dg.DagsterInstance, cursor: str | None) -> tuple[list[tuple[str, str]], str, str | None]:
    """The ranges of days that the sensor asks for, why it asks for none, and its cursor."""
    requests, reason, _events, following = tick(instance, NAME, cursor)
    ranges = [
        (request.tags[ASSET_PARTITION_RANGE_START_TAG], request.tags[ASSET_PARTITION_RANGE_END_TAG])
        for request in requests
    ]
    return ranges, reason, following


def started(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """A run of what was asked for begins."""
    return run_of(instance, "after_facts_job")


def test_new_facts_lead_to_one_export_of_their_days_and_nothing_new_to_none(quick: dg.DagsterInstance) -> None:
    assert asked(quick, None)[:2] == ([], NOTHING)
    told(quick, "facts", "2025-03-05", "2025-03-03")
    told(quick, "memory_relationships", "2025-03-06")
    told(quick, "memory_embeddings", "2025-02-01")  # which no table is made of
    ranges, _reason, cursor = asked(quick, "0")
    assert ranges == [("2025-03-03", "2025-03-06")]
    exported(quick)
    _none, reason, cursor = asked(quick, cursor)
    assert reason.endswith("has exported it.")
    assert asked(quick, cursor) == ([], NOTHING, cursor)
    told(quick, "facts", "2025-03-03")
    assert asked(quick, cursor)[0] == [("2025-03-03", "2025-03-03")]


def test_old_days_beside_new_ones_make_no_long_range_and_count_as_exported(quick: dg.DagsterInstance) -> None:
    told(quick, "facts", "2022-01-03", "2025-03-06", "2024-02-01")
    ranges, _reason, cursor = asked(quick, "0")
    assert ranges == [("2025-02-27", "2025-03-06")]
    exported(quick)
    assert asked(quick, cursor)[1].endswith("has exported it.")


def test_work_that_ended_before_an_export_is_not_exported_again_when_it_is_told_of(quick: dg.DagsterInstance) -> None:
    ended = datetime.now(UTC)
    exported(quick)
    cursor = asked(quick, None)[2]

    def tell(until: datetime) -> None:
        metadata = {"until": dg.MetadataValue.timestamp(until)}
        quick.report_runless_asset_event(dg.AssetMaterialization("facts", partition="2022-01-03", metadata=metadata))

    tell(ended)
    assert asked(quick, cursor)[1].endswith("has exported it.")
    tell(datetime.now(UTC))
    assert asked(quick, cursor)[0] == [("2022-01-03", "2022-01-03")]


def test_days_before_the_first_partition_are_not_asked_for(
    quick: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensor, "PARTITION_START", date(2025, 3, 4))
    monkeypatch.setattr(changes, "PARTITION_START", date(2025, 3, 4))
    told(quick, "facts", "2025-03-03")
    told(quick, "weekly_summaries", "2025-02-24")
    assert asked(quick, "0")[0] == []
    told(quick, "weekly_summaries", "2025-03-03")
    assert asked(quick, "0")[0] == [("2025-03-04", "2025-03-09")]


def test_a_week_of_summaries_is_its_seven_days_as_far_as_they_have_come(
    quick: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(quick, "weekly_summaries", "2025-03-03")
    assert asked(quick, None)[0] == [("2025-03-03", "2025-03-09")]
    monkeypatch.setattr(sensor, "present", lambda: datetime(2025, 3, 5, 12, tzinfo=UTC))
    assert asked(quick, None)[0] == [("2025-03-03", "2025-03-05")]


def test_more_facts_than_a_page_are_all_seen(quick: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "_PAGE", 3)
    days = [str(date(2025, 3, 1) + timedelta(days=n)) for n in range(7)]
    told(quick, "facts", *days)
    ranges, _reason, cursor = asked(quick, None)
    assert ranges == [(days[0], days[-1])]
    exported(quick)
    assert asked(quick, cursor)[0] == []


def test_facts_of_every_minute_are_exported_once_an_interval(quick: dg.DagsterInstance, clock: list[timedelta]) -> None:
    told(quick, "facts", "2025-03-03")
    ranges, _reason, cursor = asked(quick, None)
    assert ranges == [("2025-03-03", "2025-03-03")]
    quick.report_run_failed(started(quick))  # an export that failed is not asked for again at once either
    for minute in range(1, 8):
        told(quick, "facts", f"2025-03-{minute:02}")
        clock[0] = timedelta(minutes=minute) - timedelta(seconds=5)
        found, reason, kept = asked(quick, cursor)
        assert (found, kept) == ([], cursor)
        assert reason.startswith(f"{minute + 1} materializations wait ")
        assert "at most one export in 600 s" in reason
    clock[0] = timedelta(seconds=INTERVAL + 1)
    ranges, _reason, cursor = asked(quick, cursor)
    assert ranges == [("2025-03-01", "2025-03-07")]
    started(quick)
    assert asked(quick, cursor)[0] == []


def test_an_export_that_failed_is_asked_for_again_after_growing_pauses_until_one_succeeds(
    quick: dg.DagsterInstance, clock: list[timedelta]
) -> None:
    told(quick, "facts", "2025-03-03")
    requests, _reason, _events, cursor = tick(quick, NAME, "0")
    keys = {requests[0].run_key}
    for pause in (INTERVAL, 2 * INTERVAL, 4 * INTERVAL, 3600, 3600):
        began = time.monotonic()
        quick.report_run_failed(started(quick))
        # Runs begin by the real clock, which goes on meanwhile.
        clock[0] = timedelta(seconds=pause - 10 - (time.monotonic() - began))
        assert asked(quick, cursor)[0] == []
        clock[0] = timedelta(seconds=pause + 1)
        requests, _reason, _events, cursor = tick(quick, NAME, cursor)
        assert [request.tags[ASSET_PARTITION_RANGE_START_TAG] for request in requests] == ["2025-03-03"]
        assert requests[0].run_key not in keys  # Dagster starts no second run of a key
        keys.add(requests[0].run_key)
    exported(quick)
    _none, reason, cursor = asked(quick, cursor)
    assert reason.endswith("has exported it.")
    told(quick, "facts", "2025-03-04")
    clock[0] = timedelta(seconds=INTERVAL + 1)
    assert asked(quick, cursor)[0] == [("2025-03-04", "2025-03-04")]


def test_the_cursor_of_an_earlier_version_is_still_read(quick: dg.DagsterInstance) -> None:
    told(quick, "facts", "2025-03-03")
    _none, _reason, cursor = asked(quick, str(10**9))
    assert msgspec.json.decode(str(cursor)) == {"read": 10**9, "asked": 0, "times": 0, "lost": 0}


@pytest.mark.parametrize("job", ["export_job", "after_facts_job", "__ASSET_JOB"])
def test_nothing_is_asked_for_while_an_export_is_under_way(quick: dg.DagsterInstance, job: str) -> None:
    run = run_of(quick, job)
    told(quick, "facts", "2025-03-03")
    ranges, reason, cursor = asked(quick, "0")
    assert (ranges, reason) == ([], f"Run {run.run_id} exports; what it leaves follows.")
    assert msgspec.json.decode(str(cursor))["read"] == 0
    quick.report_run_canceled(run)
    if job == "__ASSET_JOB":
        assert asked(quick, "0")[0] == [("2025-03-03", "2025-03-03")]


def test_what_an_export_has_read_is_not_exported_again(quick: dg.DagsterInstance) -> None:
    run_over(quick, ["facts", "lake_dimensions", "duckdb_analytics"], "2025-03-03", "2025-03-05")  # as every hour
    assert asked(quick, "0")[1].endswith("has exported it.")
    told(quick, "facts", "2025-03-03")
    run_over(quick, ["facts"], "2024-03-04", "2024-03-04")  # as `memory-pipeline materialize` does: in several runs
    exported(quick)
    assert asked(quick, "0")[1].endswith("has exported it.")
    told(quick, "facts", "2025-03-04")
    assert asked(quick, "0")[0] == [("2025-03-04", "2025-03-04")]


def test_what_a_file_shows_is_what_the_lake_had_read_and_not_when_it_was_published(quick: dg.DagsterInstance) -> None:
    told(quick, "facts", "2025-03-03")
    run_over(quick, ["lake_dimensions"], "2025-03-03", "2025-03-05")
    told(quick, "facts", "2025-03-04")
    run_over(quick, ["duckdb_analytics"], "2025-03-03", "2025-03-05")  # of the lake as it was
    run_over(quick, ["lake_dimensions"], "2025-03-03", "2025-03-05")  # for new tenants: the file is of before
    assert asked(quick, "0")[0] == [("2025-03-04", "2025-03-04")]


def test_the_first_look_of_a_deployment_with_a_file_does_not_begin_with_the_oldest_facts(
    quick: dg.DagsterInstance,
) -> None:
    run_over(quick, ["facts"], "2024-05-01", "2024-05-02")
    run_over(quick, ["duckdb_analytics"], "2025-03-03", "2025-03-05")
    ranges, reason, cursor = asked(quick, None)
    assert (ranges, reason) == ([], NOTHING)
    assert msgspec.json.decode(str(cursor))["read"] > 0


def test_an_export_waits_until_nothing_has_changed_for_a_while(
    paced: dg.DagsterInstance, clock: list[timedelta]
) -> None:
    told(paced, "facts", "2025-03-03")
    ranges, reason, cursor = asked(paced, None)
    assert ranges == []
    assert "until nothing has changed for 60 s" in reason
    clock[0] = timedelta(seconds=QUIET + 1)
    # The cursor that was kept while it waited: the daemon may have been started anew meanwhile.
    assert asked(paced, cursor)[0] == [("2025-03-03", "2025-03-03")]
    assert asked(paced, None)[0] == [("2025-03-03", "2025-03-03")]


@pytest.mark.parametrize("job", ["backlog_job", "backlog_without_embedding_job"])
@pytest.mark.parametrize("status", [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED])
def test_an_export_never_begins_beside_a_run_of_the_backlog_until_it_has_waited_for_the_interval(
    paced: dg.DagsterInstance, clock: list[timedelta], job: str, status: dg.DagsterRunStatus
) -> None:
    told(paced, "facts", "2025-03-03")
    run = run_of(paced, job, status)
    clock[0] = timedelta(seconds=INTERVAL - 20)
    ranges, reason, cursor = asked(paced, None)
    assert ranges == []
    assert reason.startswith(f"1 materialization waits for run {run.run_id}, which makes messages searchable, and for ")
    clock[0] = timedelta(seconds=INTERVAL + 1)
    assert asked(paced, cursor)[0] == [("2025-03-03", "2025-03-03")]


def test_facts_that_keep_coming_delay_an_export_by_no_more_than_the_interval(
    paced: dg.DagsterInstance, clock: list[timedelta], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_EXPORT_QUIET_SECONDS", str(10 * INTERVAL))
    told(paced, "facts", "2025-03-03")
    cursor = None
    for seconds in range(30, INTERVAL - 20, 90):
        clock[0] = timedelta(seconds=seconds)
        told(paced, "facts", "2025-03-04")
        ranges, _reason, cursor = asked(paced, cursor)
        assert ranges == []
    clock[0] = timedelta(seconds=INTERVAL + 1)
    assert asked(paced, cursor)[0] == [("2025-03-03", "2025-03-04")]


def test_the_end_of_a_run_of_the_backlog_is_not_quiet_yet(paced: dg.DagsterInstance, clock: list[timedelta]) -> None:
    told(paced, "facts", "2025-03-03")
    time.sleep(1.1)
    run = run_of(paced, "backlog_job")
    paced.report_run_failed(run)
    clock[0] = timedelta(seconds=QUIET - 0.5)
    ranges, reason, cursor = asked(paced, None)
    assert ranges == []
    assert "until nothing has changed for 60 s" in reason
    clock[0] = timedelta(seconds=QUIET + 2)
    assert asked(paced, cursor)[0] == [("2025-03-03", "2025-03-03")]


def test_a_canceled_export_is_asked_for_again_after_the_interval(
    paced: dg.DagsterInstance, clock: list[timedelta]
) -> None:
    told(paced, "facts", "2025-03-03")
    clock[0] = timedelta(seconds=QUIET + 1)
    ranges, _reason, cursor = asked(paced, None)
    assert ranges == [("2025-03-03", "2025-03-03")]
    paced.report_run_canceled(started(paced))
    clock[0] = timedelta(seconds=INTERVAL - 20)
    ranges, reason, cursor = asked(paced, cursor)
    assert ranges == []
    assert reason.endswith("at most one export in 600 s, after 1 in vain.")
    clock[0] = timedelta(seconds=INTERVAL + 5)
    assert asked(paced, cursor)[0] == [("2025-03-03", "2025-03-03")]


def test_a_clock_that_was_set_back_holds_no_export_up_and_hides_no_change(
    paced: dg.DagsterInstance, clock: list[timedelta]
) -> None:
    exported(paced)
    paced.report_run_failed(started(paced))
    told(paced, "facts", "2025-03-03")
    clock[0] = -timedelta(days=1)
    assert asked(paced, "0")[0] == [("2025-03-03", "2025-03-03")]
    exported(paced)
    assert asked(paced, "0")[1].endswith("has exported it.")
    # Reported after that export read, of a time before it: by a clock that was set back.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda real=time.time: real() - 3600)
        until = dg.MetadataValue.timestamp(time.time() - 60)
        paced.report_runless_asset_event(
            dg.AssetMaterialization("facts", partition="2025-03-04", metadata={"until": until})
        )
    clock[0] = timedelta(seconds=INTERVAL + 1)
    assert asked(paced, "0")[0] == [("2025-03-04", "2025-03-04")]


def test_a_file_that_is_gone_is_made_again_and_where_it_never_appears_ever_less_often(
    paced: dg.DagsterInstance, clock: list[timedelta], exports: Path
) -> None:
    exported(paced)
    cursor = asked(paced, None)[2]
    delete(exports)
    for pause in (INTERVAL, 2 * INTERVAL, 4 * INTERVAL, 3600):
        today = (datetime.now(UTC) + clock[0]).date().isoformat()
        ranges, _reason, cursor = asked(paced, cursor)
        assert ranges == [(today, today)]
        exported(paced)
        paced.report_run_failed(started(paced))
        clock[0] = timedelta(seconds=pause - 20)
        ranges, reason, cursor = asked(paced, cursor)
        assert ranges == []
        assert reason.startswith("The published file is gone. ")
        clock[0] = timedelta(seconds=pause + 1)


def test_an_hourly_run_that_has_long_not_come_to_its_export_is_not_waited_for(
    paced: dg.DagsterInstance, clock: list[timedelta]
) -> None:
    run = run_of(paced, "export_job")
    told(paced, "facts", "2025-03-03")
    clock[0] = timedelta(seconds=INTERVAL - 20)
    under_way = f"Run {run.run_id} exports; what it leaves follows."
    assert asked(paced, None)[1] == under_way
    clock[0] = timedelta(seconds=INTERVAL + 1)
    assert asked(paced, None)[0] == [("2025-03-03", "2025-03-03")]
    paced.report_dagster_event(
        dg.DagsterEvent(event_type_value=dg.DagsterEventType.STEP_START.value, job_name="export_job", step_key="lake"),
        run.run_id,
    )
    assert asked(paced, None)[1] == under_way


def test_a_run_of_its_own_is_waited_for_however_long_it_takes_to_begin(
    paced: dg.DagsterInstance, clock: list[timedelta]
) -> None:
    run = started(paced)
    told(paced, "facts", "2025-03-03")
    clock[0] = timedelta(seconds=INTERVAL + 1)
    assert asked(paced, None)[1] == f"Run {run.run_id} exports; what it leaves follows."


@pytest.mark.parametrize(("second", "free"), [(-40, True), (-20, False), (0, False), (50, False), (70, True)])
def test_near_the_minute_of_the_hourly_export_nothing_is_asked_for(
    quick: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, second: int, free: bool
) -> None:
    told(quick, "facts", "2025-03-03")
    due = (datetime.now(UTC) + timedelta(hours=2)).replace(minute=10, second=0, microsecond=0)
    monkeypatch.setattr(sensor, "MINUTE", due.minute)
    monkeypatch.setattr(sensor, "present", lambda: due + timedelta(seconds=second))
    ranges, reason, _cursor = asked(quick, None)
    assert bool(ranges) == free
    assert free or reason.startswith("The hourly export is due at 10 past and brings this too")


def test_runs_of_the_backlog_leave_the_queue_before_exports_that_were_asked_for_earlier(
    instance: dg.DagsterInstance,
) -> None:
    queued = [
        run_of(instance, job, dg.DagsterRunStatus.QUEUED) for job in ("export_job", "after_facts_job", "backlog_job")
    ]
    assert isinstance(instance.run_coordinator, dg.QueuedRunCoordinator)
    waiting = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]), ascending=True)
    assert [run.run_id for run in waiting] == [run.run_id for run in queued]
    ordered = QueuedRunCoordinatorDaemon(interval_seconds=1)._priority_sort(waiting)
    assert [run.job_name for run in ordered] == ["backlog_job", "export_job", "after_facts_job"]


def test_a_run_of_an_export_whose_process_is_gone_ends_by_itself(instance: dg.DagsterInstance) -> None:
    assert instance.run_monitoring_enabled  # else Dagster does not look at the tag
    for name, hours in (("export_job", 6), ("after_facts_job", 2)):
        assert float(REPOSITORY.get_job(name).run_tags[MAX_RUNTIME_SECONDS_TAG]) == hours * 3600


def test_the_job_exports_and_makes_no_facts() -> None:
    selected = {key.to_user_string() for key in REPOSITORY.get_job("after_facts_job").asset_layer.selected_asset_keys}
    graph = REPOSITORY.asset_graph
    assert selected == {
        key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).group_name == "analytics"
    }


def test_what_was_asked_for_publishes_the_facts_with_the_messages_they_cite(
    deployment: Deployment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_EXPORT_QUIET_SECONDS", "0")
    fill(str(deployment.settings.postgres_pipeline_url))
    told(instance, "facts", *(day.isoformat() for day in WINDOW.days()))
    (request,), _reason, _events, cursor = tick(instance, NAME)
    result = execute_request(instance, request, "after_facts_job")
    assert result.success
    path = current_export(deployment.settings.data / "exports")
    assert query(path, "SELECT (SELECT count(*) FROM facts), (SELECT count(*) FROM messages)").rows == [(4, 24)]
    assert tick(instance, NAME, cursor)[1] == f"Run {result.run_id} has exported it."

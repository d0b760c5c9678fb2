"""Exports follow facts: one run for what is new, none for what is not, and never two without a pause."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import msgspec
import pytest
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from memory_pipeline.definitions import defs
from memory_pipeline.defs.analytics import sensor
from memory_pipeline.defs.partitions import daily
from memory_pipeline.stores.duckdb.publish import current_export
from memory_pipeline.stores.duckdb.query import query
from memory_pipeline_tests.defs.conftest import Deployment
from memory_pipeline_tests.defs.queued import execute_request, tick
from memory_pipeline_tests.stores.export_sample import WINDOW, fill

NAME = "after_facts_sensor"
INTERVAL = 600
WHOLE = ("lake_dimensions", "duckdb_analytics")
NOTHING = "Nothing was materialized since."
REPOSITORY = defs.get_repository_def()


@pytest.fixture
def quick() -> Iterator[dg.DagsterInstance]:
    """An instance of its own: the sensor asks nothing else."""
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """How much time has passed, for the sensor."""
    passed = [timedelta()]
    monkeypatch.setattr(sensor, "present", lambda: datetime.now(UTC) + passed[0])
    monkeypatch.setenv("MEMORY_EXPORT_MIN_INTERVAL_SECONDS", str(INTERVAL))
    return passed


def told(instance: dg.DagsterInstance, asset: str, *partitions: str) -> None:
    """Days of an asset are materialized without a run, as workers' are."""
    for partition in partitions:
        instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=partition))


def asked(instance: dg.DagsterInstance, cursor: str | None) -> tuple[list[tuple[str, str]], str, str | None]:
    """The ranges of days that the sensor asks for, why it asks for none, and its cursor."""
    requests, reason, _events, following = tick(instance, NAME, cursor)
    ranges = [
        (request.tags[ASSET_PARTITION_RANGE_START_TAG], request.tags[ASSET_PARTITION_RANGE_END_TAG])
        for request in requests
    ]
    return ranges, reason, following


def exported(instance: dg.DagsterInstance, first: str, last: str) -> None:
    """A run that did what was asked for: the whole lake, and the file."""
    run_over(instance, ["lake_dimensions", "duckdb_analytics"], first, last)


def started(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """A run of what was asked for begins."""
    return instance.create_run_for_job(REPOSITORY.get_job("after_facts_job"), status=dg.DagsterRunStatus.STARTED)


def run_over(instance: dg.DagsterInstance, names: list[str], first: str, last: str) -> None:
    """A run over a range of days that materializes stand-ins of these assets."""

    def stand_in(name: str) -> dg.AssetsDefinition:
        @dg.asset(name=name, partitions_def=None if name in WHOLE else daily)
        def made() -> None: ...

        return made

    tags = {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}
    assert dg.materialize([stand_in(name) for name in names], instance=instance, tags=tags).success


def test_new_facts_lead_to_one_export_of_their_days_and_nothing_new_to_none(quick: dg.DagsterInstance) -> None:
    assert asked(quick, None)[:2] == ([], NOTHING)
    told(quick, "facts", "2025-03-05", "2025-03-03")
    told(quick, "memory_relationships", "2025-03-06")
    told(quick, "memory_embeddings", "2025-02-01")  # which no table is made of
    ranges, _reason, cursor = asked(quick, "0")
    assert ranges == [("2025-03-03", "2025-03-06")]
    exported(quick, *ranges[0])
    _none, reason, cursor = asked(quick, cursor)
    assert reason.endswith("has exported it.")
    assert asked(quick, cursor) == ([], NOTHING, cursor)
    told(quick, "facts", "2025-03-03")
    assert asked(quick, cursor)[0] == [("2025-03-03", "2025-03-03")]


def test_old_days_beside_new_ones_make_no_long_range_and_count_as_exported(quick: dg.DagsterInstance) -> None:
    told(quick, "facts", "2022-01-03", "2025-03-06", "2024-02-01")
    ranges, _reason, cursor = asked(quick, "0")
    assert ranges == [("2025-02-27", "2025-03-06")]
    exported(quick, *ranges[0])
    assert asked(quick, cursor)[1].endswith("has exported it.")


def test_work_that_ended_before_an_export_is_not_exported_again_when_it_is_told_of(quick: dg.DagsterInstance) -> None:
    ended = datetime.now(UTC)
    exported(quick, "2025-03-03", "2025-03-05")
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
    monkeypatch.setattr(sensor, "_PAGE", 3)
    days = [str(date(2025, 3, 1) + timedelta(days=n)) for n in range(7)]
    told(quick, "facts", *days)
    ranges, _reason, cursor = asked(quick, None)
    assert ranges == [(days[0], days[-1])]
    exported(quick, *ranges[0])
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
    exported(quick, "2025-03-03", "2025-03-03")
    _none, reason, cursor = asked(quick, cursor)
    assert reason.endswith("has exported it.")
    told(quick, "facts", "2025-03-04")
    clock[0] = timedelta(seconds=INTERVAL + 1)
    assert asked(quick, cursor)[0] == [("2025-03-04", "2025-03-04")]


def test_the_cursor_of_an_earlier_version_is_still_read(quick: dg.DagsterInstance) -> None:
    told(quick, "facts", "2025-03-03")
    _none, _reason, cursor = asked(quick, str(10**9))
    assert msgspec.json.decode(str(cursor)) == {"read": 10**9, "asked": 0, "times": 0}


@pytest.mark.parametrize("job", ["export_job", "after_facts_job", "__ASSET_JOB"])
def test_nothing_is_asked_for_while_an_export_is_under_way(quick: dg.DagsterInstance, job: str) -> None:
    # The last is what `memory-pipeline materialize` and the UI start; it holds the file if that was asked for.
    selected = frozenset({dg.AssetKey("duckdb_analytics")}) if job == "__ASSET_JOB" else None
    run = quick.create_run_for_job(
        REPOSITORY.get_job(job), status=dg.DagsterRunStatus.STARTED, asset_selection=selected
    )
    told(quick, "facts", "2025-03-03")
    assert asked(quick, "0") == ([], f"Run {run.run_id} exports; what it leaves follows.", "0")
    quick.report_run_canceled(run)
    if job == "__ASSET_JOB":
        assert asked(quick, "0")[0] == [("2025-03-03", "2025-03-03")]


def test_what_an_export_has_read_is_not_exported_again(quick: dg.DagsterInstance) -> None:
    run_over(quick, ["facts", "duckdb_analytics"], "2025-03-03", "2025-03-05")  # as the hourly export does
    assert asked(quick, "0")[1].endswith("has exported it.")
    told(quick, "facts", "2025-03-03")
    run_over(quick, ["facts"], "2025-03-04", "2025-03-04")  # as `memory-pipeline materialize` does: in several runs
    run_over(quick, ["duckdb_analytics"], "2025-03-03", "2025-03-05")
    assert asked(quick, "0")[1].endswith("has exported it.")
    told(quick, "facts", "2025-03-04")
    assert asked(quick, "0")[0] == [("2025-03-04", "2025-03-04")]


def test_days_that_an_export_did_not_look_at_are_still_exported(quick: dg.DagsterInstance) -> None:
    run_over(quick, ["facts"], "2024-05-01", "2024-05-02")
    run_over(quick, ["facts", "duckdb_analytics"], "2025-03-03", "2025-03-05")
    ranges, _reason, cursor = asked(quick, "0")
    assert ranges == [("2024-05-01", "2024-05-02")]
    exported(quick, *ranges[0])
    assert asked(quick, cursor)[0] == []


def test_the_first_look_of_a_deployment_with_a_file_does_not_begin_with_the_oldest_facts(
    quick: dg.DagsterInstance,
) -> None:
    run_over(quick, ["facts"], "2024-05-01", "2024-05-02")
    run_over(quick, ["duckdb_analytics"], "2025-03-03", "2025-03-05")
    ranges, reason, cursor = asked(quick, None)
    assert (ranges, reason) == ([], NOTHING)
    assert msgspec.json.decode(str(cursor))["read"] > 0


def test_the_job_exports_and_makes_no_facts() -> None:
    selected = {key.to_user_string() for key in REPOSITORY.get_job("after_facts_job").asset_layer.selected_asset_keys}
    graph = REPOSITORY.asset_graph
    assert selected == {
        key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).group_name == "analytics"
    }


def test_what_was_asked_for_publishes_the_facts_with_the_messages_they_cite(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    fill(str(deployment.settings.postgres_pipeline_url))
    told(instance, "facts", *(day.isoformat() for day in WINDOW.days()))
    (request,), _reason, _events, cursor = tick(instance, NAME)
    result = execute_request(instance, request, "after_facts_job")
    assert result.success
    path = current_export(deployment.settings.data / "exports")
    assert query(path, "SELECT (SELECT count(*) FROM facts), (SELECT count(*) FROM messages)").rows == [(4, 24)]
    assert tick(instance, NAME, cursor)[1] == f"Run {result.run_id} has exported it."

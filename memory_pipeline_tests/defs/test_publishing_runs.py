"""Runs that are cut short, and publications of which a part fails: what they leave is whole, and is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from matplotlib.figure import Figure

from memory_pipeline.defs.analytics import plots
from memory_pipeline.defs.analytics.shown import NOT_MADE
from memory_pipeline.defs.assembly import build_definitions
from memory_pipeline.model.errors import QueryTimeoutError
from memory_pipeline.settings import ExportConsumer, Settings, load_settings
from memory_pipeline.stages.export import export_lake, publish
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.duckdb.marts import marts
from memory_pipeline.stores.duckdb.publish import current_export
from memory_pipeline.stores.duckdb.query import query
from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.stores.export_sample import MESSAGES, WINDOW, add_messages, fill, message

DAYS = {ASSET_PARTITION_RANGE_START_TAG: "2025-03-05", ASSET_PARTITION_RANGE_END_TAG: "2025-03-05"}


@pytest.fixture
def exporting(database: Database, tmp_path: Path) -> Settings:
    """Everything is in the lake, nothing is published."""
    fill(database.pipeline_url)
    settings = load_settings(
        home=tmp_path, postgres_app_url=database.app_url, postgres_pipeline_url=database.pipeline_url
    )
    export_lake(database.pipeline_url, WINDOW, settings.data / "lake")
    return settings


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def run(
    settings: Settings, instance: dg.DagsterInstance, asset: str, tags: dict[str, str] | None = None
) -> dg.ExecuteInProcessResult:
    with Pipeline(settings) as pipeline:
        known = build_definitions(resource_overrides={"pipeline": pipeline}).get_repository_def().assets_defs_by_key
        chosen = [known[dg.AssetKey(asset)]]
        return dg.materialize(chosen, instance=instance, tags=tags or {}, raise_on_error=False)


def test_a_run_cut_short_after_the_daily_tables_leaves_a_lake_that_can_be_published(
    exporting: Settings, instance: dg.DagsterInstance
) -> None:
    source = str(exporting.postgres_pipeline_url)
    publish(exporting, exporting.data / "lake", exporting.data / "exports")
    add_messages(source, "acme", [message("acme", "of a new conversation", datetime(2025, 3, 5, 12, tzinfo=UTC))])
    assert run(exporting, instance, "lake_messages", DAYS).success  # and lake_dimensions never comes
    report = publish(exporting, exporting.data / "lake", exporting.data / "exports")
    assert report.published
    assert query(current_export(exporting.data / "exports"), "SELECT count(*) FROM messages").rows == [(MESSAGES + 1,)]


def told(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    return {
        event.asset_key.to_user_string(): {name: one.value for name, one in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }


def test_a_consumer_without_a_file_fails_the_run_after_the_published_file_is_told(
    exporting: Settings, instance: dg.DagsterInstance
) -> None:
    consumers = {
        "lab": ExportConsumer(tenant="nobody", masked=False, group=None),
        "acme": ExportConsumer(tenant="acme", masked=False, group=None),
    }
    settings = exporting.model_copy(update={"export_consumers": consumers})
    result = run(settings, instance, "duckdb_analytics")
    assert not result.success
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    error = cast(Any, failure.event_specific_data).error
    assert "lab: " in (error.cause or error).message
    shown = told(result)
    assert shown.keys() == {"duckdb_analytics", *(mart.name for mart in marts())}
    assert shown["duckdb_analytics"]["path"] == str(current_export(settings.data / "exports"))
    assert "| acme |" in shown["duckdb_analytics"]["consumers"]


def test_a_plot_that_cannot_be_made_does_not_fail_what_is_published(
    exporting: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_path: Path) -> Figure:
        raise QueryTimeoutError("the query took longer than 10 s.")

    def odd(_path: Path) -> Figure:
        raise ValueError("ana@acme.example can't be drawn")

    monkeypatch.setitem(plots._FIGURES, "mart_daily_activity", slow)
    monkeypatch.setitem(plots._FIGURES, "mart_retention", odd)
    result = run(exporting, instance, "duckdb_analytics")
    assert result.success
    shown = told(result)
    assert {name for name, metadata in shown.items() if metadata["plot"] == NOT_MADE} == {
        "mart_daily_activity",
        "mart_retention",
    }
    assert shown["mart_retention"]["preview"].startswith("| ")
    logged = [record.event_log_entry for record in instance.get_records_for_run(result.run_id).records]
    warnings = [entry.user_message for entry in logged if entry.level == logging.WARNING]
    assert any("took longer than 10 s" in words for words in warnings)
    assert any(words.endswith("ValueError") for words in warnings)
    assert not any("ana@" in words for words in warnings)

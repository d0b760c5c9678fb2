"""Runs that are cut short, and publications of which a part fails: what they leave is whole, and is told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from memory_pipeline.defs.assembly import build_definitions
from memory_pipeline.settings import Settings, load_settings
from memory_pipeline.stages.export import export_lake, publish
from memory_pipeline.stages.pipeline import Pipeline
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

"""The asset `published_lake`: what it tells, and what its failure leaves alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest

from memory_pipeline.defs.analytics.shown import NOT_MADE
from memory_pipeline.defs.assembly import build_definitions
from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.lake.published import PublishedManifest, served_manifest
from memory_pipeline.stores.lake.target import Target
from memory_pipeline_tests.stores.export_sample import lake_bytes
from memory_pipeline_tests.stores.lake_places import Place
from memory_pipeline_tests.stores.s3_server import S3Server


@pytest.fixture
def home(sample_lake: Path, tmp_path: Path) -> Path:
    shutil.copytree(sample_lake, tmp_path / "home/data/lake")
    return tmp_path / "home"


def materialized(home: Path, url: str | None, *assets: str) -> dg.ExecuteInProcessResult:
    pipeline = Pipeline(load_settings(home=home, lake_url=url))
    known = build_definitions(resource_overrides={"pipeline": pipeline}).get_repository_def().assets_defs_by_key
    chosen = [known[dg.AssetKey(name)] for name in assets or ["published_lake"]]
    return dg.materialize(chosen, raise_on_error=False)


def told(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (materialization,) = result.asset_materializations_for_node("published_lake")
    return {name: value.value for name, value in materialization.metadata.items()}


def test_the_asset_tells_what_travelled(home: Path, lake_place: Place) -> None:
    files = lake_bytes(home / "data/lake")
    first, again = (told(materialized(home, lake_place.url)) for _ in range(2))
    assert first["url"] == lake_place.url.partition("?")[0]
    assert (first["files"], first["files_copied"], first["files_removed"]) == (len(files), len(files), 0)
    assert first["bytes_copied"] == sum(map(len, files.values()))
    assert (first["published"], first["generation"]) == (True, 1)
    assert (again["published"], again["files_copied"], again["generation"]) == (False, 0, 1)


def test_without_a_url_the_asset_is_skipped(home: Path) -> None:
    result = materialized(home, None)
    assert result.success
    assert result.asset_materializations_for_node("published_lake") == []


def test_a_bucket_that_is_away_fails_this_asset_and_not_the_files_of_duckdb(home: Path, s3: S3Server) -> None:
    before = lake_bytes(home / "data/lake")
    s3.refused.add("PUT")
    result = materialized(home, s3.url(), "published_lake", "duckdb_analytics")
    assert not result.success
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    assert failure.step_key == "published_lake"
    error = cast(Any, failure.event_specific_data).error.cause
    assert error.cls_name == StoreUnavailableError.__name__
    assert "then materialize published_lake again" in error.message
    assert lake_bytes(home / "data/lake") == before
    assert (home / "data/exports/memory.duckdb").exists()


def test_a_server_that_is_away_after_the_publication_leaves_out_the_plot(
    home: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(target: Target) -> PublishedManifest | None:
        s3.refused.add("GET")
        return served_manifest(target)

    monkeypatch.setattr("memory_pipeline.defs.analytics.assets.served_manifest", away)
    result = materialized(home, s3.url())
    assert result.success
    shown = told(result)
    assert (shown["published"], shown["plot"], shown["preview"]) == (True, NOT_MADE, NOT_MADE)

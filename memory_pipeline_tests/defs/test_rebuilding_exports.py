"""Exports are derived: with lake and files deleted, materializing brings the same ones back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from memory_pipeline.defs.launch import Observer, materialize
from memory_pipeline.stores.duckdb.generations import manifest_of
from memory_pipeline.stores.duckdb.overview import published_files
from memory_pipeline.stores.lake import DAILY_TABLES, verify_lake
from memory_pipeline_tests.defs.conftest import Deployment
from memory_pipeline_tests.defs.sample import WINDOW, add_sample
from memory_pipeline_tests.stores.export_sample import lake_bytes

UNWATCHED = Observer(lambda name: None, lambda total, unit: None, lambda step: None)
EXPORTS = (*(f"lake_{table}" for table in DAILY_TABLES), "lake_dimensions", "duckdb_analytics")


def run(*assets: str) -> None:
    for report in materialize(assets, WINDOW, UNWATCHED):
        assert [step.error for step in report.steps if not step.succeeded] == []
        assert report.succeeded
        assert report.failed_checks == []


def digests(exports: Path) -> dict[str | None, tuple[str, str, dict[str, str]]]:
    """Name, digest, and digest of every table, of each file that is served; by consumer."""
    found = {}
    for file in published_files(exports):
        assert file.served
        manifest = manifest_of(file.path)
        tables = {table: summary.digest for table, summary in manifest.tables.items()}
        found[file.consumer] = (manifest.name, manifest.digest, tables)
    return found


@pytest.mark.faults
def test_deleting_all_exports_and_materializing_again_brings_back_identical_digests(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_EXPORT_CONSUMERS", '{"acme": {"tenant": "acme"}, "lab": {"masked": true}}')
    monkeypatch.setenv("MEMORY_EXPORT_MASK_KEY", "a key for this test alone")
    add_sample(deployment.settings)
    run("facts", "memory_relationships", "weekly_summaries", *EXPORTS)
    data = deployment.settings.data
    files, lake = digests(data / "exports"), lake_bytes(data / "lake")
    assert files.keys() == {None, "acme", "lab"}
    assert len({digest for _, digest, _ in files.values()}) == 3
    assert {Path(name).parts[0] for name in lake} >= {"messages", "memories", "facts", "summaries", "users"}

    shutil.rmtree(data)
    run(*EXPORTS)

    assert digests(data / "exports") == files
    assert lake_bytes(data / "lake") == lake
    assert verify_lake(data / "lake") == []

"""Exports are derived: with lake and files deleted, materializing brings the same ones back."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memory_pipeline.defs.launch import Observer, materialize
from memory_pipeline.stores.duckdb.checks import rows_and_keys
from memory_pipeline.stores.duckdb.generations import manifest_of
from memory_pipeline.stores.duckdb.overview import published_files
from memory_pipeline.stores.duckdb.publish import current_export
from memory_pipeline.stores.duckdb.query import query
from memory_pipeline.stores.lake import DAILY_TABLES, verify_lake
from memory_pipeline.stores.postgres.checks import exported_rows
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline_tests.defs.conftest import Deployment
from memory_pipeline_tests.defs.sample import WINDOW, add_sample
from memory_pipeline_tests.stores.export_sample import add_messages, lake_bytes, message

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


@pytest.mark.nightly
def test_days_that_no_run_was_of_are_exported_with_the_days_of_a_run(deployment: Deployment) -> None:
    settings = deployment.settings
    add_sample(settings)
    long_ago = datetime(2025, 2, 10, 12, tzinfo=UTC)
    assert long_ago.date() < WINDOW.start - timedelta(days=8)
    pipeline_url = str(settings.postgres_pipeline_url)
    add_messages(pipeline_url, "acme", [message("acme", "imported later", long_ago)])
    run(*EXPORTS)
    file = current_export(settings.data / "exports")
    assert query(file, "SELECT count(*) FROM messages WHERE day = '2025-02-10'").rows == [(1,)]
    with Database(pipeline_url) as database, database.transaction() as connection:
        expected = exported_rows(connection)
    assert {table.table: table.rows for table in rows_and_keys(file) if table.table in expected} == expected

    add_messages(pipeline_url, "acme", [message("acme", "and later still", long_ago - timedelta(days=1))])
    before = lake_bytes(settings.data / "lake")
    run(*EXPORTS)
    after = lake_bytes(settings.data / "lake")
    assert after.keys() - before.keys() == {
        f"{table}/day=2025-02-09/part-0.parquet" for table in ("messages", "memories")
    }
    assert {name.split("/")[0] for name in before if after[name] != before[name]} <= {"conversations", "events", "jobs"}


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

"""What the code location says of itself, and that loading it touches nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from memory_pipeline.definitions import defs
from memory_pipeline.defs.analytics.assets import _mart_spec
from memory_pipeline.defs.analytics.columns import SOURCES
from memory_pipeline.defs.partitions import daily, weekly
from memory_pipeline.stores.duckdb.columns import exported_columns
from memory_pipeline.stores.duckdb.marts import marts
from memory_pipeline.stores.lake import DAILY_TABLES, DIMENSIONS
from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.defs.conftest import PROJECT

GRAPH = defs.get_repository_def().asset_graph
ASSETS = sorted(GRAPH.get_all_asset_keys())
CHECKS = sorted(GRAPH.asset_check_keys)

# Every connection, every address looked up, every file or folder made: there must be none.
LOAD = """
import json, sys
touched = []
def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "os.mkdir"):
        touched.append([event, str(arguments)])
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        touched.append([event, str(arguments)])
sys.addaudithook(note)
import memory_pipeline.definitions as location
repository = location.defs.get_repository_def()
daily = next(node.partitions_def for node in repository.asset_graph.asset_nodes if node.key.path == ["facts"])
heavy = {"chromadb", "onnxruntime", "duckdb", "pyarrow", "pandas", "onnx", "tokenizers"}
print(json.dumps({
    "touched": touched,
    "heavy": sorted(heavy & set(sys.modules)),
    "assets": len(repository.asset_graph.get_all_asset_keys()),
    "first_day": daily.get_first_partition_key(),
}))
"""


@pytest.mark.parametrize("key", ASSETS, ids=dg.AssetKey.to_user_string)
def test_every_asset_is_described(key: dg.AssetKey) -> None:
    node = GRAPH.get(key)
    assert node.description
    assert len(node.description) > 40
    assert node.group_name not in (None, "default")
    assert node.kinds
    assert node.owners == ["team:memory-platform"]
    assert node.code_version


@pytest.mark.parametrize("key", CHECKS, ids=lambda key: key.to_user_string())
def test_every_check_is_described(key: dg.AssetCheckKey) -> None:
    description = GRAPH.get(key).description
    assert description
    assert description.endswith(".")


def test_a_range_of_days_or_weeks_is_one_run() -> None:
    nodes = [GRAPH.get(key) for key in GRAPH.materializable_asset_keys]
    partitioned = [node for node in nodes if node.partitions_def is not None]
    assert sum(node.partitions_def == daily for node in partitioned) == 4 + len(DAILY_TABLES)
    assert [node.key.to_user_string() for node in partitioned if node.partitions_def == weekly] == ["weekly_summaries"]
    assert {node.backfill_policy for node in partitioned} == {dg.BackfillPolicy.single_run()}


def test_only_messages_come_from_outside() -> None:
    outside = set(ASSETS) - GRAPH.materializable_asset_keys
    assert {key.to_user_string() for key in outside} == {"messages"}
    assert GRAPH.get(dg.AssetKey("messages")).is_observable


def test_loading_takes_a_first_day_and_touches_nothing(tmp_path: Path) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PROJECT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(tmp_path),
        "MEMORY_PARTITION_START": "2026-01-05",
    }
    urls = {
        "MEMORY_POSTGRES_PIPELINE_URL": nowhere,
        "MEMORY_POSTGRES_APP_URL": nowhere,
        "MEMORY_DAGSTER_POSTGRES_URL": nowhere,
        "MEMORY_CHROMA_URL": "http://127.0.0.1:1",
        "MEMORY_REDIS_URL": "redis://127.0.0.1:1",
    }
    for more in ({}, urls):
        loaded = subprocess.run(
            [sys.executable, "-c", LOAD],
            env=environment | more,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        # stderr: not one warning of Dagster's
        assert (loaded.returncode, loaded.stderr) == (0, "")
        assert json.loads(loaded.stdout) == {
            "touched": [],
            "heavy": [],
            "assets": len(ASSETS),
            "first_day": "2026-01-05",
        }
    assert list(tmp_path.iterdir()) == []


def test_the_lake_tables_show_the_columns_of_the_published_file() -> None:
    import duckdb

    folder = PROJECT / "memory_pipeline/stores/duckdb"
    with duckdb.connect() as connection:
        connection.execute((folder / "sql/tables.sql").read_text())
        connection.execute((folder / "sql/comments.sql").read_text())
        for table in DAILY_TABLES:
            real = connection.execute(
                "SELECT column_name, data_type, is_nullable, comment FROM duckdb_columns() WHERE table_name = ?"
                " ORDER BY column_index",
                [table],
            ).fetchall()
            shown = GRAPH.get(dg.AssetKey(f"lake_{table}")).metadata["dagster/column_schema"]
            assert isinstance(shown, dg.TableSchema | dg.TableSchemaMetadataValue)
            schema = shown if isinstance(shown, dg.TableSchema) else shown.schema
            names = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}
            assert [
                (column.name, names.get(column.type, column.type), column.constraints.nullable, column.description)
                for column in schema.columns
            ] == real


def test_every_mart_is_an_asset_whose_lineage_leads_to_what_it_is_read_from() -> None:
    for mart in marts():
        node = GRAPH.get(dg.AssetKey(mart.name))
        lineage = node.metadata["dagster/column_lineage"]
        assert isinstance(lineage, dg.TableColumnLineage | dg.TableColumnLineageMetadataValue)
        deps = lineage if isinstance(lineage, dg.TableColumnLineage) else lineage.column_lineage
        assert list(deps.deps_by_column) == [column.name for column in mart.columns]
        parents = {dep.asset_key for found in deps.deps_by_column.values() for dep in found}
        assert parents == node.parent_keys
        for dep in (dep for found in deps.deps_by_column.values() for dep in found):
            table = dep.asset_key.to_user_string().removeprefix("lake_")
            known = [table] if table != "dimensions" else DIMENSIONS
            columns = {c.name for name in known for c in exported_columns().get(name, [])}
            columns |= {c.name for other in marts() if other.name == table for c in other.columns}
            assert dep.column_name in columns, (mart.name, dep)


def test_a_mart_of_another_statement_has_another_code_version() -> None:
    versions = {mart.name: GRAPH.get(dg.AssetKey(mart.name)).code_version for mart in marts()}
    assert len(set(versions.values())) == len(versions)
    mart = marts()[-1]
    assert _mart_spec(mart).code_version == versions[mart.name]
    assert _mart_spec(mart._replace(statement=mart.statement.replace("SELECT", "SELECT ", 1))).code_version not in (
        versions.values()
    )


def test_the_published_file_has_one_publisher() -> None:
    for key in ("duckdb_analytics", *(mart.name for mart in marts())):
        assert GRAPH.get(dg.AssetKey(key)).pools == {"duckdb_publisher"}
    assert all(GRAPH.get(dg.AssetKey(f"lake_{table}")).pools == {"lake"} for table in DAILY_TABLES)
    assert GRAPH.get(dg.AssetKey("published_lake")).pools == {"lake_publisher"}


def test_every_column_of_the_lake_comes_from_a_column_of_postgres(database: Database) -> None:
    tables = {name: [name] for name in ("messages", "memory_relationships")}
    tables["memory_embeddings"] = ["llm_usage"]
    tables["consistency_audit"] = ["audit_findings", "audit_runs"]
    with psycopg.connect(database.admin_url) as connection:
        for table, (asset, renamed) in SOURCES.items():
            found = connection.execute(
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_schema = 'memory' AND table_name = ANY(%s)",
                [tables.get(asset, ["memories"])],
            ).fetchall()
            sources = {renamed.get(column.name, column.name) for column in exported_columns()[table]}
            assert sources <= {name for (name,) in found}
            assert dg.AssetKey(asset) in GRAPH.get(dg.AssetKey(f"lake_{table}")).parent_keys

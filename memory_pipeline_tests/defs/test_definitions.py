"""What the code location says of itself, and that loading it touches nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
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
from memory_pipeline.stores.lake import DAILY_TABLES, DIMENSIONS, TABLES
from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.defs.conftest import PROJECT

GRAPH = defs.get_repository_def().asset_graph
ASSETS = sorted(GRAPH.get_all_asset_keys())
ANALYTICS = [key for key in ASSETS if GRAPH.get(key).group_name == "analytics"]
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
            assert described(dg.AssetKey(f"lake_{table}")) == real


def described(key: dg.AssetKey) -> list[tuple[str, str, bool, str | None]]:
    """Return what an asset says of its columns, in the words of DuckDB's catalogue."""
    names = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}
    return [
        (column.name, names.get(column.type, column.type), column.constraints.nullable, column.description)
        for column in schema_of(key).columns
    ]


def schema_of(key: dg.AssetKey) -> dg.TableSchema:
    shown = GRAPH.get(key).metadata["dagster/column_schema"]
    assert isinstance(shown, dg.TableSchema | dg.TableSchemaMetadataValue)
    return shown if isinstance(shown, dg.TableSchema) else shown.schema


def lineage_of(key: dg.AssetKey) -> Mapping[str, Sequence[dg.TableColumnDep]]:
    shown = GRAPH.get(key).metadata["dagster/column_lineage"]
    assert isinstance(shown, dg.TableColumnLineage | dg.TableColumnLineageMetadataValue)
    return (shown if isinstance(shown, dg.TableColumnLineage) else shown.column_lineage).deps_by_column


@pytest.mark.parametrize("key", ANALYTICS, ids=dg.AssetKey.to_user_string)
def test_every_analytics_asset_says_what_its_columns_are_and_where_each_comes_from(key: dg.AssetKey) -> None:
    columns = schema_of(key).columns
    assert columns
    assert all(column.description and column.type for column in columns)
    lineage = lineage_of(key)
    assert list(lineage) == [column.name for column in columns]
    for column, deps in lineage.items():
        assert deps, column
        assert len(deps) == len(set(deps)), column
        for dep in deps:
            assert dep.asset_key in GRAPH.get(key).parent_keys, (column, dep)
            if dep.asset_key in ANALYTICS:
                assert dep.column_name in {one.name for one in schema_of(dep.asset_key).columns}, (column, dep)


def test_assets_of_many_tables_show_the_columns_of_the_published_file(tmp_path: Path) -> None:
    import duckdb

    from memory_pipeline.stores.duckdb.publish import publish_duckdb

    path = publish_duckdb(tmp_path / "lake", tmp_path / "exports", 1).path
    with duckdb.connect(str(path), read_only=True) as connection:
        real = connection.execute(
            "SELECT table_name || '.' || column_name, data_type, comment FROM duckdb_columns()"
            " WHERE NOT internal ORDER BY ALL"
        ).fetchall()
    for name, tables in (
        ("duckdb_analytics", {*TABLES, *(mart.name for mart in marts())}),
        ("published_lake", set(TABLES)),
        ("lake_dimensions", set(DIMENSIONS)),
    ):
        shown = [(column, type_, comment) for column, type_, _, comment in described(dg.AssetKey(name))]
        assert sorted(shown) == [row for row in real if row[0].partition(".")[0] in tables]
        assert {row[0].partition(".")[0] for row in shown} == tables


def test_the_lineage_of_a_mart_is_that_of_its_header() -> None:
    for mart in marts():
        key = dg.AssetKey(mart.name)
        lineage = lineage_of(key)
        assert {dep.asset_key for deps in lineage.values() for dep in deps} == GRAPH.get(key).parent_keys
        for column in mart.columns:
            assert {(dep.asset_key, dep.column_name) for dep in lineage[column.name]} == {
                (dg.AssetKey("lake_dimensions"), f"{table}.{source}")
                if table in DIMENSIONS
                else (dg.AssetKey(table if table.startswith(("mart_", "dim_")) else f"lake_{table}"), source)
                for table, source in column.sources
            }


def test_the_columns_of_marts_in_the_file_lead_past_other_marts_to_the_lake() -> None:
    lineage = lineage_of(dg.AssetKey("duckdb_analytics"))
    read_by_marts = {table for mart in marts() for table in mart.reads} & {mart.name for mart in marts()}
    assert read_by_marts
    for mart in marts():
        for column in mart.columns:
            found = lineage[f"{mart.name}.{column.name}"]
            assert {dep.asset_key.to_user_string().partition("_")[0] for dep in found} == {"lake"}


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
    assert SOURCES.keys() == set(TABLES)
    with psycopg.connect(database.admin_url) as connection:
        for table, source in SOURCES.items():
            found = connection.execute(
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_schema = 'memory' AND table_name = ANY(%s)",
                [[source.beside] if source.beside else tables.get(source.asset, ["memories"])],
            ).fetchall()
            names = {source.dep(column.name).column_name for column in exported_columns()[table]}
            assert names <= {f"{source.beside}.{name}" if source.beside else name for (name,) in found}

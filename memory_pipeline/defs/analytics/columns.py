"""Columns of the lake's tables, the files and the marts as Dagster's metadata: types, meaning, where each comes from.

Kept with the definitions: with the materializations they would be stored once per table and day of every run. Columns
of an asset with several tables are named `table.column`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import dagster as dg

from memory_pipeline.stores.duckdb.columns import exported_columns
from memory_pipeline.stores.duckdb.marts import Mart, marts
from memory_pipeline.stores.lake import DIMENSIONS, TABLES

Lineage = dict[str, list[dg.TableColumnDep]]


class Source(NamedTuple):
    """What a table of the lake is read from."""

    asset: str
    renamed: Mapping[str, str] = {}
    """Columns that have another name there, or are made of another column."""
    beside: str | None = None
    """The table of Postgres, where it is not what the asset is of but written beside it, by no asset of its own."""

    def dep(self, column: str) -> dg.TableColumnDep:
        name = self.renamed.get(column, column)
        return dg.TableColumnDep(dg.AssetKey(self.asset), name if self.beside is None else f"{self.beside}.{name}")


SOURCES: Mapping[str, Source] = {
    **{table: Source("messages", beside=table) for table in DIMENSIONS},
    "messages": Source("messages", {"day": "sent_at"}),
    "memories": Source("facts"),
    "facts": Source(
        "facts", {"fact_id": "memory_id", "statement": "content", "source_message_id": "source_message_ids"}
    ),
    "memory_relationships": Source("memory_relationships"),
    "summaries": Source("weekly_summaries", {"summary_id": "memory_id", "source_messages": "source_message_ids"}),
    "profiles": Source("facts", {"profile_id": "memory_id", "source_messages": "source_message_ids"}),
    "jobs": Source("messages", {"day": "created_at", "subject_day": "day"}, "memory_jobs"),
    "job_days": Source("messages", {"lag_seconds": "lag_bucket"}, "memory_job_days"),
    "audit_runs": Source("consistency_audit", {"day": "started_at", "model": "checked", "looked_for": "checked"}),
    "audit_findings": Source(
        "consistency_audit", {"day": "started_at", "audited_at": "started_at", "in_all": "detail"}
    ),
    "events": Source("messages", {"day": "occurred_at"}, "events"),
    "memory_access": Source(
        "messages",
        {"day": "accessed_at", "memories": "memory_ids", "degraded": "degraded_parts"},
        "memory_access_log",
    ),
    "llm_usage": Source("memory_embeddings", {"day": "used_at"}),
}
"""Jobs and events are written beside the messages, recalls by whoever serves them, dimensions by whoever imports."""


def column_metadata(table: str) -> dict[str, Any]:
    """Return schema and lineage of a daily table of the lake."""
    columns = [column.name for column in exported_columns()[table]]
    return _metadata(_table_columns(table), {column: [SOURCES[table].dep(column)] for column in columns})


def dimensions_metadata() -> dict[str, Any]:
    """Return schema and lineage of the asset that has all dimensions."""
    lineage = {
        f"{table}.{column.name}": [SOURCES[table].dep(column.name)]
        for table in DIMENSIONS
        for column in exported_columns()[table]
    }
    return _metadata(_of_tables(DIMENSIONS), lineage)


def lake_metadata() -> dict[str, Any]:
    """Return schema and lineage of the whole lake, as it is published elsewhere."""
    return _metadata(_of_tables(TABLES), _from_lake())


def file_metadata() -> dict[str, Any]:
    """Return schema and lineage of the published file: those of its tables, then of its marts.

    A mart's columns lead to the lake's, past other marts.
    """
    found = _from_lake()
    for mart in marts():  # each after those it reads
        for column in mart.columns:
            deps = [dep for table, source in column.sources for dep in found[f"{table}.{source}"]]
            found[f"{mart.name}.{column.name}"] = list(dict.fromkeys(deps))
    columns = [*_of_tables(TABLES), *(_named(mart.name, one) for mart in marts() for one in _mart_columns(mart))]
    return _metadata(columns, found)


def mart_metadata(mart: Mart) -> dict[str, Any]:
    """Return schema and lineage of a mart, as its SQL file says them."""
    return _metadata(
        _mart_columns(mart), {column.name: [_made_by(*source) for source in column.sources] for column in mart.columns}
    )


def asset_of(table: str) -> dg.AssetKey:
    """Return the asset that makes a table or mart of the published file."""
    if table in {mart.name for mart in marts()}:
        return dg.AssetKey(table)
    return dg.AssetKey("lake_dimensions" if table in DIMENSIONS else f"lake_{table}")


def _metadata(columns: Iterable[dg.TableColumn], lineage: Lineage) -> dict[str, Any]:
    return {
        "dagster/column_schema": dg.TableSchema(list(columns)),
        "dagster/column_lineage": dg.TableColumnLineage(lineage),
    }


def _made_by(table: str, column: str) -> dg.TableColumnDep:
    """Return a column of a table or mart by its name in the asset that makes it."""
    return dg.TableColumnDep(asset_of(table), f"{table}.{column}" if table in DIMENSIONS else column)


def _from_lake() -> Lineage:
    return {
        f"{table}.{column.name}": [_made_by(table, column.name)]
        for table in TABLES
        for column in exported_columns()[table]
    }


def _of_tables(tables: Sequence[str]) -> Iterator[dg.TableColumn]:
    return (_named(table, column) for table in tables for column in _table_columns(table))


def _named(table: str, column: dg.TableColumn) -> dg.TableColumn:
    return dg.TableColumn(f"{table}.{column.name}", column.type, column.description, column.constraints)


def _table_columns(table: str) -> list[dg.TableColumn]:
    return [
        dg.TableColumn(column.name, column.type, column.comment, dg.TableColumnConstraints(nullable=column.nullable))
        for column in exported_columns()[table]
    ]


def _mart_columns(mart: Mart) -> list[dg.TableColumn]:
    return [
        dg.TableColumn(
            column.name, column.type, column.comment, dg.TableColumnConstraints(nullable=column.name not in mart.key)
        )
        for column in mart.columns
    ]

"""Columns of the lake's tables and of the marts as Dagster's metadata: types, meaning, and where each comes from.

Kept with the definitions: with the materializations they would be stored once per table and day of every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from memory_pipeline.stores.duckdb.columns import exported_columns
from memory_pipeline.stores.duckdb.marts import Mart, marts
from memory_pipeline.stores.lake import DIMENSIONS

SOURCES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "messages": ("messages", {"day": "sent_at"}),
    "memories": ("facts", {}),
    "facts": (
        "facts",
        {"fact_id": "memory_id", "statement": "content", "source_message_id": "source_message_ids"},
    ),
    "memory_relationships": ("memory_relationships", {}),
    "summaries": ("weekly_summaries", {"summary_id": "memory_id", "source_messages": "source_message_ids"}),
    "profiles": ("facts", {"profile_id": "memory_id", "source_messages": "source_message_ids"}),
    "audit_runs": ("consistency_audit", {"day": "started_at", "model": "checked", "looked_for": "checked"}),
    "audit_findings": ("consistency_audit", {"day": "started_at", "audited_at": "started_at", "in_all": "detail"}),
    "llm_usage": ("memory_embeddings", {"day": "used_at"}),
}
"""The asset that a daily table is read from, and the columns that have another name there. Jobs and events are written
beside the messages, by no asset of their own, and memory_access by whoever recalls."""


def column_metadata(table: str) -> dict[str, Any]:
    """Return schema and lineage of a daily table of the lake."""
    columns = exported_columns()[table]
    metadata: dict[str, Any] = {
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn(
                    column.name, column.type, column.comment, dg.TableColumnConstraints(nullable=column.nullable)
                )
                for column in columns
            ]
        )
    }
    if table in SOURCES:
        asset, renamed = SOURCES[table]
        metadata["dagster/column_lineage"] = dg.TableColumnLineage(
            {
                column.name: [dg.TableColumnDep(dg.AssetKey(asset), renamed.get(column.name, column.name))]
                for column in columns
            }
        )
    return metadata


def mart_metadata(mart: Mart) -> dict[str, Any]:
    """Return schema and lineage of a mart, as its SQL file says them."""
    return {
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn(
                    column.name,
                    column.type,
                    column.comment,
                    dg.TableColumnConstraints(nullable=column.name not in mart.key),
                )
                for column in mart.columns
            ]
        ),
        "dagster/column_lineage": dg.TableColumnLineage(
            {
                column.name: [dg.TableColumnDep(asset_of(table), name) for table, name in column.sources]
                for column in mart.columns
            }
        ),
    }


def asset_of(table: str) -> dg.AssetKey:
    """Return the asset that makes a table or mart of the published file."""
    if table in {mart.name for mart in marts()}:
        return dg.AssetKey(table)
    return dg.AssetKey("lake_dimensions" if table in DIMENSIONS else f"lake_{table}")

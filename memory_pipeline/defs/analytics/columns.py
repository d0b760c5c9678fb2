"""Columns of the lake's tables as Dagster's metadata: types, meaning, and which column upstream each comes from.

Kept with the definitions: with the materializations they would be stored once per table and day of every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from memory_pipeline.stores.duckdb.columns import exported_columns

SOURCES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "messages": ("messages", {"day": "sent_at"}),
    "memories": ("facts", {}),
    "facts": (
        "facts",
        {"fact_id": "memory_id", "statement": "content", "source_message_id": "source_message_ids"},
    ),
    "memory_relationships": ("memory_relationships", {}),
    "summaries": ("weekly_summaries", {"summary_id": "memory_id", "source_messages": "source_message_ids"}),
}
"""The asset each daily table is read from, and the columns that have another name there."""


def column_metadata(table: str) -> dict[str, Any]:
    """Return schema and lineage of a daily table of the lake."""
    asset, renamed = SOURCES[table]
    columns = exported_columns()[table]
    return {
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn(
                    column.name, column.type, column.comment, dg.TableColumnConstraints(nullable=column.nullable)
                )
                for column in columns
            ]
        ),
        "dagster/column_lineage": dg.TableColumnLineage(
            {
                column.name: [dg.TableColumnDep(dg.AssetKey(asset), renamed.get(column.name, column.name))]
                for column in columns
            }
        ),
    }

"""The lake tables, the dimensions beside them, and `duckdb_analytics`."""

from collections.abc import Iterator, Sequence

import dagster as dg

from memory_pipeline.defs.analytics.columns import column_metadata
from memory_pipeline.defs.common import OWNERS, PipelineResource, logged_progress, metadata_of
from memory_pipeline.defs.enrichment.assets import facts, memory_relationships
from memory_pipeline.defs.partitions import daily, window_of
from memory_pipeline.defs.summaries.assets import weekly_summaries
from memory_pipeline.stages.export import export_dimensions, export_lake
from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline.stores.lake import DAILY_TABLES

_LAKE_PREFIX = "lake_"
_DESCRIPTIONS = {
    "messages": "Every message, by the UTC day it was sent.",
    "memories": "Every memory with its state, by the UTC day of its source message.",
    "facts": "Facts with subject, predicate, object and validity interval, by the UTC day they were said.",
    "memory_relationships": "Which fact ended or supports which, by day.",
    "summaries": "Weekly summaries, by the day of the first message each rests on.",
}
_READ_FROM: dict[str, Sequence[dg.AssetsDefinition | str]] = {
    "messages": ["messages"],
    "summaries": [facts, memory_relationships, weekly_summaries],
}


def _lake_spec(table: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        f"{_LAKE_PREFIX}{table}",
        deps=_READ_FROM.get(table, [facts, memory_relationships]),
        description=f"{_DESCRIPTIONS[table]} Parquet, one file per day, rewritten only where rows changed.",
        group_name="analytics",
        kinds={"parquet", "postgres"},
        owners=OWNERS,
        code_version="1",
        metadata=column_metadata(table),
        skippable=True,
    )


@dg.multi_asset(
    specs=[_lake_spec(table) for table in DAILY_TABLES],
    partitions_def=daily,
    backfill_policy=dg.BackfillPolicy.single_run(),
    can_subset=True,
    pool="lake",
    description="All daily tables of the lake, read in one snapshot of Postgres.",
)
def lake(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> Iterator[dg.MaterializeResult[None]]:
    selected = {key.to_user_string() for key in context.selected_asset_keys}
    reports = export_lake(
        pipeline.database.url,
        window_of(context),
        pipeline.lake_root,
        logged_progress(context, "rows"),
        daily_tables=[table for table in DAILY_TABLES if f"{_LAKE_PREFIX}{table}" in selected],
        dimensions=[],
    )
    for report in reports:
        folder = pipeline.lake_root / report.table
        yield dg.MaterializeResult(
            asset_key=f"{_LAKE_PREFIX}{report.table}",
            metadata=metadata_of(report, row_count=report.rows, path=dg.MetadataValue.path(folder)),
        )


@dg.asset(
    deps=["lake_messages", "lake_facts"],
    group_name="analytics",
    kinds={"parquet", "postgres"},
    owners=OWNERS,
    pool="lake",
    code_version="1",
    description=(
        "Tenants, users and conversations, written whole. Read after the daily tables, so that whatever those refer "
        "to is in here."
    ),
)
def lake_dimensions(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    reports = export_dimensions(pipeline.database.url, pipeline.lake_root, logged_progress(context, "rows"))
    return dg.MaterializeResult(
        metadata={f"rows_{report.table}": report.rows for report in reports}
        | {"dagster/row_count": sum(report.rows for report in reports)}
    )


@dg.asset(
    deps=[lake_dimensions, *(f"{_LAKE_PREFIX}{table}" for table in DAILY_TABLES)],
    group_name="analytics",
    kinds={"duckdb", "parquet"},
    owners=OWNERS,
    pool="duckdb_publisher",
    code_version="1",
    description=(
        "One read-only DuckDB file with all tables and marts, built from the lake, verified in a fresh process and "
        "switched atomically. Readers of the last file go on undisturbed; a failure leaves it served."
    ),
)
def duckdb_analytics(pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    report = publish_duckdb(pipeline.lake_root, pipeline.exports_root, pipeline.settings.export_generations)
    rows = "\n".join(f"| {table} | {count:,} |" for table, count in sorted(report.rows.items()))
    return dg.MaterializeResult(
        metadata=metadata_of(
            report,
            row_count=sum(report.rows.values()),
            path=dg.MetadataValue.path(report.path),
            tables=dg.MetadataValue.md(f"| table | rows |\n|---|---|\n{rows}"),
        )
    )

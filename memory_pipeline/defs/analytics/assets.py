"""The lake tables, the dimensions beside them, and `duckdb_analytics` with its marts."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from hashlib import sha256

import dagster as dg

from memory_pipeline.defs.analytics.columns import (
    asset_of,
    column_metadata,
    dimensions_metadata,
    file_metadata,
    lake_metadata,
    mart_metadata,
)
from memory_pipeline.defs.analytics.plots import lake_plot, mart_plot, overview_plot, tables_plot
from memory_pipeline.defs.analytics.previews import (
    file_preview,
    lake_preview,
    lake_table_preview,
    mart_preview,
    published_lake_preview,
)
from memory_pipeline.defs.analytics.shown import NOT_MADE, shown_if_possible
from memory_pipeline.defs.audit.assets import consistency_audit
from memory_pipeline.defs.common import OWNERS, PipelineResource, logged_progress, metadata_of
from memory_pipeline.defs.embedding.assets import memory_embeddings
from memory_pipeline.defs.enrichment.assets import facts, memory_relationships
from memory_pipeline.defs.partitions import daily, window_of
from memory_pipeline.defs.summaries.assets import weekly_summaries
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.stages.export import EVERY_DAY, export_lake, publish, publish_lake_at_url
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.duckdb.marts import Mart, marts
from memory_pipeline.stores.duckdb.publish import ConsumersError
from memory_pipeline.stores.lake import DAILY_TABLES
from memory_pipeline.stores.lake.manifest import LakeManifest, read_manifest
from memory_pipeline.stores.lake.published import served_manifest
from memory_pipeline.stores.lake.target import answering, open_target

_LAKE_PREFIX = "lake_"
_DESCRIPTIONS = {
    "messages": "Every message, by the UTC day it was sent.",
    "memories": "Every memory with its state, by the UTC day of its source message.",
    "facts": "Facts with subject, predicate, object and validity interval, by the UTC day they were said.",
    "memory_relationships": "Which fact ended or supports which, by day.",
    "summaries": "Weekly summaries, by the day of the first message each rests on.",
    "profiles": "Profiles of users, by the day of the first message each rests on.",
    "jobs": "The ledger of asynchronous work, by the UTC day it was asked for.",
    "job_days": "Completed jobs that left the ledger, counted by the UTC day they were asked for, type and lag.",
    "audit_runs": "Which tenants were audited, for what, and how much was found, by the UTC day of the audit.",
    "audit_findings": "Where stores disagreed with Postgres, by the UTC day of the audit.",
    "events": "The append-only log, by UTC day.",
    "memory_access": "Recall: how each question was answered, without the question, by UTC day.",
    "llm_usage": "What calls of models cost, by tenant and batch, by UTC day.",
}
_READ_FROM: dict[str, Sequence[dg.AssetsDefinition | str]] = {
    "messages": ["messages"],
    "summaries": [facts, memory_relationships, weekly_summaries],
    "profiles": [facts],
    "jobs": ["messages"],
    "job_days": ["messages"],
    # Days from the facts: a backfill of all daily assets would leave them out with a parent that has none.
    "audit_runs": [facts, consistency_audit],
    "audit_findings": [facts, consistency_audit],
    "events": ["messages"],
    "memory_access": ["messages"],
    "llm_usage": [memory_embeddings],
}


def _lake_spec(table: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        f"{_LAKE_PREFIX}{table}",
        deps=_READ_FROM.get(table, [facts, memory_relationships]),
        description=f"{_DESCRIPTIONS[table]} Parquet, one file per day, rewritten only where rows changed.",
        group_name="analytics",
        kinds={"parquet", "postgres"},
        owners=OWNERS,
        code_version="2",
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
    )
    manifest = _exported(pipeline)
    for report in reports:
        if report.table not in DAILY_TABLES:  # dimensions of the same moment: what is on disk can always be published
            continue
        folder = pipeline.lake_root / report.table
        # Dagster writes an event per day of the run. The newest, which its UI opens with, is enough to hold these.
        name = f"{_LAKE_PREFIX}{report.table}"
        context.add_asset_metadata(
            {
                "plot": shown_if_possible(context, name, partial(lake_plot, manifest, report.table)),
                "preview": shown_if_possible(context, name, partial(lake_table_preview, manifest, report.table)),
            },
            name,
            context.partition_keys[-1],
        )
        yield dg.MaterializeResult(
            asset_key=name,
            metadata=metadata_of(report, row_count=report.rows, path=dg.MetadataValue.path(folder)),
        )


@dg.asset(
    deps=["messages", *(f"{_LAKE_PREFIX}{table}" for table in DAILY_TABLES)],
    group_name="analytics",
    kinds={"parquet", "postgres"},
    owners=OWNERS,
    pool="lake",
    code_version="2",
    metadata=dimensions_metadata(),
    description=(
        "Tenants, users and conversations, written whole, in one snapshot of Postgres with every day that has changed "
        "since it was exported or never was, whatever days a run is of: what is published next is all of one moment."
    ),
)
def lake_dimensions(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    reports = export_lake(pipeline.database.url, EVERY_DAY, pipeline.lake_root, logged_progress(context, "rows"))
    changed = [report for report in reports if report.written or report.removed]
    manifest = _exported(pipeline)
    rows = {name: table.rows for name, table in manifest.tables.items()}
    return dg.MaterializeResult(
        metadata={f"rows_{report.table}": report.rows for report in reports}
        | {f"files_changed_{report.table}": report.written + report.removed for report in changed}
        | {"dagster/row_count": sum(report.rows for report in reports)}
        | {
            "plot": shown_if_possible(context, "lake_dimensions", partial(tables_plot, "Rows of the lake", rows)),
            "preview": shown_if_possible(context, "lake_dimensions", partial(lake_preview, manifest)),
        }
    )


def _exported(pipeline: Pipeline) -> LakeManifest:
    manifest = read_manifest(pipeline.lake_root)
    assert manifest is not None, "an export leaves a manifest"
    return manifest


@dg.asset(
    deps=["lake_dimensions", *(f"{_LAKE_PREFIX}{table}" for table in DAILY_TABLES)],
    group_name="analytics",
    kinds={"parquet", "s3"},
    owners=OWNERS,
    pool="lake_publisher",
    code_version="1",
    metadata=lake_metadata(),
    output_required=False,
    description=(
        "The lake at MEMORY_LAKE_URL, for readers elsewhere: files that are missing there, then a manifest that names "
        "all of them, in one step; then what no kept generation needs is removed. Skipped where the setting is not. "
        "Apart from the files of DuckDB, which go on while a server elsewhere is away."
    ),
)
def published_lake(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None]]:
    publication = publish_lake_at_url(pipeline.settings, pipeline.lake_root)
    if publication is None:
        context.log.info("MEMORY_LAKE_URL is not set: the lake is the local folder alone.")
        return
    if publication.newer_served:
        context.log.warning(f"{publication.url} already has a later moment, of another working copy of the lake.")
    assert pipeline.settings.lake_url is not None
    target = open_target(pipeline.settings.lake_url)

    shown: dict[str, dg.MarkdownMetadataValue] = {}
    try:
        with answering(target, "what was published can't be shown"):
            served = served_manifest(target)
    except MemoryPipelineError as error:
        context.log.warning(f"published_lake is published, but its plot and preview could not be made: {error}")
        shown = dict.fromkeys(("plot", "preview"), dg.MetadataValue.md(NOT_MADE))
    else:
        if served is not None:  # else another publisher is just replacing it, or it was taken away meanwhile
            rows = {name: table.rows for name, table in served.tables.items()}
            plot = partial(tables_plot, "Rows of the published lake", rows)
            shown = {
                "plot": shown_if_possible(context, "published_lake", plot),
                "preview": shown_if_possible(context, "published_lake", partial(published_lake_preview, served)),
            }
    yield dg.MaterializeResult(metadata=metadata_of(publication, row_count=publication.rows, **shown))


def _mart_spec(mart: Mart) -> dg.AssetSpec:
    return dg.AssetSpec(
        mart.name,
        deps=sorted({asset_of(table) for table in mart.reads}),
        description=f"{mart.description} A table of the published DuckDB file.",
        group_name="analytics",
        kinds={"duckdb", "sql"},
        owners=OWNERS,
        code_version=sha256(mart.statement.encode()).hexdigest()[:12],
        metadata=mart_metadata(mart),
        skippable=True,
    )


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            "duckdb_analytics",
            deps=["lake_dimensions", *(f"{_LAKE_PREFIX}{table}" for table in DAILY_TABLES)],
            description=(
                "Read-only DuckDB files with all tables and marts: one for everyone, and one for each consumer of "
                "MEMORY_EXPORT_CONSUMERS. Built from the lake, checked (rows, keys, references), verified in a fresh "
                "process and switched atomically. Readers of the last file go on undisturbed; failures leave it served."
            ),
            group_name="analytics",
            kinds={"duckdb", "parquet"},
            owners=OWNERS,
            code_version="2",
            freshness_policy=dg.FreshnessPolicy.time_window(
                fail_window=timedelta(hours=3), warn_window=timedelta(hours=2)
            ),
            metadata=file_metadata(),
            skippable=True,
        ),
        *(_mart_spec(mart) for mart in marts()),
    ],
    can_subset=True,
    pool="duckdb_publisher",
    description="The published files. Whichever of their tables is asked for, all of the file is made.",
)
def published_files(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None]]:
    refused = None
    try:
        report = publish(pipeline.settings, pipeline.lake_root, pipeline.exports_root)
    except ConsumersError as error:  # the file of all tenants is as fresh as any: told first, then the run fails
        report, refused = error.report, error
    consumers = "\n".join(
        f"| {name} | {one.path} | {sum(one.rows.values()):,} |" for name, one in sorted(report.consumers.items())
    )
    for name in ("duckdb_analytics", *(mart.name for mart in marts())):  # Dagster wants each after what it reads
        key = dg.AssetKey(name)
        if key not in context.selected_asset_keys:
            continue
        if name == "duckdb_analytics":
            yield dg.MaterializeResult(
                asset_key=key,
                metadata=metadata_of(
                    report,
                    row_count=sum(report.rows.values()),
                    path=dg.MetadataValue.path(report.path),
                    plot=shown_if_possible(context, name, partial(overview_plot, report.rows)),
                    preview=shown_if_possible(context, name, partial(file_preview, report.rows)),
                    consumers=dg.MetadataValue.md(f"| consumer | file | rows |\n|---|---|---|\n{consumers}"),
                ),
            )
        else:
            yield dg.MaterializeResult(
                asset_key=key,
                metadata={
                    "dagster/row_count": report.rows[name],
                    "plot": shown_if_possible(context, name, partial(mart_plot, report.path, name)),
                    "preview": shown_if_possible(context, name, partial(mart_preview, report.path, name)),
                },
            )
    if refused is not None:
        raise refused

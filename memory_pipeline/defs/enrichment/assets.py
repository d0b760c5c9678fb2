"""The assets `facts` and `memory_relationships`."""

import dagster as dg

from memory_pipeline.defs.common import (
    OWNERS,
    PipelineResource,
    held_up,
    logged_progress,
    metadata_of,
    refused_metadata,
)
from memory_pipeline.defs.partitions import daily, window_of
from memory_pipeline.model.flags import Flag
from memory_pipeline.providers.registry import make_enricher, plugin_names
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.enrich import enrich
from memory_pipeline.stages.relate import relate
from memory_pipeline.stores.postgres.job_settling import SETTLER, complete_open_jobs, open_jobs
from memory_pipeline.stores.postgres.previews import newest_days_of_facts


@dg.asset(
    partitions_def=daily,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=["messages"],
    group_name="enrichment",
    kinds={"python", "postgres"},
    owners=OWNERS,
    code_version=make_enricher(load_settings()).version,
    description=(
        "Statements found in each day's messages: who said it, what it says, since when, how surely, and from which "
        "message. Reading a message twice changes nothing; a new version of the enricher makes its days due again."
    ),
)
def facts(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    off = held_up(context, pipeline, Flag.ENRICHMENT)
    if off is not None:
        return off
    window = window_of(context)
    report = enrich(
        pipeline.database,
        pipeline.enricher,
        window,
        plugin=plugin_names(pipeline.settings).enricher,
        progress=logged_progress(context, "messages"),
        fail_fast=pipeline.settings.fail_fast,
    )
    with pipeline.database.transaction() as connection:
        preview = newest_days_of_facts(connection, window)
    rows = "\n".join(f"| {each.day} | {each.facts:,} | {each.users:,} | {each.confidence:.2f} |" for each in preview)
    return dg.MaterializeResult(
        metadata=metadata_of(
            report,
            row_count=report.facts_written,
            **refused_metadata(report.refused_tenants),
            preview=dg.MetadataValue.md(f"| said on | facts | users | confidence |\n|---|---|---|---|\n{rows}"),
        )
    )


@dg.asset(
    partitions_def=daily,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[facts],
    group_name="enrichment",
    kinds={"postgres"},
    owners=OWNERS,
    code_version="slots-1",
    metadata={"dagster/table_name": "memory.memory_relationships"},
    description=(
        "Which fact ended which (a move, a new job, a changed mind) and which say the same again. "
        "Sets the validity interval of facts; looks at all days of every slot that the day touches."
    ),
)
def memory_relationships(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    off = held_up(context, pipeline, Flag.RELATIONS)
    if off is not None:
        return off
    window = window_of(context)
    with pipeline.database.transaction() as connection:
        # Before: what a job asks for can be seen once the job can.
        asked = open_jobs(connection, window, ("detect_relations",))
    report = relate(pipeline.database, window)
    with pipeline.database.transaction() as connection:
        completed = complete_open_jobs(connection, asked, settled_by=f"{SETTLER}{context.run.run_id}")
    return dg.MaterializeResult(
        metadata=metadata_of(report, row_count=report.relations_written, jobs_completed=completed)
    )

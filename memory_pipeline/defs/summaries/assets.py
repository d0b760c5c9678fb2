"""The asset `weekly_summaries`."""

import dagster as dg

from memory_pipeline.defs.common import (
    OWNERS,
    PipelineResource,
    held_up,
    logged_progress,
    metadata_of,
    refused_metadata,
)
from memory_pipeline.defs.enrichment.assets import facts
from memory_pipeline.defs.partitions import weekly, window_of
from memory_pipeline.model.flags import Flag
from memory_pipeline.providers.registry import make_summarizer, plugin_names
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.summarize import summarize


@dg.asset(
    partitions_def=weekly,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[dg.AssetDep(facts, partition_mapping=dg.TimeWindowPartitionMapping())],
    group_name="summaries",
    kinds={"python", "postgres"},
    owners=OWNERS,
    code_version=make_summarizer(load_settings()).version,
    description=(
        "One summary per user and week, resting on named messages. It belongs to the day of the first of "
        "them, whose embeddings and index pick it up."
    ),
)
def weekly_summaries(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    off = held_up(context, pipeline, Flag.WEEKLY_SUMMARIES)
    if off is not None:
        return off
    report = summarize(
        pipeline.database,
        pipeline.summarizer,
        window_of(context),
        plugin=plugin_names(pipeline.settings).summarizer,
        progress=logged_progress(context, "summaries"),
    )
    refused = refused_metadata(report.refused_tenants)
    return dg.MaterializeResult(metadata=metadata_of(report, row_count=report.summaries, **refused))

"""The last days through the whole pipeline into a new DuckDB file, every hour."""

from datetime import timedelta

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from memory_pipeline.defs.analytics.assets import lake, lake_dimensions, published_files, published_lake
from memory_pipeline.defs.common import OWNER_TAG, OWNERS
from memory_pipeline.defs.embedding.assets import memory_embeddings
from memory_pipeline.defs.enrichment.assets import facts, memory_relationships
from memory_pipeline.defs.index.assets import chroma_index
from memory_pipeline.defs.partitions import PARTITION_START
from memory_pipeline.defs.ticks import tick_time, unfinished_run

DAYS = 8
"""Today and the week before, so that Monday's summaries are embedded, indexed and exported too."""

export_job = dg.define_asset_job(
    "export_job",
    selection=dg.AssetSelection.assets(
        facts,
        memory_relationships,
        memory_embeddings,
        chroma_index,
        lake,
        lake_dimensions,
        published_files,
        published_lake,
    ),
    description="A range of days through the whole pipeline, then a new DuckDB file and the lake at its URL.",
    tags=OWNER_TAG,
)


@dg.schedule(
    name="hourly_export_schedule",
    cron_schedule="10 * * * *",
    job=export_job,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description=f"Ten minutes past every hour: the last {DAYS} days as one run, unless the last one is still at work.",
    owners=OWNERS,
)
def hourly_export_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    unfinished = unfinished_run(context, export_job.name)
    if unfinished is not None:
        return dg.SkipReason(f"Run {unfinished} of {export_job.name} has not finished; the next hour takes over.")
    moment = tick_time(context)
    first = max(PARTITION_START, moment.date() - timedelta(days=DAYS - 1))
    return dg.RunRequest(
        run_key=f"export {moment:%Y-%m-%dT%H:%M}",
        tags={
            ASSET_PARTITION_RANGE_START_TAG: first.isoformat(),
            ASSET_PARTITION_RANGE_END_TAG: moment.date().isoformat(),
        },
    )

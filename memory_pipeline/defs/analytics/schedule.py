"""The last days through the whole pipeline into a new DuckDB file, every hour."""

from datetime import timedelta

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from memory_pipeline.defs.analytics.jobs import export_job, export_under_way
from memory_pipeline.defs.common import OWNERS
from memory_pipeline.defs.partitions import PARTITION_START
from memory_pipeline.defs.ticks import tick_time

DAYS = 8
"""Today and the week before, so that Monday's summaries are embedded, indexed and exported too."""


@dg.schedule(
    name="hourly_export_schedule",
    cron_schedule="10 * * * *",
    job=export_job,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description=f"Ten minutes past every hour: the last {DAYS} days as one run, unless another export is at work.",
    owners=OWNERS,
)
def hourly_export_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    under_way = export_under_way(context.instance)
    if under_way is not None:
        return dg.SkipReason(f"Run {under_way} exports; the next hour takes over.")
    moment = tick_time(context)
    first = max(PARTITION_START, moment.date() - timedelta(days=DAYS - 1))
    return dg.RunRequest(
        run_key=f"export {moment:%Y-%m-%dT%H:%M}",
        tags={
            ASSET_PARTITION_RANGE_START_TAG: first.isoformat(),
            ASSET_PARTITION_RANGE_END_TAG: moment.date().isoformat(),
        },
    )

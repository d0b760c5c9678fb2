"""Last week's summaries, every Monday."""

from datetime import timedelta

import dagster as dg

from memory_pipeline.defs.common import OWNER_TAG, OWNERS
from memory_pipeline.defs.partitions import FIRST_MONDAY
from memory_pipeline.defs.summaries.assets import weekly_summaries
from memory_pipeline.defs.ticks import tick_time

weekly_summaries_job = dg.define_asset_job(
    "weekly_summaries_job",
    selection=dg.AssetSelection.assets(weekly_summaries),
    description="Summarize one week of every user.",
    tags=OWNER_TAG,
)


@dg.schedule(
    name="weekly_summaries_schedule",
    cron_schedule="0 2 * * 1",
    job=weekly_summaries_job,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every Monday at 02:00 UTC: summaries of the week that ended.",
    owners=OWNERS,
)
def weekly_summaries_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    today = tick_time(context).date()
    week = today - timedelta(days=today.weekday() + 7)
    if week < FIRST_MONDAY:
        return dg.SkipReason(f"The week of {week} lies before the first partition ({FIRST_MONDAY}).")
    return dg.RunRequest(run_key=f"summaries {week}", partition_key=week.isoformat())

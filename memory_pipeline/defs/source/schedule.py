"""Observing the messages, every hour before the export."""

import dagster as dg

from memory_pipeline.defs.common import OWNER_TAG, OWNERS
from memory_pipeline.defs.source.assets import messages
from memory_pipeline.defs.ticks import tick_time

observation_job = dg.define_asset_job(
    "observation_job",
    selection=dg.AssetSelection.assets(messages),
    description="Count the messages of every day and note how far they reach.",
    tags=OWNER_TAG,
)


@dg.schedule(
    name="hourly_observation_schedule",
    cron_schedule="5 * * * *",
    job=observation_job,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Five minutes past every hour: how many messages there are.",
    owners=OWNERS,
)
def hourly_observation_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    return dg.RunRequest(run_key=f"observation {tick_time(context):%Y-%m-%dT%H:%M}")

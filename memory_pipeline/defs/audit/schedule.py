"""The daily audit."""

import dagster as dg

from memory_pipeline.defs.audit.assets import consistency_audit
from memory_pipeline.defs.common import OWNER_TAG, OWNERS
from memory_pipeline.defs.ticks import tick_time

audit_job = dg.define_asset_job(
    "audit_job",
    selection=dg.AssetSelection.assets(consistency_audit),
    description="Compare every store with Postgres and keep what was found.",
    tags=OWNER_TAG,
)


@dg.schedule(
    name="daily_audit_schedule",
    cron_schedule="0 3 * * *",
    job=audit_job,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every day at 03:00 UTC: the consistency audit.",
    owners=OWNERS,
)
def daily_audit_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    return dg.RunRequest(run_key=f"audit {tick_time(context):%Y-%m-%d}")

"""The last days through the whole pipeline into a new DuckDB file, every hour."""

from datetime import datetime, timedelta

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from memory_pipeline.defs.analytics.changes import changes_after, is_served, last_export, unexported
from memory_pipeline.defs.analytics.jobs import asked_at, export_job, has_begun, runs_under_way
from memory_pipeline.defs.common import OWNERS
from memory_pipeline.defs.partitions import PARTITION_START
from memory_pipeline.defs.sensing import present
from memory_pipeline.defs.ticks import tick_time
from memory_pipeline.model.pacing import seconds_since
from memory_pipeline.settings import load_settings

DAYS = 8
"""Today and the week before, so that Monday's summaries are embedded, indexed and exported too."""
MINUTE = 10
"""Past every hour."""
_LONGEST_WITHOUT_SECONDS = 5400.0
"""One hour may be left out, but not two in a row: nothing else takes all of the last days through the pipeline."""
_FRESH_SECONDS = 1800.0
"""With the hour that follows, well within the freshness policy of the file."""


@dg.schedule(
    name="hourly_export_schedule",
    cron_schedule=f"{MINUTE} * * * *",
    job=export_job,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description=(
        f"Ten minutes past every hour: the last {DAYS} days as one run. Left out while another one is unfinished, and "
        "where an export after facts has just brought everything or is doing so, but not for that two hours in a row."
    ),
    owners=OWNERS,
)
def hourly_export_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    reason = _why_not(context.instance, present())
    if reason is not None:
        return dg.SkipReason(reason)
    moment = tick_time(context)
    first = max(PARTITION_START, moment.date() - timedelta(days=DAYS - 1))
    return dg.RunRequest(
        run_key=f"export {moment:%Y-%m-%dT%H:%M}",
        tags={
            ASSET_PARTITION_RANGE_START_TAG: first.isoformat(),
            ASSET_PARTITION_RANGE_END_TAG: moment.date().isoformat(),
        },
    )


def _why_not(instance: dg.DagsterInstance, now: datetime) -> str | None:
    """Return in words why this hour is left out; None where it is not."""
    under_way = runs_under_way(instance).exports
    for record in under_way:
        run = record.dagster_run
        if run.job_name == export_job.name:
            return f"Run {run.run_id}, of an hour before, is unfinished; the next hour takes over."
        if not has_begun(record):
            return f"Run {run.run_id} waits to export and will read all there is by then; the next hour takes over."
    succeeded = instance.get_run_records(
        dg.RunsFilter(job_name=export_job.name, statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1
    )
    if not any(seconds_since(asked_at(record), now.timestamp()) < _LONGEST_WITHOUT_SECONDS for record in succeeded):
        # Beside an export at work as well: this run enriches first, then waits for the lake's pool.
        return None
    if under_way:
        return f"Run {under_way[0].dagster_run.run_id} exports; the next hour takes over, whatever exports then."
    last = last_export(instance)
    if last is None or last.read_id is None or not is_served(load_settings()):
        return None
    exported = instance.get_run_by_id(last.run_id)
    age = seconds_since(last.read_at, now.timestamp())
    if exported is None or exported.status is not dg.DagsterRunStatus.SUCCESS or age >= _FRESH_SECONDS:
        return None
    if unexported(changes_after(instance, last.read_id, now.date()), last):
        return None
    return (
        f"Run {last.run_id} read everything {age / 60:.0f} min ago and finished, and nothing was materialized since; "
        "the next hour exports in any case."
    )

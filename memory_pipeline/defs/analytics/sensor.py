"""`after_facts_sensor`: what facts and summaries have brought is exported soon after, in one run, and not too often."""

from __future__ import annotations

from datetime import datetime, timedelta

import dagster as dg
import msgspec
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from memory_pipeline.defs.analytics.changes import Change, Export, changes_after, is_served, last_export, unexported
from memory_pipeline.defs.analytics.jobs import (
    after_facts_job,
    asked_at,
    backlog_of,
    has_begun,
    has_read,
    last_asked,
    runs_under_way,
)
from memory_pipeline.defs.analytics.schedule import DAYS, MINUTE
from memory_pipeline.defs.common import OWNER_TAG
from memory_pipeline.defs.partitions import PARTITION_START
from memory_pipeline.defs.sensing import ASKED_BY_TAG, Answer, present
from memory_pipeline.model.pacing import Pace, Waiting, seconds_since, waited_longest, why_later
from memory_pipeline.model.window import DayWindow
from memory_pipeline.settings import load_settings

NAME = "after_facts_sensor"
TICK_SECONDS = 30
_BEFORE_HOURLY_SECONDS = 30
_AFTER_HOURLY_SECONDS = 60
"""So near to the hourly schedule's minute nothing is asked for: both would, not seeing each other's run yet."""


class Cursor(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How far the sources are exported, and what was asked for."""

    read: int
    """What has a storage id up to this is exported."""
    asked: int = 0
    """The newest storage id of what was last asked for."""
    times: int = 0
    """How often it was, one after the other."""
    lost: int = 0
    """How often because there was no file, one after the other."""


@dg.sensor(
    name=NAME,
    job=after_facts_job,
    minimum_interval_seconds=TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Twice a minute: if facts, relations or summaries were materialized since, by runs or by workers, they are "
        "exported as one run, whose range is their newest days: once nothing has changed, and no run of the backlog "
        "was at work, for MEMORY_EXPORT_QUIET_SECONDS, and after MEMORY_EXPORT_MIN_INTERVAL_SECONDS in any case. "
        "Never twice within that time, and not what an export has read already. An export that failed or was "
        "canceled is asked for again, after growing pauses; files that were deleted are made again."
    ),
    tags=OWNER_TAG,
)
def after_facts_sensor(context: dg.SensorEvaluationContext) -> Answer:
    instance, now, settings = context.instance, present(), load_settings()
    last = last_export(instance)
    before = _cursor(context.cursor) or Cursor((last.read_id or last.storage_id) if last else 0)
    changes = changes_after(instance, before.read, now.date())
    waiting = unexported(changes, last)
    lost = last is not None and not is_served(settings)
    times_lost = before.lost if lost else 0
    if last is not None and lost:
        waiting.append(_lost(last, now))
    elif not changes:
        return dg.SensorResult(
            cursor=_encoded(msgspec.structs.replace(before, lost=0)), skip_reason="Nothing was materialized since."
        )
    if not waiting:
        newest = max(change.storage_id for change in changes)
        return dg.SensorResult(
            cursor=_encoded(Cursor(newest)), skip_reason=f"Run {last.run_id if last else ''} has exported it."
        )
    newest = max(change.storage_id for change in waiting)
    # Where the files are looked for in another place than runs put them, every export would seem lost.
    in_vain = max(before.times if newest <= before.asked else 0, times_lost)
    asked = last_asked(instance)
    reason = _why_later(
        instance,
        Pace(interval=settings.export_min_interval_seconds, quiet=settings.export_quiet_seconds),
        Waiting(len(waiting), min(change.told for change in waiting), max(change.told for change in waiting)),
        now,
        asked,
        in_vain,
    )
    if reason is not None:
        # With a cursor, also at the first tick: by the next one there may be another last export.
        gone = "The published file is gone. " if lost else ""
        return dg.SensorResult(
            cursor=_encoded(msgspec.structs.replace(before, lost=times_lost)), skip_reason=gone + reason
        )
    end = max(change.days.end for change in waiting)
    # Older days are exported all the same, by lake_dimensions: a range from the oldest would be an event for each of
    # its days and tables.
    first = max(PARTITION_START, end - timedelta(days=DAYS), min(change.days.start for change in waiting))
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=f"after facts {newest}, run {asked.dagster_run.run_id if asked else 'none'}",
                tags={
                    ASKED_BY_TAG: NAME,
                    ASSET_PARTITION_RANGE_START_TAG: first.isoformat(),
                    ASSET_PARTITION_RANGE_END_TAG: (end - timedelta(days=1)).isoformat(),
                },
            )
        ],
        cursor=_encoded(
            Cursor(
                max(before.read, min(change.storage_id for change in waiting) - 1),
                newest,
                in_vain + 1,
                times_lost + 1 if lost else 0,
            )
        ),
    )


def _why_later(
    instance: dg.DagsterInstance, pace: Pace, waiting: Waiting, now: datetime, asked: dg.RunRecord | None, in_vain: int
) -> str | None:
    """Return in words why nothing is asked for yet; None where it is time."""
    moment = now.timestamp()
    under_way = runs_under_way(instance)
    for record in under_way.exports:
        # An hourly run may enrich and embed for hours; it exports what there is when it comes to that.
        enriches = (
            record.dagster_run.job_name != after_facts_job.name
            and has_begun(record)
            and waited_longest(pace, waiting, moment)
            and seconds_since(asked_at(record), moment) >= pace.interval
            and not has_read(instance, record)
        )
        if not enriches:
            return f"Run {record.dagster_run.run_id} exports; what it leaves follows."
    backlog = backlog_of(instance, under_way)
    later = why_later(
        pace, waiting, backlog, moment, asked=asked_at(asked) if asked is not None else None, in_vain=in_vain
    )
    if later is not None:
        return later
    since_hourly = (now.minute * 60 + now.second - MINUTE * 60) % 3600
    if since_hourly < _AFTER_HOURLY_SECONDS or since_hourly >= 3600 - _BEFORE_HOURLY_SECONDS:
        return f"The hourly export is due at {MINUTE} past and brings this too; if it does not begin, this does then."
    return None


def _lost(last: Export, now: datetime) -> Change:
    """Return a stand-in for all that was in a file that is not there any more; it has waited long enough."""
    return Change(last.storage_id, DayWindow(now.date(), now.date() + timedelta(days=1)), 0.0, 0.0)


def _cursor(stored: str | None) -> Cursor | None:
    """Return the cursor of the last tick; earlier versions kept `read` alone."""
    if not stored:
        return None
    cursor = msgspec.json.decode(stored, type=Cursor | int)
    return Cursor(cursor) if isinstance(cursor, int) else cursor


def _encoded(cursor: Cursor) -> str:
    return msgspec.json.encode(cursor).decode()

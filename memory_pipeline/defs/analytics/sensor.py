"""`after_facts_sensor`: what facts and summaries have brought is exported soon after, in one run, and not too often."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from memory_pipeline.defs.analytics.jobs import EXPORT_JOBS, FILE, after_facts_job, export_under_way
from memory_pipeline.defs.common import OWNER_TAG
from memory_pipeline.defs.enrichment.assets import facts, memory_relationships
from memory_pipeline.defs.partitions import PARTITION_START
from memory_pipeline.defs.sensing import ASKED_BY_TAG, Answer, present
from memory_pipeline.defs.summaries.assets import weekly_summaries
from memory_pipeline.model.window import DayWindow
from memory_pipeline.settings import load_settings

NAME = "after_facts_sensor"
TICK_SECONDS = 30

_SOURCES = {facts.key: 1, memory_relationships.key: 1, weekly_summaries.key: 7}
"""What an export follows, and how many days a partition of it has."""
_PAGE = 1000


class _Change(NamedTuple):
    """One materialization of a source."""

    storage_id: int
    run_id: str
    moment: float
    """Seconds since 1970."""
    days: DayWindow


class _Export(NamedTuple):
    """The run that the file which is served is of."""

    storage_id: int
    run_id: str
    began: float
    """Seconds since 1970."""
    days: DayWindow

    def has(self, change: _Change) -> bool:
        """Whether it read a source's days after they had changed."""
        inside = self.days.start <= change.days.start and change.days.end <= self.days.end
        return inside and (change.run_id == self.run_id or change.moment <= self.began)


@dg.sensor(
    name=NAME,
    job=after_facts_job,
    minimum_interval_seconds=TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Twice a minute: if facts, relations or summaries were materialized since, by runs or by workers, their days "
        "are exported as one run. Never while an export is under way, never twice within "
        "MEMORY_EXPORT_MIN_INTERVAL_SECONDS, and not what an export has read already."
    ),
    tags=OWNER_TAG,
)
def after_facts_sensor(context: dg.SensorEvaluationContext) -> Answer:
    instance, now = context.instance, present()
    last = _last_export(instance)
    seen = int(context.cursor) if context.cursor else (last.storage_id if last else 0)
    changes = [change for key in _SOURCES for change in _changes(instance, key, seen, now.date())]
    if not changes:
        return dg.SensorResult(cursor=str(seen), skip_reason="Nothing was materialized since.")
    newest = max(change.storage_id for change in changes)
    waiting = [change for change in changes if last is None or not last.has(change)]
    if not waiting:
        return dg.SensorResult(cursor=str(newest), skip_reason=f"Run {last.run_id if last else ''} has exported it.")
    under_way = export_under_way(instance)
    if under_way is not None:
        return dg.SkipReason(f"Run {under_way} exports; what it leaves follows.")
    interval = load_settings().export_min_interval_seconds
    left = interval - _seconds_since_asked(instance, now)
    if left > 0:
        return dg.SkipReason(
            f"{len(waiting)} materializations wait {left:.0f} s: one export in {interval:g} s at most."
        )
    first = max(PARTITION_START, min(change.days.start for change in waiting))
    end = max(change.days.end for change in waiting)
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=f"after facts {newest}",
                tags={
                    ASKED_BY_TAG: NAME,
                    ASSET_PARTITION_RANGE_START_TAG: first.isoformat(),
                    ASSET_PARTITION_RANGE_END_TAG: (end - timedelta(days=1)).isoformat(),
                },
            )
        ],
        cursor=str(newest),
    )


def _changes(instance: dg.DagsterInstance, key: dg.AssetKey, after: int, today: date) -> list[_Change]:
    """Return the materializations of a source after a storage id; a week ends today where it still lasts."""
    found: list[_Change] = []
    while True:
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(key, after_storage_id=after), limit=_PAGE, ascending=True
        ).records
        for record in records:
            if record.partition_key is not None:  # reported by hand, of no day
                first = date.fromisoformat(record.partition_key)
                end = min(first + timedelta(days=_SOURCES[key]), max(first, today) + timedelta(days=1))
                found.append(_Change(record.storage_id, record.run_id, record.timestamp, DayWindow(first, end)))
        if len(records) < _PAGE:
            return found
        after = records[-1].storage_id


def _last_export(instance: dg.DagsterInstance) -> _Export | None:
    """Return the run that made the newest file, if it was over a range of days."""
    records = instance.fetch_materializations(FILE, limit=1).records
    run = instance.get_run_record_by_id(records[0].run_id) if records else None
    if run is None:
        return None
    tags = run.dagster_run.tags
    first, last = tags.get(ASSET_PARTITION_RANGE_START_TAG), tags.get(ASSET_PARTITION_RANGE_END_TAG)
    days = DayWindow(date.min, date.min)
    if first and last:
        days = DayWindow(date.fromisoformat(first), date.fromisoformat(last) + timedelta(days=1))
    return _Export(records[0].storage_id, records[0].run_id, run.start_time or 0.0, days)


def _seconds_since_asked(instance: dg.DagsterInstance, now: datetime) -> float:
    """Return how long ago the last export was asked for, one that failed included; a very long time if never."""
    moments = []
    for job in EXPORT_JOBS:
        for record in instance.get_run_records(dg.RunsFilter(job_name=job), limit=1):
            created = record.create_timestamp
            moments.append(created.replace(tzinfo=created.tzinfo or UTC))
    return (now - max(moments)).total_seconds() if moments else float("inf")

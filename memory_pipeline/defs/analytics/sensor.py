"""`after_facts_sensor`: what facts and summaries have brought is exported soon after, in one run, and not too often."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import dagster as dg
import msgspec
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from memory_pipeline.defs.analytics.assets import lake_dimensions
from memory_pipeline.defs.analytics.jobs import EXPORT_JOBS, FILE, after_facts_job, export_under_way
from memory_pipeline.defs.analytics.schedule import DAYS
from memory_pipeline.defs.common import OWNER_TAG
from memory_pipeline.defs.enrichment.assets import facts, memory_relationships
from memory_pipeline.defs.partitions import PARTITION_START
from memory_pipeline.defs.queue.worker_reports import UNTIL
from memory_pipeline.defs.sensing import ASKED_BY_TAG, Answer, present
from memory_pipeline.defs.summaries.assets import weekly_summaries
from memory_pipeline.model.window import DayWindow
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.export import EVERY_DAY

NAME = "after_facts_sensor"
TICK_SECONDS = 30

_SOURCES = {facts.key: 1, memory_relationships.key: 1, weekly_summaries.key: 7}
"""What an export follows, and how many days a partition of it has."""
_PAGE = 1000
_LONGEST_PAUSE = 3600.0
_RUNS_LOOKED_AT = 20


class Cursor(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How far the sources are exported, and what was asked for."""

    read: int
    """What has a storage id up to this is exported."""
    asked: int = 0
    """The newest storage id of what was last asked for."""
    times: int = 0
    """How often it was, one after the other."""


class _Change(NamedTuple):
    """One materialization of a source."""

    storage_id: int
    run_id: str
    moment: float
    """Seconds since 1970. What it tells of was in Postgres by then."""
    days: DayWindow


class _Export(NamedTuple):
    """The run that the file which is served is of."""

    storage_id: int
    run_id: str
    began: float
    """Seconds since 1970."""
    days: DayWindow
    """Every day, if it brought the whole lake up to date, as the jobs do."""

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
        "Twice a minute: if facts, relations or summaries were materialized since, by runs or by workers, they are "
        "exported as one run, whose range is their newest days. Never while an export is under way, never twice within "
        "MEMORY_EXPORT_MIN_INTERVAL_SECONDS, and not what an export has read already. An export that failed is asked "
        "for again, after growing pauses."
    ),
    tags=OWNER_TAG,
)
def after_facts_sensor(context: dg.SensorEvaluationContext) -> Answer:
    instance, now = context.instance, present()
    last = _last_export(instance)
    before = _cursor(context.cursor) or Cursor(last.storage_id if last else 0)
    changes = [change for key in _SOURCES for change in _changes(instance, key, before.read, now.date())]
    if not changes:
        return dg.SensorResult(cursor=_encoded(before), skip_reason="Nothing was materialized since.")
    waiting = [
        change for change in changes if change.days.end > PARTITION_START and (last is None or not last.has(change))
    ]
    if not waiting:
        newest = max(change.storage_id for change in changes)
        return dg.SensorResult(
            cursor=_encoded(Cursor(newest)), skip_reason=f"Run {last.run_id if last else ''} has exported it."
        )
    under_way = export_under_way(instance)
    if under_way is not None:
        return dg.SkipReason(f"Run {under_way} exports; what it leaves follows.")
    newest = max(change.storage_id for change in waiting)
    in_vain = before.times if newest <= before.asked else 0
    interval = load_settings().export_min_interval_seconds
    pause = min(interval * 2.0 ** min(max(in_vain - 1, 0), 60), max(interval, _LONGEST_PAUSE))
    asked = _asked(instance)
    left = pause - (now - asked[0]).total_seconds() if asked else 0.0
    if left > 0:
        return dg.SkipReason(
            f"{len(waiting)} materializations wait {left:.0f} s: one export in {pause:g} s at most"
            + (f", after {in_vain} in vain." if in_vain else ".")
        )
    end = max(change.days.end for change in waiting)
    # Older days are exported all the same, by lake_dimensions: a range from the oldest would be an event for each of
    # its days and tables.
    first = max(PARTITION_START, end - timedelta(days=DAYS), min(change.days.start for change in waiting))
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=f"after facts {newest}, run {asked[1] if asked else 'none'}",
                tags={
                    ASKED_BY_TAG: NAME,
                    ASSET_PARTITION_RANGE_START_TAG: first.isoformat(),
                    ASSET_PARTITION_RANGE_END_TAG: (end - timedelta(days=1)).isoformat(),
                },
            )
        ],
        cursor=_encoded(Cursor(min(change.storage_id for change in waiting) - 1, newest, in_vain + 1)),
    )


def _cursor(stored: str | None) -> Cursor | None:
    """Return the cursor of the last tick; earlier versions kept `read` alone."""
    if not stored:
        return None
    cursor = msgspec.json.decode(stored, type=Cursor | int)
    return Cursor(cursor) if isinstance(cursor, int) else cursor


def _encoded(cursor: Cursor) -> str:
    return msgspec.json.encode(cursor).decode()


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
                found.append(_Change(record.storage_id, record.run_id, _moment(record), DayWindow(first, end)))
        if len(records) < _PAGE:
            return found
        after = records[-1].storage_id


def _moment(record: dg.EventLogRecord) -> float:
    """Return by when all that a materialization tells of was done: workers' reports come later, of old days much."""
    until = record.asset_materialization.metadata.get(UNTIL) if record.asset_materialization else None
    if record.run_id or not isinstance(until, dg.TimestampMetadataValue):
        return record.timestamp
    return min(record.timestamp, until.value)


def _last_export(instance: dg.DagsterInstance) -> _Export | None:
    """Return the run that made the newest file."""
    records = instance.fetch_materializations(FILE, limit=1).records
    run = instance.get_run_record_by_id(records[0].run_id) if records else None
    if run is None:
        return None
    run_id, tags = records[0].run_id, run.dagster_run.tags
    first, last = tags.get(ASSET_PARTITION_RANGE_START_TAG), tags.get(ASSET_PARTITION_RANGE_END_TAG)
    days = DayWindow(date.min, date.min)
    if any(
        run_id == one.run_id for one in instance.fetch_materializations(lake_dimensions.key, _RUNS_LOOKED_AT).records
    ):
        days = EVERY_DAY
    elif first and last:
        days = DayWindow(date.fromisoformat(first), date.fromisoformat(last) + timedelta(days=1))
    return _Export(records[0].storage_id, run_id, run.start_time or 0.0, days)


def _asked(instance: dg.DagsterInstance) -> tuple[datetime, str] | None:
    """Return when the last export was asked for, one that failed included, and its run."""
    asked = []
    for job in EXPORT_JOBS:
        for record in instance.get_run_records(dg.RunsFilter(job_name=job), limit=1):
            created = record.create_timestamp
            asked.append((created.replace(tzinfo=created.tzinfo or UTC), record.dagster_run.run_id))
    return max(asked, default=None)

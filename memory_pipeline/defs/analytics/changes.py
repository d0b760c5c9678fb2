"""What exports follow: the materializations of facts, relations and summaries, and which of them the last one has read.

An event's storage id says what came first whatever the clocks said: an export has read what had a smaller id than its
step that reads everything. Clocks count only for workers' reports, which come later than what they tell of.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import NamedTuple

import dagster as dg

from memory_pipeline.defs.analytics.assets import lake_dimensions
from memory_pipeline.defs.analytics.jobs import FILE
from memory_pipeline.defs.enrichment.assets import facts, memory_relationships
from memory_pipeline.defs.partitions import PARTITION_START
from memory_pipeline.defs.queue.worker_reports import UNTIL
from memory_pipeline.defs.summaries.assets import weekly_summaries
from memory_pipeline.model.errors import ExportError
from memory_pipeline.model.window import DayWindow
from memory_pipeline.settings import Settings
from memory_pipeline.stores.duckdb.generations import current_export

_SOURCES = {facts.key: 1, memory_relationships.key: 1, weekly_summaries.key: 7}
"""What an export follows, and how many days a partition of it has."""
_PAGE = 1000
_STARTS = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_RESTARTED}


class Change(NamedTuple):
    """One materialization of a source. Moments are seconds since 1970."""

    storage_id: int
    days: DayWindow
    told: float
    done: float
    """What it tells of was in Postgres by then. Workers' reports come later, of old days much."""


class Export(NamedTuple):
    """The file that was published last, and what it has read."""

    storage_id: int
    run_id: str
    published: float
    """Seconds since 1970."""
    read_id: int | None
    """What had a smaller storage id is in it; None where that is not known."""
    read_at: float

    def has(self, change: Change) -> bool:
        """Whether it read a source's days after they had changed."""
        if self.read_id is None:
            return False
        if change.storage_id < self.read_id:
            return True
        # A report that was stored after the export read, and has an earlier time: the clock was set back in between.
        return change.done <= self.read_at <= change.told


def last_export(instance: dg.DagsterInstance) -> Export | None:
    """Return what the event log says of the file published last, whether or not it is still there."""
    files = instance.fetch_materializations(FILE, limit=1).records
    if not files:
        return None
    file = files[0]
    # Whichever run that was: a file can be made again from a lake that was read earlier.
    reads = instance.fetch_materializations(
        dg.AssetRecordsFilter(lake_dimensions.key, before_storage_id=file.storage_id), limit=1
    ).records
    starts = [
        event
        for read in reads
        for event in instance.get_records_for_run(read.run_id, of_type=_STARTS).records
        if event.event_log_entry.step_key == lake_dimensions.op.name
    ]
    if not starts:
        return Export(file.storage_id, file.run_id, file.timestamp, None, 0.0)
    return Export(file.storage_id, file.run_id, file.timestamp, starts[-1].storage_id, starts[-1].timestamp)


def is_served(settings: Settings) -> bool:
    """Whether there is a published file: someone may have deleted the folder."""
    try:
        current_export(settings.data / "exports")
    except ExportError:
        return False
    return True


def changes_after(instance: dg.DagsterInstance, storage_id: int, today: date) -> list[Change]:
    """Return the materializations of the sources after a storage id; a week ends today where it still lasts."""
    return [change for key in _SOURCES for change in _changes_of(instance, key, storage_id, today)]


def unexported(changes: list[Change], last: Export | None) -> list[Change]:
    """Return those that no export has read, but for days that are no partitions."""
    return [
        change for change in changes if change.days.end > PARTITION_START and (last is None or not last.has(change))
    ]


def _changes_of(instance: dg.DagsterInstance, key: dg.AssetKey, after: int, today: date) -> list[Change]:
    found: list[Change] = []
    while True:
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(key, after_storage_id=after), limit=_PAGE, ascending=True
        ).records
        for record in records:
            if record.partition_key is not None:  # reported by hand, of no day
                first = date.fromisoformat(record.partition_key)
                end = min(first + timedelta(days=_SOURCES[key]), max(first, today) + timedelta(days=1))
                found.append(Change(record.storage_id, DayWindow(first, end), record.timestamp, _done(record)))
        if len(records) < _PAGE:
            return found
        after = records[-1].storage_id


def _done(record: dg.EventLogRecord) -> float:
    until = record.asset_materialization.metadata.get(UNTIL) if record.asset_materialization else None
    if record.run_id or not isinstance(until, dg.TimestampMetadataValue):
        return record.timestamp
    return min(record.timestamp, until.value)

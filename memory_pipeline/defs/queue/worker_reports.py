"""`worker_reports_sensor`: the days on which workers have done something show as materialized, without a run."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import msgspec

from memory_pipeline.defs.common import OWNER_TAG
from memory_pipeline.defs.embedding.assets import memory_embeddings
from memory_pipeline.defs.enrichment.assets import facts, memory_relationships
from memory_pipeline.defs.index.assets import chroma_index
from memory_pipeline.defs.partitions import PARTITION_START
from memory_pipeline.defs.sensing import Answer, opened_database, skipping_where_away
from memory_pipeline.model.backlog import Reported, split_report
from memory_pipeline.model.flags import Flag
from memory_pipeline.model.jobs import JobType
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.flags import FeatureFlags
from memory_pipeline.stores.postgres.job_completions import CompletedJobs, completed_by_workers, settled_until

DAYS_AT_ONCE = 2
"""So each asset has at most two events a minute: of the newest day, which workers are at as a rule, and of the one that
has waited longest. An event is of one partition."""
UNTIL = "until"
"""Metadata of an event: the moment before which its jobs had ended, by the clock of Postgres."""
_FIRST_LOOK = timedelta(hours=1)
"""How far the first tick looks back."""

_ASSETS: dict[JobType, tuple[dg.AssetsDefinition, ...]] = {
    # The facts found are ordered with it, unless a flag keeps relations from being looked for.
    "enrich_and_embed": (facts, memory_relationships, memory_embeddings, chroma_index),
    "index": (chroma_index,),
    "detect_relations": (memory_relationships,),
}


class Cursor(msgspec.Struct, forbid_unknown_fields=True):
    """How far workers' jobs have been read, and what of it has still to be told."""

    until: datetime
    waiting: dict[str, dict[date, int]] = {}
    """Finished jobs by asset and day."""
    ended: dict[date, datetime] = {}
    """When, at the latest, those of a day that waits had ended; before `until` where nothing is said."""


@dg.sensor(
    name="worker_reports_sensor",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    asset_selection=dg.AssetSelection.assets(facts, memory_relationships, memory_embeddings, chroma_index),
    description=(
        "Every minute: what workers have finished since, as one materialization per asset, of the newest day and "
        "of the one that has waited longest, so that the days show as fresh. It launches nothing."
    ),
    tags=OWNER_TAG,
)
@skipping_where_away
def worker_reports_sensor(context: dg.SensorEvaluationContext) -> Answer:
    settings = load_settings()
    with opened_database(settings) as database:
        related = Flag.RELATIONS not in FeatureFlags(database, settings).off(Flag.RELATIONS)
        with database.transaction() as connection:
            until = settled_until(connection).astimezone(UTC)
        cursor = (
            msgspec.json.decode(context.cursor, type=Cursor) if context.cursor else Cursor(until=until - _FIRST_LOOK)
        )
        with database.transaction() as connection:
            completed = completed_by_workers(connection, cursor.until, max(until, cursor.until), list(_ASSETS))
    found = _by_asset(completed, related=related)
    following = Cursor(until=max(until, cursor.until))
    events = []
    for asset in (facts, memory_relationships, memory_embeddings, chroma_index):
        name = asset.key.to_user_string()
        now, later = split_report(cursor.waiting.get(name, {}), found[name], DAYS_AT_ONCE)
        for report in now:
            ended = following.until if found[name][report.day] else cursor.ended.get(report.day, cursor.until)
            events.append(_event(asset.key, report, ended))
        for day in later:
            known = following.until if found[name][day] else cursor.ended.get(day, cursor.until)
            following.ended[day] = max(known, following.ended.get(day, known))
        if later:
            following.waiting[name] = later
    told = sum(map(len, following.waiting.values()))
    return dg.SensorResult(
        asset_events=events,
        cursor=msgspec.json.encode(following).decode(),
        skip_reason=f"Reported {len(events)} materializations; {told} wait for the next tick."
        if events
        else "No worker has finished anything since.",
    )


def _by_asset(completed: list[CompletedJobs], *, related: bool) -> dict[str, Counter[date]]:
    """Return finished jobs by asset and day; days before the partitions are none of Dagster's.

    `related`: whether facts are ordered in time where they are found.
    """
    found: dict[str, Counter[date]] = {
        asset.key.to_user_string(): Counter() for assets in _ASSETS.values() for asset in assets
    }
    for each in completed:
        if each.day >= PARTITION_START:
            for asset in _ASSETS[each.job_type]:
                if asset is memory_relationships and not related and each.job_type != "detect_relations":
                    continue
                found[asset.key.to_user_string()][each.day] += each.jobs
    return found


def _event(asset: dg.AssetKey, report: Reported, ended: datetime) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        asset,
        description="By workers, memory by memory.",
        partition=report.day.isoformat(),
        metadata={"jobs": report.items, UNTIL: dg.MetadataValue.timestamp(ended)},
    )

"""`queue_backlog_sensor`: where no worker gets on, runs over days do what is due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import structlog
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from memory_pipeline.defs.common import LEFT_TAG, OWNER_TAG
from memory_pipeline.defs.embedding.assets import memory_embeddings
from memory_pipeline.defs.enrichment.assets import facts, memory_relationships
from memory_pipeline.defs.index.assets import chroma_index
from memory_pipeline.defs.partitions import PARTITION_START
from memory_pipeline.defs.sensing import (
    ASKED_BY_TAG,
    Answer,
    asked_before,
    is_unfinished,
    opened_database,
    present,
    skipping_where_away,
)
from memory_pipeline.model.backlog import (
    Ask,
    BacklogLimits,
    DueDay,
    EarlierRun,
    RunState,
    Unseen,
    look_for_workers,
    merged,
    plan_runs,
    workers_get_on,
)
from memory_pipeline.model.errors import BusyError
from memory_pipeline.model.flags import Flag, switched_off
from memory_pipeline.model.jobs import JobType
from memory_pipeline.model.window import DayWindow
from memory_pipeline.providers.registry import plugin_names
from memory_pipeline.settings import Settings, load_settings
from memory_pipeline.stages.flags import FeatureFlags
from memory_pipeline.stores.postgres.backlog import DueWork, due_work
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.job_reports import WORKER_SEEN_SECONDS, compact_completed, workers_seen
from memory_pipeline.stores.postgres.jobs import bring_forward, reclaim_expired

log = structlog.get_logger(__name__)

NAME = "queue_backlog_sensor"
JOB_TYPES: tuple[JobType, ...] = ("enrich_and_embed", "index", "detect_relations")
"""What a run over days does."""
NEWEST_TAG = "memory_pipeline/newest_due"
TICK_SECONDS = 5
UNSEEN_SECONDS = 15.0
"""For so long no worker shows itself before jobs are taken from it: three times what one that lives needs."""
LONGEST_GAP_SECONDS = WORKER_SEEN_SECONDS - 2.0
"""Looks further apart do not count together. At the later of two nearer ones a worker is still seen that showed itself
at any time since the earlier one; 2 s are left to the looks themselves."""
WITHOUT_TAG = "memory_pipeline/without"
"""What a run was asked to leave out: its days are asked for again once that is on."""
_RUNS_REMEMBERED = 100
_COMPACTED_PER_TICK = 2_000
_STATES: dict[dg.DagsterRunStatus, RunState] = {
    dg.DagsterRunStatus.SUCCESS: "succeeded",
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "cancelled",
}

backlog_job = dg.define_asset_job(
    "backlog_job",
    # Without checks: a run is to be short, and the hourly one looks at the same days.
    selection=dg.AssetSelection.assets(facts, memory_relationships, memory_embeddings, chroma_index).without_checks(),
    description="What is due of a range of days, up to the index: enrichment, relations, vectors.",
    tags=OWNER_TAG,
)
backlog_without_embedding_job = dg.define_asset_job(
    "backlog_without_embedding_job",
    selection=dg.AssetSelection.assets(facts, memory_relationships, chroma_index).without_checks(),
    description="The same while embedding is switched off: enrichment, relations, and what leaves the index.",
    tags=OWNER_TAG,
)


@dg.sensor(
    name=NAME,
    jobs=[backlog_job, backlog_without_embedding_job],
    minimum_interval_seconds=TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Every few seconds: due jobs that no worker gets on with, and memories that no job speaks for, as one run per "
        "range of days. Asks for nothing while a run over the same days is under way."
    ),
    tags=OWNER_TAG,
)
@skipping_where_away
def queue_backlog_sensor(context: dg.SensorEvaluationContext) -> Answer:
    settings = load_settings()
    limits = limits_of(settings)
    now = present()
    records = asked_before(context, NAME, _RUNS_REMEMBERED)
    runs = [_earlier(record, now) for record in records]
    under_way = sum(run.state == "under_way" and run.seconds < limits.run_seconds for run in runs)
    plugins = plugin_names(settings)
    with opened_database(settings) as database:
        # Before any answer: workers come and die while runs are under way too.
        workers = _workers_or_upkeep(context, database, settings)
        if under_way >= limits.runs:
            return dg.SkipReason(f"{under_way} runs that this sensor asked for are under way.")
        flags = FeatureFlags(database, settings)
        off = flags.off(Flag.ENRICHMENT)
        if off:
            return dg.SkipReason(f"A run would do nothing: {switched_off(off)}.")
        embedding = not flags.off(Flag.EMBEDDING)
        if not embedding:
            runs = [_earlier(record, now, embedding=False) for record in records]
        waiting = {kind for flag in flags.off(Flag.RELATIONS) for kind in flag.waiting_jobs}
        with database.transaction() as connection:
            types = [kind for kind in JOB_TYPES if kind not in waiting]
            work = due_work(connection, types, plugins.enricher, plugins.embedder, embedding=embedding)
    due, reasons = _for_runs(work, workers, limits)
    due, outside = _in_partitions(due, now.date())
    plan = plan_runs(merged(due), runs, limits)
    if plan.asks:
        return dg.SensorResult(run_requests=[_request(ask, embedding=embedding) for ask in plan.asks])
    if outside:
        reasons.append(f"{outside:,} due of days before {PARTITION_START} or after today")
    return dg.SkipReason("; ".join([*reasons, *plan.reasons]) or "Nothing is due.")


def limits_of(settings: Settings) -> BacklogLimits:
    """Return what the settings say of when to ask for a run."""
    return BacklogLimits(
        jobs=settings.backlog_sensor_jobs,
        seconds=settings.backlog_sensor_seconds,
        worker_seconds=settings.backlog_sensor_worker_seconds,
        days=settings.backlog_sensor_days,
    )


def _workers_or_upkeep(context: dg.SensorEvaluationContext, database: Database, settings: Settings) -> int:
    """Return how many workers there are; where there is none, see to the ledger as a worker's relay does.

    A worker that died leaves claimed jobs, and one that lives takes them back itself.
    """
    with database.transaction() as connection:
        workers = workers_seen(connection, WORKER_SEEN_SECONDS)
    if _none_for_long(context, workers):
        _tidy(database, "reclaim_expired", lambda connection: reclaim_expired(connection, settings.job_retries))
    if not workers:
        _tidy(database, "bring_forward", bring_forward)
        _tidy(
            database,
            "compact_completed",
            lambda connection: compact_completed(connection, settings.job_retention_days, limit=_COMPACTED_PER_TICK),
        )
    return workers


def _tidy(database: Database, task: str, work: Callable[[Connection], object]) -> None:
    """Do a part of the upkeep in a transaction of its own; one that takes too long waits for the next tick.

    The other parts, and the runs that are due, do not wait for it.
    """
    try:
        with database.transaction() as connection:
            work(connection)
    except BusyError as error:
        log.warning("ledger_upkeep_put_off", task=task, error=str(error))


def _none_for_long(context: dg.SensorEvaluationContext, workers: int) -> bool:
    """Whether no worker is seen, and none was at every look for some time; the cursor holds since when.

    Several looks, because at the first one after an outage of Postgres no worker has been seen and all leases are over,
    whoever lives: a worker shows itself and renews its leases within seconds.
    """
    # The time of this look itself: the tick may have waited for its connection.
    unseen = look_for_workers(_unseen(context.cursor), workers, present(), LONGEST_GAP_SECONDS)
    context.update_cursor("" if unseen is None else f"{unseen.since.isoformat()} {unseen.looked_at.isoformat()}")
    return unseen is not None and unseen.seconds >= UNSEEN_SECONDS


def _unseen(cursor: str | None) -> Unseen | None:
    """Read the cursor; one of an earlier version held no last look, and says nothing."""
    since, _space, looked_at = (cursor or "").partition(" ")
    return Unseen(datetime.fromisoformat(since), datetime.fromisoformat(looked_at)) if looked_at else None


def _for_runs(work: list[DueWork], workers: int, limits: BacklogLimits) -> tuple[list[DueDay], list[str]]:
    """Return what no worker is there for, or gets on with, and why other work is left out."""
    by_job = [each for each in work if each.by_job]
    oldest = max((each.oldest_seconds for each in by_job), default=0.0)
    left_to_workers = bool(by_job) and workers_get_on(workers, oldest, limits)
    due = [
        DueDay(each.day, each.items, each.oldest_seconds, each.newest)
        for each in work
        if not (each.by_job and left_to_workers)
    ]
    reasons = []
    if left_to_workers:
        jobs = sum(each.items for each in by_job)
        reasons.append(f"{jobs:,} due jobs, the oldest for {oldest:.0f} s, are left to {workers} workers")
    return due, reasons


def _in_partitions(due: list[DueDay], today: date) -> tuple[list[DueDay], int]:
    """Leave out days that are no partition (yet); return how much is due of them."""
    inside = [day for day in due if PARTITION_START <= day.day <= today]
    return inside, sum(day.items for day in due) - sum(day.items for day in inside)


def _earlier(record: dg.RunRecord, now: datetime, *, embedding: bool = True) -> EarlierRun:
    """Return what became of a run. What one left is asked for again, but not while embedding is off: it would stay."""
    run = record.dagster_run
    first = date.fromisoformat(run.tags[ASSET_PARTITION_RANGE_START_TAG])
    last = date.fromisoformat(run.tags[ASSET_PARTITION_RANGE_END_TAG])
    since = record.create_timestamp.replace(tzinfo=record.create_timestamp.tzinfo or UTC)
    if not is_unfinished(record) and record.end_time is not None:
        since = datetime.fromtimestamp(record.end_time, UTC)
    newest = run.tags.get(NEWEST_TAG)
    state = _STATES.get(run.status, "under_way")
    if state == "succeeded" and embedding:
        if WITHOUT_TAG in run.tags:
            state = "partial"
        elif LEFT_TAG in run.tags:
            state = "failed"
    return EarlierRun(
        run.run_id,
        DayWindow(first, last + timedelta(days=1)),
        datetime.fromisoformat(newest) if newest else None,
        state,
        max(0.0, (now - since).total_seconds()),
    )


def _request(ask: Ask, *, embedding: bool) -> dg.RunRequest:
    tags = {
        ASKED_BY_TAG: NAME,
        ASSET_PARTITION_RANGE_START_TAG: ask.window.start.isoformat(),
        ASSET_PARTITION_RANGE_END_TAG: (ask.window.end - timedelta(days=1)).isoformat(),
        "memory_pipeline/due": str(ask.items),
    }
    if ask.newest is not None:
        tags[NEWEST_TAG] = ask.newest.isoformat()
    if embedding:
        return dg.RunRequest(run_key=ask.run_key, job_name=backlog_job.name, tags=tags)
    tags[WITHOUT_TAG] = memory_embeddings.key.to_user_string()
    return dg.RunRequest(
        run_key=f"{ask.run_key} without embedding", job_name=backlog_without_embedding_job.name, tags=tags
    )

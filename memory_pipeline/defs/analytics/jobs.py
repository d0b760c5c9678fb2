"""The jobs that export, and the runs that they, the sensor and the schedule wait for."""

from __future__ import annotations

from datetime import UTC
from typing import NamedTuple

import dagster as dg
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG, PRIORITY_TAG

from memory_pipeline.defs.analytics.assets import lake, lake_dimensions, published_files, published_lake
from memory_pipeline.defs.common import OWNER_TAG
from memory_pipeline.defs.embedding.assets import memory_embeddings
from memory_pipeline.defs.enrichment.assets import facts, memory_relationships
from memory_pipeline.defs.index.assets import chroma_index
from memory_pipeline.defs.queue.backlog import backlog_job, backlog_without_embedding_job
from memory_pipeline.defs.ticks import UNFINISHED
from memory_pipeline.model.pacing import Backlog

FILE = dg.AssetKey("duckdb_analytics")

_BEHIND_THE_BACKLOG = {PRIORITY_TAG: "-1"}
"""From the queue the backlog's runs, of priority 0, come first: they make messages searchable."""
_HOURLY_SECONDS = 6 * 3600
_AFTER_FACTS_SECONDS = 2 * 3600
"""Nobody notices that the process of a run is gone, so a run would hold its pools, and all later exports, for ever.
Run monitoring fails it after this time: many times what an export takes, and what was done by then stays."""

export_job = dg.define_asset_job(
    "export_job",
    selection=dg.AssetSelection.assets(
        facts,
        memory_relationships,
        memory_embeddings,
        chroma_index,
        lake,
        lake_dimensions,
        published_files,
        published_lake,
    ),
    description=(
        "A range of days through the whole pipeline, then a new DuckDB file and the lake at its URL. Ended after six "
        "hours: give longer ranges to a backfill of the assets."
    ),
    tags=OWNER_TAG | _BEHIND_THE_BACKLOG | {MAX_RUNTIME_SECONDS_TAG: str(_HOURLY_SECONDS)},
)

after_facts_job = dg.define_asset_job(
    "after_facts_job",
    selection=dg.AssetSelection.assets(lake, lake_dimensions, published_files, published_lake),
    description="What facts and summaries have changed into the lake, a new DuckDB file, the lake at its URL.",
    tags=OWNER_TAG | _BEHIND_THE_BACKLOG | {MAX_RUNTIME_SECONDS_TAG: str(_AFTER_FACTS_SECONDS)},
)

_EXPORT_JOBS = (export_job.name, after_facts_job.name)
_BACKLOG_JOBS = (backlog_job.name, backlog_without_embedding_job.name)
_BEGUN = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_RUNS_AT_ONCE = 5
_READING = {lake.op.name, lake_dimensions.op.name}


class UnderWay(NamedTuple):
    """The runs that wait or work, the newest first."""

    exports: list[dg.RunRecord]
    """Those that make the file, whoever asked for them."""
    backlog: list[dg.RunRecord]


def runs_under_way(instance: dg.DagsterInstance) -> UnderWay:
    """Return the runs that are not over."""
    found = UnderWay([], [])
    for record in instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED)):
        run = record.dagster_run
        if run.job_name in _EXPORT_JOBS or FILE in (run.asset_selection or ()):
            found.exports.append(record)
        elif run.job_name in _BACKLOG_JOBS:
            found.backlog.append(record)
    return found


def backlog_of(instance: dg.DagsterInstance, under_way: UnderWay) -> Backlog:
    """Return what the backlog's runs are at."""
    ended = [
        record.end_time
        for job in _BACKLOG_JOBS
        for record in instance.get_run_records(dg.RunsFilter(job_name=job, statuses=_ENDED), limit=_RUNS_AT_ONCE)
        if record.end_time is not None
    ]
    working = under_way.backlog[0].dagster_run.run_id if under_way.backlog else None
    return Backlog(working, max(ended, default=None))


def has_begun(record: dg.RunRecord) -> bool:
    """Whether an unfinished run has left the queue."""
    return record.dagster_run.status in _BEGUN


def has_read(instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    """Whether a run has come to what it exports: the hourly one enriches, embeds and indexes before."""
    events = instance.get_records_for_run(record.dagster_run.run_id, of_type=dg.DagsterEventType.STEP_START).records
    return any(event.event_log_entry.step_key in _READING for event in events)


def asked_at(record: dg.RunRecord) -> float:
    """Return when a run was asked for, in seconds since 1970."""
    created = record.create_timestamp
    return created.replace(tzinfo=created.tzinfo or UTC).timestamp()


def last_asked(instance: dg.DagsterInstance) -> dg.RunRecord | None:
    """Return the run of an export that was asked for last, whatever became of it.

    By the order in which runs were stored: a clock that was set back does not make an older one the last.
    """
    newest = [
        record for job in _EXPORT_JOBS for record in instance.get_run_records(dg.RunsFilter(job_name=job), limit=1)
    ]
    return max(newest, key=lambda record: record.storage_id, default=None)

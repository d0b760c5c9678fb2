"""Ending jobs whose work somebody else has done: a run over days works on memories and claims no jobs.

Whoever claimed a job settles it himself. Only jobs that nobody works on are ended here, each after a look at the memory
it is about: what has to be done of it still decides, never that a run was there. So it may be repeated at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

import msgspec

from memory_pipeline.model.jobs import MEMORY_TYPES, JobKey, JobType, storable_text
from memory_pipeline.model.window import DayWindow
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.due import MemoryKey, key_arrays
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.postgres.refreshing import Progress, read_progress
from memory_pipeline.stores.sqlfiles import sql

SETTLER = "dagster "
"""How `claimed_by` begins of a job that a run has ended; no worker's name holds a space."""

_PAGE_JOBS = 500
_DONE = (None, None)


class Settled(msgspec.Struct):
    """What became of the jobs that nobody worked on."""

    completed: int = 0
    dead: int = 0
    left: int = 0
    """Something of their memory has still to be done, or somebody has just taken them."""
    correlation_ids: list[UUID] = msgspec.field(default_factory=list)
    """Of the requests whose jobs ended here, each once."""


class _Named(NamedTuple):
    key: JobKey
    subject_id: UUID | None
    correlation_id: UUID


def settle_done_jobs(
    database: Database, window: DayWindow, enricher: str, model: str, *, settled_by: str = SETTLER
) -> Settled:
    """Complete the jobs of these days whose memory is enriched by `enricher` (name@version), embedded under `model` and
    indexed, or gone from the index where it is deleted; end those as dead whose memory is among the dead letters.

    A job that a run has ended as dead (of the weeks around, for a summary belongs to one day of its week) is completed
    too once its memory leaves nothing to be done.
    """
    with database.transaction() as connection:
        keys = open_jobs(connection, window, MEMORY_TYPES)
    settled = Settled()
    correlation_ids: dict[UUID, None] = {}
    for start in range(0, len(keys), _PAGE_JOBS):
        page = keys[start : start + _PAGE_JOBS]
        with database.transaction() as connection:
            jobs = _locked(connection, "jobs_lock_open", page)
            ends = _ends(connection, jobs, enricher, model)
            _settle(connection, ends, settled_by)
        dead = sum(error_class is not None for error_class, _text in ends.values())
        settled.completed += len(ends) - dead
        settled.dead += dead
        settled.left += len(page) - len(ends)
        correlation_ids |= dict.fromkeys(job.correlation_id for job in jobs if job.key in ends)
    settled.completed += _settle_dead(database, window.whole_weeks(), enricher, model, settled_by)
    settled.correlation_ids = list(correlation_ids)
    return settled


def _settle_dead(database: Database, window: DayWindow, enricher: str, model: str, settled_by: str) -> int:
    """Complete dead jobs that nobody ever claimed and whose memory leaves nothing to be done; return how many."""
    with database.transaction() as connection:
        keys = _listed(connection, "jobs_dead_of_days", window, MEMORY_TYPES)
    completed = 0
    for start in range(0, len(keys), _PAGE_JOBS):
        with database.transaction() as connection:
            jobs = _locked(connection, "jobs_lock_dead", keys[start : start + _PAGE_JOBS])
            ends = _ends(connection, jobs, enricher, model)
            done = {key: end for key, end in ends.items() if end == _DONE}
            _settle(connection, done, settled_by)
        completed += len(done)
    return completed


def open_jobs(connection: Connection, window: DayWindow, job_types: Sequence[JobType]) -> list[JobKey]:
    """Return the jobs of these days and types that nobody works on."""
    return _listed(connection, "jobs_open_of_days", window, job_types)


def complete_open_jobs(connection: Connection, keys: Sequence[JobKey], *, settled_by: str = SETTLER) -> int:
    """Complete those of the named jobs that nobody works on; return how many. The caller knows that they are done."""
    jobs = _locked(connection, "jobs_lock_open", keys)
    _settle(connection, {job.key: _DONE for job in jobs}, settled_by)
    return len(jobs)


def _listed(connection: Connection, statement: str, window: DayWindow, job_types: Sequence[JobType]) -> list[JobKey]:
    parameters = {"job_types": list(job_types), "start": window.start, "end": window.end}
    return [JobKey(*row) for row in connection.execute(sql(PACKAGE, statement), parameters).fetchall()]


def _locked(connection: Connection, statement: str, keys: Sequence[JobKey]) -> list[_Named]:
    rows = connection.execute(
        sql(PACKAGE, statement),
        {"tenant_ids": [key.tenant_id for key in keys], "job_ids": [key.job_id for key in keys]},
    ).fetchall()
    return [_Named(JobKey(tenant_id, job_id), *rest) for tenant_id, job_id, *rest in rows]


_End = tuple[str | None, str | None]
"""Error class and text of a job that ends as dead; `_DONE` of one that is completed."""


def _ends(connection: Connection, jobs: Sequence[_Named], enricher: str, model: str) -> dict[JobKey, _End]:
    """Return how those jobs end whose memory leaves nothing to do. Their rows are locked, so nobody else ends them."""
    subjects = sorted({(job.key.tenant_id, job.subject_id) for job in jobs if job.subject_id is not None})
    progress = read_progress(connection, subjects, enricher, model)
    families = {key: list(rows) for key, rows in groupby(progress, key=lambda row: (row.tenant_id, row.named_id))}
    indexed = _indexed(connection, [*subjects, *((row.tenant_id, row.memory_id) for row in progress)], model)
    ends = {}
    for job in jobs:
        if job.subject_id is None:
            continue
        end = _end_of((job.key.tenant_id, job.subject_id), families, indexed)
        if end is not None:
            ends[job.key] = end
    return ends


def _end_of(
    subject: MemoryKey, families: Mapping[MemoryKey, Sequence[Progress]], indexed: set[MemoryKey]
) -> _End | None:
    """Judge a memory by itself and the facts found in it; None where something has still to be done."""
    family = families.get(subject, ())
    failed = next((row for row in family if row.status == "failed"), None)
    if failed is not None:
        return failed.failure_class or "Failed", storable_text(failed.failure_text or "no text")
    if not family:
        return None if subject in indexed else _DONE
    for row in family:
        surplus = row.status == "deleted" and (row.tenant_id, row.memory_id) in indexed
        if surplus or row.status == "pending_enrichment" or row.unread or row.unembedded or row.unindexed:
            return None
    return _DONE


def _indexed(connection: Connection, keys: Sequence[MemoryKey], model: str) -> set[MemoryKey]:
    rows = connection.execute(sql(PACKAGE, "indexed_memories"), {**key_arrays(keys), "model": model}).fetchall()
    return set(rows)


def _settle(connection: Connection, ends: Mapping[JobKey, _End], settled_by: str) -> None:
    connection.execute(
        sql(PACKAGE, "jobs_settle"),
        {
            "tenant_ids": [key.tenant_id for key in ends],
            "job_ids": [key.job_id for key in ends],
            "error_classes": [error_class for error_class, _text in ends.values()],
            "error_texts": [text for _class, text in ends.values()],
            "settled_by": settled_by,
        },
    )

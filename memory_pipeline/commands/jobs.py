"""`jobs list`, `jobs show`, `jobs retry`: looking into the ledger, and giving dead jobs another try."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from memory_pipeline.commands.output import age, number, out, plain, print_json, print_rows
from memory_pipeline.commands.session import running_pipeline
from memory_pipeline.model.errors import InvalidRequestError, NotFoundError
from memory_pipeline.model.jobs import JobState
from memory_pipeline.stores.postgres.job_reports import (
    Job,
    database_now,
    dead_by_class,
    job_stats,
    list_jobs,
    retry_dead,
    show_job,
)

UNFINISHED: tuple[JobState, ...] = ("dead", "failed", "processing", "pending")
"""What whoever looks wants to know of, what needs them first."""
_PAGE = 100
_ERROR_CHARACTERS = 300


def list_command(states: Sequence[JobState] | None, error_class: str | None, limit: int, *, json: bool) -> int:
    """Show counts by state, then at most `limit` jobs: state by state in the order given (None: of all states alike),
    the newest first."""
    jobs: list[Job] = []
    with running_pipeline() as pipeline, pipeline.database.transaction() as connection:
        stats = job_stats(connection)
        classes = dead_by_class(connection)
        now = database_now(connection)
        for one in [None] if states is None else [[state] for state in states]:
            if len(jobs) < limit:
                jobs += list_jobs(connection, states=one, error_class=error_class, limit=limit - len(jobs))
    if json:
        print_json({"stats": stats, "dead": classes, "jobs": [job._asdict() for job in jobs]})
        return 0
    counts = Counter[str]()
    for stat in stats:
        counts[stat.state] += stat.jobs
    out.print("  ".join(f"{name} {number(count)}" for name, count in sorted(counts.items())) or "no jobs")
    for each in classes:
        out.print(f"dead: {number(each.jobs)} of {each.job_type} by {each.error_class}", highlight=False)
    if jobs:
        _show(jobs, now)
    elif states == UNFINISHED and error_class is None:
        out.print("no job waits and none failed; `jobs list --all` shows what was done last", highlight=False)
    elif states is not None or error_class is not None:
        kind = " or ".join(states or ("such",))
        out.print(f"no {kind} jobs" + (f" of class {error_class}" if error_class else ""), markup=False)
    if len(jobs) == limit:
        out.print(f"only {number(limit)} are shown; --limit shows more")
    if any(job.state == "dead" for job in jobs):
        out.print("`memory-pipeline jobs retry ID` gives a dead job another try, `--all` all of them", highlight=False)
    return 0


def _show(jobs: list[Job], now: datetime) -> None:
    out.print()
    print_rows(
        ("job", "type", "state", "tries", "age"),
        [
            (
                (str(job.job_id), job.job_type, job.state, str(job.attempts), age(now - job.created_at)),
                plain(f"{job.error_class}: {job.error_text}"[:_ERROR_CHARACTERS]) if job.error_class else "",
            )
            for job in jobs
        ],
    )


def show_command(job_id: str, *, json: bool) -> int:
    """Show one job."""
    with running_pipeline() as pipeline, pipeline.database.transaction() as connection:
        job = show_job(connection, _uuid(job_id))
    if json:
        print_json(job._asdict())
        return 0
    for name, value in job._asdict().items():
        if value is not None and value != {}:
            out.print(f"{name:<15} {value}", highlight=False, markup=False, soft_wrap=True)
    return 0


def retry_command(job_id: str | None, error_class: str | None, *, everything: bool, rate: float, json: bool) -> int:
    """Make dead jobs pending, at most `rate` a second; exit 1 where a named one was not dead."""
    if sum([job_id is not None, error_class is not None, everything]) != 1:
        raise InvalidRequestError("name one job, a --class, or --all.")
    wanted = None if job_id is None else _uuid(job_id)
    retried = 0
    with running_pipeline() as pipeline:
        with pipeline.database.transaction() as connection:
            if wanted is not None:
                show_job(connection, wanted)
            died_before = database_now(connection)
        page = max(1, min(_PAGE, int(rate)))
        while True:
            started = time.monotonic()
            with pipeline.database.transaction() as connection:
                keys = retry_dead(
                    connection, died_before=died_before, limit=page, error_class=error_class, job_id=wanted
                )
            retried += len(keys)
            if len(keys) < page:
                break
            time.sleep(max(0.0, len(keys) / rate - (time.monotonic() - started)))
    if json:
        print_json({"retried": retried})
    else:
        out.print(f"{number(retried)} jobs are pending again")
    return 1 if wanted is not None and not retried else 0


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFoundError(f"{text!r} is not the id of a job; `memory-pipeline jobs list` shows them.") from error

"""The checks for dead letters: memories that can't be enriched or embedded, and jobs that are not tried any more."""

from __future__ import annotations

import dagster as dg

from memory_pipeline.model.window import DayWindow
from memory_pipeline.stores.postgres.checks import dead_jobs, dead_letters
from memory_pipeline.stores.postgres.database import Database

NAME = "no_dead_letters"
DESCRIPTION = "No memory of these days waits in the dead letters; if one does, its reason is here. A warning."
JOBS_NAME = "no_dead_jobs"
JOBS_DESCRIPTION = (
    "No job of these days is dead, which is one that failed for good or too often; else its reason is here, and "
    "`memory-pipeline jobs retry` tries it again. A warning."
)
_SHOWN = 10


def check_dead_letters(database: Database, window: DayWindow) -> dg.AssetCheckResult:
    """Return the outcome for one window, with the newest reasons."""
    with database.transaction() as connection:
        letters = dead_letters(connection, window, _SHOWN)
    total = letters[0].total if letters else 0
    reason = f"{total:,} memories could not be processed; the newest: {letters[0].failure_text}" if letters else None
    rows = "\n".join(f"| {one.day} | {one.memory_id} | {one.failure_class} | {one.failure_text} |" for one in letters)
    return dg.AssetCheckResult(
        check_name=NAME,
        passed=total == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=reason,
        metadata={
            "dead_letters": total,
            "newest": dg.MetadataValue.md(f"| day | memory | error | reason |\n|---|---|---|---|\n{rows}"),
        },
    )


def check_dead_jobs(database: Database, window: DayWindow) -> dg.AssetCheckResult:
    """Return the outcome for one window, with what each kind of failure last said."""
    with database.transaction() as connection:
        kinds = dead_jobs(connection, window)
    total = sum(kind.jobs for kind in kinds)
    newest = max(kinds, key=lambda kind: kind.newest, default=None)
    rows = "\n".join(
        f"| {kind.job_type} | {kind.error_class} | {kind.jobs:,} | {kind.newest:%Y-%m-%d %H:%M} | {kind.error_text} |"
        for kind in kinds
    )
    return dg.AssetCheckResult(
        check_name=JOBS_NAME,
        passed=total == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{total:,} jobs are dead; the newest: {newest.error_text}" if newest else None,
        metadata={
            "dead_jobs": total,
            "kinds": dg.MetadataValue.md(f"| type | error | jobs | newest | it said |\n|---|---|---|---|---|\n{rows}"),
        },
    )

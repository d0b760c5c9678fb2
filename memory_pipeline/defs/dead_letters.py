"""The check for dead letters, which enrichment and embedding share: each can put memories there."""

from __future__ import annotations

import dagster as dg

from memory_pipeline.model.window import DayWindow
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.checks import dead_letters

NAME = "no_dead_letters"
DESCRIPTION = "No memory of these days waits in the dead letters; if one does, its reason is here. A warning."
_SHOWN = 10


def check_dead_letters(pipeline: Pipeline, window: DayWindow) -> dg.AssetCheckResult:
    """Return the outcome for one window, with the newest reasons."""
    with pipeline.database.transaction() as connection:
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

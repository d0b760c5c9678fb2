"""Checks on `facts`: nothing waits in the dead letters, and every fact says where it comes from."""

import dagster as dg

from memory_pipeline.defs.common import PipelineResource, examples_of
from memory_pipeline.defs.enrichment.assets import facts
from memory_pipeline.defs.partitions import checked_window
from memory_pipeline.stores.postgres.checks import dead_letters, fact_soundness

_SHOWN = 10


@dg.asset_check(
    asset=facts,
    description="No memory of these days waits in the dead letters; if one does, its reason is here. A warning.",
)
def no_dead_letters(context: dg.AssetCheckExecutionContext, pipeline: PipelineResource) -> dg.AssetCheckResult:
    with pipeline.database.transaction() as connection:
        letters = dead_letters(connection, checked_window(context), _SHOWN)
    total = letters[0].total if letters else 0
    reason = f"{total:,} memories could not be processed; the newest: {letters[0].failure_text}" if letters else None
    rows = "\n".join(f"| {one.day} | {one.memory_id} | {one.failure_class} | {one.failure_text} |" for one in letters)
    return dg.AssetCheckResult(
        passed=total == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=reason,
        metadata={
            "dead_letters": total,
            "newest": dg.MetadataValue.md(f"| day | memory | error | reason |\n|---|---|---|---|\n{rows}"),
        },
    )


@dg.asset_check(
    asset=facts,
    description="Every fact of these days cites a message that exists and has a confidence from 0 to 1.",
)
def facts_cite_messages(context: dg.AssetCheckExecutionContext, pipeline: PipelineResource) -> dg.AssetCheckResult:
    with pipeline.database.transaction() as connection:
        found = fact_soundness(connection, checked_window(context))
    passed = found.without_message == 0 and found.without_confidence == 0
    return dg.AssetCheckResult(
        passed=passed,
        description=None
        if passed
        else f"{found.without_message:,} facts cite no message, {found.without_confidence:,} have no confidence",
        metadata={
            "facts": found.facts,
            "without_message": found.without_message,
            "without_confidence": found.without_confidence,
            "examples": examples_of(found.examples),
        },
    )

"""Checks on `facts`: nothing waits in the dead letters, and every fact says where it comes from."""

import dagster as dg

from memory_pipeline.defs import dead_letters
from memory_pipeline.defs.common import PipelineResource, examples_of
from memory_pipeline.defs.enrichment.assets import facts
from memory_pipeline.defs.partitions import checked_window
from memory_pipeline.stores.postgres.checks import fact_soundness


@dg.asset_check(asset=facts, name=dead_letters.NAME, description=dead_letters.DESCRIPTION)
def no_dead_letters(context: dg.AssetCheckExecutionContext, pipeline: PipelineResource) -> dg.AssetCheckResult:
    return dead_letters.check_dead_letters(pipeline.database, checked_window(context))


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

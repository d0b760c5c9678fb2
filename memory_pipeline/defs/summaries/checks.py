"""The check on `weekly_summaries`: none rests on nothing."""

import dagster as dg

from memory_pipeline.defs.common import PipelineResource, examples_of
from memory_pipeline.defs.partitions import checked_window, weekly
from memory_pipeline.defs.summaries.assets import weekly_summaries
from memory_pipeline.stores.postgres.checks import summary_soundness


@dg.asset_check(
    asset=weekly_summaries,
    description="Every summary of these weeks names the messages it rests on, and all of them are its user's.",
)
def summaries_name_sources(context: dg.AssetCheckExecutionContext, pipeline: PipelineResource) -> dg.AssetCheckResult:
    with pipeline.database.transaction() as connection:
        found = summary_soundness(connection, checked_window(context, weekly))
    return dg.AssetCheckResult(
        passed=found.without_source == 0,
        description=f"{found.without_source:,} summaries rest on nothing" if found.without_source else None,
        metadata={
            "summaries": found.summaries,
            "without_source": found.without_source,
            "examples": examples_of(found.examples),
        },
    )

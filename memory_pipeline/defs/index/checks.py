"""Checks on `chroma_index`: what Postgres says was written is all there is to write, Chroma holds that many, and no job
that should have led here is dead."""

import dagster as dg

from memory_pipeline.defs import dead_letters
from memory_pipeline.defs.common import PipelineResource
from memory_pipeline.defs.index.assets import chroma_index
from memory_pipeline.defs.partitions import checked_window
from memory_pipeline.stages.compare_index import count_collections
from memory_pipeline.stores.postgres.checks import indexed_tenants


@dg.asset_check(
    asset=chroma_index,
    description=(
        "The index entries of these days are the vectors of these days, tenant by tenant, in their present versions. "
        "A warning: a run at work beside this one may have made vectors that it has yet to index."
    ),
)
def entries_match_vectors(context: dg.AssetCheckExecutionContext, pipeline: PipelineResource) -> dg.AssetCheckResult:
    with pipeline.database.transaction() as connection:
        tenants = indexed_tenants(connection, checked_window(context), pipeline.embedder.model)
    lacking = sum(tenant.expected - tenant.indexed for tenant in tenants)
    surplus = sum(tenant.surplus for tenant in tenants)
    rows = "\n".join(f"| {one.tenant_id} | {one.expected:,} | {one.indexed:,} | {one.surplus:,} |" for one in tenants)
    return dg.AssetCheckResult(
        passed=lacking == 0 and surplus == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{lacking:,} vectors are not indexed as they are now, {surplus:,} should not be there"
        if lacking or surplus
        else None,
        metadata={
            "expected": sum(tenant.expected for tenant in tenants),
            "lacking": lacking,
            "surplus": surplus,
            "tenants": dg.MetadataValue.md(f"| tenant | expected | indexed | surplus |\n|---|---|---|---|\n{rows}"),
        },
    )


@dg.asset_check(
    asset=chroma_index,
    description="Every tenant's collection holds as many vectors as Postgres says were written to it, over all days.",
)
def chroma_holds_entries(pipeline: PipelineResource) -> dg.AssetCheckResult:
    counts = count_collections(pipeline.database, pipeline.chroma, pipeline.embedder.model)
    wrong = [count for count in counts if count.entries != count.vectors]
    rows = "\n".join(
        f"| {one.tenant_id} | {one.entries:,} | {'lost' if one.vectors is None else f'{one.vectors:,}'} |"
        for one in counts
    )
    return dg.AssetCheckResult(
        passed=not wrong,
        description=f"{len(wrong):,} of {len(counts):,} collections hold another number of vectors" if wrong else None,
        metadata={
            "collections": len(counts),
            "wrong": len(wrong),
            "tenants": dg.MetadataValue.md(f"| tenant | entries | vectors in Chroma |\n|---|---|---|\n{rows}"),
        },
    )


@dg.asset_check(asset=chroma_index, name=dead_letters.JOBS_NAME, description=dead_letters.JOBS_DESCRIPTION)
def no_dead_jobs(context: dg.AssetCheckExecutionContext, pipeline: PipelineResource) -> dg.AssetCheckResult:
    return dead_letters.check_dead_jobs(pipeline.database, checked_window(context))

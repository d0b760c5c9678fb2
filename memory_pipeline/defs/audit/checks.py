"""The check on `consistency_audit`: the newest audit found nothing."""

import dagster as dg

from memory_pipeline.defs.audit.assets import consistency_audit
from memory_pipeline.defs.common import PipelineResource
from memory_pipeline.stores.postgres.checks import newest_audit


@dg.asset_check(
    asset=consistency_audit,
    description="The audit that finished last found every store in agreement with Postgres.",
)
def no_findings(pipeline: PipelineResource) -> dg.AssetCheckResult:
    with pipeline.database.transaction() as connection:
        newest = newest_audit(connection)
    if newest is None:
        return dg.AssetCheckResult(passed=False, description="no audit has finished yet")
    problems = "; ".join(newest.problems)
    return dg.AssetCheckResult(
        passed=newest.findings == 0,
        description=f"{newest.findings:,} findings ({problems})" if newest.findings else None,
        metadata={
            "findings": newest.findings,
            "problems": problems or "none",
            "audit_id": str(newest.audit_id),
            "finished_at": dg.MetadataValue.timestamp(newest.finished_at),
        },
    )

"""The asset `consistency_audit`."""

from datetime import UTC, datetime

import dagster as dg

from memory_pipeline.defs.common import OWNERS, PipelineResource, logged_progress, metadata_of
from memory_pipeline.defs.index.assets import chroma_index
from memory_pipeline.stages.audit import audit


@dg.asset(
    deps=[chroma_index, "messages"],
    group_name="audit",
    kinds={"postgres", "chroma"},
    owners=OWNERS,
    pool="chroma_writer",
    code_version="1",
    description=(
        "Whether every store agrees with Postgres: each message has its episode, each memory its source and vector, "
        "each index exactly the vectors of Postgres in their present versions. The outcome is kept in audit_runs and "
        "audit_findings."
    ),
)
def consistency_audit(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    report = audit(
        pipeline.database,
        pipeline.chroma,
        pipeline.embedder.model,
        seed=datetime.now(UTC).toordinal(),
        progress=logged_progress(context, "vectors"),
    )
    rows = "\n".join(f"| {f.store} | {f.problem} | {f.subject_id} | {f.tenant_id} |" for f in report.listed[:50])
    return dg.MaterializeResult(
        metadata=metadata_of(
            report,
            audit_id=str(report.audit_id),
            listed=dg.MetadataValue.md(f"| store | problem | subject | tenant |\n|---|---|---|---|\n{rows}"),
        )
    )

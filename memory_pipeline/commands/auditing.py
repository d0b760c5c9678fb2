"""`audit` and `rebuild-index`: whether the stores agree with Postgres, and making an index anew from it."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.progress import track

from memory_pipeline.commands.output import err, number, out, print_json, table
from memory_pipeline.commands.session import running_pipeline
from memory_pipeline.stages.audit import audit
from memory_pipeline.stages.index import rebuild_index
from memory_pipeline.stores.postgres.tenants import all_tenants, tenant_id_of


def audit_command(*, json: bool) -> int:
    """Compare every store with Postgres; return 1 where something differs."""
    with running_pipeline() as pipeline:
        seed = datetime.now(UTC).toordinal()
        report = audit(pipeline.database, pipeline.chroma, pipeline.embedder.model, seed=seed)
    if json:
        print_json(report)
    else:
        out.print(
            f"{number(report.tenants)} tenants, {number(report.vectors)} vectors compared in {report.seconds:.1f} s: "
            f"{number(report.findings)} findings (audit {report.audit_id})"
        )
        if report.listed:
            grid = table("Findings", "store", "problem", "subject", "tenant")
            for finding in report.listed:
                grid.add_row(finding.store, finding.problem, str(finding.subject_id), str(finding.tenant_id))
            out.print(grid)
    return 1 if report.findings else 0


def rebuild_index_command(tenant: str | None) -> int:
    """Make the indexes of one tenant, or of all, anew; the old ones serve until then."""
    with running_pipeline() as pipeline:
        with pipeline.database.transaction() as connection:
            tenants = all_tenants(connection)
            if tenant is not None:
                tenants = {tenant_id_of(connection, tenant): tenant}
        for tenant_id, slug in track(tenants.items(), "rebuilding", console=err, disable=not err.is_terminal):
            report = rebuild_index(
                pipeline.database,
                pipeline.chroma,
                pipeline.embedder.model,
                pipeline.embedder.dimension,
                tenant_id,
                documents=pipeline.settings.chroma_documents,
            )
            out.print(f"{slug}: {number(report.added)} vectors")
    return 0

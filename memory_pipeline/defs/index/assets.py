"""The asset `chroma_index`."""

import dagster as dg

from memory_pipeline.defs.common import OWNERS, PipelineResource, held_up, logged_progress, metadata_of, note_requests
from memory_pipeline.defs.embedding.assets import memory_embeddings
from memory_pipeline.defs.partitions import daily, window_of
from memory_pipeline.model.window import DayWindow
from memory_pipeline.stages.index import IndexFailedError, index_memories
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.job_settling import SETTLER, Settled, settle_done_jobs


@dg.asset(
    partitions_def=daily,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[memory_embeddings],
    group_name="index",
    kinds={"chroma", "postgres"},
    owners=OWNERS,
    pool="chroma_writer",
    code_version="1",
    description=(
        "One Chroma collection per tenant, projected from Postgres: new and changed vectors of the day written, "
        "deleted ones removed, unchanged ones not touched. A lost collection is rebuilt whole, without embedding again."
        " Jobs of the day's memories that are done by now are completed, as a worker would have done."
    ),
)
def chroma_index(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    off = held_up(context, pipeline)
    if off is not None:
        return off
    window = window_of(context)
    try:
        report = index_memories(
            pipeline.database,
            pipeline.chroma,
            pipeline.embedder.model,
            pipeline.embedder.dimension,
            window,
            documents=pipeline.settings.chroma_documents,
            progress=logged_progress(context, "vectors"),
        )
    except IndexFailedError:
        _settle(context, pipeline, window)  # the other tenants' jobs are done
        raise
    settled = _settle(context, pipeline, window)
    return dg.MaterializeResult(
        metadata=metadata_of(
            report,
            row_count=report.added + report.updated,
            added=report.added,
            updated=report.updated,
            removed=report.removed,
            rebuilt_tenants=len(report.rebuilt),
            jobs_completed=settled.completed,
            jobs_dead=settled.dead,
            jobs_left=settled.left,
        )
    )


def _settle(context: dg.AssetExecutionContext, pipeline: Pipeline, window: DayWindow) -> Settled:
    settled = settle_done_jobs(
        pipeline.database,
        window,
        f"{pipeline.enricher.name}@{pipeline.enricher.version}",
        pipeline.embedder.model,
        settled_by=f"{SETTLER}{context.run.run_id}",
    )
    note_requests(context, settled.correlation_ids)
    return settled

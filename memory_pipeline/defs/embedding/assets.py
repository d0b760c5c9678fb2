"""The asset `memory_embeddings`."""

import dagster as dg

from memory_pipeline.defs.common import (
    OWNERS,
    PipelineResource,
    held_up,
    logged_progress,
    metadata_of,
    note_left,
    refused_metadata,
)
from memory_pipeline.defs.enrichment.assets import facts, memory_relationships
from memory_pipeline.defs.partitions import daily, window_of
from memory_pipeline.model.flags import Flag
from memory_pipeline.providers.registry import make_embedder, plugin_names
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.embed import embed


@dg.asset(
    partitions_def=daily,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[facts, memory_relationships],
    group_name="embedding",
    kinds={"onnx", "postgres"},
    owners=OWNERS,
    pool="embedder",
    code_version=make_embedder(load_settings()).model,
    metadata={"dagster/table_name": "memory.memory_embeddings"},
    description=(
        "A vector for every memory's present content under the model in the code version, kept in Postgres so that an "
        "index can be rebuilt without embedding again. Unchanged content is never embedded twice."
    ),
)
def memory_embeddings(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    off = held_up(context, pipeline, Flag.EMBEDDING)
    if off is not None:
        return off
    report = embed(
        pipeline.database,
        pipeline.embedder,
        window_of(context),
        plugin=plugin_names(pipeline.settings).embedder,
        limits=pipeline.rate_limits,
        price_per_million_tokens=pipeline.settings.embedding_price_per_million_tokens,
        progress=logged_progress(context, "memories"),
        fail_fast=pipeline.settings.fail_fast,
    )
    if report.limited:
        note_left(context, f"{report.limited} memories are over a rate limit")
    return dg.MaterializeResult(
        metadata=metadata_of(
            report,
            row_count=report.texts_embedded + report.reused,
            **refused_metadata(report.refused_tenants),
            model=pipeline.embedder.model,
            dimension=pipeline.embedder.dimension,
            texts_per_second=round(report.texts_embedded / report.seconds, 1) if report.seconds else 0.0,
        )
    )

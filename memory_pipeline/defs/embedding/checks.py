"""Checks on `memory_embeddings`: every memory has its vectors, and they are vectors of the model."""

from collections.abc import Iterator

import dagster as dg

from memory_pipeline.defs import dead_letters
from memory_pipeline.defs.common import PipelineResource, examples_of
from memory_pipeline.defs.embedding.assets import memory_embeddings
from memory_pipeline.defs.partitions import checked_window
from memory_pipeline.stores.postgres.checks import vector_soundness

_COMPLETE = dg.AssetCheckSpec(
    "memories_have_vectors",
    asset=memory_embeddings,
    description=(
        "Every active memory of these days has the vectors of its present content. A warning: a run at work beside "
        "this one may have found memories that it has yet to embed."
    ),
)
_SOUND = dg.AssetCheckSpec(
    "vectors_fit_the_model",
    asset=memory_embeddings,
    description="Every vector of these days has the model's dimension and unit length.",
)
_DEAD_LETTERS = dg.AssetCheckSpec(dead_letters.NAME, asset=memory_embeddings, description=dead_letters.DESCRIPTION)


@dg.multi_asset_check(
    specs=[_DEAD_LETTERS, _COMPLETE, _SOUND], description="What became of the memories that needed vectors."
)
def embedding_checks(
    context: dg.AssetCheckExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.AssetCheckResult]:
    window, embedder = checked_window(context), pipeline.embedder
    yield dead_letters.check_dead_letters(pipeline.database, window)
    with pipeline.database.transaction() as connection:
        found = vector_soundness(connection, window, embedder.model, embedder.dimension)
    unfit = found.of_other_dimension + found.not_unit
    examples = examples_of(found.examples)
    yield dg.AssetCheckResult(
        check_name=_COMPLETE.name,
        passed=found.incomplete == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{found.incomplete:,} of {found.memories:,} memories lack a vector" if found.incomplete else None,
        metadata={"memories": found.memories, "incomplete": found.incomplete, "examples": examples},
    )
    yield dg.AssetCheckResult(
        check_name=_SOUND.name,
        passed=unfit == 0,
        description=f"{unfit:,} vectors are of another dimension or not of length 1" if unfit else None,
        metadata={
            "vectors": found.vectors,
            "of_other_dimension": found.of_other_dimension,
            "not_unit": found.not_unit,
            "examples": examples,
        },
    )

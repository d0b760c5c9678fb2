"""Plots and previews of what is exported already: one that can't be made is a warning, and fails nothing."""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg

from memory_pipeline.model.errors import MemoryPipelineError

NOT_MADE = "It could not be made; the log of the run has a warning that says why. What was exported is whole."


def shown_if_possible(
    context: dg.AssetExecutionContext, name: str, make: Callable[[], dg.MarkdownMetadataValue]
) -> dg.MarkdownMetadataValue:
    """Return what `make` draws or lists of the asset `name`; where a query or the drawing fails, words that say so."""
    try:
        return make()
    except MemoryPipelineError as error:
        context.log.warning(f"{name} is exported, but a plot or preview of it could not be made: {error}")
    except (ArithmeticError, OSError, ValueError) as error:
        # Of what the drawing says only the kind: it may repeat values, and Dagster's history outlives an erasure.
        context.log.warning(
            f"{name} is exported, but a plot or preview of it could not be made: {type(error).__name__}"
        )
    return dg.MetadataValue.md(NOT_MADE)

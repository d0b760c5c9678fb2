"""Puts the definitions together. A test can swap the stores: `build_definitions(resource_overrides=…)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from memory_pipeline.defs.analytics import assets as analytics
from memory_pipeline.defs.audit import assets as audit
from memory_pipeline.defs.common import pipeline_resource
from memory_pipeline.defs.embedding import assets as embedding
from memory_pipeline.defs.enrichment import assets as enrichment
from memory_pipeline.defs.index import assets as index
from memory_pipeline.defs.source import assets as source
from memory_pipeline.defs.summaries import assets as summaries

_ASSET_MODULES = [source, enrichment, embedding, index, analytics, summaries, audit]


def build_definitions(resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Return the code location."""
    return dg.Definitions(
        assets=dg.load_assets_from_modules(_ASSET_MODULES),
        resources={"pipeline": pipeline_resource(), **(resource_overrides or {})},
        # A step is milliseconds to minutes of work on shared servers: a process for each costs more than it gives.
        executor=dg.in_process_executor,
    )

"""The jobs that export, and whether one of them is under way: the schedule and the sensor wait for each other."""

from __future__ import annotations

import dagster as dg

from memory_pipeline.defs.analytics.assets import lake, lake_dimensions, published_files, published_lake
from memory_pipeline.defs.common import OWNER_TAG
from memory_pipeline.defs.embedding.assets import memory_embeddings
from memory_pipeline.defs.enrichment.assets import facts, memory_relationships
from memory_pipeline.defs.index.assets import chroma_index
from memory_pipeline.defs.ticks import UNFINISHED

FILE = dg.AssetKey("duckdb_analytics")

export_job = dg.define_asset_job(
    "export_job",
    selection=dg.AssetSelection.assets(
        facts,
        memory_relationships,
        memory_embeddings,
        chroma_index,
        lake,
        lake_dimensions,
        published_files,
        published_lake,
    ),
    description="A range of days through the whole pipeline, then a new DuckDB file and the lake at its URL.",
    tags=OWNER_TAG,
)

after_facts_job = dg.define_asset_job(
    "after_facts_job",
    selection=dg.AssetSelection.assets(lake, lake_dimensions, published_files, published_lake),
    description="What facts and summaries have changed into the lake, a new DuckDB file, the lake at its URL.",
    tags=OWNER_TAG,
)

EXPORT_JOBS = (export_job.name, after_facts_job.name)


def export_under_way(instance: dg.DagsterInstance) -> str | None:
    """Return the id of a run that waits or works to make the file, whoever asked for it."""
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        if run.job_name in EXPORT_JOBS or FILE in (run.asset_selection or ()):
            return run.run_id
    return None

"""`dead_letter_sensor`: when the dead letters change, the checks that show them say so, without a run."""

from __future__ import annotations

import hashlib

import dagster as dg

from memory_pipeline.defs import dead_letters
from memory_pipeline.defs.common import OWNER_TAG
from memory_pipeline.defs.embedding.assets import memory_embeddings
from memory_pipeline.defs.enrichment.assets import facts
from memory_pipeline.defs.index.assets import chroma_index
from memory_pipeline.defs.partitions import EVERY_DAY
from memory_pipeline.defs.sensing import Answer, opened_database, skipping_where_away
from memory_pipeline.settings import load_settings


@dg.sensor(
    name="dead_letter_sensor",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    asset_selection=dg.AssetSelection.assets(facts, memory_embeddings, chroma_index),
    description=(
        "Every minute: whether there are other dead letters than before. Then the checks on dead memories and dead "
        "jobs are evaluated over all days, outside of any run. It launches nothing."
    ),
    tags=OWNER_TAG,
)
@skipping_where_away
def dead_letter_sensor(context: dg.SensorEvaluationContext) -> Answer:
    with opened_database(load_settings()) as database:
        memories = dead_letters.check_dead_letters(database, EVERY_DAY)
        jobs = dead_letters.check_dead_jobs(database, EVERY_DAY)
    seen = _fingerprint(memories, jobs)
    if seen == context.cursor or (context.cursor is None and memories.passed and jobs.passed):
        return dg.SensorResult(cursor=seen, skip_reason=_told(memories, jobs))
    evaluations = [
        _evaluation(asset.key, result) for asset, result in ((facts, memories), (memory_embeddings, memories))
    ]
    evaluations.append(_evaluation(chroma_index.key, jobs))
    for result in (memories, jobs):
        if not result.passed:
            context.log.warning(str(result.description))
    return dg.SensorResult(asset_events=evaluations, cursor=seen, skip_reason=f"Told anew: {_told(memories, jobs)}")


def _told(memories: dg.AssetCheckResult, jobs: dg.AssetCheckResult) -> str:
    said = [str(result.description) for result in (memories, jobs) if not result.passed]
    return "; ".join(said) or "There are no dead letters."


def _fingerprint(*results: dg.AssetCheckResult) -> str:
    """Return what changes when other memories or jobs are dead; error texts are long, so their hash."""
    shown = repr([(result.check_name, sorted((k, v.value) for k, v in result.metadata.items())) for result in results])
    return hashlib.sha256(shown.encode()).hexdigest()


def _evaluation(asset: dg.AssetKey, result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=asset,
        check_name=str(result.check_name),
        passed=result.passed,
        severity=result.severity,
        description=result.description,
        metadata=result.metadata,
    )

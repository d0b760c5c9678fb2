"""Runs and files that stand in for exports and for what they follow: what tests of their pace share."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from memory_pipeline.definitions import defs
from memory_pipeline.defs.partitions import daily

WHOLE = ("lake_dimensions", "duckdb_analytics")
REPOSITORY = defs.get_repository_def()
_LOCATION = RemoteRepositoryOrigin(
    ManagedGrpcPythonEnvCodeLocationOrigin(
        LoadableTargetOrigin(module_name="memory_pipeline.definitions"), location_name="memory_pipeline"
    ),
    REPOSITORY.name,
)
"""As the daemon names it in runs that wait in its queue."""


def serve(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the sensor and the schedule find a published file; return the folder of exports."""
    monkeypatch.setenv("MEMORY_DATA_DIR", str(folder))
    name = "memory-000001-0123456789.duckdb"
    exports = folder / "exports"
    exports.mkdir()
    (exports / name).touch()
    (exports / "CURRENT").write_text(f"{name}\n", encoding="utf-8")
    return exports


def delete(exports: Path) -> None:
    shutil.rmtree(exports)


def told(instance: dg.DagsterInstance, asset: str, *partitions: str) -> None:
    """Days of an asset are materialized without a run, as workers' are."""
    for partition in partitions:
        instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=partition))


def exported(instance: dg.DagsterInstance, *, succeeds: bool = True) -> str:
    """A run that did what exports do: the whole lake, and the file; return its id."""
    return run_over(instance, list(WHOLE), "2025-03-03", "2025-03-05", succeeds=succeeds)


def run_over(instance: dg.DagsterInstance, names: list[str], first: str, last: str, *, succeeds: bool = True) -> str:
    """A run over a range of days that materializes stand-ins of these assets, in this order; return its id."""

    def stand_in(name: str, before: list[str]) -> dg.AssetsDefinition:
        @dg.asset(name=name, partitions_def=None if name in WHOLE else daily, deps=before)
        def made() -> None: ...

        return made

    tags = {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}
    stand_ins = [stand_in(name, names[:place]) for place, name in enumerate(names)]

    @dg.asset(name="refused", deps=names)
    def refused() -> None:
        raise dg.Failure("after all else")

    more = [] if succeeds else [refused]
    result = dg.materialize([*stand_ins, *more], instance=instance, tags=tags, raise_on_error=False)
    assert result.success == succeeds
    return result.run_id


def run_of(
    instance: dg.DagsterInstance, job: str, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED
) -> dg.DagsterRun:
    """A run of a job in some state. `__ASSET_JOB` is that of `memory-pipeline materialize` and the UI: of the file."""
    selected = frozenset({dg.AssetKey("duckdb_analytics")}) if job == "__ASSET_JOB" else None
    definition = REPOSITORY.get_job(job)
    return instance.create_run_for_job(
        definition,
        status=status,
        tags=definition.run_tags,
        asset_selection=selected,
        remote_job_origin=_LOCATION.get_job_origin(job),
    )

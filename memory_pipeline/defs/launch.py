"""Materializing from Python: runs on the real instance, executed in this process, watched as they go.

The assets have three kinds of partitions (day, week, none), and a run covers one kind beside none. So everything at
once is three runs in a row: enrichment by day, summaries by week, and then all that looks at both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import msgspec
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.errors import DagsterInvalidConfigError
from dagster._core.execution.api import execute_run_iterator
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from dagster_shared.error import SerializableErrorInfo
from sqlalchemy.exc import OperationalError

from memory_pipeline.defs.common import observed_progress
from memory_pipeline.defs.partitions import PARTITION_START, weekly
from memory_pipeline.local.processes import ProcessIdentity, boot_id, own_identity
from memory_pipeline.local.stack import RESTARTED_MARK
from memory_pipeline.model.errors import MemoryPipelineError, NotFoundError, SettingsError, StoreUnavailableError
from memory_pipeline.model.window import DayWindow

_PROCESS_TAG = "memory_pipeline/process"
_QUIET_CONSOLE = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class StepReport(msgspec.Struct, frozen=True):
    """One step of a run: an asset's materialization, or a check."""

    name: str
    succeeded: bool
    seconds: float
    metadata: dict[str, int | float | str | bool]
    error: str | None = None


class RunReport(msgspec.Struct):
    """One finished run."""

    run_id: str
    assets: list[str]
    succeeded: bool
    seconds: float
    steps: list[StepReport]
    failed_checks: list[str]
    """`asset: check: what was found`, of checks that say something is wrong."""
    warnings: list[str]
    """The same of checks that say something is behind, or waits for a person."""


class Observer(msgspec.Struct, frozen=True):
    """Who watches: called in this process, as things happen."""

    on_step_start: Callable[[str], None]
    on_progress: Callable[[int, str], None]
    on_step_end: Callable[[StepReport], None]


def materialize(selection: Sequence[str], window: DayWindow, observer: Observer) -> Iterator[RunReport]:
    """Materialize the assets named (none: all) over the days of the window, and yield each run as it ends.

    Stops after a run that failed. Raises NotFoundError for an unknown asset. One at a time in a process: Dagster
    configures logging when it starts a run, and two threads that do so at once wait for each other for ever.
    """
    repository = ReconstructableRepository.for_module("memory_pipeline.definitions", "defs")
    graph = repository.get_definition().asset_graph
    known = {key.to_user_string(): key for key in graph.materializable_asset_keys}
    unknown = sorted(set(selection) - set(known))
    if unknown:
        raise NotFoundError(f"there is no asset {', '.join(unknown)}; there are {', '.join(sorted(known))}.")
    chosen = [known[name] for name in selection] or list(known.values())
    with _opened_instance() as instance:
        for keys in _runs(graph, chosen):
            report = _execute(repository, instance, keys, _tags(graph, keys, window), observer)
            yield report
            if not report.succeeded:
                return


def _runs(graph: dg.AssetGraph, chosen: list[dg.AssetKey]) -> Iterator[list[dg.AssetKey]]:
    """Split assets into runs by their partitions: what summaries rest on, summaries, everything else."""
    summaries = [key for key in chosen if graph.get(key).partitions_def == weekly]
    if not summaries:
        yield chosen
        return
    before = {ancestor for key in summaries for ancestor in graph.get_ancestor_asset_keys(key)}
    groups = (
        [key for key in chosen if key in before],
        summaries,
        [key for key in chosen if key not in before and key not in summaries],
    )
    yield from (group for group in groups if group)


def _tags(graph: dg.AssetGraph, keys: list[dg.AssetKey], window: DayWindow) -> dict[str, str]:
    partitions = {graph.get(key).partitions_def for key in keys} - {None}
    if not partitions:
        return {}
    if window.start < PARTITION_START:
        raise MemoryPipelineError(
            f"{window.start} lies before the first partition ({PARTITION_START}); set MEMORY_PARTITION_START earlier."
        )
    first, last = window.start, window.end - timedelta(days=1)
    if partitions == {weekly}:
        first, last = _monday(first), _monday(last)
    return {ASSET_PARTITION_RANGE_START_TAG: first.isoformat(), ASSET_PARTITION_RANGE_END_TAG: last.isoformat()}


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def end_dead_runs() -> None:
    """End runs that nobody executes any more; for whoever starts Dagster on these stores."""
    with _opened_instance():
        pass


def check_instance() -> str:
    """Ask Dagster's own database for something and return how it is stored. Raises as `materialize` does."""
    with _opened_instance() as instance:
        return f"{instance.get_runs_count()} runs in {type(instance.event_log_storage).__name__}"


@contextmanager
def _opened_instance() -> Iterator[dg.DagsterInstance]:
    if not os.environ.get("MEMORY_DAGSTER_POSTGRES_URL"):
        raise SettingsError(
            "MEMORY_DAGSTER_POSTGRES_URL is not set; Dagster keeps its runs in a Postgres database of its own. "
            "Name one beside the other MEMORY_*_URL settings."
        )
    try:
        instance = dg.DagsterInstance.get()
    except (OperationalError, DagsterInvalidConfigError) as error:
        raise StoreUnavailableError(
            f"Dagster's database can't be opened: {error}. Mend MEMORY_DAGSTER_POSTGRES_URL."
        ) from error
    with instance:
        _fail_dead_runs(instance)
        yield instance


def _fail_dead_runs(instance: dg.DagsterInstance) -> None:
    """End the runs of processes that are gone: nobody else would, and their pool slots would be held for ever.

    Runs of our commands carry the process they live in as a tag. Those of the daemon don't, and run monitoring can't
    see the workers of the default launcher either; but when the stores were restarted, they are all gone.
    """
    mark = Path(os.environ["DAGSTER_HOME"]) / RESTARTED_MARK
    restarted = mark.exists()
    unfinished = [
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.CANCELING,
    ]
    for run in instance.get_runs(dg.RunsFilter(statuses=unfinished)):
        process = run.tags.get(_PROCESS_TAG)
        if _is_alive(process) if process is not None else not restarted:
            continue
        instance.report_run_failed(run, "The process that executed this run is gone. Materialize again.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    mark.unlink(missing_ok=True)


def _own_process() -> str:
    identity = own_identity()
    return f"{boot_id()} {identity.pid} {identity.start_time}"


def _is_alive(process: str) -> bool:
    boot, pid, start_time = process.split()
    return boot == boot_id() and ProcessIdentity(int(pid), int(start_time)).is_alive()


def _execute(
    repository: ReconstructableRepository,
    instance: dg.DagsterInstance,
    keys: list[dg.AssetKey],
    tags: dict[str, str],
    observer: Observer,
) -> RunReport:
    job_name = repository.get_definition().get_implicit_job_def_for_assets(keys)
    assert job_name is not None, f"{keys} do not fit into one run"
    job = repository.get_reconstructable_job(job_name.name).get_subset(asset_selection=frozenset(keys))
    run = instance.create_run_for_job(
        job_def=job.get_definition(),
        run_config=_QUIET_CONSOLE,
        tags={**tags, _PROCESS_TAG: _own_process()},
        asset_selection=frozenset(keys),
        job_code_origin=job.get_python_origin(),
    )
    report = RunReport(run.run_id, sorted(key.to_user_string() for key in keys), False, 0.0, [], [], [])
    began = time.monotonic()
    with observed_progress(observer.on_progress):
        for event in execute_run_iterator(job, run, instance):
            _follow(event, report, observer)
    report.seconds = time.monotonic() - began
    finished = instance.get_run_by_id(run.run_id)
    report.succeeded = finished is not None and finished.is_success
    return report


def _follow(event: dg.DagsterEvent, report: RunReport, observer: Observer) -> None:
    name = event.step_key or ""
    if event.is_step_start:
        observer.on_step_start(name)
    elif event.is_step_materialization:
        metadata = {
            label: value.value
            for label, value in event.step_materialization_data.materialization.metadata.items()
            if isinstance(value.value, int | float | str | bool) and "\n" not in str(value.value)
        }
        # A range gives one event per partition, all with the metadata of the one materialization.
        if not report.steps or report.steps[-1].name != name:
            report.steps.append(StepReport(name, True, 0.0, metadata))
    elif event.is_step_success or event.is_step_failure:
        _end_step(event, report, observer)
    elif event.event_type_value == "ASSET_CHECK_EVALUATION":
        evaluation = event.asset_check_evaluation_data
        if not evaluation.passed:
            _note_failed_check(evaluation, report)


def _note_failed_check(evaluation: dg.AssetCheckEvaluation, report: RunReport) -> None:
    line = f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}"
    if evaluation.description:
        line += f": {evaluation.description}"
    (report.failed_checks if evaluation.severity == dg.AssetCheckSeverity.ERROR else report.warnings).append(line)


def _end_step(event: dg.DagsterEvent, report: RunReport, observer: Observer) -> None:
    name = event.step_key or ""
    earlier = report.steps.pop() if report.steps and report.steps[-1].name == name else None
    metadata = earlier.metadata if earlier else {}
    if event.is_step_success:
        step = StepReport(name, True, event.step_success_data.duration_ms / 1000, metadata)
    else:
        step = StepReport(name, False, 0.0, metadata, _reason(event.step_failure_data.error))
    report.steps.append(step)
    observer.on_step_end(step)


def _reason(error: SerializableErrorInfo | None) -> str:
    """Return what a step raised: our errors are sentences, others are told with their class."""
    cause = error.cause if error is not None and error.cause is not None else error
    if cause is None:
        return "no reason given"
    raised, _colon, sentence = cause.message.strip().partition(": ")
    return sentence if raised.startswith("memory_pipeline.") else cause.message.strip()

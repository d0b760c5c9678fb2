"""What every asset shares: owners, the resource with the stores, and telling Dagster what a stage reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

import dagster as dg
import msgspec

from memory_pipeline.model.flags import Flag, switched_off
from memory_pipeline.model.window import Progress
from memory_pipeline.serving.wiring import wired
from memory_pipeline.settings import Settings, load_settings
from memory_pipeline.stages.pipeline import Pipeline

OWNERS = ["team:memory-platform"]
# Jobs carry their owner as a tag, which their runs inherit: `owners` of a job warns, as beta, wherever it is resolved.
OWNER_TAG = {"owner": "memory-platform"}
LEFT_TAG = "memory_pipeline/left"
"""Why a run that succeeded has to be made again: whoever asked for it asks again."""
CORRELATION_TAG = "memory_pipeline/correlation_ids"
"""The requests whose jobs a run completed."""
PipelineResource = dg.ResourceParam[Pipeline]

_LOG_EVERY_SECONDS = 5.0
_EXAMPLES = 10


def pipeline_resource(settings: Callable[[], Settings] = load_settings) -> dg.ResourceDefinition:
    """Return the resource `pipeline`: stores and providers of the settings at the time the run starts.

    A run fails here where its settings lead to another database than those of the processes that are up.
    """

    @dg.resource(description="Stores and providers, from the MEMORY_* settings.")
    def open_pipeline(context: dg.InitResourceContext) -> Iterator[Pipeline]:
        with Pipeline(settings()) as pipeline, wired("dagster", pipeline) as wiring:
            if wiring.report.result == "not_compared" and context.log is not None:
                context.log.warning(wiring.report.message)
            yield pipeline

    return open_pipeline


_observer: ContextVar[Callable[[int, str], None] | None] = ContextVar("progress_observer", default=None)


@contextmanager
def observed_progress(observer: Callable[[int, str], None]) -> Iterator[None]:
    """Send the progress of steps that run in this process to `observer` (finished so far, unit) too."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def logged_progress(context: dg.AssetExecutionContext, unit: str) -> Progress:
    """Return a progress callback that logs the running total every few seconds."""
    total = 0
    last = time.monotonic()
    observer = _observer.get()

    def progress(finished: int) -> None:
        nonlocal total, last
        total += finished
        if observer is not None:
            observer(total, unit)
        if time.monotonic() - last >= _LOG_EVERY_SECONDS:
            last = time.monotonic()
            context.log.info(f"{total:,} {unit} so far")

    return progress


def held_up(context: dg.AssetExecutionContext, pipeline: Pipeline, *needed: Flag) -> dg.MaterializeResult[None] | None:
    """Return the result of a stage that a flag keeps from running, which says so; None where it may run."""
    off = pipeline.flags.off(*needed)
    if not off:
        return None
    reason = switched_off(off)
    context.log.warning(reason)
    note_left(context, reason)
    return dg.MaterializeResult(metadata={"switched_off": reason, "dagster/row_count": 0})


def note_left(context: dg.AssetExecutionContext, reason: str) -> None:
    """Say of this run that it leaves some of its days' work for later, though nothing failed: see LEFT_TAG."""
    context.instance.add_run_tags(context.run.run_id, {LEFT_TAG: reason})


def note_requests(context: dg.AssetExecutionContext, correlation_ids: Sequence[UUID]) -> None:
    """Write into this run's tags whose requests it carried out; the ledger has all of them, by the run's id."""
    if correlation_ids:
        more = len(correlation_ids) - _EXAMPLES
        named = ", ".join(str(id_) for id_ in correlation_ids[:_EXAMPLES])
        value = f"{named} and {more:,} more" if more > 0 else named
        context.instance.add_run_tags(context.run.run_id, {CORRELATION_TAG: value})


def examples_of(ids: Sequence[UUID] | None) -> str:
    """Return a few ids as one line of metadata."""
    return ", ".join(str(id_) for id_ in ids or []) or "none"


def refused_metadata(tenants: Sequence[UUID]) -> dict[str, Any]:
    """Return how many tenants were left out because they do not permit the plugin, and the first of them."""
    return {"refused_tenants": len(tenants), "refused_examples": examples_of(tenants[:_EXAMPLES])}


def metadata_of(report: msgspec.Struct, *, row_count: int | None = None, **more: Any) -> dict[str, Any]:
    """Return a stage's report as metadata; `row_count` shows in Dagster's own row-count column."""
    fields: Mapping[str, Any] = msgspec.to_builtins(report, enc_hook=str)
    metadata: dict[str, Any] = {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in fields.items()
        if isinstance(value, bool | int | float | str)
    }
    if row_count is not None:
        metadata["dagster/row_count"] = row_count
    return metadata | more

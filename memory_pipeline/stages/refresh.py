"""Named memories through enrich, embed and index in one go: for a worker's batch of jobs, and for ingest without one.

The stages are those that go through windows of days, so whatever this leaves undone, a run over their day does, and the
other way round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from itertools import groupby
from uuid import UUID

import msgspec

from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.window import NamedMemories, NamedMemory
from memory_pipeline.stages.embed import EmbedReport, embed
from memory_pipeline.stages.enrich import EnrichReport, enrich
from memory_pipeline.stages.index import IndexFailedError, IndexReport, index_memories
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.due import keys_of
from memory_pipeline.stores.postgres.refreshing import Progress, read_progress

Timings = Callable[[str, float], None]
"""Called with the name of a step (enrich, embed, index, report) and the seconds it took."""


def no_timings(_step: str, _seconds: float) -> None:
    """Ignore timings."""


class RefreshState(StrEnum):
    """What became of a named memory."""

    DONE = "done"
    """It and the facts found in it are indexed, or there is nothing (more) to index: it is deleted."""
    FAILED = "failed"
    """It or a fact of it is among the dead letters, or the index of its tenant can't be written."""
    HELD = "held"
    """Another run holds it, or it changed meanwhile: try again."""
    UNKNOWN = "unknown"
    """There is no such memory in that tenant (any more)."""


class RefreshedMemory(msgspec.Struct, frozen=True):
    """One named memory and what became of it; the reason where it failed."""

    memory: NamedMemory
    state: RefreshState
    failure_class: str | None = None
    failure_text: str | None = None


class RefreshReport(msgspec.Struct):
    """What a refresh did, stage by stage and memory by memory."""

    enrich: EnrichReport
    embed: EmbedReport
    index: IndexReport
    memories: list[RefreshedMemory]
    """In the order of the memories named."""
    seconds: float = 0.0


def refresh(pipeline: Pipeline, memories: NamedMemories, *, timings: Timings = no_timings) -> RefreshReport:
    """Enrich, embed and index the named memories and the facts found in them.

    A memory that can't be enriched or embedded fails alone. Raises ProviderUnavailableError and StoreUnavailableError
    where no memory is to blame; what was done until then is kept, and doing it again finds the rest.
    """
    started = time.monotonic()
    database, embedder = pipeline.database, pipeline.embedder
    with _timed("enrich", timings):
        enriched = enrich(database, pipeline.enricher, memories)
    with _timed("embed", timings):
        embedded = embed(database, embedder, memories)
    failures: dict[UUID, MemoryPipelineError] = {}
    with _timed("index", timings):
        try:
            indexed = index_memories(
                database,
                pipeline.chroma,
                embedder.model,
                embedder.dimension,
                memories,
                documents=pipeline.settings.chroma_documents,
            )
        except IndexFailedError as error:
            indexed, failures = error.report, error.failures
    with _timed("report", timings), database.transaction() as connection:
        name = f"{pipeline.enricher.name}@{pipeline.enricher.version}"
        progress = read_progress(connection, keys_of(memories), name, embedder.model)
    report = RefreshReport(enriched, embedded, indexed, _outcomes(memories, progress, failures))
    report.seconds = time.monotonic() - started
    return report


@contextmanager
def _timed(step: str, timings: Timings) -> Iterator[None]:
    started = time.monotonic()
    yield
    timings(step, time.monotonic() - started)


def _outcomes(
    named: NamedMemories, progress: list[Progress], failures: dict[UUID, MemoryPipelineError]
) -> list[RefreshedMemory]:
    by_named = {key: list(rows) for key, rows in groupby(progress, key=lambda row: (row.tenant_id, row.named_id))}
    return [
        _outcome(memory, by_named.get((memory.tenant_id, memory.memory_id), []), failures.get(memory.tenant_id))
        for memory in named.memories
    ]


def _outcome(memory: NamedMemory, family: list[Progress], index_failure: MemoryPipelineError | None) -> RefreshedMemory:
    """Judge a memory by its own row and those of the facts found in it."""
    if not family:
        return RefreshedMemory(memory, RefreshState.UNKNOWN)
    for row in family:
        if row.status == "failed":
            return RefreshedMemory(memory, RefreshState.FAILED, row.failure_class, row.failure_text)
    if any(row.unread or row.unembedded for row in family):
        return RefreshedMemory(memory, RefreshState.HELD)
    if any(row.unindexed for row in family):
        if index_failure is None:
            return RefreshedMemory(memory, RefreshState.HELD)
        return RefreshedMemory(memory, RefreshState.FAILED, type(index_failure).__name__, str(index_failure))
    return RefreshedMemory(memory, RefreshState.DONE)

"""Named memories through enrich, embed and index in one go: for a worker's batch of jobs, and for ingest without one.

The stages are those that go through windows of days, so whatever this leaves undone, a run over their day does, and the
other way round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

import msgspec

from memory_pipeline.model.errors import MemoryPipelineError, StoreUnavailableError
from memory_pipeline.model.flags import Flag
from memory_pipeline.model.window import NamedMemories, NamedMemory
from memory_pipeline.providers.registry import PluginNames, plugin_names
from memory_pipeline.stages.embed import EmbedReport, embed
from memory_pipeline.stages.enrich import EnrichReport, enrich
from memory_pipeline.stages.index import IndexFailedError, IndexReport, index_memories
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.due import MemoryKey, keys_of
from memory_pipeline.stores.postgres.planner import inform_planner
from memory_pipeline.stores.postgres.refreshing import Progress, read_progress

_MANY = 32
"""From here on it is a backlog that is worked off. With what the planner knew of the tables before it, each batch of
3,000 messages took longer than the one before, the last ten times as long in Postgres as the first."""

Timings = Callable[[str, float], None]
"""Called with the name of a step (enrich, embed, index, report) and the seconds it took."""


def no_timings(_step: str, _seconds: float) -> None:
    """Ignore timings."""


class RefreshState(StrEnum):
    """What became of a named memory."""

    DONE = "done"
    """It and the facts found in it are indexed, or there is nothing (more) to index: it is deleted."""
    FAILED = "failed"
    """It or a fact of it is among the dead letters, or can't be written to the index."""
    REFUSED = "refused"
    """Its tenant does not permit a plugin it needs; it is as it was, and may be tried again once that is permitted."""
    OFF = "off"
    """A flag keeps a stage it needs from running; it is as it was, and goes on once that is on again."""
    LIMITED = "limited"
    """Its tenant or user is over a rate limit: it is its turn again after `wait_seconds`."""
    AWAY = "away"
    """The index of its tenant can't be written now, for no fault of its own: try again."""
    HELD = "held"
    """Another run holds it, or it changed meanwhile: try again."""
    UNKNOWN = "unknown"
    """There is no such memory in that tenant (any more)."""


class RefreshedMemory(msgspec.Struct, frozen=True):
    """One named memory and what became of it; the reason where it failed, the plugin that failed or was refused."""

    memory: NamedMemory
    state: RefreshState
    failure_class: str | None = None
    failure_text: str | None = None
    plugin: str | None = None
    retryable: bool = False
    """Whether a failure may pass by itself: the index's, not that of a memory among the dead letters."""
    flags: tuple[Flag, ...] = ()
    """Those that are off."""
    wait_seconds: float = 0.0


class RefreshReport(msgspec.Struct):
    """What a refresh did, stage by stage and memory by memory."""

    enrich: EnrichReport
    embed: EmbedReport
    index: IndexReport
    memories: list[RefreshedMemory]
    """In the order of the memories named."""
    seconds: float = 0.0


def refresh(pipeline: Pipeline, memories: NamedMemories, *, timings: Timings = no_timings) -> RefreshReport:
    """Enrich, embed and index the named memories and the facts found in them, as far as flags let it.

    A memory that can't be enriched, embedded or indexed fails alone. Raises ProviderUnavailableError and
    StoreUnavailableError where no memory is to blame, and with MEMORY_FAIL_FAST whatever a memory made fail; what was
    done until then is kept, and doing it again finds the rest.
    """
    started = time.monotonic()
    database, embedder = pipeline.database, pipeline.embedder
    plugins = plugin_names(pipeline.settings)
    off = _Off(*(pipeline.flags.off(*needed) for needed in ((Flag.ENRICHMENT,), (Flag.EMBEDDING,), ())))
    enriched, embedded, indexed = EnrichReport(), EmbedReport(), IndexReport()
    fail_fast = pipeline.settings.fail_fast
    if len(memories.memories) >= _MANY:
        inform_planner(database)
    if not off.enrichment:
        with _timed("enrich", timings):
            enriched = enrich(database, pipeline.enricher, memories, plugin=plugins.enricher, fail_fast=fail_fast)
    if not off.embedding:
        with _timed("embed", timings):
            embedded = embed(
                database,
                embedder,
                memories,
                plugin=plugins.embedder,
                limits=pipeline.rate_limits,
                price_per_million_tokens=pipeline.settings.embedding_price_per_million_tokens,
                fail_fast=fail_fast,
            )
    failures: dict[UUID, MemoryPipelineError] = {}
    if not off.indexing:
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
    judge = _Judge(
        plugins,
        set(enriched.refused_tenants),
        set(embedded.refused_tenants),
        failures,
        indexed.refused,
        off,
        embedded.waits,
    )
    report = RefreshReport(enriched, embedded, indexed, judge.all(memories, progress))
    report.seconds = time.monotonic() - started
    return report


@contextmanager
def _timed(step: str, timings: Timings) -> Iterator[None]:
    started = time.monotonic()
    yield
    timings(step, time.monotonic() - started)


class _Off(NamedTuple):
    """Which flags keep each step from running."""

    enrichment: tuple[Flag, ...]
    embedding: tuple[Flag, ...]
    indexing: tuple[Flag, ...]


class _Judge(NamedTuple):
    """What has to be known besides the rows to say why a memory is not done."""

    plugins: PluginNames
    not_enriched: set[UUID]
    """Tenants who do not permit the enricher."""
    not_embedded: set[UUID]
    index_failures: dict[UUID, MemoryPipelineError]
    """Of whole tenants."""
    not_indexed: dict[MemoryKey, MemoryPipelineError]
    """Of single memories."""
    off: _Off
    waits: dict[tuple[UUID, UUID], float]
    """Seconds, by tenant and memory, of those over a rate limit."""

    def all(self, named: NamedMemories, progress: Sequence[Progress]) -> list[RefreshedMemory]:
        families = {key: list(rows) for key, rows in groupby(progress, key=lambda row: (row.tenant_id, row.named_id))}
        return [self._one(memory, families.get((memory.tenant_id, memory.memory_id), [])) for memory in named.memories]

    def _one(self, memory: NamedMemory, family: Sequence[Progress]) -> RefreshedMemory:
        """Judge a memory by its own row and those of the facts found in it."""
        if not family:
            return RefreshedMemory(memory, RefreshState.UNKNOWN)
        failed = next((row for row in family if row.status == "failed"), None)
        if failed is not None:
            plugin = self.plugins.enricher if failed.unread else self.plugins.embedder
            return RefreshedMemory(memory, RefreshState.FAILED, failed.failure_class, failed.failure_text, plugin)
        if any(row.unread for row in family):
            return self._undone(memory, self.not_enriched, self.plugins.enricher, self.off.enrichment)
        if any(row.unembedded for row in family):
            turns = [self.waits.get((row.tenant_id, row.memory_id), 0.0) for row in family]
            if any(turns):
                return RefreshedMemory(memory, RefreshState.LIMITED, wait_seconds=max(turns))
            return self._undone(memory, self.not_embedded, self.plugins.embedder, self.off.embedding)
        if any(row.unindexed for row in family):
            if self.off.indexing:
                return RefreshedMemory(memory, RefreshState.OFF, flags=self.off.indexing)
            return self._unindexed(memory, [(row.tenant_id, row.memory_id) for row in family if row.unindexed])
        return RefreshedMemory(memory, RefreshState.DONE)

    def _unindexed(self, memory: NamedMemory, left: Sequence[MemoryKey]) -> RefreshedMemory:
        errors = [self.not_indexed[key] for key in left if key in self.not_indexed]
        error = errors[0] if errors else self.index_failures.get(memory.tenant_id)
        if error is None:
            return RefreshedMemory(memory, RefreshState.HELD)
        state = RefreshState.AWAY if isinstance(error, StoreUnavailableError) else RefreshState.FAILED
        return RefreshedMemory(memory, state, type(error).__name__, str(error), retryable=True)

    def _undone(self, memory: NamedMemory, refused: set[UUID], plugin: str, off: tuple[Flag, ...]) -> RefreshedMemory:
        if off:
            return RefreshedMemory(memory, RefreshState.OFF, flags=off)
        if memory.tenant_id in refused:
            return RefreshedMemory(memory, RefreshState.REFUSED, plugin=plugin)
        return RefreshedMemory(memory, RefreshState.HELD)

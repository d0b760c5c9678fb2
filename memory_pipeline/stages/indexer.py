"""Bringing one tenant's collection to what Postgres holds: which collection is written, and when one is built anew."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from uuid import UUID, uuid4

from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.window import DayWindow, Progress
from memory_pipeline.stages.vector_writer import RecoveryUnfinishedError, TenantIndexReport, VectorWriter
from memory_pipeline.stores.chroma.connection import CollectionLostError
from memory_pipeline.stores.chroma.store import ChromaStore
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.index import Scope, count_entries, other_days
from memory_pipeline.stores.postgres.index_generations import (
    Generation,
    State,
    generations,
    insert_generation,
    live_generation,
    retire_generation,
    switch_live,
)
from memory_pipeline.stores.postgres.writer_lock import Purpose, WriterLock, writer_lock

_EVERY_DAY = DayWindow(date.min, date.max)
_WINDOW_WAIT_SECONDS = 600.0
_NAMED_WAIT_SECONDS = 1.0
"""The longest wait of a whole batch for other writers, of all its tenants together."""
_RECOVERY_SECONDS = 5.0
"""How long a batch works on collections that are lost; what is left the next one does. A job must end in its time."""


class Indexer:
    """One run for one model: the stores and options that every step needs."""

    def __init__(
        self,
        database: Database,
        chroma: ChromaStore,
        model: str,
        dimension: int,
        documents: bool,
        progress: Progress,
        batch_rows: int,
    ) -> None:
        self._database = database
        self._chroma = chroma
        self._model = model
        self._dimension = dimension
        self._documents = documents
        self._progress = progress
        self._batch_rows = min(batch_rows, chroma.max_batch_rows)
        self._patience = _NAMED_WAIT_SECONDS
        """Seconds that this run may still wait for other writers of named memories."""
        self._recover_until: float | None = None
        """When (monotonic) this run leaves lost collections of named memories to the next; None until it meets one."""

    def index_tenant(self, tenant_id: UUID, scope: Scope) -> TenantIndexReport:
        """Write and remove what is due of the scope.

        Raises WriterBusyError where another has the lock for too long and, of named memories only,
        RecoveryUnfinishedError where a lost collection is too large to be built again at once.
        """
        try:
            report = self._index_live(tenant_id, scope)
        except CollectionLostError:
            if isinstance(scope, DayWindow):
                raise
            report = None
        # The rebuild lock must be the first one, so the other is given up before.
        return report or self._recover(tenant_id, scope) or self.index_tenant(tenant_id, scope)

    @contextmanager
    def _lock(self, tenant_id: UUID, scope: Scope, purpose: Purpose = "index") -> Iterator[WriterLock]:
        """Hold a writer lock. Whoever rebuilds has it for minutes, so no named memories wait for that."""
        if isinstance(scope, DayWindow):
            with writer_lock(
                self._database, tenant_id, self._model, purpose, wait_seconds=_WINDOW_WAIT_SECONDS
            ) as lock:
                yield lock
            return
        started = time.monotonic()
        wait = self._patience if purpose == "index" else 0.0
        with ExitStack() as stack:
            try:
                lock = stack.enter_context(
                    writer_lock(self._database, tenant_id, self._model, purpose, wait_seconds=max(0.0, wait))
                )
            finally:
                self._patience -= time.monotonic() - started
            yield lock

    def _index_live(self, tenant_id: UUID, scope: Scope) -> TenantIndexReport | None:
        """Bring the live collection up to date, the first one being made here; None where it is lost.

        For a few memories Chroma is not asked before whether it has it: raises CollectionLostError where it has not.
        """
        with self._lock(tenant_id, scope) as lock:
            live = live_generation(lock.connection, tenant_id, self._model)
            if live is None:
                live = self._begin(tenant_id, "live")
            report = TenantIndexReport()
            writer = self._writer(lock, live, report)
            if not isinstance(scope, DayWindow):
                if live.dimension != self._dimension:
                    return None
                writer.fill_named(scope)
                writer.remove_surplus(scope)
                return report
            if not self._usable(live):
                return None
            days = other_days(lock.connection, live, scope)
            writer.fill(scope, days)
            writer.remove_surplus(scope, days)
            return report

    def rebuild(self, tenant_id: UUID) -> TenantIndexReport:
        with writer_lock(self._database, tenant_id, self._model, "rebuild") as lock:
            report = TenantIndexReport(rebuilt=True)
            building = self._building(tenant_id, resume=False)
            self._writer(lock, building, report).fill(_EVERY_DAY)
            return self._take_over(lock, building, report, whole=True)

    def _recover(self, tenant_id: UUID, scope: Scope) -> TenantIndexReport | None:
        """Rebuild what is lost, going on where an interrupted recovery was; None if another run has done it.

        Named memories are those of jobs, which must end in their time: each run of them does a part.
        """
        until = None
        if not isinstance(scope, DayWindow):
            if self._recover_until is None:
                self._recover_until = time.monotonic() + _RECOVERY_SECONDS
            elif time.monotonic() > self._recover_until:
                raise RecoveryUnfinishedError(tenant_id)
            until = self._recover_until
        with self._lock(tenant_id, scope, "rebuild") as lock:
            with self._database.transaction() as connection:
                live = live_generation(connection, tenant_id, self._model)
            if live is not None and self._usable(live):
                return None
            report = TenantIndexReport(rebuilt=True)
            building = self._building(tenant_id, resume=True)
            self._writer(lock, building, report).fill(_EVERY_DAY, until=until)
            return self._take_over(lock, building, report, until=until)

    def _take_over(
        self,
        lock: WriterLock,
        building: Generation,
        report: TenantIndexReport,
        *,
        whole: bool = False,
        until: float | None = None,
    ) -> TenantIndexReport:
        """Make a generation live that has nearly everything: it was filled while the live one went on being indexed.

        `whole`: not where Chroma refused memories, which the old collection may have.
        """
        lock.take("index", _WINDOW_WAIT_SECONDS if until is None else _NAMED_WAIT_SECONDS)
        writer = self._writer(lock, building, report)
        writer.fill(_EVERY_DAY, until=until)
        writer.remove_surplus(_EVERY_DAY)
        if whole and report.refused:
            raise next(iter(report.refused.values()))
        self._verify(building)
        with self._database.transaction() as connection:
            switch_live(connection, building)
        self._sweep(building.tenant_id)
        return report

    def _writer(self, lock: WriterLock, generation: Generation, report: TenantIndexReport) -> VectorWriter:
        return VectorWriter(
            self._database,
            self._chroma,
            lock,
            generation,
            report,
            documents=self._documents,
            batch_rows=self._batch_rows,
            progress=self._progress,
        )

    # -- collections --

    def _begin(self, tenant_id: UUID, state: State) -> Generation:
        """Make an empty collection and its row. Dying between the two leaves a collection for `_sweep`."""
        generation_id = uuid4()
        name = f"{_collection_prefix(tenant_id)}{generation_id.hex}"
        metadata = {"tenant_id": str(tenant_id), "generation_id": str(generation_id), "model": self._model}
        collection = self._chroma.create_collection(name, metadata)
        generation = Generation(tenant_id, generation_id, self._model, self._dimension, name, collection, state)
        with self._database.transaction() as connection:
            insert_generation(connection, generation)
        return generation

    def _usable(self, generation: Generation) -> bool:
        return generation.dimension == self._dimension and self._chroma.has_collection(generation.collection_uuid)

    def _building(self, tenant_id: UUID, resume: bool) -> Generation:
        """The generation to fill: the one that an interrupted recovery left, or a new one."""
        with self._database.transaction() as connection:
            unfinished = generations(connection, tenant_id, self._model, "building")
        kept = next((one for one in unfinished if resume and self._usable(one)), None)
        with self._database.transaction() as connection:
            for generation in unfinished:
                if generation is not kept:
                    retire_generation(connection, generation)
        return kept or self._begin(tenant_id, "building")

    def _verify(self, generation: Generation) -> None:
        with self._database.transaction() as connection:
            expected = count_entries(connection, generation)
        found = self._chroma.count(generation.collection_uuid)
        if not expected.written <= found <= expected.announced:
            raise MemoryPipelineError(
                f"the new index of tenant {generation.tenant_id} ({generation.collection_name}) holds {found} vectors "
                f"after {expected.written} were written; the old one stays live. "
                "Run `memory-pipeline rebuild-index` again."
            )

    def _sweep(self, tenant_id: UUID) -> None:
        """Delete the collections of this tenant and model that are not in use; both locks are held."""
        with self._database.transaction() as connection:
            live = live_generation(connection, tenant_id, self._model)
        for collection in list(self._chroma.collections(_collection_prefix(tenant_id))):
            in_use = live is not None and collection.uuid == live.collection_uuid
            if not in_use and collection.metadata.get("model") == self._model:
                self._chroma.delete_collection(collection.uuid)


def _collection_prefix(tenant_id: UUID) -> str:
    return f"t_{tenant_id.hex}_"

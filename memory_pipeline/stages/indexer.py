"""Bringing one tenant's collection to what Postgres holds: the writer of the index stage, under its locks."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date
from itertools import groupby
from uuid import UUID, uuid4

import msgspec
import numpy as np

from memory_pipeline.failpoints import reached
from memory_pipeline.model import ids
from memory_pipeline.model.errors import MemoryPipelineError, StoreUnavailableError
from memory_pipeline.model.window import DayWindow, Progress
from memory_pipeline.stages.vector_payload import memory_document, vector_metadata
from memory_pipeline.stages.vector_reader import PageReader
from memory_pipeline.stores.chroma.connection import ChromaRefusedError, CollectionLostError
from memory_pipeline.stores.chroma.store import ChromaStore, VectorBatch
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.index import (
    DueVector,
    EntryKey,
    Scope,
    count_entries,
    forget_entries,
    gone_entries,
    mark_entries,
    other_days,
    surplus_entries,
)
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
_RECOVERY_ROWS = 500
"""Most vectors of a request meanwhile: a larger page may take longer than such a batch waits for Chroma."""
_MOST_REFUSED = 20
"""Where Chroma refuses more memories than this in one go, it is not because of what is in them."""
_MANY_NEW = 16
"""From here on asking Chroma which vectors it has costs less than `upsert` costs more than `add` (about 2 ms each)."""


class RecoveryUnfinishedError(StoreUnavailableError):
    """The lost index of a tenant is built again and not yet whole; the next run goes on where this one ended."""


class TenantIndexReport(msgspec.Struct):
    """What was done to one tenant's collection, in vectors."""

    added: int = 0
    updated: int = 0
    """Replaced because the memory is of another version."""
    removed: int = 0
    rebuilt: bool = False
    """A new collection took over, with every day in it and not only the window."""
    refused: dict[UUID, MemoryPipelineError] = msgspec.field(default_factory=dict)
    """Memories that could not be written because of what is in them; the others were."""


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
            if not isinstance(scope, DayWindow):
                if live.dimension != self._dimension:
                    return None
                self._fill_named(lock, live, scope, report)
                self._remove_surplus(lock, live, scope, report)
                return report
            if not self._usable(live):
                return None
            days = other_days(lock.connection, live, scope)
            self._fill(lock, live, scope, report, days)
            self._remove_surplus(lock, live, scope, report, days)
            return report

    def rebuild(self, tenant_id: UUID) -> TenantIndexReport:
        with writer_lock(self._database, tenant_id, self._model, "rebuild") as lock:
            report = TenantIndexReport(rebuilt=True)
            building = self._building(tenant_id, resume=False)
            self._fill(lock, building, _EVERY_DAY, report)
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
                raise _unfinished(tenant_id)
            until = self._recover_until
        with self._lock(tenant_id, scope, "rebuild") as lock:
            with self._database.transaction() as connection:
                live = live_generation(connection, tenant_id, self._model)
            if live is not None and self._usable(live):
                return None
            report = TenantIndexReport(rebuilt=True)
            building = self._building(tenant_id, resume=True)
            self._fill(lock, building, _EVERY_DAY, report, until=until)
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
        self._fill(lock, building, _EVERY_DAY, report, until=until)
        self._remove_surplus(lock, building, _EVERY_DAY, report)
        if whole and report.refused:
            raise next(iter(report.refused.values()))
        self._verify(building)
        with self._database.transaction() as connection:
            switch_live(connection, building)
        self._sweep(building.tenant_id)
        return report

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

    # -- vectors --

    def _fill(
        self,
        lock: WriterLock,
        generation: Generation,
        scope: DayWindow,
        report: TenantIndexReport,
        days: Sequence[date] = (),
        *,
        until: float | None = None,
    ) -> None:
        """Write all due vectors of the window and of `days`, page by page.

        Postgres reads the next page and marks the last while Chroma works. Raises RecoveryUnfinishedError where a page
        was written and, after `until` (monotonic), there is another.
        """
        rows = self._batch_rows if until is None else min(self._batch_rows, _RECOVERY_ROWS)
        reader = PageReader(self._database, self._chroma, generation, scope, self._documents, rows, days)
        marked: Future[None] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="index") as postgres:
            following = postgres.submit(reader.read)
            while page := following.result():
                following = postgres.submit(reader.read)
                written = self._write(lock, generation, page, reader.trusted, report)
                reached("before_mark")
                if marked is not None:
                    marked.result()
                marked = postgres.submit(self._mark, generation, written)
                self._count(report, written)
                if until is not None and time.monotonic() > until and following.result():
                    marked.result()
                    raise _unfinished(generation.tenant_id)
            if marked is not None:
                marked.result()

    def _fill_named(
        self, lock: WriterLock, generation: Generation, memories: Collection[UUID], report: TenantIndexReport
    ) -> None:
        """Write all due vectors of a few memories: one page as a rule, for which threads are not worth their while."""
        reader = PageReader(self._database, self._chroma, generation, memories, self._documents, self._batch_rows)
        while page := reader.read():
            written = self._write(lock, generation, page, reader.trusted, report)
            reached("before_mark")
            self._mark(generation, written)
            self._count(report, written)
        report.refused |= reader.refused

    def _count(self, report: TenantIndexReport, page: Sequence[DueVector]) -> None:
        report.added += sum(not row.indexed_version for row in page)
        report.updated += sum(bool(row.indexed_version) for row in page)
        self._progress(len(page))

    def _write(
        self,
        lock: WriterLock,
        generation: Generation,
        page: Sequence[DueVector],
        trusted: bool,
        report: TenantIndexReport,
    ) -> list[DueVector]:
        """Return what Chroma took: a page it refuses is halved until the memories that it does not take stand alone."""
        lock.check()
        try:
            self._send(generation, page, trusted)
        except ChromaRefusedError as error:
            memories = [list(rows) for _memory_id, rows in groupby(page, key=lambda row: row.memory_id)]
            if len(memories) == 1:
                report.refused[page[0].memory_id] = error
                if len(report.refused) > _MOST_REFUSED:
                    raise
                return []
            middle = len(memories) // 2
            return [
                row
                for half in (memories[:middle], memories[middle:])
                # It may have some by now: nothing is surely new.
                for row in self._write(lock, generation, [row for rows in half for row in rows], False, report)
            ]
        return list(page)

    def _send(self, generation: Generation, page: Sequence[DueVector], trusted: bool) -> None:
        new = [row for row in page if row.indexed_version is None]
        if not trusted:  # Chroma may have some of them all the same
            new = self._absent(generation, new) if len(new) >= _MANY_NEW else []
        is_new = {row.key for row in new}
        known = [row for row in page if row.key not in is_new]
        if new:
            self._chroma.add(generation.collection_uuid, self._batch(generation, new))
        if known:
            self._chroma.upsert(generation.collection_uuid, self._batch(generation, known))

    def _absent(self, generation: Generation, rows: Sequence[DueVector]) -> list[DueVector]:
        """Return those that Chroma does not have; this writer holds the lock, so nobody else brings them meanwhile."""
        there = self._chroma.present(
            generation.collection_uuid, [ids.vector_id(row.memory_id, row.chunk) for row in rows]
        )
        return [row for row in rows if ids.vector_id(row.memory_id, row.chunk) not in there]

    def _batch(self, generation: Generation, rows: Sequence[DueVector]) -> VectorBatch:
        return VectorBatch(
            ids=[ids.vector_id(row.memory_id, row.chunk) for row in rows],
            vectors=np.stack([row.embedding.to_numpy() for row in rows]),
            metadatas=[vector_metadata(row) for row in rows],
            documents=[memory_document(generation.tenant_id, row) for row in rows] if self._documents else None,
        )

    def _mark(self, generation: Generation, page: Sequence[DueVector]) -> None:
        with self._database.transaction() as connection:
            mark_entries(connection, generation, page)

    def _remove_surplus(
        self,
        lock: WriterLock,
        generation: Generation,
        scope: Scope,
        report: TenantIndexReport,
        days: Sequence[date] = (),
    ) -> None:
        def gone(connection: Connection) -> list[EntryKey]:
            return gone_entries(connection, generation, self._batch_rows)

        def surplus(connection: Connection) -> list[EntryKey]:
            return surplus_entries(connection, generation, scope, self._batch_rows, days=days)

        if isinstance(scope, DayWindow):
            self._remove(lock, generation, gone, report)
        self._remove(lock, generation, surplus, report)

    def _remove(
        self,
        lock: WriterLock,
        generation: Generation,
        find: Callable[[Connection], list[EntryKey]],
        report: TenantIndexReport,
    ) -> None:
        """Remove what `find` finds, batch by batch, until a batch is not full: then there is no more."""
        found = self._batch_rows
        while found == self._batch_rows:
            surplus = find(lock.connection)
            found = len(surplus)
            if not surplus:
                return
            lock.check()
            self._chroma.remove(generation.collection_uuid, [ids.vector_id(*key) for key in surplus])
            with self._database.transaction() as connection:
                forget_entries(connection, generation, surplus)
            report.removed += len(surplus)


def _collection_prefix(tenant_id: UUID) -> str:
    return f"t_{tenant_id.hex}_"


def _unfinished(tenant_id: UUID) -> RecoveryUnfinishedError:
    return RecoveryUnfinishedError(
        f"the index of tenant {tenant_id} is lost and is being built again from Postgres; the jobs that name its "
        "memories go on with it, or a run of the asset `chroma_index` does it at once."
    )

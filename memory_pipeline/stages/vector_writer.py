"""Writing and removing the vectors of one generation, under the writer's lock: Chroma first, then its entry."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from itertools import groupby
from uuid import UUID

import msgspec
import numpy as np

from memory_pipeline.failpoints import reached
from memory_pipeline.model import ids
from memory_pipeline.model.errors import MemoryPipelineError, StoreUnavailableError
from memory_pipeline.model.window import DayWindow, Progress
from memory_pipeline.stages.vector_payload import memory_document, vector_metadata
from memory_pipeline.stages.vector_reader import PageReader
from memory_pipeline.stores.chroma.connection import ChromaRefusedError
from memory_pipeline.stores.chroma.store import ChromaStore, VectorBatch
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.index import (
    DueVector,
    EntryKey,
    Scope,
    forget_entries,
    gone_entries,
    mark_entries,
    surplus_entries,
)
from memory_pipeline.stores.postgres.index_generations import Generation
from memory_pipeline.stores.postgres.writer_lock import WriterLock

_RECOVERY_ROWS = 500
"""Most vectors of a request where there is an end to keep: a larger page may take longer than a batch has."""
_MOST_REFUSED = 20
"""Where Chroma refuses more memories than this in one go, it is not because of what is in them."""
_MANY_NEW = 16
"""From here on asking Chroma which vectors it has costs less than `upsert` costs more than `add` (about 2 ms each)."""


class RecoveryUnfinishedError(StoreUnavailableError):
    """The lost index of a tenant is built again and not yet whole; the next run goes on where this one ended."""

    def __init__(self, tenant_id: UUID) -> None:
        super().__init__(
            f"the index of tenant {tenant_id} is lost and is being built again from Postgres; the jobs that name its "
            "memories go on with it, or a run of the asset `chroma_index` does it at once."
        )


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


class VectorWriter:
    """Brings one collection to what Postgres holds and counts that in a report; whoever makes one holds the lock."""

    def __init__(
        self,
        database: Database,
        chroma: ChromaStore,
        lock: WriterLock,
        generation: Generation,
        report: TenantIndexReport,
        *,
        documents: bool,
        batch_rows: int,
        progress: Progress,
    ) -> None:
        self._database = database
        self._chroma = chroma
        self._lock = lock
        self._generation = generation
        self._report = report
        self._documents = documents
        self._batch_rows = batch_rows
        self._progress = progress

    def fill(self, window: DayWindow, days: Sequence[date] = (), *, until: float | None = None) -> None:
        """Write all due vectors of the window and of `days`, page by page.

        Postgres reads the next page and marks the last while Chroma works. Raises RecoveryUnfinishedError where a page
        was written and, after `until` (monotonic), there is another.
        """
        rows = self._batch_rows if until is None else min(self._batch_rows, _RECOVERY_ROWS)
        reader = PageReader(self._database, self._chroma, self._generation, window, self._documents, rows, days)
        marked: Future[None] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="index") as postgres:
            following = postgres.submit(reader.read)
            while page := following.result():
                following = postgres.submit(reader.read)
                written = self._write(page, reader.trusted)
                reached("before_mark")
                if marked is not None:
                    marked.result()
                marked = postgres.submit(self._mark, written)
                self._count(written)
                if until is not None and time.monotonic() > until and following.result():
                    marked.result()
                    raise RecoveryUnfinishedError(self._generation.tenant_id)
            if marked is not None:
                marked.result()

    def fill_named(self, memories: Collection[UUID]) -> None:
        """Write all due vectors of a few memories: one page as a rule, for which threads are not worth their while."""
        reader = PageReader(self._database, self._chroma, self._generation, memories, self._documents, self._batch_rows)
        while page := reader.read():
            written = self._write(page, reader.trusted)
            reached("before_mark")
            self._mark(written)
            self._count(written)
        self._report.refused |= reader.refused

    def remove_surplus(self, scope: Scope, days: Sequence[date] = ()) -> None:
        """Remove vectors of memories of the scope, and of `days`, that are deleted, failed or shorter than they were.

        Of memories that are gone too; with a window, of all days, as such a memory has no day any more.
        """

        def gone(connection: Connection) -> list[EntryKey]:
            return gone_entries(connection, self._generation, self._batch_rows)

        def surplus(connection: Connection) -> list[EntryKey]:
            return surplus_entries(connection, self._generation, scope, self._batch_rows, days=days)

        if isinstance(scope, DayWindow):
            self._remove(gone)
        self._remove(surplus)

    def _count(self, page: Sequence[DueVector]) -> None:
        self._report.added += sum(not row.indexed_version for row in page)
        self._report.updated += sum(bool(row.indexed_version) for row in page)
        self._progress(len(page))

    def _write(self, page: Sequence[DueVector], trusted: bool) -> list[DueVector]:
        """Return what Chroma took: a page it refuses is halved until the memories that it does not take stand alone."""
        self._lock.check()
        try:
            self._send(page, trusted)
        except ChromaRefusedError as error:
            memories = [list(rows) for _memory_id, rows in groupby(page, key=lambda row: row.memory_id)]
            if len(memories) == 1:
                self._report.refused[page[0].memory_id] = error
                if len(self._report.refused) > _MOST_REFUSED:
                    raise
                return []
            middle = len(memories) // 2
            return [
                row
                for half in (memories[:middle], memories[middle:])
                # It may have some by now: nothing is surely new.
                for row in self._write([row for rows in half for row in rows], False)
            ]
        return list(page)

    def _send(self, page: Sequence[DueVector], trusted: bool) -> None:
        new = [row for row in page if row.indexed_version is None]
        if not trusted:  # Chroma may have some of them all the same
            new = self._absent(new) if len(new) >= _MANY_NEW else []
        is_new = {row.key for row in new}
        known = [row for row in page if row.key not in is_new]
        if new:
            self._chroma.add(self._generation.collection_uuid, self._batch(new))
        if known:
            self._chroma.upsert(self._generation.collection_uuid, self._batch(known))

    def _absent(self, rows: Sequence[DueVector]) -> list[DueVector]:
        """Return those that Chroma does not have; this writer holds the lock, so nobody else brings them meanwhile."""
        there = self._chroma.present(
            self._generation.collection_uuid, [ids.vector_id(row.memory_id, row.chunk) for row in rows]
        )
        return [row for row in rows if ids.vector_id(row.memory_id, row.chunk) not in there]

    def _batch(self, rows: Sequence[DueVector]) -> VectorBatch:
        return VectorBatch(
            ids=[ids.vector_id(row.memory_id, row.chunk) for row in rows],
            vectors=np.stack([row.embedding.to_numpy() for row in rows]),
            metadatas=[vector_metadata(row) for row in rows],
            documents=[memory_document(self._generation.tenant_id, row) for row in rows] if self._documents else None,
        )

    def _mark(self, page: Sequence[DueVector]) -> None:
        with self._database.transaction() as connection:
            mark_entries(connection, self._generation, page)

    def _remove(self, find: Callable[[Connection], list[EntryKey]]) -> None:
        """Remove what `find` finds, batch by batch, until a batch is not full: then there is no more."""
        found = self._batch_rows
        while found == self._batch_rows:
            surplus = find(self._lock.connection)
            found = len(surplus)
            if not surplus:
                return
            self._lock.check()
            self._chroma.remove(self._generation.collection_uuid, [ids.vector_id(*key) for key in surplus])
            with self._database.transaction() as connection:
                forget_entries(connection, self._generation, surplus)
            self._report.removed += len(surplus)

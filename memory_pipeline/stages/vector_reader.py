"""Reading what an index lacks, page by page, so that memory does not grow with the tenant."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import date
from itertools import islice
from uuid import UUID

from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.window import DayWindow
from memory_pipeline.stores.chroma.store import ChromaStore
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.index import (
    FIRST_KEY,
    DueVector,
    EntryKey,
    Scope,
    announce_entries,
    count_entries,
    due_keys,
    due_vectors,
)
from memory_pipeline.stores.postgres.index_generations import Generation

_PAGE_BYTES = 32 * 1024 * 1024  # Chroma refuses requests above 40 MiB
_KEYS = 100_000  # looked for at once; some 20 MB


class PageReader:
    """Reads pages of due vectors of one generation, one thread at a time, and announces those that are new to it."""

    def __init__(
        self,
        database: Database,
        chroma: ChromaStore,
        generation: Generation,
        scope: Scope,
        documents: bool,
        rows: int,
        days: Sequence[date] = (),
    ) -> None:
        """Read what is due of the scope, and of `days` outside its window."""
        self._database = database
        self._chroma = chroma
        self._generation = generation
        self._scope = scope
        self._documents = documents
        self._rows = rows
        self._days = days
        self._last_key = FIRST_KEY
        self._keys: deque[EntryKey] = deque()
        self._exhausted = False
        # Comparing counts all entries of the tenant: for a few memories it costs more than writing them by `upsert`.
        self._compared = not isinstance(scope, DayWindow)
        self.trusted = isinstance(scope, DayWindow)
        """False if Chroma may hold more than Postgres knows of (an old backup was restored): no id is surely new."""
        self.refused: dict[UUID, MemoryPipelineError] = {}
        """Named memories whose vectors can't be in this collection; of a window, one such stops the run."""

    def read(self) -> list[DueVector]:
        """Return the next page; an empty one is the end."""
        while self._keys or not self._exhausted:
            with self._database.transaction() as connection:
                if not self._keys and not self._find(connection):
                    return []
                page = self._take(connection)
                if page:
                    self._announce(connection, page)
                    return page
        return []

    def _find(self, connection: Connection) -> bool:
        """Look for the next keys; return whether there are any."""
        if self._exhausted:
            return False
        found = due_keys(connection, self._generation, self._scope, self._last_key, _KEYS, days=self._days)
        self._exhausted = len(found) < _KEYS
        self._keys.extend(found)
        self._last_key = found[-1] if found else self._last_key
        return bool(found)

    def _take(self, connection: Connection) -> list[DueVector]:
        """Read the rows of the next keys as they are now; what was cut off stays among the keys."""
        keys = list(islice(self._keys, self._rows))
        page = due_vectors(connection, self._generation, keys, documents=self._documents, page_bytes=_PAGE_BYTES)
        for _ in range(keys.index(page[-1].key) + 1 if page else len(keys)):
            self._keys.popleft()
        return [row for row in page if self._fits(row)]

    def _announce(self, connection: Connection, page: Sequence[DueVector]) -> None:
        if not self._compared:
            known = count_entries(connection, self._generation).announced
            self.trusted = self._chroma.count(self._generation.collection_uuid) <= known
            self._compared = True
        new = [row.key for row in page if row.indexed_version is None]
        if new:
            announce_entries(connection, self._generation, new)

    def _fits(self, row: DueVector) -> bool:
        if row.dimension == self._generation.dimension:
            return True
        error = MemoryPipelineError(
            f"memory {row.memory_id} has a vector of {row.dimension} dimensions under model "
            f"{self._generation.model!r}, which should have {self._generation.dimension}: give the model with the "
            "other dimension a name of its own (MEMORY_EMBEDDING_MODEL), run `memory-pipeline materialize` to "
            "embed under it, then `memory-pipeline rebuild-index`."
        )
        if isinstance(self._scope, DayWindow):
            raise error
        self.refused[row.memory_id] = error
        return False

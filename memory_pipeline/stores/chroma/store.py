"""What is asked of Chroma: collections, and the vectors in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self, TypedDict, cast
from uuid import UUID

import numpy as np
import numpy.typing as npt

from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.ids import parse_vector_id
from memory_pipeline.stores.chroma.connection import ChromaConnection, CollectionLostError

_PAGE_ENTRIES = 2_000
_PAGE_COLLECTIONS = 1_000
_FILTERS = frozenset({"user_id", "conversation_id"})


class VectorMetadata(TypedDict):
    """What is stored beside a vector: always every key, '' where the memory has none, so that no old value survives."""

    user_id: str
    conversation_id: str
    project: str
    kind: str
    day: int
    """The memory's UTC day as YYYYMMDD: Chroma compares numbers only."""
    version: int
    bucket: int
    content_hash: str
    """64 hexadecimal digits."""
    chunk: int


class VectorBatch(NamedTuple):
    """Vectors as handed to Chroma, in one order; ids are unique within the batch."""

    ids: list[str]
    vectors: npt.NDArray[np.float32]
    """Shape (ids, dimension)."""
    metadatas: list[VectorMetadata]
    documents: list[str] | None
    """None stores no document."""


class CollectionInfo(NamedTuple):
    uuid: UUID
    name: str
    metadata: dict[str, Any]


class VectorHit(NamedTuple):
    """One neighbour; `distance` is 1 - cosine, so 0 is the same direction and 2 the opposite."""

    memory_id: UUID
    chunk: int
    distance: float


class VectorEntry(NamedTuple):
    """What Chroma says it holds of one vector."""

    memory_id: UUID
    chunk: int
    version: int
    content_hash: bytes


class ChromaStore:
    """One Chroma database on one server. Connects at the first call; safe to share between threads.

    Every call raises StoreUnavailableError where the server can't be reached or does not answer within
    `timeout_seconds`, ChromaFailingError where it answers that it can't, CollectionLostError where the collection is
    not there, ChromaRefusedError where Chroma refuses what it is given.
    """

    def __init__(self, url: str, database: str = "default_database", *, timeout_seconds: float = 60.0) -> None:
        self._connection = ChromaConnection(url, database, timeout_seconds)
        self.url = self._connection.url
        self.database = database
        self._max_batch_rows: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the next call would open them again."""
        self._connection.close()

    # -- server and collections --

    def heartbeat(self) -> None:
        """Return if the server answers."""
        with self._connection.explained("ask for a heartbeat"):
            self._connection.client().heartbeat()

    @property
    def max_batch_rows(self) -> int:
        """How many vectors the server takes in one call."""
        if self._max_batch_rows is None:
            with self._connection.explained("ask for the largest batch"):
                self._max_batch_rows = int(self._connection.client().get_max_batch_size())
        return self._max_batch_rows

    def create_collection(self, name: str, metadata: Mapping[str, str]) -> UUID:
        """Create an empty collection (cosine space) and return the uuid that Chroma gives it."""
        with self._connection.explained(f"create collection {name}"):
            client = self._connection.client()
            self._connection.ensure_database()
            collection = client.create_collection(
                name,
                metadata=dict(metadata),
                configuration={"hnsw": {"space": "cosine"}},
                embedding_function=None,
            )
        self._connection.keep(collection)
        return collection.id

    def collections(self, prefix: str = "") -> Iterator[CollectionInfo]:
        """Yield the collections whose name starts with `prefix`."""
        offset = 0
        while True:
            with self._connection.explained("list the collections"):
                page = self._connection.client().list_collections(limit=_PAGE_COLLECTIONS, offset=offset)
            for collection in page:
                if collection.name.startswith(prefix):
                    yield CollectionInfo(collection.id, collection.name, dict(collection.metadata or {}))
            if len(page) < _PAGE_COLLECTIONS:
                return
            offset += len(page)

    def has_collection(self, collection: UUID) -> bool:
        """Ask the server, not the cache, whether the collection with this uuid is there."""
        self._connection.forget(collection)
        try:
            self._connection.collection(collection)
        except CollectionLostError:
            return False
        return True

    def delete_collection(self, collection: UUID) -> bool:
        """Delete a collection and everything in it; False where there was none."""
        try:
            name = self._connection.collection(collection).name
            with self._connection.explained(f"delete collection {name}"):
                self._connection.client().delete_collection(name)
        except CollectionLostError:
            return False
        finally:
            self._connection.forget(collection)
        return True

    # -- vectors --

    def add(self, collection: UUID, batch: VectorBatch) -> None:
        """Write vectors whose ids are surely not there; an id that is there keeps its old vector, without an error."""
        found = self._connection.collection(collection)
        with self._connection.explained(f"add {len(batch.ids)} vectors", collection):
            found.add(**_arguments(batch, batch.documents))

    def upsert(self, collection: UUID, batch: VectorBatch) -> None:
        """Write vectors, replacing what is there under their ids, the document included."""
        found = self._connection.collection(collection)
        # Without documents Chroma would keep the old ones, text of a content that may be gone.
        documents = [""] * len(batch.ids) if batch.documents is None else batch.documents
        with self._connection.explained(f"upsert {len(batch.ids)} vectors", collection):
            found.upsert(**_arguments(batch, documents))

    def remove(self, collection: UUID, ids: Sequence[str]) -> None:
        """Delete vectors; an id that is not there is no error."""
        found = self._connection.collection(collection)
        with self._connection.explained(f"remove {len(ids)} vectors", collection):
            found.delete(ids=list(ids))

    def count(self, collection: UUID) -> int:
        found = self._connection.collection(collection)
        with self._connection.explained("count vectors", collection):
            return int(found.count())

    def present(self, collection: UUID, ids: Sequence[str]) -> set[str]:
        """Return those of the ids that the collection has."""
        found = self._connection.collection(collection)
        with self._connection.explained(f"look for {len(ids)} vectors", collection):
            return set(found.get(ids=list(ids), include=[])["ids"])

    def query(
        self, collection: UUID, vector: npt.NDArray[np.float32], k: int, where: Mapping[str, UUID] | None = None
    ) -> list[VectorHit]:
        """Return the `k` nearest vectors (fewer where there are fewer), nearest first.

        `where` narrows to one user and/or conversation: keys `user_id`, `conversation_id`, values UUIDs of ours. No
        text of a caller can get into the filter: Chroma's filters are a language, and a caller's text could widen them.
        """
        filters = _where(where)
        found = self._connection.collection(collection)
        with self._connection.explained("query", collection):
            answer = found.query(
                query_embeddings=vector.reshape(1, -1), n_results=k, where=filters, include=["distances"]
            )
        distances = answer["distances"]
        assert distances is not None  # it was asked for
        return [
            VectorHit(*parse_vector_id(vector_id), float(distance))
            for vector_id, distance in zip(answer["ids"][0], distances[0], strict=True)
        ]

    def entries(self, collection: UUID, page_rows: int = _PAGE_ENTRIES) -> Iterator[VectorEntry]:
        """Yield what the collection holds, in Chroma's own order, a page at a time.

        Pages are taken by offset: hold the collection's writer lock, or expect entries twice or not at all where
        another process deletes meanwhile. (One call for all fails from 40,000 vectors on.)
        """
        found = self._connection.collection(collection)
        offset = 0
        while True:
            with self._connection.explained("read the entries", collection):
                page = found.get(limit=page_rows, offset=offset, include=["metadatas"])
            metadatas = page["metadatas"] or []
            for vector_id, metadata in zip(page["ids"], metadatas, strict=True):
                yield self._entry(collection, vector_id, cast(VectorMetadata, metadata))
            if len(page["ids"]) < page_rows:
                return
            offset += page_rows

    def _entry(self, collection: UUID, vector_id: str, metadata: VectorMetadata) -> VectorEntry:
        try:
            memory_id, chunk = parse_vector_id(vector_id)
            return VectorEntry(memory_id, chunk, metadata["version"], bytes.fromhex(metadata["content_hash"]))
        except (ValueError, KeyError, TypeError) as error:
            raise MemoryPipelineError(
                f"Chroma at {self.url}, collection {collection}: the entry {vector_id!r} was not written by this "
                f"program ({error!r}). Delete it, or build the index again from Postgres: "
                "`memory-pipeline rebuild-index`."
            ) from error


def _arguments(batch: VectorBatch, documents: list[str] | None) -> dict[str, Any]:
    return {"ids": batch.ids, "embeddings": batch.vectors, "metadatas": batch.metadatas, "documents": documents}


def _where(where: Mapping[str, UUID] | None) -> dict[str, Any] | None:
    conditions: list[dict[str, Any]] = []
    for key, value in (where or {}).items():
        if key not in _FILTERS or not isinstance(value, UUID):
            raise TypeError(f"a filter is one of {sorted(_FILTERS)} with a UUID, not {key!r}: {value!r}")
        conditions.append({key: str(value)})
    if len(conditions) > 1:
        return {"$and": conditions}
    return conditions[0] if conditions else None

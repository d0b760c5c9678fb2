"""Chroma, the vector index: one collection per tenant and embedding model, always spoken to over HTTP.

What is in Chroma is a projection of Postgres and may be deleted at any time. Chroma itself enforces little: `add` of an
id that is there does nothing and says nothing, `upsert` merges metadata keys and keeps the old document where none is
given, and any client may address any collection by its uuid. So callers pass whole batches with every key, and check
every hit against Postgres.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypedDict, cast
from urllib.parse import urlsplit
from uuid import UUID

import numpy as np
import numpy.typing as npt

from memory_pipeline.model.errors import MemoryPipelineError, SettingsError, StoreUnavailableError
from memory_pipeline.model.ids import parse_vector_id

if TYPE_CHECKING:
    import httpx
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

_CHROMA_TENANT = "default_tenant"
_CONNECT_SECONDS = 5.0
_PAGE_ENTRIES = 2_000
_PAGE_COLLECTIONS = 1_000
_FILTERS = frozenset({"user_id", "conversation_id"})
_REFUSED = frozenset({400, 409, 413, 422})
"""Statuses that say something about the request. With all others but 404 Chroma, or what is before it, has failed."""
_ANSWER_CHARACTERS = 300
_NOT_THERE = b'"NotFoundError"'
"""Chroma's own 404; a wrong address has a 404 too."""


class CollectionLostError(StoreUnavailableError):
    """A collection that Postgres knows of is not in Chroma any more: it has to be built again."""


class ChromaFailingError(StoreUnavailableError):
    """Chroma answers that it can't: its disk is full, a file of a collection is damaged, or it is asked too much.

    Perhaps for one collection only.
    """


class ChromaRefusedError(MemoryPipelineError):
    """Chroma refuses a request for what is in it, and would again."""


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
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingsError(f"MEMORY_CHROMA_URL={url!r}: it should look like http://127.0.0.1:8001.")
        self.url = url.rstrip("/")
        self.database = database
        self._host = parts.hostname
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 8000)
        self._timeout_seconds = timeout_seconds
        self._connecting = threading.Lock()
        self._client: ClientAPI | None = None
        self._collections: dict[UUID, Collection] = {}
        self._max_batch_rows: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the next call would open them again."""
        with self._connecting:
            client, self._client = self._client, None
            self._collections.clear()
        if client is not None:
            _session(client).close()  # which chromadb's own close() leaves open
            cast(Any, client).close()  # in no interface of chromadb's

    # -- server and collections --

    def heartbeat(self) -> None:
        """Return if the server answers."""
        with self._explained("ask for a heartbeat"):
            self._connection().heartbeat()

    @property
    def max_batch_rows(self) -> int:
        """How many vectors the server takes in one call."""
        if self._max_batch_rows is None:
            with self._explained("ask for the largest batch"):
                self._max_batch_rows = int(self._connection().get_max_batch_size())
        return self._max_batch_rows

    def create_collection(self, name: str, metadata: Mapping[str, str]) -> UUID:
        """Create an empty collection (cosine space) and return the uuid that Chroma gives it."""
        with self._explained(f"create collection {name}"):
            client = self._connection()
            self._ensure_database()
            collection = client.create_collection(
                name,
                metadata=dict(metadata),
                configuration={"hnsw": {"space": "cosine"}},
                embedding_function=None,
            )
        self._collections[collection.id] = collection
        return collection.id

    def collections(self, prefix: str = "") -> Iterator[CollectionInfo]:
        """Yield the collections whose name starts with `prefix`."""
        offset = 0
        while True:
            with self._explained("list the collections"):
                page = self._connection().list_collections(limit=_PAGE_COLLECTIONS, offset=offset)
            for collection in page:
                if collection.name.startswith(prefix):
                    yield CollectionInfo(collection.id, collection.name, dict(collection.metadata or {}))
            if len(page) < _PAGE_COLLECTIONS:
                return
            offset += len(page)

    def has_collection(self, collection: UUID) -> bool:
        """Ask the server, not the cache, whether the collection with this uuid is there."""
        self._collections.pop(collection, None)
        try:
            self._collection(collection)
        except CollectionLostError:
            return False
        return True

    def delete_collection(self, collection: UUID) -> bool:
        """Delete a collection and everything in it; False where there was none."""
        try:
            name = self._collection(collection).name
            with self._explained(f"delete collection {name}"):
                self._connection().delete_collection(name)
        except CollectionLostError:
            return False
        finally:
            self._collections.pop(collection, None)
        return True

    # -- vectors --

    def add(self, collection: UUID, batch: VectorBatch) -> None:
        """Write vectors whose ids are surely not there; an id that is there keeps its old vector, without an error."""
        found = self._collection(collection)
        with self._explained(f"add {len(batch.ids)} vectors", collection):
            found.add(**_arguments(batch, batch.documents))

    def upsert(self, collection: UUID, batch: VectorBatch) -> None:
        """Write vectors, replacing what is there under their ids, the document included."""
        found = self._collection(collection)
        # Without documents Chroma would keep the old ones, text of a content that may be gone.
        documents = [""] * len(batch.ids) if batch.documents is None else batch.documents
        with self._explained(f"upsert {len(batch.ids)} vectors", collection):
            found.upsert(**_arguments(batch, documents))

    def remove(self, collection: UUID, ids: Sequence[str]) -> None:
        """Delete vectors; an id that is not there is no error."""
        found = self._collection(collection)
        with self._explained(f"remove {len(ids)} vectors", collection):
            found.delete(ids=list(ids))

    def count(self, collection: UUID) -> int:
        found = self._collection(collection)
        with self._explained("count vectors", collection):
            return int(found.count())

    def present(self, collection: UUID, ids: Sequence[str]) -> set[str]:
        """Return those of the ids that the collection has."""
        found = self._collection(collection)
        with self._explained(f"look for {len(ids)} vectors", collection):
            return set(found.get(ids=list(ids), include=[])["ids"])

    def query(
        self, collection: UUID, vector: npt.NDArray[np.float32], k: int, where: Mapping[str, UUID] | None = None
    ) -> list[VectorHit]:
        """Return the `k` nearest vectors (fewer where there are fewer), nearest first.

        `where` narrows to one user and/or conversation: keys `user_id`, `conversation_id`, values UUIDs of ours. No
        text of a caller can get into the filter: Chroma's filters are a language, and a caller's text could widen them.
        """
        filters = _where(where)
        found = self._collection(collection)
        with self._explained("query", collection):
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
        found = self._collection(collection)
        offset = 0
        while True:
            with self._explained("read the entries", collection):
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

    # -- the client --

    def _collection(self, collection: UUID) -> Collection:
        known = self._collections.get(collection)
        if known is None:
            with self._explained("find the collection", collection):
                known = self._connection().get_collection_by_id(collection, embedding_function=None)
            self._collections[collection] = known
        return known

    def _connection(self) -> ClientAPI:
        with self._connecting:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> ClientAPI:
        import chromadb
        import httpx
        from chromadb.errors import ChromaError

        # The client below asks the server while it is made, and would wait without end if that did not answer.
        self._ensure_database()
        try:
            client = chromadb.HttpClient(
                self._host,
                self._port,
                ssl=self._tls,
                settings=chromadb.config.Settings(anonymized_telemetry=False),
                tenant=_CHROMA_TENANT,
                database=self.database,
            )
        except (ValueError, ChromaError) as error:  # ValueError: what it makes of a refused connection, here alone
            raise StoreUnavailableError(f"Chroma at {self.url} went away while connecting: {error}") from error
        _session(cast(Any, client)._admin_client).close()  # only used while the client is made
        session = _session(client)
        session.timeout = httpx.Timeout(self._timeout_seconds, connect=_CONNECT_SECONDS)
        session.event_hooks = {"response": [_require_answer]}
        return client

    def _ensure_database(self) -> None:
        """Create the database where there is none, as on a server that was robbed of its directory."""
        import httpx

        databases = f"{self.url}/api/v2/tenants/{_CHROMA_TENANT}/databases"
        with httpx.Client(timeout=httpx.Timeout(self._timeout_seconds, connect=_CONNECT_SECONDS)) as client:
            answer = client.get(f"{databases}/{self.database}")
            if answer.status_code == httpx.codes.NOT_FOUND:
                answer = client.post(databases, json={"name": self.database})
                if answer.status_code == httpx.codes.CONFLICT:  # another process was faster
                    return
            answer.raise_for_status()

    @contextmanager
    def _explained(self, action: str, collection: UUID | None = None) -> Iterator[None]:
        """Turn what the client raises into errors that say which server, which collection, and what to do."""
        import httpx
        from chromadb.errors import ChromaError, NotFoundError

        about = f"Chroma at {self.url} (database {self.database!r})" + (
            f", collection {collection}" if collection else ""
        )
        start = "Start it, or mend MEMORY_CHROMA_URL; nothing is lost, the work can be run again."
        try:
            yield
        except httpx.TimeoutException as error:
            raise StoreUnavailableError(
                f"{about} did not answer within {self._timeout_seconds:g} s when asked to {action}. {start}"
            ) from error
        except httpx.HTTPStatusError as error:
            answer = error.response
            raise ChromaFailingError(
                f"{about} answered {answer.status_code} when asked to {action}: {answer.text[:_ANSWER_CHARACTERS]!r}. "
                "Its log says why (a full disk, a damaged file, too many requests); nothing is lost, the work can be "
                "run again, and a damaged collection be built again: `memory-pipeline rebuild-index`."
            ) from error
        except httpx.HTTPError as error:
            raise StoreUnavailableError(f"{about} can't be reached to {action}: {error}. {start}") from error
        except NotFoundError as error:
            if collection is not None:
                self._collections.pop(collection, None)
            raise CollectionLostError(
                f"{about}: not there when asked to {action} ({error}). Build the index again from Postgres: "
                "`memory-pipeline rebuild-index`."
            ) from error
        except ChromaError as error:
            raise ChromaRefusedError(f"{about} refused to {action}: {type(error).__name__}: {error}") from error
        except Exception as error:
            if type(error) is not Exception:  # which is what chromadb raises where it has no class for a status
                raise
            raise ChromaRefusedError(f"{about} refused to {action}: {error}") from error


def _require_answer(response: httpx.Response) -> None:
    """Raise HTTPStatusError where Chroma failed. The errors that chromadb makes of an answer do not tell its status."""
    if response.is_success or response.status_code in _REFUSED:
        return
    response.read()
    if response.status_code != 404 or _NOT_THERE not in response.content:
        response.raise_for_status()


def _session(client: object) -> httpx.Client:
    """The HTTP session of a chromadb client, which has no setting for its timeout and never closes it."""
    return cast("httpx.Client", cast(Any, client)._server._session)


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

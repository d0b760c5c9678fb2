"""The connection to a Chroma server: one client, made at the first call, and what its errors mean."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from uuid import UUID

from memory_pipeline.model.errors import MemoryPipelineError, SettingsError, StoreUnavailableError

if TYPE_CHECKING:
    import httpx
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

_CHROMA_TENANT = "default_tenant"
_CONNECT_SECONDS = 5.0
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


class ChromaConnection:
    """The client of one Chroma database and the collections it has found; safe to share between threads."""

    def __init__(self, url: str, database: str, timeout_seconds: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingsError("MEMORY_CHROMA_URL should look like http://127.0.0.1:8001.")
        self.url = url.rstrip("/")
        self.database = database
        self._host = parts.hostname
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 8000)
        self._timeout_seconds = timeout_seconds
        self._connecting = threading.Lock()
        self._client: ClientAPI | None = None
        self._collections: dict[UUID, Collection] = {}

    def close(self) -> None:
        """Close the connections; the next call would open them again."""
        with self._connecting:
            client, self._client = self._client, None
            self._collections.clear()
        if client is not None:
            _session(client).close()  # which chromadb's own close() leaves open
            cast(Any, client).close()  # in no interface of chromadb's

    def client(self) -> ClientAPI:
        """Return the client, connecting where there is none."""
        with self._connecting:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def collection(self, collection: UUID) -> Collection:
        """Return the collection with this uuid, from the server at the first call. Raises CollectionLostError."""
        known = self._collections.get(collection)
        if known is None:
            with self.explained("find the collection", collection):
                known = self.client().get_collection_by_id(collection, embedding_function=None)
            self._collections[collection] = known
        return known

    def keep(self, collection: Collection) -> None:
        """Know a collection without asking the server for it."""
        self._collections[collection.id] = collection

    def forget(self, collection: UUID) -> None:
        """Ask the server at the next call."""
        self._collections.pop(collection, None)

    def _connect(self) -> ClientAPI:
        import chromadb
        import httpx
        from chromadb.errors import ChromaError

        # The client below asks the server while it is made, and would wait without end if that did not answer.
        self.ensure_database()
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

    def ensure_database(self) -> None:
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
    def explained(self, action: str, collection: UUID | None = None) -> Iterator[None]:
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
                self.forget(collection)
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

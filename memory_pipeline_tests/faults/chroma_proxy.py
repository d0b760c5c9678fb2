"""An HTTP proxy before Chroma whose answers a test decides: errors, and requests that are refused.

with ChromaProxy(chroma_url) as proxy, ChromaStore(proxy.url) as store:
    proxy.script = failing
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit
from uuid import UUID

from memory_pipeline.model.ids import vector_id


class Request(NamedTuple):
    """What a client asks; the path without the address."""

    method: str
    path: str
    body: bytes


class Answer(NamedTuple):
    """What it is told instead of Chroma's answer."""

    status: int
    body: bytes


Script = Callable[[Request], Answer | None]
"""Returns the answer to a request, or None where Chroma is to be asked. Called from several threads."""


def failing(_request: Request) -> Answer:
    """Chroma's answer where its disk is full."""
    return error(500, "InternalError", "error returned from database: (code: 13) database or disk is full")


def failing_for(collection: UUID) -> Script:
    """Every request to this collection alone fails, as where one of its files is damaged."""
    return lambda request: failing(request) if str(collection) in request.path else None


def refusing(memories: Collection[UUID]) -> Script:
    """Writes that hold a vector of one of these memories are refused, those without are not."""
    ids = [vector_id(memory_id, 0).encode() for memory_id in memories]

    def answer(request: Request) -> Answer | None:
        if request.path.endswith(("/add", "/upsert")) and any(memory in request.body for memory in ids):
            return error(400, "InvalidArgumentError", "no such vector is wanted")
        return None

    return answer


def error(status: int, name: str, message: str) -> Answer:
    """An answer as Chroma words it."""
    return Answer(status, json.dumps({"error": name, "message": message}).encode())


class ChromaProxy:
    """`url` leads to Chroma; `script` may be set at any time and holds for the requests from then on."""

    def __init__(self, chroma_url: str) -> None:
        parts = urlsplit(chroma_url)
        assert parts.hostname is not None
        self.chroma = (parts.hostname, parts.port or 80)
        self.script: Script | None = None
        self.scripted = 0
        """Requests that the script answered."""
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="chroma-proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer_of(self, request: Request) -> Answer:
        """The script's answer, or Chroma's."""
        answer = self.script(request) if self.script is not None else None
        if answer is not None:
            with self._lock:
                self.scripted += 1
            return answer
        connection = http.client.HTTPConnection(*self.chroma, timeout=60)
        try:
            connection.request(request.method, request.path, request.body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return Answer(response.status, response.read())
        except OSError as away:
            return Answer(502, str(away).encode())
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # of connections that a client keeps open


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: ChromaProxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.proxy.answer_of(Request(self.command, self.path, body))
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_DELETE = _pass_on  # noqa: N815 - names of the standard library

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

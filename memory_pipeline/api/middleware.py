"""Around every request: its correlation id, its size limit, its time in the metrics. Plain ASGI, for speed."""

from __future__ import annotations

import json
import time
import traceback
from uuid import UUID, uuid4

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memory_pipeline import logs, metrics
from memory_pipeline.api.errors import error_body, log

CORRELATION_HEADER = b"x-correlation-id"
_LIMITED = ("/api/v1/memory/messages", "/api/v1/memory/conversations", "/api/v1/memory/analytics")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestFrame:
    """Outermost but for the server: nothing reaches the routes without a correlation id or past the size limit."""

    def __init__(self, app: ASGIApp, max_bytes: int, most_requests: int) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.most_requests = most_requests
        self._in_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        correlation_id = _uuid(headers.get(CORRELATION_HEADER)) or uuid4()
        scope.setdefault("state", {})["correlation_id"] = correlation_id
        logs.clear()
        logs.bind(correlation_id=correlation_id)
        started = time.perf_counter()
        status = 500
        seen = 0
        begun = False

        async def counted_receive() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_bytes:
                # FastAPI lets its own exception through where it reads the body, and turns any other into a 400.
                raise HTTPException(413, self._too_large())
            return message

        async def marked_send(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                begun = True
                status = message["status"]
                message["headers"] = [*message["headers"], (CORRELATION_HEADER, str(correlation_id).encode())]
            await send(message)

        try:
            announced = headers.get(b"content-length", b"0")
            if self._in_work >= self.most_requests and scope["path"].startswith(_LIMITED):
                await _answer(marked_send, 503, "busy", "the API has as many requests as it takes: try again.")
            elif announced.isdigit() and int(announced) > self.max_bytes:
                await _answer(marked_send, 413, "too_large", f"{self._too_large()}.")
            else:
                self._in_work += 1
                try:
                    await self.app(scope, counted_receive, marked_send)
                finally:
                    self._in_work -= 1
        except Exception as error:
            # Where, not what: the text of an error may quote a row.
            places = [
                f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
            ]
            log.error("request_crashed", path=scope["path"], error=type(error).__name__, places=places[-8:])
            if begun:
                raise
            await _answer(marked_send, 500, "internal", "this is a bug; the log has it under the correlation id.")
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            metrics.requests.labels(route, method, status).inc()
            metrics.request_seconds.labels(route).observe(time.perf_counter() - started)

    def _too_large(self) -> str:
        return f"the request has more than {self.max_bytes:,} bytes: send less at once"


async def _answer(send: Send, status: int, code: str, message: str) -> None:
    body = json.dumps(error_body(code, message)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _uuid(value: bytes | None) -> UUID | None:
    """Return a correlation id the caller gave; what is no UUID is not used."""
    if value is None:
        return None
    try:
        return UUID(value.decode("ascii"))
    except ValueError:
        return None

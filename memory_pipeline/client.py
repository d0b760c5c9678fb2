"""The API's verbs as methods, for applications in Python: `MemoryClient`, and `AsyncMemoryClient` for asyncio.

    with MemoryClient("http://127.0.0.1:8000", token) as memory:
        taken = memory.post_messages([{"conversation_id": "c1", "role": "user", "content": "I moved to Lisbon."}])
        memory.conversation(taken["messages"][0]["conversation_id"])

Answers are the API's JSON as dictionaries. What the API refuses is raised as ApiError with its code and sentence; a
server that can't be reached, as httpx.TransportError. Nothing is retried: give messages an id, and repeat at will.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import UUID

import httpx

Json = dict[str, Any]

_PREFIX = "/api/v1/memory"
_TIMEOUT_SECONDS = 30.0


class ApiError(Exception):
    """The API refused a request."""

    def __init__(self, status: int, code: str, message: str, correlation_id: str | None) -> None:
        super().__init__(f"{message} ({status} {code}, correlation id {correlation_id})")
        self.status = status
        self.code = code
        self.message = message
        self.correlation_id = correlation_id


class _Call(NamedTuple):
    """A request, before it is known how it is sent."""

    method: str
    path: str
    json: Any = None
    params: Mapping[str, str | int] | None = None


def _post_messages(messages: Sequence[Mapping[str, Any]]) -> _Call:
    return _Call("POST", f"{_PREFIX}/messages", {"messages": [dict(message) for message in messages]})


def _conversations(limit: int, after: UUID | str | None) -> _Call:
    return _Call("GET", f"{_PREFIX}/conversations", params=_given(limit=limit, after=after))


def _conversation(conversation_id: UUID | str, limit: int, before: UUID | str | None) -> _Call:
    return _Call("GET", f"{_PREFIX}/conversations/{_id(conversation_id)}", params=_given(limit=limit, before=before))


def _delete_conversation(conversation_id: UUID | str) -> _Call:
    return _Call("DELETE", f"{_PREFIX}/conversations/{_id(conversation_id)}")


def _id(conversation_id: UUID | str) -> UUID:
    """What an application was handed by somebody else must not lead to another path."""
    try:
        return UUID(str(conversation_id))
    except ValueError:
        raise ValueError(
            f"{conversation_id!r} is no conversation id: give the `conversation_id` of one of the API's answers"
        ) from None


def _report(name: str, from_day: date | str | None, to_day: date | str | None, limit: int) -> _Call:
    if not re.fullmatch("[a-z_]+", name):
        raise ValueError(f"{name!r} is no name of a report: `analytics_reports` lists them")
    return _Call("GET", f"{_PREFIX}/analytics/{name}", params=_given(**{"from": from_day, "to": to_day}, limit=limit))


_REPORTS = _Call("GET", f"{_PREFIX}/analytics")
_HEALTH = _Call("GET", f"{_PREFIX}/health")
_CACHE_STATS = _Call("GET", f"{_PREFIX}/cache/stats")


def _given(**params: UUID | date | str | int | None) -> dict[str, str | int]:
    return {
        name: value if isinstance(value, int) else str(value) for name, value in params.items() if value is not None
    }


def _answer(response: httpx.Response, call: _Call) -> Json:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        # Health says what is wrong in the same form, with 503.
        if response.is_success or (call is _HEALTH and "stores" in answer):
            return answer
        error = answer.get("error")
        if isinstance(error, dict) and {"code", "message"} <= error.keys():
            raise _api_error(response, error["code"], error["message"])
    raise _api_error(response, "not_the_api", f"an answer that is not the API's: {response.text[:200]!r}")


def _api_error(response: httpx.Response, code: str, message: str) -> ApiError:
    return ApiError(response.status_code, code, message, response.headers.get("x-correlation-id"))


def _headers(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


class MemoryClient:
    """The API over one pool of connections; safe to share between threads. A context manager."""

    def __init__(self, url: str, token: str | None = None, *, timeout: float = _TIMEOUT_SECONDS) -> None:
        self._http = httpx.Client(base_url=url, headers=_headers(token), timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def post_messages(self, messages: Sequence[Mapping[str, Any]]) -> Json:
        """Store messages, all or none; `status` of the answer is `durable` or `buffered`."""
        return self._send(_post_messages(messages))

    def conversations(self, *, limit: int = 50, after: UUID | str | None = None) -> list[Json]:
        """Return a page of one's conversations, newest first."""
        found: list[Json] = self._send(_conversations(limit, after))["conversations"]
        return found

    def conversation(self, conversation_id: UUID | str, *, limit: int = 100, before: UUID | str | None = None) -> Json:
        """Return a conversation with its newest messages (before one of them), oldest first.

        Raises ValueError for what is no id.
        """
        return self._send(_conversation(conversation_id, limit, before))

    def delete_conversation(self, conversation_id: UUID | str) -> Json:
        """Delete a conversation with all that was derived from it; return how much that was.

        Raises ValueError for what is no id.
        """
        return self._send(_delete_conversation(conversation_id))

    def analytics_reports(self) -> list[Json]:
        """Return the reports that `analytics` answers, each with what it says and its columns."""
        found: list[Json] = self._send(_REPORTS)["reports"]
        return found

    def analytics(
        self, report: str, *, from_day: date | str | None = None, to_day: date | str | None = None, limit: int = 1000
    ) -> Json:
        """Return one report about one's tenant: `columns`, `rows` (the newest first), and `as_of` when they held.

        Days are UTC and both included; `limit` keeps the newest rows. Raises ValueError for what is no report's name.
        """
        return self._send(_report(report, from_day, to_day, limit))

    def health(self) -> Json:
        """Return how the service is, also where it is not well (`ok` is false)."""
        return self._send(_HEALTH)

    def cache_stats(self) -> Json:
        return self._send(_CACHE_STATS)

    def _send(self, call: _Call) -> Json:
        return _answer(self._http.request(call.method, call.path, json=call.json, params=call.params), call)


class AsyncMemoryClient:
    """The same verbs for asyncio. An asynchronous context manager."""

    def __init__(self, url: str, token: str | None = None, *, timeout: float = _TIMEOUT_SECONDS) -> None:
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(token), timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def post_messages(self, messages: Sequence[Mapping[str, Any]]) -> Json:
        """Store messages, all or none; `status` of the answer is `durable` or `buffered`."""
        return await self._send(_post_messages(messages))

    async def conversations(self, *, limit: int = 50, after: UUID | str | None = None) -> list[Json]:
        """Return a page of one's conversations, newest first."""
        found: list[Json] = (await self._send(_conversations(limit, after)))["conversations"]
        return found

    async def conversation(
        self, conversation_id: UUID | str, *, limit: int = 100, before: UUID | str | None = None
    ) -> Json:
        """Return a conversation with its newest messages (before one of them), oldest first.

        Raises ValueError for what is no id.
        """
        return await self._send(_conversation(conversation_id, limit, before))

    async def delete_conversation(self, conversation_id: UUID | str) -> Json:
        """Delete a conversation with all that was derived from it; return how much that was.

        Raises ValueError for what is no id.
        """
        return await self._send(_delete_conversation(conversation_id))

    async def analytics_reports(self) -> list[Json]:
        """Return the reports that `analytics` answers, each with what it says and its columns."""
        found: list[Json] = (await self._send(_REPORTS))["reports"]
        return found

    async def analytics(
        self, report: str, *, from_day: date | str | None = None, to_day: date | str | None = None, limit: int = 1000
    ) -> Json:
        """Return one report about one's tenant: `columns`, `rows` (the newest first), and `as_of` when they held.

        Days are UTC and both included; `limit` keeps the newest rows. Raises ValueError for what is no report's name.
        """
        return await self._send(_report(report, from_day, to_day, limit))

    async def health(self) -> Json:
        """Return how the service is, also where it is not well (`ok` is false)."""
        return await self._send(_HEALTH)

    async def cache_stats(self) -> Json:
        return await self._send(_CACHE_STATS)

    async def _send(self, call: _Call) -> Json:
        return _answer(await self._http.request(call.method, call.path, json=call.json, params=call.params), call)

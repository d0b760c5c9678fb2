"""Errors as answers: a status, a code that a program compares, a sentence for a person."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from memory_pipeline.api.schemas import ErrorAnswer
from memory_pipeline.model.errors import (
    BufferFullError,
    BusyError,
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    MemoryPipelineError,
    NoExportError,
    NotFoundError,
    StoreUnavailableError,
    UnauthenticatedError,
)

log = structlog.get_logger()

_STATUS: dict[type[MemoryPipelineError], int] = {
    UnauthenticatedError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    NoExportError: 404,
    ConflictError: 409,
    InvalidRequestError: 422,
    BusyError: 503,
    BufferFullError: 503,
    StoreUnavailableError: 503,
}
_RETRY_SECONDS = "2"
_MAX_PROBLEMS = 10
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

Responses = dict[int | str, dict[str, Any]]


def _documented(*statuses: int) -> Responses:
    return {status: {"model": ErrorAnswer, "description": HTTPStatus(status).phrase} for status in statuses}


ANYWHERE = _documented(413, 500)
"""Answers that every route may give."""
DOCUMENTED = _documented(400, 401, 403, 422, 503)
"""Answers that any authenticated route may give besides."""


def error_body(code: str, message: str, **more: object) -> dict[str, object]:
    """Return the JSON of an error answer."""
    return {"error": {"code": code, "message": message, **more}}


def install(app: FastAPI) -> None:
    """Have every error answered in the one form."""
    app.add_exception_handler(MemoryPipelineError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _ours(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MemoryPipelineError)
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    if status == 500:
        log.error("request_failed", error=type(error).__name__, message=str(error))
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 503:
        headers["Retry-After"] = _RETRY_SECONDS
    permission = getattr(error, "permission", None)
    more = {"permission": permission} if permission else {}
    return JSONResponse(error_body(error.code, str(error), **more), status, headers)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [_problem(problem) for problem in error.errors()[:_MAX_PROBLEMS]]
    # A value that can't be encoded (half a surrogate pair) is told in escapes.
    text = "; ".join(problems).encode("utf-8", "backslashreplace").decode()
    return JSONResponse(error_body("invalid", f"{text}."), 422)


def _problem(problem: dict[str, object]) -> str:
    if problem["type"] == "json_invalid":
        return "the body is not JSON"
    if problem["loc"] == ("body",) and problem["type"] in {"model_attributes_type", "model_type"}:
        return "the body is not a JSON object sent with `Content-Type: application/json`"
    where = problem["loc"]
    assert isinstance(where, tuple | list)
    path = ".".join(str(part) for part in where[1:])
    return f"{path or where[0]}: {problem['msg']}"


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    headers = error.headers
    if error.status_code == 405:
        # Starlette names the methods of the first route that has the path.
        headers = {"Allow": ", ".join(_methods_of_path(request))}
    code = "too_large" if error.status_code == 413 else HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    message = error.detail if isinstance(error.detail, str) else json.dumps(error.detail)
    return JSONResponse(error_body(code, f"{message}."), error.status_code, headers)


def _methods_of_path(request: Request) -> list[str]:
    """Try them: routers know which methods they take, but don't list those of a path."""
    return [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]

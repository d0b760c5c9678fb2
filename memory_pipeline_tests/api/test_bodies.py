"""A body is parsed as FastAPI parses it, and refused with the same errors, whichever of the two does it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from memory_pipeline.api.bodies import parse_body
from memory_pipeline.api.schemas import PostedMessages

GOOD = {"messages": [{"conversation_id": "c", "role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def fastapi() -> TestClient:
    """FastAPI's own way to the same model: answers what it parsed, or where it found a problem and of which kind."""
    app = FastAPI()

    @app.post("/")
    def post(body: PostedMessages) -> Any:
        return JSONResponse({"parsed": json.loads(body.model_dump_json())})

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: object, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return JSONResponse({"problems": problems_of(error)})

    return TestClient(app)


def problems_of(error: RequestValidationError) -> list[list[Any]]:
    return [[problem["type"], *problem["loc"]] for problem in error.errors()]


def ours(raw: bytes, content_type: str | None) -> dict[str, Any]:
    try:
        return {"parsed": json.loads(parse_body(PostedMessages, raw, content_type).model_dump_json())}
    except RequestValidationError as error:
        return {"problems": problems_of(error)}


def theirs(fastapi: TestClient, raw: bytes, content_type: str | None) -> dict[str, Any]:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer: dict[str, Any] = fastapi.post("/", content=raw, headers=headers).json()
    return answer


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "application/x+json"])
def test_json_is_taken_under_every_name_it_has(fastapi: TestClient, content_type: str) -> None:
    raw = json.dumps(GOOD).encode()
    assert ours(raw, content_type) == theirs(fastapi, raw, content_type)
    assert "parsed" in ours(raw, content_type)


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/xml", "application", "json"])
def test_what_does_not_say_that_it_is_json_is_refused(fastapi: TestClient, content_type: str | None) -> None:
    raw = json.dumps(GOOD).encode()
    assert ours(raw, content_type) == theirs(fastapi, raw, content_type)
    assert "problems" in ours(raw, content_type)


BROKEN = [b"", b"null", b"{", b"[]", b'"x"', b"3", b"{}", b"NaN", b'{"messages": []}', b'{"messages": [{}]}']
WRONG = [b'{"messages": [3]}', b'{"messages": [], "more": 1}', b'{"messages": NaN}', b'{"messages": [{"role": "x"}]}']


@pytest.mark.parametrize("raw", [*BROKEN, *WRONG])
def test_a_broken_body_is_refused_at_the_same_place_for_the_same_reason(fastapi: TestClient, raw: bytes) -> None:
    assert ours(raw, "application/json") == theirs(fastapi, raw, "application/json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
MESSAGE = st.fixed_dictionaries(
    {"conversation_id": st.text(max_size=3) | JSON, "role": st.sampled_from(["user", "tool", "x"]), "content": JSON},
    optional={"id": st.text(max_size=3) | JSON, "sent_at": st.datetimes().map(str) | JSON, "metadata": JSON, "q": JSON},
)


@given(body=st.fixed_dictionaries({"messages": st.lists(MESSAGE, max_size=2) | JSON}) | JSON)
def test_whatever_is_sent_both_find_the_same(fastapi: TestClient, body: Any) -> None:
    raw = json.dumps(body).encode()
    assert ours(raw, "application/json") == theirs(fastapi, raw, "application/json")

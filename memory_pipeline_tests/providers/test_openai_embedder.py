"""The OpenAI-compatible embedder against a real HTTP server on localhost that misbehaves in every way that counts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from memory_pipeline.model.errors import ProviderError, ProviderUnavailableError, SettingsError
from memory_pipeline.model.usage import UsageMeter
from memory_pipeline.providers.openai_embedder import OpenAIEmbedder

KEY = "sk-very-secret"
TEXT = "a private sentence"


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    drop: bool = False


def vector_of(text: str, dimension: int) -> list[float]:
    """A vector that tells which text it is for: its length first, then ones."""
    return [float(len(text)), *[1.0] * (dimension - 1)]


def unit_vector_of(text: str, dimension: int) -> Any:
    vector = np.array(vector_of(text, dimension))
    return vector / np.linalg.norm(vector)


class EmbeddingServer(ThreadingHTTPServer):
    """Answers as scripted, one answer per request; when the script is done, as it should."""

    daemon_threads = True

    def __init__(self) -> None:
        self.script: list[Answer | Callable[[dict[str, Any]], Answer]] = []
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.dimension = 4
        self.released = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def good(self, request: dict[str, Any]) -> Answer:
        data = [{"index": i, "embedding": vector_of(t, self.dimension)} for i, t in enumerate(request["input"])]
        return Answer(body={"data": data, "model": request["model"]})


class _Handler(BaseHTTPRequestHandler):
    server: EmbeddingServer

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, **request})
        self.server.authorizations.append(self.headers["Authorization"])
        step = self.server.script.pop(0) if self.server.script else self.server.good
        answer = step if isinstance(step, Answer) else step(request)
        if answer.hang:
            self.server.released.wait(30)
        if answer.hang or answer.drop:
            self.close_connection = True
            return
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output quiet."""


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    server = EmbeddingServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def embedder(server: EmbeddingServer, waits: list[float]) -> Iterator[OpenAIEmbedder]:
    with OpenAIEmbedder(server.url, "test-model", 4, KEY, timeout_seconds=0.5, sleep=waits.append) as embedder:
        yield embedder


def refuse(status: int, **error: str) -> Answer:
    return Answer(status=status, body={"error": {"message": f"{KEY} sent {TEXT}", **error}})


def test_vectors_are_unit_length_and_in_order(server: EmbeddingServer, embedder: OpenAIEmbedder) -> None:
    vectors = embedder.embed(["a", "bb"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [unit_vector_of("a", 4), unit_vector_of("bb", 4)], rtol=1e-6)
    assert server.requests == [
        {"path": "/v1/embeddings", "model": "test-model", "input": ["a", "bb"], "encoding_format": "float"}
    ]
    assert server.authorizations == [f"Bearer {KEY}"]


@pytest.mark.parametrize("dimension", [768, 1536])
def test_any_dimension_works_and_is_sent_only_when_asked(server: EmbeddingServer, dimension: int) -> None:
    server.dimension = dimension
    with OpenAIEmbedder(server.url + "/", "m", dimension, request_dimension=True) as embedder:
        assert embedder.embed(["x"]).shape == (1, dimension)
    assert server.requests[0]["dimensions"] == dimension
    assert server.authorizations == [None]


def test_answers_out_of_order_are_sorted_by_index(server: EmbeddingServer, embedder: OpenAIEmbedder) -> None:
    def shuffled(request: dict[str, Any]) -> Answer:
        answer = server.good(request)
        return Answer(body={"data": answer.body["data"][::-1]})

    server.script = [shuffled]
    vectors = embedder.embed(["a", "bb", "ccc"])
    np.testing.assert_allclose(vectors[2], unit_vector_of("ccc", 4), rtol=1e-6)


def test_requests_stay_within_inputs_and_tokens(server: EmbeddingServer) -> None:
    with OpenAIEmbedder(server.url, "m", 4, max_request_inputs=3, max_request_tokens=10) as embedder:
        vectors = embedder.embed(["1", "2", "3", "4", "123456789", "é", "12345678901234"])
    sent = [request["input"] for request in server.requests]
    assert sent == [["1", "2", "3"], ["4", "123456789"], ["é"], ["12345678901234"]]
    np.testing.assert_allclose(vectors[4], unit_vector_of("123456789", 4), rtol=1e-6)


# -- what is charged --


def test_tokens_are_counted_as_the_answers_say_request_by_request(server: EmbeddingServer) -> None:
    def counted(tokens: int) -> Callable[[dict[str, Any]], Answer]:
        return lambda request: Answer(body={**server.good(request).body, "usage": {"prompt_tokens": tokens}})

    server.script = [counted(7), refuse(503), counted(5)]
    meter = UsageMeter()
    with OpenAIEmbedder(server.url, "m", 4, max_request_inputs=2, sleep=lambda _: None) as embedder:
        vectors = embedder.embed_metered(["a", "bb", "ccc"], meter)
    np.testing.assert_allclose(vectors[2], unit_vector_of("ccc", 4), rtol=1e-6)
    assert (meter.requests, meter.prompt_tokens) == (2, 12)  # a refusal is not charged


@pytest.mark.parametrize("usage", [None, {}, "many", {"prompt_tokens": "7"},
                                   {"prompt_tokens": -1}, {"prompt_tokens": True}, {"prompt_tokens": 1e3},
                                   {"prompt_tokens": 10**30}])  # fmt: skip
def test_a_count_that_is_missing_or_absurd_is_unknown_and_the_vectors_are_kept(
    server: EmbeddingServer, embedder: OpenAIEmbedder, usage: object
) -> None:
    server.script = [lambda request: Answer(body={**server.good(request).body, "usage": usage})]
    meter = UsageMeter()
    assert embedder.embed_metered([TEXT], meter).shape == (1, 4)
    assert (meter.requests, meter.prompt_tokens) == (1, None)


def test_an_answer_that_cannot_be_used_is_charged_all_the_same(
    server: EmbeddingServer, embedder: OpenAIEmbedder
) -> None:
    server.script = [Answer(body={"data": [], "usage": {"prompt_tokens": 3}})]
    meter = UsageMeter()
    with pytest.raises(ProviderError, match="with 0 vectors"):
        embedder.embed_metered([TEXT], meter)
    assert (meter.requests, meter.prompt_tokens) == (1, 3)


def test_no_texts_need_no_request(server: EmbeddingServer, embedder: OpenAIEmbedder) -> None:
    assert embedder.embed([]).shape == (0, 4)
    assert server.requests == []


@pytest.mark.parametrize(
    "failure", [refuse(429), refuse(500), refuse(503), Answer(hang=True), Answer(drop=True)],
    ids=["429", "500", "503", "hang", "drop"],
)  # fmt: skip
def test_passing_failures_are_tried_again(
    server: EmbeddingServer, embedder: OpenAIEmbedder, waits: list[float], failure: Answer
) -> None:
    server.script = [failure, failure]
    np.testing.assert_allclose(embedder.embed([TEXT])[0], unit_vector_of(TEXT, 4), rtol=1e-6)
    assert len(server.requests) == 3
    assert 1 <= waits[0] <= 2 <= waits[1] <= 3


@pytest.mark.parametrize(
    ("asked", "at_least", "at_most"),
    [
        ("7", 7, 7),
        ("99999", 60, 60),
        (format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True), 60, 60),
        ("soon", 1, 2),
    ],
    ids=["seconds", "bounded", "date", "nonsense"],
)
def test_retry_after_is_honoured_within_bounds(
    server: EmbeddingServer, embedder: OpenAIEmbedder, waits: list[float], asked: str, at_least: int, at_most: int
) -> None:
    server.script = [Answer(status=429, body={}, headers={"Retry-After": asked})]
    embedder.embed([TEXT])
    assert at_least <= waits[0] <= at_most


@pytest.mark.parametrize("failure", [refuse(503), Answer(hang=True)], ids=["503", "hang"])
def test_lasting_overload_ends_after_the_retries(
    server: EmbeddingServer, embedder: OpenAIEmbedder, failure: Answer
) -> None:
    server.script = [failure] * 9
    with pytest.raises(ProviderUnavailableError, match="in 4 tries"):
        embedder.embed([TEXT])
    assert len(server.requests) == 4


def test_nobody_listening_is_unavailable(server: EmbeddingServer) -> None:
    with (
        OpenAIEmbedder("http://127.0.0.1:9/v1", "m", 4, retries=1, sleep=lambda _: None) as embedder,
        pytest.raises(ProviderUnavailableError, match=r"127\.0\.0\.1:9"),
    ):
        embedder.embed([TEXT])


@pytest.mark.parametrize(
    ("status", "blames_the_texts"),
    [(400, True), (413, True), (422, True), (307, True), (401, False), (403, False), (404, False)],
)
def test_refusals_are_final(
    server: EmbeddingServer, embedder: OpenAIEmbedder, status: int, blames_the_texts: bool
) -> None:
    server.script = [refuse(status)]
    with pytest.raises(ProviderError, match=str(status)) as caught:
        embedder.embed([TEXT])
    assert isinstance(caught.value, ProviderUnavailableError) is not blames_the_texts
    assert len(server.requests) == 1


def test_spent_quota_is_final_though_it_is_a_429(server: EmbeddingServer, embedder: OpenAIEmbedder) -> None:
    server.script = [refuse(429, code="insufficient_quota")]
    with pytest.raises(ProviderUnavailableError, match="insufficient_quota"):
        embedder.embed([TEXT])
    assert len(server.requests) == 1


BAD_DATA: dict[str, Any] = {
    "wrong dimension": [{"index": 0, "embedding": [1.0] * 5}, {"index": 1, "embedding": [1.0] * 5}],
    "one of another dimension": [{"index": 0, "embedding": [1.0] * 4}, {"index": 1, "embedding": [1.0] * 3}],
    "NaN": [{"index": 0, "embedding": [1.0] * 4}, {"index": 1, "embedding": [1.0, float("nan"), 1.0, 1.0]}],
    "infinity": [{"index": 0, "embedding": [1.0] * 4}, {"index": 1, "embedding": [1.0, float("inf"), 1.0, 1.0]}],
    "beyond float32": [{"index": 0, "embedding": [1.0] * 4}, {"index": 1, "embedding": [1e300] * 4}],
    "null": [{"index": 0, "embedding": [1.0] * 4}, {"index": 1, "embedding": [1.0, None, 1.0, 1.0]}],
    "strings": [{"index": 0, "embedding": [1.0] * 4}, {"index": 1, "embedding": ["1", "2", "3", "4"]}],
    "ragged": [{"index": 0, "embedding": [1.0] * 4}, {"index": 1, "embedding": [[1.0], [1.0, 2.0]]}],
    "zero": [{"index": 0, "embedding": [1.0] * 4}, {"index": 1, "embedding": [0.0] * 4}],
    "too few": [{"index": 0, "embedding": [1.0] * 4}],
    "too many": [{"index": i, "embedding": [1.0] * 4} for i in range(3)],
    "one index twice": [{"index": 0, "embedding": [1.0] * 4}, {"index": 0, "embedding": [1.0] * 4}],
    "no index": [{"embedding": [1.0] * 4}, {"embedding": [1.0] * 4}],
    "not a list": "vectors",
}


@pytest.mark.parametrize("data", BAD_DATA.values(), ids=BAD_DATA.keys())
def test_answers_that_cannot_be_stored_are_errors(server: EmbeddingServer, embedder: OpenAIEmbedder, data: Any) -> None:
    server.script = [Answer(body={"data": data})]
    with pytest.raises(ProviderError, match="test-model"):
        embedder.embed(["one", TEXT])
    assert len(server.requests) == 1


def test_answer_that_is_not_json_is_an_error(server: EmbeddingServer, embedder: OpenAIEmbedder) -> None:
    server.script = [Answer(body=b"<html>")]
    with pytest.raises(ProviderError, match="not JSON"):
        embedder.embed([TEXT])


@pytest.mark.parametrize(
    "failure", [refuse(401), refuse(400, code=f"{TEXT} is bad"), refuse(503), Answer(body=TEXT.encode())],
    ids=["401", "400", "503", "not json"],
)  # fmt: skip
def test_errors_show_neither_key_nor_text(server: EmbeddingServer, embedder: OpenAIEmbedder, failure: Answer) -> None:
    server.script = [failure] * 9
    with pytest.raises(ProviderError) as caught:
        embedder.embed([TEXT])
    error: BaseException | None = caught.value
    while error is not None:
        assert KEY not in str(error)
        assert TEXT not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_password_in_the_base_url_is_not_shown() -> None:
    with (
        OpenAIEmbedder("http://me:hunter2@127.0.0.1:9/v1", "m", 4, retries=0) as embedder,
        pytest.raises(ProviderUnavailableError) as caught,
    ):
        embedder.embed([TEXT])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://example.test", "no url at all", "http://host:port"])
def test_unusable_base_url_is_final(url: str) -> None:
    with (
        OpenAIEmbedder(url, "m", 4, sleep=lambda _: pytest.fail("tried again")) as embedder,
        pytest.raises(ProviderError, match="MEMORY_EMBEDDING_BASE_URL"),
    ):
        embedder.embed([TEXT])


def test_key_that_no_header_can_carry_is_refused_unseen() -> None:
    with pytest.raises(SettingsError) as caught:
        OpenAIEmbedder("http://127.0.0.1:9", "m", 4, "sk-secret\n")
    assert "sk-secret" not in str(caught.value)


def test_texts_that_cannot_be_sent_are_refused_by_position(server: EmbeddingServer, embedder: OpenAIEmbedder) -> None:
    with pytest.raises(ProviderError, match="Text 1 of 2 is empty"):
        embedder.embed(["fine", ""])
    with pytest.raises(ProviderError, match="Text 0 of 1"):
        embedder.embed(["\udc00"])
    assert server.requests == []


def test_chunks_fit_the_window_in_bytes(embedder: OpenAIEmbedder) -> None:
    text = "Naïve café talk, 漢字 and all. " * 2000
    pieces = embedder.chunk(text)
    assert "".join(pieces) == text
    assert all(len(piece.encode()) <= 8191 and piece.endswith(". ") for piece in pieces)
    assert embedder.chunk("short") == ["short"]

"""Embedder for any endpoint that speaks OpenAI's `POST /embeddings`: OpenAI, a gateway, or one's own model server."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
import numpy.typing as npt
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from memory_pipeline.model.errors import ProviderError, ProviderUnavailableError, SettingsError
from memory_pipeline.model.usage import UsageMeter
from memory_pipeline.providers.base import Vectors
from memory_pipeline.providers.chunking import split_by_bytes
from memory_pipeline.providers.vectors import require_encodable, unit_vectors

_TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_REMEDIES = {
    401: "Check MEMORY_EMBEDDING_API_KEY.",
    403: "The key may not use this model: check MEMORY_EMBEDDING_API_KEY and MEMORY_EMBEDDING_MODEL.",
    404: "Check MEMORY_EMBEDDING_BASE_URL and MEMORY_EMBEDDING_MODEL.",
    429: "The account's quota is spent.",
}
"""Refusals that would meet any text, and what to do about them."""
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CONNECT_SECONDS = 10.0
_MOST_TOKENS = 10**12


class _TransientError(Exception):
    """The same request may be answered later; `retry_after` is the wait in seconds that the server asked for."""

    def __init__(self, what: str, retry_after: float | None = None) -> None:
        super().__init__(what)
        self.retry_after = retry_after


class OpenAIEmbedder:
    """One model of one OpenAI-compatible endpoint. Safe to use from several threads; `close` it, or use it in `with`.

    `dimension` is what the model answers with; it is sent along only with `request_dimension`, since few models can be
    asked for another. `retries` come after the first try, waiting `backoff_seconds`, then twice that, and so on, with
    jitter, but never more than `max_wait_seconds`, not even where the server asks for it. Tokens are counted as bytes
    of UTF-8, of which a token of a byte-level or SentencePiece vocabulary has at least one: an upper bound that needs
    no tokenizer.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        dimension: int,
        api_key: str | None = None,
        *,
        request_dimension: bool = False,
        max_input_tokens: int = 8191,
        max_request_inputs: int = 2048,
        max_request_tokens: int = 300_000,
        timeout_seconds: float = 60.0,
        retries: int = 3,
        backoff_seconds: float = 1.0,
        max_wait_seconds: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            # Said here, because the client's own complaint would show the key.
            raise SettingsError(
                "MEMORY_EMBEDDING_API_KEY holds a character that an HTTP header can't carry (a line break, perhaps). "
                "Set it again."
            )
        self._url = base_url.rstrip("/") + "/embeddings"
        self._model = model
        self._dimension = dimension
        self._request_dimension = request_dimension
        self._max_input_tokens = max_input_tokens
        self._max_request_inputs = max_request_inputs
        self._max_request_tokens = max_request_tokens
        self._retries = retries
        self._backoff = wait_exponential_jitter(initial=backoff_seconds, max=max_wait_seconds, jitter=backoff_seconds)
        self._max_wait_seconds = max_wait_seconds
        self._sleep = sleep
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, _CONNECT_SECONDS)),
        )

    @property
    def model(self) -> str:
        return self._model

    @property
    def dimension(self) -> int:
        return self._dimension

    def chunk(self, text: str) -> list[str]:
        """Split `text` into pieces of at most `max_input_tokens` bytes, at sentence ends, else white space.

        Joined, the pieces are `text`. English has about four bytes to a token, so its pieces fill a quarter.
        """
        require_encodable([text], self._model)
        return split_by_bytes(text, self._max_input_tokens)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, shape (texts, dimension), in as many requests as the limits ask for.

        Raises ProviderUnavailableError where the endpoint can't be used, whatever the text: unreachable or overloaded
        through all retries, wrong key or model, quota spent. Raises ProviderError where it refused these texts, or
        answered other than with one finite vector of the dimension per text.
        """
        return self.embed_metered(texts, UsageMeter())

    def embed_metered(self, texts: Sequence[str], meter: UsageMeter) -> Vectors:
        """As `embed`, and count on `meter` each request that was answered, with the tokens the answer speaks of.

        A refusal is not charged, so it does not count; an answer that can't be used is, and does.
        """
        require_encodable(texts, self._model)
        for position, text in enumerate(texts):
            if not text:
                raise ProviderError(f"Text {position} of {len(texts)} is empty, which {self._model} refuses to embed.")
        if not texts:
            return np.zeros((0, self._dimension), dtype=np.float32)
        return np.concatenate([self._request(batch, meter) for batch in self._batches(texts)])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _batches(self, texts: Sequence[str]) -> Iterator[list[str]]:
        batch: list[str] = []
        tokens = 0
        for text in texts:
            size = len(text.encode())
            if batch and (len(batch) == self._max_request_inputs or tokens + size > self._max_request_tokens):
                yield batch
                batch, tokens = [], 0
            batch.append(text)
            tokens += size
        yield batch

    def _request(self, batch: list[str], meter: UsageMeter) -> Vectors:
        retrying = Retrying(
            stop=stop_after_attempt(self._retries + 1),
            wait=self._wait,
            retry=retry_if_exception_type(_TransientError),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            answer = retrying(self._post, batch)
        except _TransientError as error:
            raise ProviderUnavailableError(
                f"{self._where()} did not embed {len(batch)} texts in {self._retries + 1} tries: {error}. "
                "Nothing was stored; the same call may succeed later."
            ) from error
        meter.add(_prompt_tokens(answer))
        return unit_vectors(self._rows(answer, len(batch)), len(batch), self._dimension, self._where())

    def _wait(self, state: RetryCallState) -> float:
        asked = None
        if state.outcome is not None and isinstance(error := state.outcome.exception(), _TransientError):
            asked = error.retry_after
        return min(max(self._backoff(state), asked or 0.0), self._max_wait_seconds)

    def _post(self, batch: list[str]) -> Any:
        body: dict[str, Any] = {"model": self._model, "input": batch, "encoding_format": "float"}
        if self._request_dimension:
            body["dimensions"] = self._dimension
        try:
            response = self._client.post(self._url, json=body)
        except httpx.TimeoutException as error:
            raise _TransientError(f"no answer in time ({type(error).__name__})") from error
        except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError) as error:
            raise _TransientError(f"the connection failed ({type(error).__name__})") from error
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise ProviderUnavailableError(
                f"{self._where()} can't be called ({type(error).__name__}). Check MEMORY_EMBEDDING_BASE_URL."
            ) from error
        if response.status_code != 200:
            self._raise_for(response)
        try:
            return response.json()
        except ValueError:
            raise ProviderError(f"{self._where()} answered 200 with something that is not JSON.") from None

    def _raise_for(self, response: httpx.Response) -> None:
        """Raise what the status means. Only the error code is told: the rest may repeat the text or the key."""
        code = _error_code(response)
        what = f"it answered {response.status_code}" + (f" ({code})" if code else "")
        # OpenAI answers 429 both for "slow down" and for "your money is spent"; only the first passes by itself.
        if response.status_code in _TRANSIENT_STATUS and code != "insufficient_quota":
            raise _TransientError(what, _retry_after(response))
        remedy = _REMEDIES.get(response.status_code)
        if remedy is not None:
            raise ProviderUnavailableError(f"{self._where()} refused: {what}. {remedy}")
        raise ProviderError(f"{self._where()} refused these texts: {what}. It was not asked again.")

    def _rows(self, answer: Any, count: int) -> npt.NDArray[np.float64]:
        """Return the vectors in the order of the texts, shape (count, dimension), whatever order they came in."""
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
            raise ProviderError(f'{self._where()} answered without a list "data" of vectors.')
        by_index = {item.get("index"): item.get("embedding") for item in data if isinstance(item.get("index"), int)}
        if len(data) != count or set(by_index) != set(range(count)):
            raise ProviderError(
                f"{self._where()} answered {count} texts with {len(data)} vectors, or numbered them other than 0 to "
                f"{count - 1}, so it can't be told which vector belongs to which text."
            )
        return np.stack([self._row(by_index[position]) for position in range(count)])

    def _row(self, embedding: Any) -> npt.NDArray[np.float64]:
        try:
            row = np.array(embedding)
        except ValueError:  # lists of unequal length
            row = np.array(None)
        if row.dtype.kind not in "iuf":
            raise ProviderError(f"{self._where()} answered with a vector that is not a list of numbers.")
        if row.shape != (self._dimension,):
            raise ProviderError(
                f"{self._where()} answered with a vector of shape {row.shape}; dimension {self._dimension} was "
                "expected. Check MEMORY_EMBEDDING_MODEL and MEMORY_EMBEDDING_DIMENSION."
            )
        return row.astype(np.float64)

    def _where(self) -> str:
        return f"Embedding model {self._model} at {_host(self._url)}"


def _host(url: str) -> str:
    """Return host and port of `url`: never its user, password or query, which may be secret."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "an address that is no URL"
    return parsed.netloc.decode("ascii")


def _prompt_tokens(answer: Any) -> int | None:
    """Return how many tokens an answer says it is charged for; None where it says nothing that can be believed."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    believable = isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens <= _MOST_TOKENS
    return tokens if believable else None


def _error_code(response: httpx.Response) -> str | None:
    try:
        body = response.json()
    except ValueError:  # something before the service answered; its status is told all the same
        return None
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return None
    codes = (error.get("code"), error.get("type"))
    return next((code for code in codes if isinstance(code, str) and _CODE.fullmatch(code)), None)


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that `Retry-After` asks for, given as a number or as a date (RFC 9110 §10.2.3)."""
    value = response.headers.get("Retry-After", "").strip()
    if not value:
        return None
    if value.isascii() and value.replace(".", "", 1).isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # neither seconds nor a date: the waiting time is ours to choose
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())

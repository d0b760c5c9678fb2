"""The public keys of one issuer: read from its JWKS address or file, cached, read again for a key id not known.

While the address is away, known keys go on working for a day. What a key id not known means then nobody can say: the
answer is StoreUnavailableError (503, try again), not a refusal that would log honest users out.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import structlog

from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.serving.issuers import KEY_OF_ALGORITHM, Issuer, is_loopback

_LIFETIME_SECONDS = 3600.0
_FILE_LIFETIME_SECONDS = 60.0
_STALE_SECONDS = 86_400.0
"""How long keys are trusted that could not be read again."""
_PAUSE_SECONDS = 10.0
"""Between two reads: tokens with made-up key ids must not cost the issuer a request each."""
_WAIT_SECONDS = 1.0
"""How long a request waits for a read that another one has under way."""
_CONNECT_SECONDS = 2.0
_READ_SECONDS = 5.0
_MAX_BYTES = 500_000
_MIN_RSA_BITS = 2048
_MAX_KEY_ID_CHARACTERS = 200
# The parts of a public key; whatever else an entry holds (such as a private exponent) is left out.
_PUBLIC = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x")}

_Keys = dict[tuple[str | None, str], jwt.PyJWK]


class _UnreadableError(Exception):
    """A JWKS could not be had, or holds no key that fits."""


class SigningKeys:
    """The keys of one issuer; shared by all threads."""

    def __init__(self, issuer: Issuer, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: _Keys = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._failure: str | None = None

    def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key that verifies tokens of this key id and algorithm; None where the issuer has none.

        A token without key id is verified with the one key for its algorithm, where there is exactly one. Raises
        StoreUnavailableError where the key is not known and the issuer can't be asked.
        """
        self._keep_fresh()
        key = self._known(key_id, algorithm)
        if key is None:
            certain = self._read_again(_WAIT_SECONDS)
            key = self._known(key_id, algorithm)
            if key is None and not certain:
                raise StoreUnavailableError(
                    f"the keys of {self._issuer.issuer} can't be read, and the token's key is not known: "
                    f"{self._failure or 'they are being read right now'}. Try again in some seconds."
                )
        return key

    def _known(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        if self._read_at is None or self._clock() - self._read_at > _STALE_SECONDS:
            return None
        keys = self._keys
        if key_id is not None:
            return keys.get((key_id, algorithm))
        fitting = [key for (_, name), key in keys.items() if name == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    def _keep_fresh(self) -> None:
        """Read keys again whose lifetime is over. Nobody waits for an address: what is known serves meanwhile."""
        if self._read_at is None:
            return
        age = self._clock() - self._read_at
        if self._issuer.jwks_file is not None:
            if age > _FILE_LIFETIME_SECONDS:
                self._read_again(0)
        elif age > _LIFETIME_SECONDS and not self._is_pausing():
            threading.Thread(target=self._read_again, args=(0,), name="signing-keys", daemon=True).start()

    def _is_pausing(self) -> bool:
        return self._tried_at is not None and self._clock() - self._tried_at < _PAUSE_SECONDS

    def _read_again(self, wait: float) -> bool:
        """Read the keys unless that was tried a moment ago; return whether they are the issuer's present ones."""
        if not (self._lock.acquire(timeout=wait) if wait else self._lock.acquire(blocking=False)):
            return False
        try:
            if not self._is_pausing():
                self._tried_at = self._clock()
                try:
                    self._keys = _usable_keys(self._issuer, _read(self._issuer))
                except _UnreadableError as error:
                    self._failure = str(error)
                    structlog.get_logger().warning("jwks_unreadable", issuer=self._issuer.issuer, error=self._failure)
                else:
                    self._read_at = self._clock()
                    self._failure = None
            return self._failure is None
        finally:
            self._lock.release()


def _read(issuer: Issuer) -> bytes:
    if issuer.jwks_file is not None:
        try:
            return Path(issuer.jwks_file).read_bytes()
        except OSError as error:
            raise _UnreadableError(f"{issuer.jwks_file}: {error.strerror}") from error
    assert issuer.jwks_uri is not None  # read_issuers took care
    try:
        return _fetch(issuer.jwks_uri)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _UnreadableError(f"{issuer.jwks_uri}: {error or type(error).__name__}") from error


def _fetch(uri: str) -> bytes:
    """Return what the address answers: not redirected, in bounded time, of bounded size."""
    deadline = time.monotonic() + _READ_SECONDS
    body = bytearray()
    timeout = httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS)
    # A proxy from the environment is for the world outside.
    trust_env = not is_loopback(urlsplit(uri).hostname or "")
    with (
        httpx.Client(timeout=timeout, trust_env=trust_env, follow_redirects=False) as client,
        client.stream("GET", uri, headers={"Accept": "application/json"}) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise _UnreadableError(f"{uri} answered {response.status_code}")
        for piece in response.iter_bytes():
            body += piece
            if len(body) > _MAX_BYTES:
                raise _UnreadableError(f"{uri} answered more than {_MAX_BYTES:,} bytes")
            if time.monotonic() > deadline:
                raise _UnreadableError(f"{uri} took longer than {_READ_SECONDS:.0f} s")
    return bytes(body)


def _usable_keys(issuer: Issuer, document: bytes) -> _Keys:
    """Return the keys of a JWKS that verify signatures of the issuer's algorithms. The first of a key id counts."""
    try:
        entries = json.loads(document)["keys"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise _UnreadableError("what it answers is not a JWKS") from error
    keys: _Keys = {}
    for entry in entries if isinstance(entries, list) else []:
        for algorithm in issuer.algorithms:
            key = _key(entry, algorithm, issuer)
            if key is not None:
                key_id = entry.get("kid")
                keys.setdefault((key_id if isinstance(key_id, str) else None, algorithm), key)
    if not keys:
        raise _UnreadableError(f"its JWKS holds no key for {', '.join(issuer.algorithms)}")
    return keys


def _key(entry: Any, algorithm: str, issuer: Issuer) -> jwt.PyJWK | None:
    """Return the key of a JWKS entry where it is meant for signatures of `algorithm`, else None.

    One that is meant for them and can't be used is told: the issuer's tokens of that key are refused.
    """
    if not isinstance(entry, dict):
        return None
    kind, curves = KEY_OF_ALGORITHM[algorithm]
    fits = (
        entry.get("kty") == kind
        and (not curves or entry.get("crv") in tuple(curves))
        and entry.get("use", "sig") == "sig"
        and entry.get("alg", algorithm) == algorithm
        and "verify" in entry.get("key_ops", ("verify",))
    )
    if not fits:
        return None
    try:
        key = jwt.PyJWK({name: entry[name] for name in _PUBLIC[kind]}, algorithm)
    except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
        _tell_unusable(entry, algorithm, issuer, f"{type(error).__name__}: {error}")
        return None
    if kind == "RSA" and key.key.key_size < _MIN_RSA_BITS:
        _tell_unusable(entry, algorithm, issuer, f"it has {key.key.key_size} bits, fewer than {_MIN_RSA_BITS}")
        return None
    return key


def _tell_unusable(entry: dict[str, Any], algorithm: str, issuer: Issuer, problem: str) -> None:
    key_id = str(entry.get("kid"))[:_MAX_KEY_ID_CHARACTERS]
    structlog.get_logger().warning(
        "jwks_key_unusable", issuer=issuer.issuer, key_id=key_id, algorithm=algorithm, problem=problem
    )

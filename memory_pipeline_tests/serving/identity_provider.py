"""An identity provider of the tests: keys, tokens signed with them, and its JWKS on localhost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from memory_pipeline.serving.issuers import Issuer

ISSUER = "https://login.example.org/"
AUDIENCE = "memory-api"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class SigningKey:
    """A private key with its id, and the JWKS entry of its public half."""

    def __init__(self, key_id: str, algorithm: str = "ES256", *, bits: int = 2048) -> None:
        self.key_id = key_id
        self.algorithm = algorithm
        self.private: PrivateKey
        self.entry: dict[str, Any]
        if algorithm == "EdDSA":
            self.private = ed25519.Ed25519PrivateKey.generate()
            self.entry = OKPAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        elif algorithm.startswith("ES"):
            curve = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}[algorithm]
            self.private = ec.generate_private_key(curve)
            self.entry = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        else:
            self.private = rsa.generate_private_key(65537, bits)
            self.entry = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        self.entry["kid"] = key_id

    def sign(self, headers: dict[str, Any] | None = None, /, **claims: Any) -> str:
        """Return a token that is good but for what `claims` and `headers` change; None leaves one out."""
        now = int(time.time())
        payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": "subject-1", "iat": now, "exp": now + 600} | claims
        payload = {name: value for name, value in payload.items() if value is not None}
        header = {"kid": self.key_id} | (headers or {})
        header = {name: value for name, value in header.items() if value is not None}
        return jwt.encode(payload, self.private, algorithm=self.algorithm, headers=header)


class JwksServer(ThreadingHTTPServer):
    """Serves the JWKS of `keys` at `url`, and counts how often it was asked."""

    daemon_threads = True

    def __init__(self, *keys: SigningKey) -> None:
        self.keys = list(keys)
        self.asked = 0
        self.status = 200
        self.location: str | None = None
        self.body: bytes | None = None
        """Instead of the keys."""
        self.hold = threading.Event()
        """Answers wait until it is set."""
        self.hold.set()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/jwks.json"


class _Handler(BaseHTTPRequestHandler):
    server: JwksServer

    def do_GET(self) -> None:
        self.server.asked += 1
        self.server.hold.wait(10)
        body = self.server.body
        if body is None:
            body = json.dumps({"keys": [key.entry for key in self.server.keys]}).encode()
        self.send_response(self.server.status)
        if self.server.location is not None:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output quiet."""


@contextmanager
def jwks_server(*keys: SigningKey) -> Iterator[JwksServer]:
    """Run a JWKS server for as long as this lasts."""
    server = JwksServer(*keys)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


def issuer_at(jwks_uri: str, *, issuer: str = ISSUER, algorithms: tuple[str, ...] = ("ES256",), **more: Any) -> Issuer:
    return Issuer(issuer=issuer, audience=AUDIENCE, algorithms=algorithms, jwks_uri=jwks_uri, **more)

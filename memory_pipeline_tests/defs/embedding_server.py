"""An OpenAI-compatible embedding endpoint on localhost: every text has one vector, which depends on the text alone."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DIMENSION = 8


class EmbeddingServer(ThreadingHTTPServer):
    """Serves POST /v1/embeddings until it is shut down."""

    daemon_threads = True

    def __init__(self) -> None:
        self.refuses = False
        """Answer 401, as an endpoint does where the key was revoked."""
        self.refused_text: str | None = None
        """Answer 400 to a request with this in one of its texts, as an endpoint does that refuses a text."""
        self.counts_tokens = False
        """Say how many tokens a request is charged for: one for every four bytes of its texts, rounded up."""
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


def vector_of(text: str) -> list[float]:
    return [float(byte) + 1 for byte in hashlib.sha256(text.encode()).digest()[:DIMENSION]]


class _Handler(BaseHTTPRequestHandler):
    server: EmbeddingServer

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        refused = self.server.refused_text
        status = 401 if self.server.refuses else 200
        if refused is not None and any(refused in text for text in request["input"]):
            status = 400
        data = [{"index": n, "embedding": vector_of(text)} for n, text in enumerate(request["input"])]
        answer = {"data": data, "model": request["model"]}
        if self.server.counts_tokens:
            tokens = -(-sum(len(text.encode()) for text in request["input"]) // 4)
            answer["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output quiet."""

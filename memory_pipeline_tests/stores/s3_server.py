"""An object store on localhost that speaks as much of S3 as a publisher and its readers do; signatures are not checked.

It stands for a server elsewhere: PUT, GET (of ranges too), HEAD, DELETE, ListObjectsV2 in pages, uploads in parts. Its
objects can be looked at, damaged, and be taken away by tests; `before` is called with method and key of every request.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_PAGE = 7
"""Objects in a page of a listing: few, so that every listing has several."""


class S3Server(ThreadingHTTPServer):
    """The server with what it stores."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.buckets: dict[str, dict[str, bytes]] = {"bucket": {}}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.requests: list[tuple[str, str]] = []
        """Method and key."""
        self.before: Callable[[str, str], None] = lambda method, key: None
        self.refused: set[str] = set()
        """Methods that are answered with AccessDenied."""
        self.lock = threading.RLock()

    @property
    def objects(self) -> dict[str, bytes]:
        """The objects of the bucket by key, without the empty ones that clients make for folders."""
        with self.lock:
            return {key: content for key, content in self.buckets["bucket"].items() if not key.endswith("/")}

    def url(self, path: str = "bucket/lake") -> str:
        return f"s3://{path}?endpoint_override=http://127.0.0.1:{self.server_port}&region=eu-west-1"


@contextmanager
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: S3Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self._body()
        self.server.requests.append((self.command, key))
        self.server.before(self.command, key)
        with self.server.lock:
            if bucket not in self.server.buckets:
                self._refuse(404, "NoSuchBucket")
            elif self.command in self.server.refused:
                self._refuse(403, "AccessDenied")
            elif self.command == "GET" and not key:
                self._list(self.server.buckets[bucket], query)
            else:
                self._object(self.server.buckets[bucket], key, query, body)

    def _object(self, objects: dict[str, bytes], key: str, query: dict[str, str], body: bytes) -> None:
        uploads, upload = self.server.uploads, query.get("uploadId", "")
        if self.command == "POST" and "uploads" in query:
            uploads[f"upload-{len(uploads)}"] = {}
            self._send(200, _xml("InitiateMultipartUploadResult", f"<UploadId>upload-{len(uploads) - 1}</UploadId>"))
        elif self.command == "PUT" and upload:
            uploads[upload][int(query["partNumber"])] = body
            self._send(200, b"", ETag=_etag(body))
        elif self.command == "POST" and upload:
            objects[key] = b"".join(content for _, content in sorted(uploads.pop(upload).items()))
            self._send(200, _xml("CompleteMultipartUploadResult", f"<Key>{escape(key)}</Key>"))
        elif self.command == "DELETE":
            if upload:
                uploads.pop(upload)
            else:
                objects.pop(key, None)
            self._send(204, b"")
        elif self.command == "PUT":
            objects[key] = body
            self._send(200, b"", ETag=_etag(body))
        elif self.command in ("GET", "HEAD") and not key:
            self._send(200, b"")
        elif self.command in ("GET", "HEAD") and key in objects:
            self._send_object(objects[key])
        else:
            self._refuse(404, "NoSuchKey")

    def _send_object(self, content: bytes) -> None:
        asked = self.headers.get("Range")
        if asked is None:
            self._send(200, content, ETag=_etag(content))
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(content)) + 1, len(content))
        where = f"bytes {start}-{end - 1}/{len(content)}"
        self._send(206, content[start:end], **{"Content-Range": where, "ETag": _etag(content)})

    def _list(self, objects: dict[str, bytes], query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token", "")
        entries: dict[str, str] = {}
        for key in sorted(key for key in objects if key.startswith(prefix)):
            inner, slash, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else (key, "", "")
            if slash:
                name = f"{prefix}{inner}{slash}"
                entries[name] = f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            else:
                entries[key] = (
                    f"<Contents><Key>{escape(key)}</Key><Size>{len(objects[key])}</Size>"
                    f"<LastModified>2025-03-01T00:00:00.000Z</LastModified></Contents>"
                )
        names = [name for name in sorted(entries) if name > after][: min(_PAGE, int(query.get("max-keys", _PAGE)))]
        more = bool(names) and names[-1] < max(entries)
        head = f"<IsTruncated>{str(more).lower()}</IsTruncated><KeyCount>{len(names)}</KeyCount>"
        if more:
            head += f"<NextContinuationToken>{escape(names[-1])}</NextContinuationToken>"
        self._send(200, _xml("ListBucketResult", head + "".join(entries[name] for name in names)))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(_chunks(self.rfile))
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "aws-chunked":  # pieces once more, with a checksum behind the last
            return b"".join(_chunks(io.BytesIO(body)))
        return body

    def _send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())


def _chunks(stream: io.BufferedIOBase) -> Iterator[bytes]:
    """Yield what comes as `SIZE;extensions CRLF content CRLF`, up to a size of 0 and the lines that follow it."""
    while size := int(stream.readline().split(b";")[0], 16):
        yield stream.read(size)
        stream.readline()
    while stream.readline().strip():
        pass


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _xml(name: str, content: str) -> bytes:
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<?xml version="1.0" encoding="UTF-8"?><{name} xmlns="{space}">{content}</{name}>'.encode()

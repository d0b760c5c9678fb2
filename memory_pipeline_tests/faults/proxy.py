"""A TCP proxy that breaks: what lies between a client and Postgres, Redis or Chroma, under a test's control.

    with TcpProxy(settings.postgres_app_url) as proxy, Database(proxy.url) as database:
        proxy.cut()

It listens on a port of its own, which stays its own while it refuses, and forwards to the server of any URL that the
stores take, a Unix socket included.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
"""How psycopg ends a transaction: one message of the Postgres protocol, and it comes alone."""
_RESET = struct.pack("ii", 1, 0)
_DEFAULT_PORTS = {"postgresql": 5432, "redis": 6379, "http": 80}


class TcpProxy:
    """`url` leads to the server of `target_url`; until told otherwise everything is forwarded.

    The methods may be called at any time from any thread; they hold for what happens from then on.
    """

    def __init__(self, target_url: str) -> None:
        self._family, self._target = _address(target_url)
        # Bound and never listening: keeps the port from others while nothing listens on it.
        self._holder = _bound(0)
        self.port: int = self._holder.getsockname()[1]
        self.url = _redirected(target_url, self.port)
        self.accepted = 0
        """Connections taken so far. What is refused is not counted: the kernel does that."""
        self.lost = 0
        """Requests and replies lost on demand so far."""
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._links: list[_Link] = []
        self._swallowing = False
        self._delay_seconds = 0.0
        self._request_to_lose: bytes | None = None
        self._reply_to_lose: bytes | None = None

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.refuse()
        self.cut()
        for link in self._links:
            link.wake()
        for thread in self._threads:
            thread.join()
        self._holder.close()

    # -- what may go wrong --

    def forward(self) -> None:
        """Let new connections through at once. What `black_hole` swallowed stays lost, as are its connections."""
        self._swallowing = False
        self._delay_seconds = 0.0
        self._listen()

    def cut(self) -> None:
        """Reset every open connection, on both sides."""
        with self._lock:
            for link in self._links:
                link.reset()

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            # Wakes the thread that waits in accept, which closing would not.
            listener.shutdown(socket.SHUT_RDWR)

    def black_hole(self) -> None:
        """Take every connection, and let not one byte through any, old or new, in either direction, nor an end."""
        with self._lock:
            self._swallowing = True
            for link in self._links:
                link.swallowed = True
        self._listen()

    def delay(self, seconds: float) -> None:
        """Hold back every piece of data for `seconds`, in both directions."""
        self._delay_seconds = seconds

    def lose_request(self, pattern: bytes = COMMIT) -> None:
        """Cut the connection that next sends `pattern` before the server has seen it. Once."""
        self._request_to_lose = pattern

    def lose_reply(self, pattern: bytes = COMMIT) -> None:
        """Cut the connection that next sends `pattern` when the server's answer to it has come. Once."""
        self._reply_to_lose = pattern

    # -- inside --

    def _listen(self) -> None:
        with self._lock:
            if self._listener is not None:
                return
            self._listener = listener = _bound(self.port)
            listener.listen(128)
            self._start(self._accept, listener)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="tcp-proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:  # told to refuse
                    return
                self.accepted += 1
                with self._lock:
                    if listener is self._listener:
                        self._open(client)
                    else:
                        _reset(client)

    def _open(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = None
        if not self._swallowing:
            server = socket.socket(self._family, socket.SOCK_STREAM)
            try:
                server.connect(self._target)
            except OSError:
                server.close()
                _reset(client)
                return
        link = _Link(client, server)
        self._links.append(link)
        self._start(self._requests, link)
        if server is not None:
            self._start(self._replies, link, server)

    def _requests(self, link: _Link) -> None:
        with link.client:
            while data := _receive(link.client):
                self._wait()
                if link.swallowed:
                    continue
                if self._request_to_lose is not None and self._request_to_lose in data:
                    self._request_to_lose = None
                    self.lost += 1
                    link.reset()
                    break
                if self._reply_to_lose is not None and self._reply_to_lose in data:
                    self._reply_to_lose = None
                    link.answer_is_lost = True
                if link.server is not None:
                    _send(link.server, data)
            link.end(link.server)

    def _replies(self, link: _Link, server: socket.socket) -> None:
        with server:
            while data := _receive(server):
                self._wait()
                if link.swallowed:
                    continue
                if link.answer_is_lost:
                    self.lost += 1
                    link.reset()
                    break
                _send(link.client, data)
            link.end(link.client)

    def _wait(self) -> None:
        if self._delay_seconds:
            time.sleep(self._delay_seconds)


class _Link:
    """One connection through the proxy; `server` is None where it never got further than here."""

    def __init__(self, client: socket.socket, server: socket.socket | None) -> None:
        self.client = client
        self.server = server
        self.swallowed = server is None
        self.answer_is_lost = False
        self._was_reset = False

    def reset(self) -> None:
        """Have both ends see a reset: their threads wake up and close what will not linger."""
        self._was_reset = True
        for end in (self.client, self.server):
            if end is not None:
                with contextlib.suppress(OSError):  # closed by its thread meanwhile
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    end.shutdown(socket.SHUT_RD)

    def wake(self) -> None:
        """Wake a thread that can't get its data off, too."""
        for end in (self.client, self.server):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def end(self, other: socket.socket | None) -> None:
        """One side has ended: so does the other, unless it is to be reset or nobody is to hear of it."""
        if other is not None and not self.swallowed and not self._was_reset:
            with contextlib.suppress(OSError):
                other.shutdown(socket.SHUT_RDWR)


def _receive(end: socket.socket) -> bytes:
    try:
        return end.recv(65_536)
    except OSError:
        return b""


def _send(end: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # its own thread sees the end of it
        end.sendall(data)


def _reset(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    end.close()


def _bound(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _address(url: str) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    port = parts.port or int(query.get("port", _DEFAULT_PORTS[parts.scheme]))
    host = parts.hostname or query["host"]
    if host.startswith("/"):
        return socket.AF_UNIX, f"{host}/.s.PGSQL.{port}"
    return socket.AF_INET, (host, port)


def _redirected(url: str, port: int) -> str:
    """The same URL with the proxy's address in the place of the server's."""
    parts = urlsplit(url)
    credentials, at, _host = parts.netloc.rpartition("@")
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in ("host", "port")]
    place = f"{credentials}{at}127.0.0.1:{port}"
    return urlunsplit((parts.scheme, place, parts.path, urlencode(query, quote_via=quote), parts.fragment))

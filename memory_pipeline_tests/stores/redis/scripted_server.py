"""A server on localhost that speaks Redis' protocol and answers one command from a script: for versions not at hand."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

OK = b"+OK\r\n"


class ScriptedServer(socketserver.ThreadingTCPServer):
    """Answers `command` with the next of `answers`, and everything else with OK."""

    daemon_threads = True

    def __init__(self, command: str, answers: list[bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.command = command.encode()
        self.answers = answers
        self.seen: list[list[bytes]] = []

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.server_address[1]}"

    def commands(self, name: str) -> list[list[bytes]]:
        return [words for words in self.seen if words[0] == name.encode()]

    def answer(self, words: list[bytes]) -> bytes:
        self.seen.append(words)
        return self.answers.pop(0) if words[0] == self.command else OK


class _Connection(socketserver.StreamRequestHandler):
    server: ScriptedServer

    def handle(self) -> None:
        while head := self.rfile.readline():
            words = []
            for _ in range(int(head[1:])):
                length = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(length + 2)[:-2])
            self.wfile.write(self.server.answer(words))


@contextmanager
def scripted(command: str, *answers: bytes) -> Iterator[ScriptedServer]:
    """Serve while the block runs."""
    with ScriptedServer(command, list(answers)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()

"""Embedded Chroma: the server inside the installed `chromadb`, run as our child.

Always a server, also on one machine: two processes with a client on the same directory corrupt it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from memory_pipeline.local.http_probe import answers_ok
from memory_pipeline.local.processes import Child, start_child
from memory_pipeline.local.tcp_server import TcpServer

# What the `chroma` command does, without importing all of chromadb first: up in 0.25 s rather than 2 s.
_CHROMA_COMMAND = "import sys, chromadb_rust_bindings; chromadb_rust_bindings.cli(['chroma', *sys.argv[1:]])"


class ChromaServer(TcpServer):
    """A Chroma server with its data in a folder of ours, on 127.0.0.1, open to every local user."""

    name = "Chroma"
    stop_signal = signal.SIGTERM

    def __init__(self, data_dir: Path, log: Path, *, port: int = 0) -> None:
        super().__init__(data_dir, log, port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def spawn(self) -> Child:
        # -P: nothing in the working directory is imported.
        command = [sys.executable, "-P", "-c", _CHROMA_COMMAND, "run", "--path", str(self.data_dir)]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        environment = os.environ | {"ANONYMIZED_TELEMETRY": "False"}
        return start_child("Chroma", command, self.log, death_signal=signal.SIGTERM, env=environment, cwd=self.data_dir)

    def answers(self) -> bool:
        """Its heartbeat."""
        return answers_ok(self.port, "/api/v2/heartbeat")

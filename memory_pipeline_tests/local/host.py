"""The servers of a test run: owned by the pytest process that outlives all workers, started when a test asks."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from memory_pipeline.local.accounts import reachable_home
from memory_pipeline.local.chroma import ChromaServer
from memory_pipeline.local.postgres import PostgresServer, socket_url
from memory_pipeline.local.redis import RedisServer

_PREFIX = "memory-tests-"
_REDIS_DATABASES = 256


@dataclass(frozen=True)
class Servers:
    """Where the servers of the test run are."""

    postgres_socket_dir: str
    redis_address: str
    chroma_url: str

    def postgres_url(self, user: str = "postgres", database: str = "postgres") -> str:
        return socket_url(Path(self.postgres_socket_dir), user, database)

    def redis_url(self, number: int = 0) -> str:
        return f"{self.redis_address}/{number}"


def ask_for_servers(address: str) -> Servers:
    """From any process of the run. Raises RuntimeError with the reason if the servers did not start."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(address)
        answer = json.loads(b"".join(iter(lambda: connection.recv(4096), b"")))
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return Servers(**answer)


class ServerHost:
    """Answers every process of the run with the servers' addresses; starts the servers at the first question."""

    def __init__(self) -> None:
        self.folder, self._lock = _new_folder()
        self.postgres = PostgresServer(
            self.folder / "postgres",
            self.folder / "socket",
            self.folder / "postgres.log",
            copies=self.folder / "lib",
            durable=False,
        )
        self.redis = RedisServer(self.folder / "redis", self.folder / "redis.log", databases=_REDIS_DATABASES)
        self.chroma = ChromaServer(self.folder / "chroma", self.folder / "chroma.log")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.address = str(self.folder / "servers.sock")
        self._listener.bind(self.address)
        os.chmod(self.address, 0o600)
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._serve, name="test-servers", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        answer: bytes | None = None
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed: the run is over
                return
            with connection:
                answer = answer or self._start()
                with contextlib.suppress(BrokenPipeError):  # the asker is gone
                    connection.sendall(answer)

    def _start(self) -> bytes:
        try:
            self.chroma.launch()
            self.redis.launch()
            self.postgres.start()
            self.redis.wait_ready()
            self.chroma.wait_ready()
        except Exception as error:  # noqa: BLE001  # told to the test that asked, which raises it
            return json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()
        servers = Servers(str(self.postgres.socket_dir), self.redis.url().rpartition("/")[0], self.chroma.url)
        return json.dumps(vars(servers)).encode()

    def close(self) -> None:
        """Stop whatever was started and remove its data."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        with contextlib.ExitStack() as stops:
            stops.callback(os.close, self._lock)
            stops.callback(shutil.rmtree, self.folder)
            for server in (self.postgres, self.redis, self.chroma):
                stops.callback(server.stop)


def _new_folder() -> tuple[Path, int]:
    """A new folder that the servers' account can pass, with the descriptor of its lock, which says that it is in use.
    Folders of runs that were killed are removed."""
    parent = reachable_home(Path(tempfile.gettempdir()), say=lambda line: None)
    for old in parent.glob(f"{_PREFIX}*"):
        if old.stat().st_uid == os.geteuid():
            _remove_if_unused(old)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    folder.chmod(0o711)
    # Locked before it has its name, so that nobody finds it unlocked.
    lock = os.open(folder / "lock.unfinished", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (folder / "lock.unfinished").rename(folder / "lock")
    return folder, lock


def _remove_if_unused(folder: Path) -> None:
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    except BlockingIOError:
        return
    finally:
        os.close(lock)

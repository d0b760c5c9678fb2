"""A server of ours that speaks HTTP, as our child: started, waited for, watched, stopped with all it started."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from memory_pipeline.local.http_probe import answers_ok
from memory_pipeline.local.processes import Child, descendants, kill_tree, listens_on, process_identity, start_child
from memory_pipeline.model.errors import StoreUnavailableError

_START_SECONDS = 120.0
_STOP_SECONDS = 30.0


class HttpChild:
    """A child process on 127.0.0.1 that is up once `path` answers 200. It and its own children are stopped as one."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        port: int,
        port_setting: str,
        path: str,
        env: Mapping[str, str],
        folder: Path | None = None,
        stop_seconds: float = _STOP_SECONDS,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.port = port
        self.port_setting = port_setting
        self.path = path
        self.env = dict(env)
        self.folder = folder
        self.stop_seconds = stop_seconds
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it without waiting. Raises StoreUnavailableError where the port is taken."""
        if _taken(self.port):
            raise StoreUnavailableError(
                f"port {self.port} of 127.0.0.1 is taken, so {self.name} can't have it: stop what listens there, "
                f"or set {self.port_setting} to another one."
            )
        self._child = start_child(self.name, self.command, self.log, env=os.environ | self.env, cwd=self.folder)

    def wait_ready(self) -> None:
        """Wait until it answers. Raises StoreUnavailableError with the end of its log."""
        assert self._child is not None, "start() comes first"
        try:
            self._child.wait_until(self._answers, _START_SECONDS)
        except StoreUnavailableError:
            self.stop()
            raise

    def require_running(self) -> None:
        """Raise StoreUnavailableError with the end of the log if it has ended."""
        if self._child is not None:
            self._child.identity()

    def stop(self) -> None:
        """End all of it; what has not ended by itself in time is killed."""
        if self._child is None:
            return
        below = [identity for pid in descendants(self._child.pid) if (identity := process_identity(pid)) is not None]
        self._child.stop(signal.SIGINT, self.stop_seconds)
        for identity in below:
            if identity.is_alive():
                kill_tree(identity.pid)
        self._child = None

    def _answers(self) -> bool:
        # Ours, not a stranger's server that took the port meanwhile.
        if self._child is None or not any(
            listens_on(pid, self.port) for pid in (self._child.pid, *descendants(self._child.pid))
        ):
            return False
        return answers_ok(self.port, self.path)


def _taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0

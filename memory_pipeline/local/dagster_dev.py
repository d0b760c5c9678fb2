"""The Dagster UI, daemon and code server (`dagster dev`) as our child."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from memory_pipeline.local.processes import Child, descendants, kill_tree, listens_on, process_identity, start_child
from memory_pipeline.model.errors import StoreUnavailableError

_START_SECONDS = 120.0
_STOP_SECONDS = 30.0


class DagsterDev:
    """`dagster dev` on 127.0.0.1. Its five processes are stopped as one: signal the first alone, and some stay."""

    def __init__(self, project: Path, log: Path, *, port: int, env: Mapping[str, str]) -> None:
        self.project = project
        self.log = log
        self.port = port
        self.env = dict(env)
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until the UI answers. Raises StoreUnavailableError with the end of its log."""
        if _taken(self.port):
            raise StoreUnavailableError(
                f"port {self.port} of 127.0.0.1 is taken, so the Dagster UI can't have it: stop what listens there, "
                "or set MEMORY_UI_PORT to another one."
            )
        command = [sys.executable, "-P", "-m", "dagster", "dev", "--workspace", str(self.project / "workspace.yaml")]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        self._child = start_child("Dagster", command, self.log, env=os.environ | self.env, cwd=self.project)
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
        self._child.stop(signal.SIGINT, _STOP_SECONDS)
        for identity in below:
            if identity.is_alive():
                kill_tree(identity.pid)
        self._child = None

    def _answers(self) -> bool:
        # Ours, not a stranger's server that took the port meanwhile.
        if self._child is None or not any(listens_on(pid, self.port) for pid in descendants(self._child.pid)):
            return False
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/server_info")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0

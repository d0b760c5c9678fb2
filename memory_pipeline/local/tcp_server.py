"""What the embedded Redis and Chroma have in common: a child that listens on one port of 127.0.0.1."""

from __future__ import annotations

import abc
import os
from pathlib import Path

from memory_pipeline.local.processes import Child, free_port, listens_on
from memory_pipeline.model.errors import StoreUnavailableError

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_PORT_TRIES = 5


class TcpServer(abc.ABC):
    """port 0: a free one, chosen at the first start and kept over restarts."""

    name: str
    stop_signal: int

    def __init__(self, data_dir: Path, log: Path, port: int) -> None:
        self.data_dir = Path(os.path.abspath(data_dir))
        self.log = log
        self.port = port
        self.child: Child | None = None
        self._may_change_port = port == 0

    @abc.abstractmethod
    def spawn(self) -> Child:
        """Start the process on `self.port` with its data in `self.data_dir`."""

    @abc.abstractmethod
    def answers(self) -> bool:
        """Whether the server on `self.port` is up; False, not an error, while it does not take connections."""

    def start(self) -> None:
        """Start the server and wait until it answers. Raises StoreUnavailableError with the end of its log."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """First half of `start`: the process runs, and may not answer yet."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._may_change_port:
            self.port = free_port()
        self.child = self.spawn()

    def wait_ready(self) -> None:
        """Second half of `start`: wait, and take another port if somebody else was faster on the chosen one."""
        for tries_left in reversed(range(_PORT_TRIES)):
            child = self.running()
            try:
                child.wait_until(self._ready, _START_SECONDS)
            except BaseException as error:
                ended = isinstance(error, StoreUnavailableError) and child.exit_code is not None
                self.stop()
                if not (ended and self._may_change_port and tries_left):
                    raise
                self.launch()
            else:
                self._may_change_port = False
                return

    def _ready(self) -> bool:
        # Ours, not a stranger's server on the same port.
        return listens_on(self.running().pid, self.port) and self.answers()

    def stop(self) -> None:
        """End it in good order; nothing happens if it does not run."""
        if self.child is not None:
            self.child.stop(self.stop_signal, _STOP_SECONDS)
            self.child = None

    def kill(self) -> None:
        """End it as a crash would; `start` brings it back on the same port."""
        if self.child is not None:
            self.child.kill()
            self.child = None

    def running(self) -> Child:
        if self.child is None:
            raise StoreUnavailableError(f"{self.name} has not been started.")
        return self.child

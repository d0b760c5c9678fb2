"""A thread that does small things again and again beside the requests: none of them may end it, or another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import structlog

from memory_pipeline.logs import places_of
from memory_pipeline.model.errors import MemoryPipelineError

log = structlog.get_logger()

_STOP_SECONDS = 10.0


class Chores:
    """Does every chore each `seconds`, one after the other, from `start` until `stop`. A chore that fails is logged."""

    def __init__(self, chores: Mapping[str, Callable[[], object]], seconds: float = 1.0) -> None:
        self._chores = dict(chores)
        self._seconds = seconds
        self._stop = threading.Event()
        self._failing: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="chores", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            for name, chore in self._chores.items():
                self._do(name, chore)

    def _do(self, name: str, chore: Callable[[], object]) -> None:
        try:
            chore()
        except Exception as error:  # noqa: BLE001 - whatever happened, the other chores and the next round go on
            # Told once, not every second while a store is away.
            if name not in self._failing:
                self._failing.add(name)
                # The text of a foreign error may quote a row.
                said = str(error) if isinstance(error, MemoryPipelineError) else places_of(error)
                log.error("chore_failed", chore=name, error=type(error).__name__, message=said)
        else:
            if name in self._failing:
                self._failing.discard(name)
                log.info("chore_well_again", chore=name)

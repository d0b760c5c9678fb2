"""Starting a child anew when it has ended, at growing intervals."""

from __future__ import annotations

import time
from collections.abc import Callable

from memory_pipeline.local.http_child import HttpChild
from memory_pipeline.model.errors import StoreUnavailableError

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
WELL_SECONDS = 120.0
"""A child that ran for so long was well: the pauses begin from the first again."""


class Restarts:
    """Keeps one child running. `look` is called every second or so, and never waits for the child."""

    def __init__(self, child: HttpChild, clock: Callable[[], float] = time.monotonic) -> None:
        """`child` is running. `clock` gives seconds."""
        self._child = child
        self._clock = clock
        self._pause = FIRST_PAUSE_SECONDS
        self._started_at = clock()
        self._start_at: float | None = None
        """When the child, which has ended, is to be started."""

    def look(self) -> str | None:
        """Start the child where it is time. Returns what there is to tell: that it has ended, why, and what follows."""
        now = self._clock()
        if self._start_at is None:
            try:
                self._child.require_running()
                return None
            except StoreUnavailableError as error:
                if now - self._started_at >= WELL_SECONDS:
                    self._pause = FIRST_PAUSE_SECONDS
                return self._later(now, error)
        if now < self._start_at:
            return None
        self._start_at, self._started_at = None, now
        try:
            # What it had started itself may have outlived it.
            self._child.stop()
            self._child.start()
        except StoreUnavailableError as error:
            return self._later(now, error)
        return None

    def _later(self, now: float, error: StoreUnavailableError) -> str:
        pause, self._pause = self._pause, min(LONGEST_PAUSE_SECONDS, 2 * self._pause)
        self._start_at = now + pause
        return f"{error}\n{self._child.name} is started anew in {pause:g} s."

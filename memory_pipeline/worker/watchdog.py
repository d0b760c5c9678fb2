"""Ends a process whose threads can't run any more.

C code that keeps the interpreter's lock (a regular expression with catastrophic backtracking) stops every thread, those
that renew leases and watch the slots too. The timer used here is a thread of C that needs no such lock.
"""

from __future__ import annotations

import faulthandler
import sys
from types import TracebackType
from typing import Self


class Watchdog:
    """A context manager. Who does not call `alive` for `seconds` ends with code 1, after the stacks of its threads.

    Stacks name places of the program only. A process that was suspended for so long ends too when it goes on: its
    leases are over.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> Self:
        self.alive()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        faulthandler.cancel_dump_traceback_later()

    def alive(self) -> None:
        """Say that threads run; to be called every second or so."""
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=sys.__stderr__ or sys.stderr)

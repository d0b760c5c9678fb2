"""A connection that never waits for ever on a server that has gone silent.

A slow statement and a dead server look the same to a client that waits for an answer. So after some seconds of silence
the server is asked on another connection what it is doing with this one: a statement that it works on is waited for as
long as it takes; what it does not work on, or a server that does not answer, is given up.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Generator
from enum import Enum
from typing import Any, NoReturn, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait

Value = TypeVar("Value")

SILENCE_SECONDS = 5.0
"""How long an answer may take before the server is asked; so often it is asked again."""
_GRACE_SECONDS = 2.0
"""How long an answer that the server says it has given may still be on its way."""
_PATIENCE_SECONDS = 20.0
"""How long to go on where the server can't be asked, for whatever reason, but refuses at once."""


class Answer(Enum):
    """What the server says of the statement that this connection waits for."""

    WORKING = "it works on it"
    DONE = "it does not work on it (any more): question or answer was lost on the way"
    REFUSED = "it takes no further connection to be asked on"
    SILENT = "it does not answer"


class WatchedConnection(psycopg.Connection[Any]):
    """A psycopg connection whose every wait comes to an end where the server is gone.

    `ask` is told the process id of this connection's server process. What was given up raises OperationalError and
    closes the connection; `given_up` then says why.
    """

    ask: Callable[[int], Answer] | None = None
    """None: nobody is asked, and only `limit_seconds` ends a wait."""
    limit_seconds: float | None = None
    """Longest wait for one answer, whatever the server does meanwhile."""
    given_up: Answer | None = None
    expires_at: float = 0.0
    """When (time.monotonic) the pool should replace it."""

    def wait(self, gen: PQGen[Value], interval: float = 0.1, timeout: float | None = None) -> Value:
        """As psycopg's own, with an end. Everything that waits for the server on this connection goes through it."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        started = time.monotonic()
        slice_seconds = SILENCE_SECONDS if self.limit_seconds is None else min(SILENCE_SECONDS, self.limit_seconds)
        try:
            return super().wait(gen, interval, slice_seconds)
        except psycopg.errors._WaitTimeout:
            pass  # no failure yet: from here on the server is asked what it does
        # A long answer may be arriving all the while: from here on it is noticed when something comes.
        last_sign = started
        while True:
            left = float("inf") if self.limit_seconds is None else started + self.limit_seconds - time.monotonic()
            if left <= 0:
                self._give_up(Answer.SILENT, started)
            answer = Answer.WORKING if self.ask is None else self.ask(self.pgconn.backend_pid)
            if answer is Answer.SILENT:
                self._give_up(answer, started)
            if answer is Answer.WORKING:
                last_sign = time.monotonic()
            signs: list[float] = []
            try:
                patience = SILENCE_SECONDS if answer is Answer.WORKING else _GRACE_SECONDS
                return super().wait(_resumed(gen, signs), interval, min(patience, max(left, 0.0)))
            except psycopg.errors._WaitTimeout:
                last_sign = signs[0] if signs else last_sign
            if not signs and (answer is Answer.DONE or time.monotonic() - last_sign > _PATIENCE_SECONDS):
                self._give_up(answer, started)

    def looks_alive(self) -> bool:
        """Whether an idle connection may be used: nothing has arrived on it, not even its end. Costs no round trip."""
        if self.closed:
            return False
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN | select.POLLRDHUP)
        return not poll.poll(0)

    def _give_up(self, answer: Answer, started: float) -> NoReturn:
        self.given_up = answer
        self.pgconn.finish()
        raise psycopg.OperationalError(
            f"the server has not answered for {time.monotonic() - started:.0f} s, and {answer.value}"
        )


def _resumed(gen: PQGen[Value], signs: list[float]) -> Generator[Wait, Ready | int, Value]:
    """Go on with what was waited for, and note in `signs` when something last came or went."""
    try:
        wanted = gen.send(Ready.NONE)
        while True:
            ready = yield wanted
            if ready:
                signs[:] = [time.monotonic()]
            wanted = gen.send(ready)
    except StopIteration as end:  # how a generator returns its value
        value: Value = end.value
        return value

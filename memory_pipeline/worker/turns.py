"""The loop of a worker's thread: turn after turn until told to stop, whatever a turn meets."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from memory_pipeline.logs import places_of
from memory_pipeline.model.errors import MemoryPipelineError

log = structlog.get_logger(__name__)

MOST_IN_A_ROW = 20
"""So many turns in a row that meet what nobody expected end the thread: a process started anew may do better."""
UNEXPECTED_SECONDS = 1.0


def take_turns(
    turn: Callable[[], None],
    stop: threading.Event,
    *,
    name: str,
    away_seconds: float,
    start_anew: Callable[[], None],
) -> None:
    """Call `turn` until `stop` is set. What is away costs a pause of `away_seconds`, and is told of once.

    Anything else that a turn raises is logged; `start_anew` has then to drop what the next turn could stumble over.
    Raises it where MOST_IN_A_ROW turns raise something, one after the other.
    """
    told = False
    unexpected = 0
    while not stop.is_set():
        try:
            turn()
            told, unexpected = False, 0
        except MemoryPipelineError as error:
            if not told:
                log.warning("worker_waits", thread=name, error=type(error).__name__, message=str(error))
            told = True
            stop.wait(away_seconds)
        # The jobs in hand go to others when their leases end; a thread that ended here would take no other jobs either.
        except Exception as error:
            unexpected += 1
            log.error("worker_turn_failed", thread=name, in_a_row=unexpected, error=places_of(error))
            if unexpected >= MOST_IN_A_ROW:
                raise
            start_anew()
            stop.wait(UNEXPECTED_SECONDS)

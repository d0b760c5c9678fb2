"""Writing down refused requests in auth_events: so many a minute and reason, so that a flood can't fill the table."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from uuid import UUID

import structlog

from memory_pipeline.model.errors import BusyError, StoreUnavailableError
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.identities import record_auth_event

PER_MINUTE = 20
"""Refusals of one reason that a process writes down per minute; the next one says how many were left out."""
_PAUSE_SECONDS = 30.0
"""After Postgres did not take one: a refused request is not made to wait for a server that is away."""
_MAX_ISSUER_CHARACTERS = 200


class RefusalLog:
    """The refusals of one process; shared by all threads."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = -1
        self._recorded: dict[str, int] = {}
        self._left_out: dict[str, int] = {}
        self._closed_until = float("-inf")

    def record(
        self, kind: str, reason: str, correlation_id: UUID, *, issuer: str | None = None, subject: str | None = None
    ) -> None:
        """Write down a refusal, or count it where the minute has had enough or Postgres is away. Never fails for that.

        `issuer` may be what anybody wrote into a token; `subject` must come from one that was verified.
        """
        left_out = self._admit(reason)
        if left_out is None:
            return
        detail = {"reason": reason} | ({"left_out": left_out} if left_out else {})
        try:
            with self._database.transaction() as connection:
                record_auth_event(
                    connection,
                    kind,
                    actor="system:authenticate",
                    correlation_id=correlation_id,
                    issuer=_storable(issuer),
                    subject=subject,
                    detail=detail,
                )
        except (StoreUnavailableError, BusyError) as error:
            with self._lock:
                self._left_out[reason] = self._left_out.get(reason, 0) + 1 + left_out
                self._closed_until = self._clock() + _PAUSE_SECONDS
            structlog.get_logger().warning("refusal_not_recorded", kind=kind, reason=reason, error=str(error))

    def _admit(self, reason: str) -> int | None:
        """Return how many of this reason were left out before, None where this one is left out too."""
        with self._lock:
            now = self._clock()
            if int(now // 60) != self._minute:
                self._minute = int(now // 60)
                self._recorded.clear()
            if now < self._closed_until or self._recorded.get(reason, 0) >= PER_MINUTE:
                self._left_out[reason] = self._left_out.get(reason, 0) + 1
                return None
            self._recorded[reason] = self._recorded.get(reason, 0) + 1
            return self._left_out.pop(reason, 0)


def _storable(issuer: str | None) -> str | None:
    """An issuer as Postgres and a log reader can take it: anybody may have written NUL, surrogates, or very much."""
    if issuer is None:
        return None
    return "".join(char if char.isprintable() else "?" for char in issuer[:_MAX_ISSUER_CHARACTERS])

"""Sleeping until a job is added.

Postgres makes commits with a NOTIFY wait for each other, so jobs are announced only while somebody sleeps. Who wants to
sleep takes an advisory lock for himself; who adds jobs asks for the same lock shared (the trigger on memory_jobs), and
notifies only if he does not get it. Having got it, he keeps it until his jobs can be seen. So whoever has the lock for
himself knows that all jobs added unannounced can be seen already: he looks once more, and sleeps.

One sleeper has the lock. Others that wait at the same time hear the same notifications, and look by themselves every
now and then, because nobody is told while that one is awake.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import psycopg

from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.stores.postgres.connections import WatchedConnection
from memory_pipeline.stores.postgres.database import Connection

_LISTEN = "LISTEN memory_jobs"
_LOCK = 1785684595  # as in the trigger
_SESSION = "-c search_path=memory,public -c timezone=UTC"
_GLANCE_SECONDS = 0.05
"""How long one sleeps who has not the lock."""
_ANSWER_SECONDS = 5.0
"""How long an answer of this connection may take: its statements are looks at an index."""
_REST_SECONDS = 0.01
"""At least so long from one waking to the next going to sleep: at high rates few jobs are announced."""


class JobSignal:
    """A connection of its own that listens. It must lead to Postgres itself: no pooler that hands out transactions."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection: Connection | None = None
        self._woken_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def wait_for_jobs(self, timeout: float, *, unpublished: bool = True) -> bool:
        """Sleep until there may be due jobs, at most `timeout` seconds; return whether to look.

        `unpublished`: for a relay, else for who claims from Postgres. Jobs that become due by time alone announce
        nothing: `timeout` is the poll interval. Raises StoreUnavailableError where Postgres is away; the next call
        connects anew.
        """
        rest = self._woken_at + _REST_SECONDS - time.monotonic()
        if rest > 0:
            time.sleep(min(rest, timeout))
        try:
            connection = self._listening()
            woken = self._sleep(connection, timeout, _due_unpublished if unpublished else _due)
        except psycopg.OperationalError as error:
            self.close()
            raise StoreUnavailableError(
                f"the connection that waits for jobs was lost: {str(error).strip()}. The next wait makes it anew."
            ) from error
        self._woken_at = time.monotonic()
        return woken

    def _sleep(self, connection: Connection, timeout: float, due: Callable[[Connection], bool]) -> bool:
        if not _answer(connection.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK]).fetchone()):
            for _ in connection.notifies(timeout=min(timeout, _GLANCE_SECONDS), stop_after=1):
                pass
            return due(connection)
        try:
            if due(connection):
                return True
            return any(True for _ in connection.notifies(timeout=timeout, stop_after=1))
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])

    def _listening(self) -> Connection:
        if self._connection is None:
            connection = WatchedConnection.connect(
                self.url,
                autocommit=True,
                connect_timeout=10,
                options=_SESSION,
                application_name="memory_pipeline jobs",
                # A server that is gone without a word is noticed within 25 s.
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
            )
            # One that is half open answers nothing, and nobody says that it is dead; its sleep is bounded by itself.
            connection.limit_seconds = _ANSWER_SECONDS
            connection.execute(_LISTEN)
            self._connection = connection
        return self._connection


def _due_unpublished(connection: Connection) -> bool:
    return _answer(
        connection.execute(
            "SELECT EXISTS (SELECT FROM memory_jobs WHERE state IN ('pending', 'failed')"
            " AND published_at IS NULL AND available_at <= clock_timestamp())"
        ).fetchone()
    )


def _due(connection: Connection) -> bool:
    return _answer(
        connection.execute(
            "SELECT EXISTS (SELECT FROM memory_jobs WHERE state IN ('pending', 'failed')"
            " AND available_at <= clock_timestamp())"
        ).fetchone()
    )


def _answer(row: tuple[bool] | None) -> bool:
    assert row is not None
    return row[0]

"""A bounded pool of connections that says why there is none: all busy, or Postgres away.

psycopg_pool connects in threads of its own with growing pauses: a caller waits out its time and learns no reason, a
server that is back is noticed late, and after the loss of all connections the pauses add up. Here the caller connects,
and while Postgres is known to be away nobody tries but one thread, several times a second.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psycopg

from memory_pipeline.model.errors import BusyError, StoreUnavailableError
from memory_pipeline.stores.postgres.connections import Answer, WatchedConnection

_SESSION = "-c search_path=memory,public -c timezone=UTC"
_CONNECT_SECONDS = 10
_ASK_SECONDS = 5
_RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5)
"""Pauses between tries while Postgres is away; the last one is repeated."""
_RETRY_CONNECT_SECONDS = 2
_LIFETIME_SECONDS = 3600.0
# A peer that vanished is noticed by the kernel too, on either side; a Unix socket ignores all of it.
_SERVER_KEEPALIVE = " -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"


class PoolStatistics(NamedTuple):
    """How a pool stands at this moment, in connections and in callers that wait for one."""

    size: int
    in_use: int
    idle: int
    waiting: int


class Pool:
    """At most `size` connections to `url`, made when needed and kept for the next caller.

    name: what the connections are for; Postgres shows it and errors name it. wait_seconds: longest wait for a
    connection while all are in use. statement_seconds: longest run of one statement, set for the session.
    """

    def __init__(
        self, url: str, *, name: str, size: int, wait_seconds: float, statement_seconds: float | None = None
    ) -> None:
        self.url = url
        self.name = name
        self.size = size
        self._wait_seconds = wait_seconds
        self._connect_seconds = min(_CONNECT_SECONDS, max(1, round(wait_seconds)))
        # Postgres ends a statement by itself; a wait this much longer has been forgotten.
        self._limit_seconds = None if statement_seconds is None else statement_seconds + 5
        self._options = _SESSION + _SERVER_KEEPALIVE
        if statement_seconds is not None:
            limit = max(1, int(statement_seconds * 1000))
            # Also what a client that was suspended in the middle has left open.
            self._options += f" -c statement_timeout={limit} -c transaction_timeout={2 * limit}"
        self._permits = threading.BoundedSemaphore(size)
        self._idle: deque[WatchedConnection] = deque()
        self._lock = threading.Lock()
        self._in_use = 0
        self._waiting = 0
        self._away: str | None = None
        self._watcher: threading.Thread | None = None
        self._closing = threading.Event()

    # -- life --

    def connect(self) -> WatchedConnection:
        """Return a new connection that does not belong to the pool. Raises psycopg.OperationalError."""
        connection = self._connect_plain(self._connect_seconds)
        connection.limit_seconds = self._limit_seconds
        connection.ask = self._ask
        connection.expires_at = time.monotonic() + _LIFETIME_SECONDS
        return connection

    def add(self, connection: WatchedConnection) -> None:
        """Take in a connection of `connect` to a database that has been migrated."""
        _prepare(connection)
        self._idle.append(connection)

    def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        with self._lock:
            self._closing.set()
            watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.join()
        self._drop_idle()

    @property
    def statistics(self) -> PoolStatistics:
        return PoolStatistics(self.size, self._in_use, len(self._idle), self._waiting)

    # -- use --

    @contextmanager
    def connection(self, *, wait_seconds: float | None = None) -> Iterator[WatchedConnection]:
        """A connection without an open transaction.

        Raises BusyError where all stay in use for as long as one may wait, StoreUnavailableError where Postgres can't
        be reached: at once while it is known to be away.
        """
        self._refuse_while_away()
        self._enter(self._wait_seconds if wait_seconds is None else wait_seconds)
        try:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            with self._lock:
                self._in_use -= 1
            self._permits.release()

    def _enter(self, wait_seconds: float) -> None:
        if not self._permits.acquire(blocking=False):
            with self._lock:
                self._waiting += 1
            try:
                if not self._permits.acquire(timeout=wait_seconds):
                    raise BusyError(
                        f"all {self.size} Postgres connections of {self.name} are in use, and none came free within "
                        f"{wait_seconds:g} s. Try again; if that happens often, the pool is too small."
                    )
            finally:
                with self._lock:
                    self._waiting -= 1
        with self._lock:
            self._in_use += 1

    def _take(self) -> WatchedConnection:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if connection.looks_alive() and time.monotonic() < connection.expires_at:
                return connection
            connection.close()
        self._refuse_while_away()
        try:
            connection = self.connect()
            _prepare(connection)
            return connection
        except psycopg.OperationalError as error:
            self._begin_outage(_reason(error))
            raise unreachable(_reason(error)) from error

    def _give_back(self, connection: WatchedConnection) -> None:
        if connection.given_up is not None:
            # What was idle meanwhile has most likely gone the same way, and shows it no more than this one did.
            self._drop_idle()
            if connection.given_up is not Answer.DONE:
                self._begin_outage("it has stopped answering")
        idle = connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
        with self._lock:
            keep = idle and not self._closing.is_set()
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()

    def _drop_idle(self) -> None:
        while self._idle:
            try:
                self._idle.popleft().close()
            except IndexError:  # another thread was faster
                break

    # -- while Postgres is away --

    def _refuse_while_away(self) -> None:
        if self._closing.is_set():
            raise StoreUnavailableError(f"the Postgres connections of {self.name} are closed: this process is ending.")
        away = self._away
        if away is not None and not self._idle:
            raise unreachable(away)

    def _begin_outage(self, reason: str) -> None:
        with self._lock:
            if self._away is None and not self._closing.is_set():
                self._away = reason
                self._watcher = threading.Thread(target=self._watch, name=f"{self.name}-postgres-watch", daemon=True)
                self._watcher.start()

    def _watch(self) -> None:
        """Try to connect until it works: one thread alone, so that no caller waits for a server that is away."""
        tries = 0
        while not self._closing.wait(_RETRY_SECONDS[min(tries, len(_RETRY_SECONDS) - 1)]):
            tries += 1
            try:
                self._connect_plain(_RETRY_CONNECT_SECONDS).close()
            except psycopg.OperationalError as error:
                self._away = _reason(error)
            else:
                with self._lock:
                    self._away = None
                    self._watcher = None
                return

    def _connect_plain(self, connect_seconds: int) -> WatchedConnection:
        return WatchedConnection.connect(
            self.url,
            connect_timeout=connect_seconds,
            options=self._options,
            application_name=self.name,
            keepalives=1,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=20_000,
        )

    def _ask(self, backend_pid: int) -> Answer:
        """What Postgres does with the connection of that process, asked on another one."""
        if self._away is not None:
            return Answer.SILENT
        try:
            connection = self._connect_plain(_ASK_SECONDS)
        # What is found here is told by who waits: it gives its connection up, and says why.
        except psycopg.errors.ConnectionTimeout:
            return Answer.SILENT
        except psycopg.OperationalError:
            return Answer.REFUSED
        with connection:
            connection.limit_seconds = _ASK_SECONDS
            try:
                # A server process that waits for its client has nothing to tell it.
                row = connection.execute(
                    "SELECT state NOT LIKE 'idle%%' AND wait_event_type IS DISTINCT FROM 'Client'"
                    " FROM pg_stat_activity WHERE pid = %s",
                    [backend_pid],
                ).fetchone()
            except psycopg.OperationalError:
                return Answer.SILENT
        return Answer.WORKING if row is not None and row[0] else Answer.DONE


def _prepare(connection: WatchedConnection) -> None:
    from pgvector.psycopg import register_vector

    try:
        register_vector(connection)
        connection.commit()
    except BaseException:
        connection.close()
        raise


def unreachable(reason: str) -> StoreUnavailableError:
    """The error for a server that takes no connection."""
    return StoreUnavailableError(
        f"Postgres can't be reached: {reason}. Start it, or mend the MEMORY_POSTGRES_* settings."
    )


def _reason(error: psycopg.OperationalError) -> str:
    return str(error).strip().rstrip(".")

"""Connections to Postgres as one of the limited roles, pooled, and the transaction that speaks for one tenant."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from uuid import UUID

import psycopg
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from memory_pipeline.model.errors import BusyError, StoreUnavailableError
from memory_pipeline.stores.postgres.connections import WatchedConnection
from memory_pipeline.stores.postgres.isolation import isolation_problems
from memory_pipeline.stores.postgres.migrate import check_schema
from memory_pipeline.stores.postgres.pool import Pool, PoolStatistics, unreachable

Connection = psycopg.Connection[Any]
Result = TypeVar("Result")

_DEADLOCK_TRIES = 5
_Conflict = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)


class _ConflictError(BusyError):
    """Postgres ended the transaction because of what others did at the same time: the same may succeed at once."""


class Database:
    """A pool of connections as memory_app or memory_pipeline; `role` None takes either.

    Opening it verifies what everything else relies on and fails closed: the schema is the one this program ships, the
    connection has that role and no other, it can neither bypass row-level security nor own the tables, nothing else in
    the schema leads around it, and the policies are those of the migrations.

    A process has one for each kind of work, so that one kind can't starve another: `name` tells them apart in Postgres
    and in errors. wait_seconds bounds the wait for a connection, statement_seconds (None: no bound) each statement.
    """

    def __init__(
        self,
        url: str,
        *,
        role: Literal["memory_app", "memory_pipeline"] | None = None,
        name: str = "memory_pipeline",
        pool_size: int = 4,
        wait_seconds: float = 10.0,
        statement_seconds: float | None = None,
    ) -> None:
        self.url = url
        self._role = role
        self._statement_seconds = statement_seconds
        self._pool = Pool(
            url, name=name, size=pool_size, wait_seconds=wait_seconds, statement_seconds=statement_seconds
        )

    def open(self) -> Self:
        """Connect and verify. Raises StoreUnavailableError, SchemaVersionError."""
        try:
            connection = self._pool.connect()
            try:
                check_schema(connection)
                self._verify_isolation(connection)
                connection.rollback()
                self._pool.add(connection)
            except BaseException:
                connection.close()
                raise
        except psycopg.OperationalError as error:
            raise unreachable(str(error).strip()) from error
        return self

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def ping(self, timeout_seconds: float = 2.0) -> float:
        """Return the seconds of one round trip to Postgres; for health checks, which must not hang.

        Raises StoreUnavailableError where Postgres is away or does not answer in time, BusyError where every connection
        of this pool stays in use for that long (which says nothing about Postgres).
        """
        try:
            with self._pool.connection(wait_seconds=timeout_seconds) as connection:
                limit, connection.limit_seconds = connection.limit_seconds, timeout_seconds
                connection.autocommit = True
                started = time.perf_counter()
                connection.execute("SELECT")
                elapsed = time.perf_counter() - started
                connection.autocommit = False
                connection.limit_seconds = limit
        except psycopg.OperationalError as error:
            raise unreachable(str(error).strip()) from error
        return elapsed

    @property
    def pool_statistics(self) -> PoolStatistics:
        """Size of the pool, connections in use and idle, and callers that wait for one."""
        return self._pool.statistics

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction without a tenant: memory_pipeline sees every tenant in it, memory_app sees no row.

        Raises StoreUnavailableError where Postgres is away or goes away, BusyError where no connection comes free, a
        statement or the wait for a lock takes longer than it may, or others changed the same rows.
        """
        committing = False
        connection: Connection | None = None
        try:
            with ExitStack() as stack:
                connection = self._begin(stack)
                yield connection
                committing = True
        except psycopg.errors.QueryCanceled as error:
            if self._statement_seconds is None:
                raise
            raise BusyError(
                f"Postgres gave up a statement, which may take {self._statement_seconds:g} s: {_first_line(error)}. "
                "Nothing of its transaction is stored; try again later, or ask for less at once."
            ) from error
        except _Conflict as error:
            raise _ConflictError(
                f"others change the same rows: {_first_line(error)}. Nothing is stored; run it again."
            ) from error
        except psycopg.errors.LockNotAvailable as error:
            raise BusyError(
                f"another run holds what this one needs: {_first_line(error)}. Nothing is stored; run it again."
            ) from error
        except (psycopg.errors.IdleInTransactionSessionTimeout, psycopg.errors.TransactionTimeout) as error:
            raise StoreUnavailableError(
                "Postgres ended a transaction that took too long (this process was suspended, or it is overloaded): "
                "nothing of it is stored; run it again."
            ) from error
        except psycopg.errors.ReadOnlySqlTransaction as error:
            # After a failover this was the primary: the next connection may lead to the new one.
            if connection is not None:
                connection.close()
            raise StoreUnavailableError(
                "Postgres takes no writes (a standby, or being moved): nothing is stored; run it again."
            ) from error
        except psycopg.OperationalError as error:
            if not _is_connection_loss(error):
                raise
            short = (error.sqlstate or "").startswith("53")
            what = "Postgres has run out of something" if short else "the connection to Postgres was lost"
            lost = f"{what}: {_first_line(error)}. "
            if committing:
                raise StoreUnavailableError(
                    lost + "That was while it committed, so what was written may be stored or not; run it again: what "
                    "is stored already is not stored twice."
                ) from error
            raise StoreUnavailableError(lost + "What was not committed is not stored; run it again.") from error

    def _begin(self, stack: ExitStack) -> Connection:
        """Enter a transaction. A connection that turns out dead is left for another one: nothing was done on it yet."""
        for tries_left in reversed(range(self.pool_statistics.size + 1)):
            connection = stack.enter_context(self._pool.connection())
            try:
                stack.enter_context(connection.transaction())
                break
            except psycopg.OperationalError as error:
                # One that was waited for in vain is another matter: the next might take as long.
                if not tries_left or connection.given_up is not None or not _is_connection_loss(error):
                    raise
                stack.close()
        return connection

    @contextmanager
    def tenant_transaction(self, tenant_id: UUID, *, statement_seconds: float | None = None) -> Iterator[Connection]:
        """One transaction that speaks for `tenant_id`; the setting ends with it, so the pool can't carry it over.

        `statement_seconds`: for work that may take longer than this pool's statements usually may.
        """
        with self.transaction() as connection:
            connection.execute("SELECT set_config('app.tenant_id', %s, true)", [str(tenant_id)])
            if statement_seconds is None:
                yield connection
            else:
                with self._patient(connection, statement_seconds):
                    yield connection

    @contextmanager
    def _patient(self, connection: Connection, statement_seconds: float) -> Iterator[None]:
        milliseconds = int(statement_seconds * 1000)
        connection.execute(
            "SELECT set_config('statement_timeout', %s, true), set_config('transaction_timeout', %s, true)",
            [str(milliseconds), str(2 * milliseconds)],
        )
        assert isinstance(connection, WatchedConnection)
        limit, connection.limit_seconds = connection.limit_seconds, None
        try:
            yield
        finally:
            connection.limit_seconds = limit

    def in_tenant(
        self, tenant_id: UUID, work: Callable[[Connection], Result], *, statement_seconds: float | None = None
    ) -> Result:
        """Do `work` in one tenant transaction, and anew where Postgres ended it to resolve a deadlock.

        Raises BusyError where that happens again and again.
        """
        attempts = Retrying(
            retry=retry_if_exception_type(_ConflictError),
            stop=stop_after_attempt(_DEADLOCK_TRIES),
            wait=wait_random(0, 0.2),
            reraise=True,
        )

        def attempt() -> Result:
            with self.tenant_transaction(tenant_id, statement_seconds=statement_seconds) as connection:
                return work(connection)

        return attempts(attempt)

    def _verify_isolation(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        if problems := isolation_problems(connection, self._role):
            raise StoreUnavailableError(
                "tenants are not kept apart as they should be, so this process refuses to start: "
                + "; ".join(problems)
                + ". Connect as memory_app or memory_pipeline, and undo what was changed by hand."
            )


def _first_line(error: psycopg.Error) -> str:
    """What happened, without the context that follows: that of a COPY quotes the row."""
    return str(error).strip().partition("\n")[0]


def _is_connection_loss(error: psycopg.OperationalError) -> bool:
    """Whether the server went away or ended the session, rather than refusing a statement."""
    # Without a code the error comes from libpq; 08 is "connection exception", 57P01 to 57P05 are shutdowns.
    # 53: it has no disk, memory or connections left.
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P", "53"))

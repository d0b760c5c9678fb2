"""Connections to Postgres as one of the limited roles, pooled, and the transaction that speaks for one tenant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from uuid import UUID

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.stores.postgres.migrate import PACKAGE, check_schema
from memory_pipeline.stores.sqlfiles import sql

Connection = psycopg.Connection[Any]
Result = TypeVar("Result")

_POOL_WAIT_SECONDS = 10.0
_SESSION = "-c search_path=memory,public -c timezone=UTC"
_DEADLOCK_TRIES = 5


class Database:
    """A pool of connections as memory_app or memory_pipeline; `role` None takes either.

    Opening it verifies what everything else relies on and fails closed: the schema is the one this program ships, the
    connection has that role and no other, it can neither bypass row-level security nor own the tables, and the policies
    are those of the migrations.
    """

    def __init__(
        self, url: str, *, role: Literal["memory_app", "memory_pipeline"] | None = None, pool_size: int = 4
    ) -> None:
        self.url = url
        self._role = role
        self._pool = ConnectionPool(
            url,
            min_size=0,
            max_size=pool_size,
            open=False,
            timeout=_POOL_WAIT_SECONDS,
            kwargs={"options": _SESSION, "application_name": "memory_pipeline"},
            configure=_configure,
            # A server that was restarted leaves dead connections behind; they are replaced rather than handed out.
            check=ConnectionPool.check_connection,
        )

    def open(self) -> Self:
        """Connect and verify. Raises StoreUnavailableError, SchemaVersionError."""
        try:
            with psycopg.connect(self.url, connect_timeout=10, options=_SESSION) as connection:
                check_schema(connection)
                self._verify_isolation(connection)
        except psycopg.OperationalError as error:
            raise StoreUnavailableError(
                f"Postgres can't be reached: {error}. Start it, or mend the MEMORY_POSTGRES_* settings."
            ) from error
        self._pool.open()
        return self

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction without a tenant: memory_pipeline sees every tenant in it, memory_app sees no row."""
        try:
            with self._pool.connection() as connection, connection.transaction():
                yield connection
        except PoolTimeout as error:
            raise StoreUnavailableError(
                f"no Postgres connection came free within {_POOL_WAIT_SECONDS:.0f} s; "
                "the server is down or the pool is too small."
            ) from error
        except psycopg.OperationalError as error:
            if _is_connection_loss(error):
                raise StoreUnavailableError(
                    f"the connection to Postgres was lost: {str(error).strip()}. What was not committed is not stored; "
                    "run it again."
                ) from error
            raise

    @contextmanager
    def tenant_transaction(self, tenant_id: UUID) -> Iterator[Connection]:
        """One transaction that speaks for `tenant_id`; the setting ends with it, so the pool can't carry it over."""
        with self.transaction() as connection:
            connection.execute("SELECT set_config('app.tenant_id', %s, true)", [str(tenant_id)])
            yield connection

    def in_tenant(self, tenant_id: UUID, work: Callable[[Connection], Result]) -> Result:
        """Do `work` in one tenant transaction, and anew where Postgres ended it to resolve a deadlock."""
        attempts = Retrying(
            retry=retry_if_exception_type((psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)),
            stop=stop_after_attempt(_DEADLOCK_TRIES),
            wait=wait_random(0, 0.2),
            reraise=True,
        )

        def attempt() -> Result:
            with self.tenant_transaction(tenant_id) as connection:
                return work(connection)

        return attempts(attempt)

    def _verify_isolation(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        found = connection.execute(sql(PACKAGE, "verify_isolation"), {"role": self._role}).fetchall()
        if found:
            raise StoreUnavailableError(
                "tenants are not kept apart as they should be, so this process refuses to start: "
                + "; ".join(str(problem) for (problem,) in found)
                + ". Connect as memory_app or memory_pipeline, and undo what was changed by hand."
            )


def _configure(connection: Connection) -> None:
    from pgvector.psycopg import register_vector

    register_vector(connection)
    connection.commit()


def _is_connection_loss(error: psycopg.OperationalError) -> bool:
    """Whether the server went away or ended the session, rather than refusing a statement."""
    # Without a code the error comes from libpq; 08 is "connection exception", 57P01 to 57P05 are shutdowns.
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))

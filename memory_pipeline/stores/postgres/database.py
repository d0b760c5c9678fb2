"""Connections to Postgres as one of the limited roles, pooled, and the transaction that speaks for one tenant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.stores.postgres.migrate import PACKAGE, check_schema
from memory_pipeline.stores.sqlfiles import sql

Connection = psycopg.Connection[Any]

_POOL_WAIT_SECONDS = 10.0


class Database:
    """A pool of connections as memory_app or memory_pipeline.

    Opening it verifies what everything else relies on and fails closed: the schema is the one this program ships, the
    role can neither bypass row-level security nor own the tables, and the policies are in force.
    """

    def __init__(self, url: str, *, pool_size: int = 4) -> None:
        self.url = url
        self._pool = ConnectionPool(
            url,
            min_size=0,
            max_size=pool_size,
            open=False,
            timeout=_POOL_WAIT_SECONDS,
            kwargs={"options": "-c search_path=memory,public -c timezone=UTC", "application_name": "memory_pipeline"},
            configure=_configure,
        )

    def open(self) -> Self:
        """Connect and verify. Raises StoreUnavailableError, SchemaVersionError."""
        try:
            with psycopg.connect(self.url, connect_timeout=10) as connection:
                check_schema(connection)
                _verify_isolation(connection)
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

    @contextmanager
    def tenant_transaction(self, tenant_id: UUID) -> Iterator[Connection]:
        """One transaction that speaks for `tenant_id`; the setting ends with it, so the pool can't carry it over."""
        with self.transaction() as connection:
            connection.execute("SELECT set_config('app.tenant_id', %s, true)", [str(tenant_id)])
            yield connection


def _configure(connection: Connection) -> None:
    from pgvector.psycopg import register_vector

    register_vector(connection)
    connection.commit()


def _verify_isolation(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    problems = [str(problem) for (problem,) in connection.execute(sql(PACKAGE, "verify_isolation")).fetchall()]
    if problems:
        raise StoreUnavailableError(
            "row-level security is not in force, so this process refuses to start: " + "; ".join(problems)
        )

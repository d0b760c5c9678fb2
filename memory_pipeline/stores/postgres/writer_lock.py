"""The lock of whoever writes a tenant's index: one writer per collection, whatever process it is in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from uuid import UUID

import psycopg

from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.due import limit_wait

Purpose = Literal["index", "rebuild"]
"""What a lock guards: the live collection and which one is live, or the one being built."""


class WriterBusyError(StoreUnavailableError):
    """Another process writes the collection, and has for as long as this one may wait."""


class WriterLock:
    """Advisory locks of one transaction, for one tenant and model; they end with it."""

    def __init__(self, connection: Connection, tenant_id: UUID, model: str) -> None:
        self.connection = connection
        """In the transaction that holds the locks; what it changes is not committed before they end."""
        self._tenant_id = tenant_id
        self._model = model

    def check(self) -> None:
        """Raise StoreUnavailableError if the connection that holds the lock is gone, and the lock with it."""
        try:
            self.connection.execute("SELECT")
        except psycopg.OperationalError as error:
            raise StoreUnavailableError(
                f"the writer lock of tenant {self._tenant_id} was lost with its Postgres connection ({error}); "
                "what was written is kept: run the index stage again."
            ) from error

    def take(self, purpose: Purpose, wait_seconds: float) -> None:
        """Wait for a lock, held from then on. Raises WriterBusyError where that takes too long."""
        limit_wait(self.connection, wait_seconds)
        try:
            self.connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{purpose} {self._tenant_id} {self._model}"]
            )
        except psycopg.errors.LockNotAvailable as error:
            raise WriterBusyError(
                f"another process has been writing the {self._model} index of tenant {self._tenant_id} ({purpose}) for "
                "as long as this one may wait; run it again when that has ended."
            ) from error


@contextmanager
def writer_lock(
    database: Database,
    tenant_id: UUID,
    model: str,
    purpose: Purpose = "index",
    *,
    wait_seconds: float = 600.0,
) -> Iterator[WriterLock]:
    """Be the only one to write the collection of this tenant and model; takes one connection of the pool.

    Whoever needs both locks takes "rebuild" first. Raises WriterBusyError after waiting for `wait_seconds`.
    """
    with database.transaction() as connection:
        lock = WriterLock(connection, tenant_id, model)
        lock.take(purpose, wait_seconds)
        yield lock

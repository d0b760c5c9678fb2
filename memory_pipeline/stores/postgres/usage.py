"""Statements that write down what recall was asked for, and what calls of models cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from uuid import UUID

import psycopg

from memory_pipeline.model.errors import RecordRefusedError
from memory_pipeline.model.usage import LlmUsage
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql


class MemoryAccess(NamedTuple):
    """A row of the table `memory_access_log`, but for its time and what Postgres works out."""

    tenant_id: UUID
    user_id: UUID
    correlation_id: UUID
    what: str
    channel: str
    query_hash: bytes
    memory_ids: Sequence[UUID]
    turns: int
    degraded_parts: Sequence[str]
    from_cache: bool
    milliseconds: float


class ModelCall(NamedTuple):
    """What a model was called for: the columns that rows of `llm_usage` of one call have in common."""

    correlation_id: UUID
    plugin: str
    model: str
    what: str


def write_access(database: Database, access: MemoryAccess, call: ModelCall | None, usage: Sequence[LlmUsage]) -> None:
    """Store, as memory_app or memory_pipeline, one answer to a user and what it cost. A transaction of its own.

    Raises StoreUnavailableError, BusyError, and RecordRefusedError where Postgres takes no such row: the user was
    erased meanwhile, perhaps.
    """
    record = f"an answer to user {access.user_id} of tenant {access.tenant_id}"
    with _refused(record), database.tenant_transaction(access.tenant_id) as connection:
        connection.execute(
            sql(PACKAGE, "insert_memory_access"),
            {
                **access._asdict(),
                "memory_ids": list(access.memory_ids),
                "degraded_parts": list(access.degraded_parts),
            },
        )
        if call is not None:
            write_usage(connection, call, usage)


def write_charge(database: Database, tenant_id: UUID, call: ModelCall, usage: Sequence[LlmUsage]) -> None:
    """Store, as memory_app or memory_pipeline, what one tenant is charged for a call. A transaction of its own.

    Raises StoreUnavailableError, BusyError, and RecordRefusedError where Postgres takes no such row.
    """
    record = f"what {call.plugin} charged tenant {tenant_id}"
    with _refused(record), database.tenant_transaction(tenant_id) as connection:
        write_usage(connection, call, usage)


@contextmanager
def _refused(record: str) -> Iterator[None]:
    """Name the record that Postgres refuses: RecordRefusedError."""
    try:
        yield
    except psycopg.Error as error:
        raise RecordRefusedError(
            f"Postgres refused the record of {record}: {error.diag.message_primary or type(error).__name__}."
        ) from error


def write_usage(connection: Connection, call: ModelCall, usage: Sequence[LlmUsage]) -> None:
    """Store what tenants are charged for one call, where its plugin is registered as one that costs money."""
    if not usage:
        return
    connection.execute(
        sql(PACKAGE, "insert_llm_usage"),
        {
            **call._asdict(),
            "tenant_ids": [one.tenant_id for one in usage],
            "requests": [one.requests for one in usage],
            "texts": [one.texts for one in usage],
            "prompt_tokens": [one.prompt_tokens for one in usage],
            "costs": [one.cost_usd for one in usage],
        },
    )


def forget_old_access(connection: Connection, retention_days: int, limit: int) -> int:
    """Delete, as memory_pipeline, at most `limit` of the oldest answers of days older than these; return how many."""
    parameters = {"retention_days": retention_days, "limit": limit}
    return connection.execute(sql(PACKAGE, "access_forget_old"), parameters).rowcount


def forget_old_usage(connection: Connection, retention_days: int, limit: int) -> int:
    """Delete, as memory_pipeline, at most `limit` of the oldest charges of days older than these; return how many."""
    parameters = {"retention_days": retention_days, "limit": limit}
    return connection.execute(sql(PACKAGE, "usage_forget_old"), parameters).rowcount

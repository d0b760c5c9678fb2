"""Postgres' side of the write buffer: who replays, whose writes may still be taken, and what became of each.

Needs a connection that may see all tenants (memory_pipeline). Every buffered request ends as a row of memory_jobs under
the request's own id: completed where it was written, dead where it was refused.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec
import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from memory_pipeline.model.records import BufferedWrite
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

_ACTOR = "system:replay"
_NAMED_CORRELATIONS = 100


class Standing(NamedTuple):
    """How a buffered request stands; None is a row that is not there."""

    settled: bool
    """It has its ledger row: it was written or refused before, and only has to leave the buffer."""
    tenant: str | None
    user: str | None
    identity: str | None
    """State of the identity, as far as it is linked to this user."""


def try_replay_lock(connection: Connection) -> bool:
    """Take the lock that one replayer holds at a time, until the transaction ends; False where another holds it."""
    row = connection.execute("SELECT pg_try_advisory_xact_lock(hashtext('replay_writes'))").fetchone()
    return bool(row and row[0])


def standing(connection: Connection, entry: BufferedWrite) -> Standing:
    """Return how a buffered request stands now."""
    with connection.cursor(row_factory=class_row(Standing)) as cursor:
        row = cursor.execute(
            sql(PACKAGE, "replay_standing"),
            {
                "tenant_id": entry.tenant_id,
                "entry_id": entry.entry_id,
                "user_id": entry.user_id,
                "issuer": entry.issuer,
                "subject": entry.subject,
            },
        ).fetchone()
    assert row is not None  # a SELECT without FROM answers one row
    return row


def record_replayed(connection: Connection, written: Sequence[tuple[BufferedWrite, int]]) -> None:
    """Record requests as written, each with the number of its messages that were new."""
    connection.execute(
        sql(PACKAGE, "record_replayed"),
        {
            "tenant_ids": [entry.tenant_id for entry, _inserted in written],
            "entry_ids": [entry.entry_id for entry, _inserted in written],
            "user_ids": [entry.user_id for entry, _inserted in written],
            "days": [entry.received_at.date() for entry, _inserted in written],
            "messages": [len(entry.messages) for entry, _inserted in written],
            "inserted": [inserted for _entry, inserted in written],
            "correlation_ids": [entry.correlation_id for entry, _inserted in written],
        },
    )


def record_refused(connection: Connection, entry: BufferedWrite, error_class: str, error_text: str) -> None:
    """Keep a refused request as a dead job with the whole request as payload, and write its event.

    The payload is the request as JSON, or {"base64": …} of that where jsonb can't hold it (a NUL character).
    """
    encoded = msgspec.json.encode(entry)
    values = {
        "tenant_id": entry.tenant_id,
        "entry_id": entry.entry_id,
        "user_id": entry.user_id,
        "day": entry.received_at.date(),
        "correlation_id": entry.correlation_id,
        "error_class": error_class,
        "error_text": error_text.replace("\0", "\N{REPLACEMENT CHARACTER}"),
        "messages": len(entry.messages),
    }
    try:
        with connection.transaction():
            connection.execute(sql(PACKAGE, "record_refused"), values | {"payload": encoded.decode()})
    except psycopg.DataError:
        packed = Jsonb({"base64": base64.b64encode(encoded).decode()})
        connection.execute(sql(PACKAGE, "record_refused"), values | {"payload": packed})


def refused_write(payload: dict[str, object]) -> BufferedWrite:
    """Return the request that a dead `replay_write` job holds."""
    packed = payload.get("base64")
    if isinstance(packed, str):
        return msgspec.json.decode(base64.b64decode(packed), type=BufferedWrite)
    return msgspec.convert(payload, BufferedWrite, strict=False)


def is_written(payload: dict[str, object]) -> bool:
    """Whether the request of a `replay_write` job was written: of its messages only their number is left."""
    return isinstance(payload.get("messages"), int)


def forget_request(connection: Connection, entry: BufferedWrite) -> None:
    """Take what was said out of the ledger row of a request that has been written after all."""
    connection.execute(
        "UPDATE memory_jobs SET payload = %s WHERE tenant_id = %s AND job_id = %s",
        [Jsonb({"messages": len(entry.messages)}), entry.tenant_id, entry.entry_id],
    )


def settled_entries(connection: Connection, entries: Collection[tuple[UUID, UUID]]) -> set[UUID]:
    """Return the ids of those (tenant id, entry id) that have their ledger row."""
    rows = connection.execute(
        "SELECT job_id FROM memory_jobs"
        " JOIN unnest(%s::uuid[], %s::uuid[]) AS e (tenant_id, job_id) USING (tenant_id, job_id)",
        [[tenant_id for tenant_id, _entry_id in entries], [entry_id for _tenant_id, entry_id in entries]],
    ).fetchall()
    return {row[0] for row in rows}


def record_lost(
    connection: Connection, tenant_id: UUID, entries: int, messages: int, correlation_ids: Sequence[UUID]
) -> None:
    """Write the event that buffered requests of a tenant vanished; it names the first hundred correlation ids."""
    named = [str(correlation_id) for correlation_id in correlation_ids[:_NAMED_CORRELATIONS]]
    connection.execute(
        "INSERT INTO events (tenant_id, kind, actor, correlation_id, detail) VALUES (%s, %s, %s, %s, %s)",
        [
            tenant_id,
            "buffered_writes_lost",
            _ACTOR,
            uuid4(),
            Jsonb({"entries": entries, "messages": messages, "correlation_ids": named}),
        ],
    )

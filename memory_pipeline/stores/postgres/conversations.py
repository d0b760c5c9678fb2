"""A user's conversations in Postgres: list, read, delete, in a tenant transaction; those of others are not there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.messages import StoredMessage
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql


class Conversation(NamedTuple):
    conversation_id: UUID
    user_id: UUID
    source: str
    source_conversation_id: str
    title: str | None
    project: str | None
    created_at: datetime


class Deleted(NamedTuple):
    """How much went with a conversation."""

    messages: int
    memories: int


def find_conversation(
    connection: Connection, tenant_id: UUID, user_id: UUID, conversation_id: UUID
) -> Conversation | None:
    with connection.cursor(row_factory=class_row(Conversation)) as cursor:
        return cursor.execute(
            sql(PACKAGE, "conversation_find"),
            {"tenant_id": tenant_id, "user_id": user_id, "conversation_id": conversation_id},
        ).fetchone()


def list_conversations(
    connection: Connection, tenant_id: UUID, user_id: UUID, limit: int, after_id: UUID | None
) -> list[Conversation]:
    """Return the user's conversations, newest first; `after_id` is the last one of the page before."""
    with connection.cursor(row_factory=class_row(Conversation)) as cursor:
        return cursor.execute(
            sql(PACKAGE, "conversation_list"),
            {"tenant_id": tenant_id, "user_id": user_id, "limit": limit, "after_id": after_id},
        ).fetchall()


def newest_messages(
    connection: Connection, tenant_id: UUID, conversation_id: UUID, limit: int, before_id: UUID | None = None
) -> list[StoredMessage]:
    """Return the newest messages of a conversation (before one of them), oldest first."""
    with connection.cursor(row_factory=class_row(StoredMessage)) as cursor:
        return cursor.execute(
            sql(PACKAGE, "conversation_messages"),
            {"tenant_id": tenant_id, "conversation_id": conversation_id, "limit": limit, "before_id": before_id},
        ).fetchall()


def delete_conversation(
    connection: Connection,
    tenant_id: UUID,
    user_id: UUID,
    conversation_id: UUID,
    *,
    actor: str,
    correlation_id: UUID,
) -> Deleted | None:
    """Delete the user's conversation with all that was derived from it; None where there is no such conversation."""
    conversation = find_conversation(connection, tenant_id, user_id, conversation_id)
    if conversation is None:
        return None
    named: dict[str, object] = {
        "tenant_id": tenant_id,
        "user_id": user_id,
        "conversation_id": conversation_id,
        "source_conversation_id": conversation.source_conversation_id,
        "actor": actor,
        "correlation_id": correlation_id,
    }
    # Memories before the conversation, as enrichment locks them. With the conversation locked nothing is added any
    # more, so what came in between goes in a second round, with the messages.
    first = _delete_contents(connection, named | {"with_messages": False})
    locked = connection.execute(
        "SELECT FROM conversations WHERE tenant_id = %(tenant_id)s AND user_id = %(user_id)s"
        " AND conversation_id = %(conversation_id)s FOR UPDATE",
        named,
    ).fetchone()
    if locked is None:
        return None
    second = _delete_contents(connection, named | {"with_messages": True})
    connection.execute(
        "DELETE FROM conversations WHERE tenant_id = %(tenant_id)s AND conversation_id = %(conversation_id)s", named
    )
    deleted = Deleted(second.messages, first.memories + second.memories)
    connection.execute(
        "INSERT INTO events (tenant_id, kind, actor, subject_id, correlation_id, detail) VALUES (%(tenant_id)s,"
        " 'conversation_deleted', %(actor)s, %(conversation_id)s, %(correlation_id)s,"
        " jsonb_build_object('messages', %(messages)s::bigint, 'memories', %(memories)s::bigint))",
        named | deleted._asdict(),
    )
    return deleted


def _delete_contents(connection: Connection, named: dict[str, object]) -> Deleted:
    with connection.cursor(row_factory=class_row(Deleted)) as cursor:
        return cursor.execute(sql(PACKAGE, "conversation_delete"), named).fetchall()[0]


def owe_invalidations(connection: Connection, tenant_id: UUID, conversation_ids: Sequence[UUID]) -> None:
    """Note that the cached copies of these conversations may be stale once this transaction is committed."""
    connection.execute(
        "INSERT INTO cache_invalidations (tenant_id, conversation_id) SELECT %s, unnest(%s::uuid[])",
        [tenant_id, list(conversation_ids)],
    )


def owed_invalidations(connection: Connection, limit: int) -> list[tuple[UUID, UUID]]:
    """Return (invalidation id, conversation id) of the oldest ones, of all tenants; needs memory_pipeline."""
    return connection.execute(
        "SELECT invalidation_id, conversation_id FROM cache_invalidations ORDER BY invalidation_id LIMIT %s", [limit]
    ).fetchall()


def settle_invalidations(connection: Connection, invalidation_ids: Sequence[UUID]) -> None:
    """The cache has let go of these."""
    connection.execute("DELETE FROM cache_invalidations WHERE invalidation_id = ANY(%s)", [list(invalidation_ids)])

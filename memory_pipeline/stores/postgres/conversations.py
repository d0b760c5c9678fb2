"""A user's conversations in Postgres: list, read, delete, in a tenant transaction; those of others are not there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from memory_pipeline.model.jobs import MEMORY_TYPES
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.messages import StoredMessage
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

_ROUNDS = 5
"""How often a deletion gives way to messages that are just coming in."""


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
    # Of two deletions of one conversation the second finds nothing.
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtext('delete_conversation'), hashtext(%s))", [str(conversation_id)]
    )
    conversation = find_conversation(connection, tenant_id, user_id, conversation_id)
    if conversation is None:
        return None
    named: dict[str, object] = {
        "tenant_id": tenant_id,
        "user_id": user_id,
        "conversation_id": conversation_id,
        "source": conversation.source,
        "source_conversation_id": conversation.source_conversation_id,
        "actor": actor,
        "correlation_id": correlation_id,
    }
    # In the order in which others lock, so that neither ends the other: who retries dead jobs has them, then asks for
    # their memories; enrichment has its episodes, then writes facts, which asks for their conversation; a summary asks
    # for the conversations it rests on, then for itself.
    _end_dead_jobs(connection, named, _ids(connection, "conversation_memories", named))
    memory_ids: list[UUID] = []
    for round_left in reversed(range(_ROUNDS)):
        memory_ids += _delete_found(connection, named)
        locked = _lock_conversation(connection, named, whatever=round_left == 0)
        if locked is None:
            return None
        if locked:
            break
    # From here on nobody adds anything to it.
    memory_ids += _delete_found(connection, named)
    memory_ids += _delete_summaries(connection, named)
    _end_dead_jobs(connection, named, memory_ids)  # those too that have died since
    connection.execute(sql(PACKAGE, "conversation_delete_refused"), named)
    messages = connection.execute(
        "DELETE FROM messages WHERE tenant_id = %(tenant_id)s AND conversation_id = %(conversation_id)s", named
    ).rowcount
    connection.execute(
        "DELETE FROM conversations WHERE tenant_id = %(tenant_id)s AND conversation_id = %(conversation_id)s", named
    )
    deleted = Deleted(messages, len(memory_ids))
    connection.execute(
        "INSERT INTO events (tenant_id, kind, actor, subject_id, correlation_id, detail) VALUES (%(tenant_id)s,"
        " 'conversation_deleted', %(actor)s, %(conversation_id)s, %(correlation_id)s,"
        " jsonb_build_object('messages', %(messages)s::bigint, 'memories', %(memories)s::bigint))",
        named | deleted._asdict(),
    )
    return deleted


def _delete_found(connection: Connection, named: dict[str, object]) -> list[UUID]:
    """Delete what was made of the conversation's messages one by one; return which memories."""
    episodes = _ids(connection, "conversation_delete_episodes", named)
    # Facts must not change under `relate_facts`, which holds the same lock alone.
    connection.execute("SELECT pg_advisory_xact_lock_shared(hashtext('relate_facts'))")
    return episodes + _ids(connection, "conversation_delete_facts", named)


def _end_dead_jobs(connection: Connection, named: dict[str, object], memory_ids: Sequence[UUID]) -> None:
    """End the dead jobs of memories that go, and forget what they failed of."""
    parameters = named | {"memory_ids": list(memory_ids), "job_types": list(MEMORY_TYPES)}
    connection.execute(sql(PACKAGE, "conversation_end_dead_jobs"), parameters)


def _ids(connection: Connection, statement: str, named: dict[str, object]) -> list[UUID]:
    return [row[0] for row in connection.execute(sql(PACKAGE, statement), named).fetchall()]


def _lock_conversation(connection: Connection, named: dict[str, object], *, whatever: bool) -> bool | None:
    """Keep everybody from adding to the conversation; None where it is gone.

    False, and no lock, where something was added since: enrichment may hold it and wait for the conversation. It is
    locked even so where `whatever` is true.
    """
    connection.execute("SAVEPOINT unlocked")
    if connection.execute(sql(PACKAGE, "conversation_lock"), named).fetchone() is None:
        return None
    if whatever or connection.execute(sql(PACKAGE, "conversation_added"), named).fetchone() is None:
        return True
    connection.execute("ROLLBACK TO SAVEPOINT unlocked")
    return False


def _delete_summaries(connection: Connection, named: dict[str, object]) -> list[UUID]:
    """Delete the summaries that rest on the conversation, return which; others are made from what is left."""
    memory_ids = _ids(connection, "conversation_summaries", named)
    # One by one, in an order that all deletions have in common; one that is gone already was another deletion's.
    return [
        gone
        for memory_id in memory_ids
        for gone in _ids(connection, "conversation_delete_summary", named | {"memory_id": memory_id})
    ]


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

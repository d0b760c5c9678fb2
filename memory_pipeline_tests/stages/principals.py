"""Users to ask for, and the events their tenant got."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from memory_pipeline.model.identity import Principal
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.tenants import ensure_tenant, ensure_user


class Event(NamedTuple):
    kind: str
    actor: str
    subject_id: UUID | None
    correlation_id: UUID
    detail: dict[str, Any]


def make_principal(pipeline: Database, slug: str, email: str, permissions: Set[str] = frozenset()) -> Principal:
    """A user of a tenant, both made where they are new; a member, as every new user."""
    with pipeline.transaction() as connection:
        tenant_id = ensure_tenant(connection, slug)
        user_id = ensure_user(connection, tenant_id, email, "X")
    return Principal(
        tenant_id=tenant_id,
        user_id=user_id,
        display_name="X",
        email=email,
        issuer="https://issuer.example",
        subject=email,
        session_hash=bytes(32),
        permissions=frozenset(permissions),
    )


def events_of(pipeline: Database, tenant_id: UUID) -> list[Event]:
    """The tenant's log, oldest first."""
    with pipeline.transaction() as connection, connection.cursor(row_factory=class_row(Event)) as cursor:
        return cursor.execute(
            "SELECT kind, actor, subject_id, correlation_id, detail FROM events WHERE tenant_id = %s ORDER BY event_id",
            [tenant_id],
        ).fetchall()

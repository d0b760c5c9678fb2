"""Who is asking, as Postgres knows it: identities, sessions, what a user may do, and the log of it.

`authenticate`, `read_profile` and `record_auth_event` are for memory_app; what administers needs memory_pipeline.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from memory_pipeline.model.identity import Claims
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql


class Authentication(NamedTuple):
    """What a verified token stands for. Tenant and user are there where the state is `linked`."""

    state: str
    """`linked`, `pending`, `revoked` or `session_revoked`."""
    tenant_id: UUID | None
    user_id: UUID | None


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A user as the API needs them, cached as `auth:{user_id}`."""

    tenant_id: UUID
    display_name: str
    email: str
    user_status: str
    tenant_status: str
    permissions: tuple[str, ...]


def authenticate(
    connection: Connection, claims: Claims, session_hash: bytes, *, link_by_email: bool, correlation_id: UUID
) -> Authentication:
    """Return what the token's subject stands for; a subject never seen is recorded, a session recorded or renewed."""
    with connection.cursor(row_factory=class_row(Authentication)) as cursor:
        row = cursor.execute(
            "SELECT state, tenant_id, user_id FROM authenticate(%s, %s, %s, %s, %s, %s, %s)",
            [
                claims.issuer,
                claims.subject,
                session_hash,
                claims.expires_at,
                claims.email,
                link_by_email,
                correlation_id,
            ],
        ).fetchone()
    assert row is not None  # the function returns exactly one
    return row


def read_profile(connection: Connection, tenant_id: UUID, user_id: UUID) -> Profile | None:
    """Return a user of the tenant of this transaction; None where there is none."""
    with connection.cursor(row_factory=class_row(Profile)) as cursor:
        return cursor.execute(sql(PACKAGE, "read_profile"), {"tenant_id": tenant_id, "user_id": user_id}).fetchone()


def record_auth_event(
    connection: Connection,
    kind: str,
    *,
    actor: str,
    correlation_id: UUID,
    issuer: str | None = None,
    subject: str | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Write down what happened where no tenant is known (yet)."""
    connection.execute(
        "INSERT INTO auth_events (kind, actor, issuer, subject, correlation_id, detail)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        [kind, actor, issuer, subject, correlation_id, Jsonb(detail or {})],
    )

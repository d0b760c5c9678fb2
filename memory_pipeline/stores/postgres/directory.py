"""Administering tenants, users, identities and sessions in Postgres. Needs memory_pipeline, which sees all tenants."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from memory_pipeline.model.errors import ConflictError
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

IdentityState = Literal["pending", "linked", "revoked"]


class LockedIdentity(NamedTuple):
    issuer: str
    subject: str
    state: IdentityState
    tenant_id: UUID | None
    user_id: UUID | None


class IdentityRow(NamedTuple):
    """An identity as the administrator sees it."""

    issuer: str
    subject: str
    state: IdentityState
    tenant: str | None
    email: str | None
    """Of the user it is or was linked to."""
    email_hint: str | None
    """What the issuer says it has verified."""
    first_seen_at: datetime
    changed_at: datetime
    changed_by: str


class UserRow(NamedTuple):
    tenant: str
    user_id: UUID
    email: str
    display_name: str
    status: str
    roles: list[str]
    identities: int


class TenantRow(NamedTuple):
    slug: str
    tenant_id: UUID
    name: str
    status: str
    created_at: datetime
    users: int


# -- identities and sessions --


def list_identities(
    connection: Connection,
    *,
    state: IdentityState | None = None,
    tenant: str | None = None,
    email: str | None = None,
    limit: int,
) -> list[IdentityRow]:
    """Return identities, the newest first."""
    with connection.cursor(row_factory=class_row(IdentityRow)) as cursor:
        return cursor.execute(
            sql(PACKAGE, "list_identities"), {"state": state, "tenant": tenant, "email": email, "limit": limit}
        ).fetchall()


def issuers_of(connection: Connection, subject: str) -> list[str]:
    """Return the issuers that have a subject of this name."""
    rows = connection.execute("SELECT issuer FROM identities WHERE subject = %s ORDER BY issuer", [subject]).fetchall()
    return [str(issuer) for (issuer,) in rows]


def lock_identity(connection: Connection, issuer: str, subject: str) -> LockedIdentity | None:
    """Return an identity, kept from changing, and from authenticating anybody, until the transaction ends."""
    with connection.cursor(row_factory=class_row(LockedIdentity)) as cursor:
        return cursor.execute(
            "SELECT issuer, subject, state, tenant_id, user_id FROM identities"
            " WHERE issuer = %s AND subject = %s FOR UPDATE",
            [issuer, subject],
        ).fetchone()


def link_identity(
    connection: Connection, issuer: str, subject: str, tenant_id: UUID, user_id: UUID, *, actor: str
) -> None:
    """Link a subject, seen before or not, to a user. Raises ConflictError where the trigger says that it is taken."""
    try:
        connection.execute(
            sql(PACKAGE, "link_identity"),
            {"issuer": issuer, "subject": subject, "tenant_id": tenant_id, "user_id": user_id, "actor": actor},
        )
    except psycopg.errors.IntegrityConstraintViolation as error:
        raise ConflictError(f"the identity can't be linked: {error.diag.message_primary}.") from error


def revoke_identity(connection: Connection, issuer: str, subject: str, *, actor: str) -> None:
    connection.execute(
        "UPDATE identities SET state = 'revoked', changed_by = %s, changed_at = clock_timestamp()"
        " WHERE issuer = %s AND subject = %s",
        [actor, issuer, subject],
    )


def end_sessions(connection: Connection, issuer: str, subject: str) -> int:
    """End the sessions of an identity; return how many had not ended before."""
    return connection.execute(
        "UPDATE user_sessions SET revoked_at = clock_timestamp()"
        " WHERE issuer = %s AND subject = %s AND revoked_at IS NULL",
        [issuer, subject],
    ).rowcount


def ended_sessions(connection: Connection, issuer: str, subject: str) -> list[bytes]:
    """Return the ended sessions of an identity whose tokens may still be valid."""
    rows = connection.execute(
        "SELECT session_hash FROM user_sessions WHERE issuer = %s AND subject = %s"
        " AND revoked_at IS NOT NULL AND expires_at > now() - interval '1 hour'",
        [issuer, subject],
    ).fetchall()
    return [bytes(hash_) for (hash_,) in rows]


class SessionRow(NamedTuple):
    """A session as the administrator sees it."""

    session_hash: bytes
    issuer: str
    subject: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


def list_sessions(connection: Connection, tenant_id: UUID, user_id: UUID, *, limit: int) -> list[SessionRow]:
    """Return the sessions of a user whose tokens have not expired, the last used first."""
    with connection.cursor(row_factory=class_row(SessionRow)) as cursor:
        return cursor.execute(
            sql(PACKAGE, "list_sessions"), {"tenant_id": tenant_id, "user_id": user_id, "limit": limit}
        ).fetchall()


class SessionOwner(NamedTuple):
    issuer: str
    subject: str
    tenant_id: UUID
    user_id: UUID
    revoked: bool


def lock_session(connection: Connection, session_hash: bytes) -> SessionOwner | None:
    """Return whose session it is, kept from changing until the transaction ends."""
    with connection.cursor(row_factory=class_row(SessionOwner)) as cursor:
        return cursor.execute(
            "SELECT issuer, subject, tenant_id, user_id, revoked_at IS NOT NULL AS revoked FROM user_sessions"
            " WHERE session_hash = %s FOR UPDATE",
            [session_hash],
        ).fetchone()


def end_session(connection: Connection, session_hash: bytes) -> None:
    connection.execute(
        "UPDATE user_sessions SET revoked_at = clock_timestamp() WHERE session_hash = %s", [session_hash]
    )


def delete_expired_sessions(connection: Connection) -> int:
    """Delete the sessions whose tokens nobody accepts any more; return how many. A revocation outlasts its token."""
    return connection.execute("DELETE FROM user_sessions WHERE expires_at < now() - interval '1 hour'").rowcount


# -- users and tenants --


def insert_user(connection: Connection, tenant_id: UUID, email: str, display_name: str) -> UUID | None:
    """Add a user and return the id; None where the tenant has one with this e-mail."""
    row = connection.execute(
        "INSERT INTO users (tenant_id, email, display_name) VALUES (%s, lower(%s), %s)"
        " ON CONFLICT (tenant_id, email) DO NOTHING RETURNING user_id",
        [tenant_id, email, display_name],
    ).fetchone()
    return UUID(str(row[0])) if row else None


def insert_tenant(connection: Connection, slug: str, name: str) -> UUID | None:
    """Add a tenant and return the id; None where there is one of this slug."""
    row = connection.execute(
        "INSERT INTO tenants (slug, name) VALUES (%s, %s) ON CONFLICT (slug) DO NOTHING RETURNING tenant_id",
        [slug, name],
    ).fetchone()
    return UUID(str(row[0])) if row else None


def tenants_of(connection: Connection, email: str) -> list[str]:
    """Return the slugs of the tenants that have a user with this e-mail."""
    rows = connection.execute(
        "SELECT slug FROM users JOIN tenants USING (tenant_id) WHERE email = lower(%s) ORDER BY slug", [email]
    ).fetchall()
    return [str(slug) for (slug,) in rows]


def list_users(connection: Connection, tenant: str | None = None) -> list[UserRow]:
    with connection.cursor(row_factory=class_row(UserRow)) as cursor:
        return cursor.execute(sql(PACKAGE, "list_users"), {"tenant": tenant}).fetchall()


def list_tenants(connection: Connection) -> list[TenantRow]:
    with connection.cursor(row_factory=class_row(TenantRow)) as cursor:
        return cursor.execute(sql(PACKAGE, "list_tenants")).fetchall()


def set_user_status(
    connection: Connection, tenant_id: UUID, user_id: UUID, status: Literal["active", "disabled"]
) -> bool:
    """Return whether that changed anything."""
    done = connection.execute(
        "UPDATE users SET status = %s WHERE tenant_id = %s AND user_id = %s AND status <> %s",
        [status, tenant_id, user_id, status],
    )
    return done.rowcount > 0


def set_tenant_status(connection: Connection, tenant_id: UUID, status: Literal["active", "suspended"]) -> bool:
    """Return whether that changed anything."""
    done = connection.execute(
        "UPDATE tenants SET status = %s WHERE tenant_id = %s AND status <> %s", [status, tenant_id, status]
    )
    return done.rowcount > 0


def user_ids(connection: Connection, tenant_id: UUID) -> list[UUID]:
    rows = connection.execute("SELECT user_id FROM users WHERE tenant_id = %s", [tenant_id]).fetchall()
    return [UUID(str(user_id)) for (user_id,) in rows]

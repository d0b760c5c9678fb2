"""Tenants and users: finding and creating them. Needs a connection that may see all tenants (memory_pipeline)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from memory_pipeline.model.errors import NotFoundError, RecordRefusedError
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class User(NamedTuple):
    tenant_id: UUID
    user_id: UUID
    email: str
    display_name: str
    tenant_slug: str


def check_slug(slug: str) -> None:
    """Raise NotFoundError where no tenant can have this slug."""
    if not _SLUG.fullmatch(slug):
        raise NotFoundError(
            f"{slug!r} can't be a tenant: a slug is lower-case letters, digits and hyphens, at most 63 of them."
        )


def ensure_tenant(connection: Connection, slug: str) -> UUID:
    """Return the tenant with this slug, created if there is none."""
    check_slug(slug)
    connection.execute("INSERT INTO tenants (slug, name) VALUES (%s, %s) ON CONFLICT (slug) DO NOTHING", [slug, slug])
    return tenant_id_of(connection, slug)


def tenant_id_of(connection: Connection, slug: str) -> UUID:
    row = connection.execute("SELECT tenant_id FROM tenants WHERE slug = %s", [slug]).fetchone()
    if row is None:
        raise NotFoundError(f"there is no tenant {slug!r}; `memory-pipeline status` lists those there are.")
    return UUID(str(row[0]))


def all_tenants(connection: Connection) -> dict[UUID, str]:
    """Return every tenant's slug by id."""
    return dict(connection.execute("SELECT tenant_id, slug FROM tenants ORDER BY slug").fetchall())


class TenantsSeen(NamedTuple):
    """How many tenants there are, and when the newest was added."""

    tenants: int
    newest: datetime | None


def tenants_seen(connection: Connection) -> TenantsSeen:
    """Return what differs once a tenant was added."""
    with connection.cursor(row_factory=class_row(TenantsSeen)) as cursor:
        row = cursor.execute("SELECT count(*) AS tenants, max(created_at) AS newest FROM tenants").fetchone()
    assert row is not None
    return row


def unserved_tenants(connection: Connection, plugins: Sequence[str], limit: int) -> dict[str, list[str]]:
    """Return the newest tenants that do not permit all of `plugins`, by slug, with those each lacks."""
    rows = connection.execute(sql(PACKAGE, "tenants_unserved"), {"plugins": list(plugins), "limit": limit}).fetchall()
    return dict(rows)


def ensure_user(connection: Connection, tenant_id: UUID, email: str, display_name: str) -> UUID:
    """Return the tenant's user with this e-mail (compared in lower case), created if there is none.

    Lower case is what Postgres says it is: Python knows another Unicode, and the column is checked by Postgres. Raises
    RecordRefusedError for a text that Postgres can't store.
    """
    try:
        connection.execute(
            "INSERT INTO users (tenant_id, email, display_name) VALUES (%s, lower(%s), %s)"
            " ON CONFLICT (tenant_id, email) DO NOTHING",
            [tenant_id, email, display_name],
        )
    except psycopg.DataError as error:
        raise RecordRefusedError(f"Postgres can't store the user of it: {error}") from error
    row = connection.execute(
        "SELECT user_id FROM users WHERE tenant_id = %s AND email = lower(%s)", [tenant_id, email]
    ).fetchone()
    if row is None:
        raise NotFoundError(f"user {email!r} could neither be found nor created.")
    return UUID(str(row[0]))


def display_name_of(connection: Connection, tenant_id: UUID, user_id: UUID) -> str:
    """Return what a user of the tenant is called. Raises NotFoundError."""
    row = connection.execute(
        "SELECT display_name FROM users WHERE tenant_id = %s AND user_id = %s", [tenant_id, user_id]
    ).fetchone()
    if row is None:
        raise NotFoundError(f"there is no user {user_id} in tenant {tenant_id}.")
    return str(row[0])


def find_user(connection: Connection, email: str, tenant_slug: str | None = None) -> User:
    """Return the user with this e-mail. Raises NotFoundError where there is none, or several and no tenant is named."""
    with connection.cursor(row_factory=class_row(User)) as cursor:
        users = cursor.execute(
            "SELECT tenant_id, user_id, email, display_name, slug AS tenant_slug"
            " FROM users JOIN tenants USING (tenant_id)"
            " WHERE email = lower(%s) AND slug = coalesce(%s, slug) ORDER BY slug",
            [email, tenant_slug],
        ).fetchall()
    if not users:
        raise NotFoundError(f"there is no user {email!r}" + (f" in tenant {tenant_slug!r}." if tenant_slug else "."))
    if len(users) > 1:
        tenants = ", ".join(user.tenant_slug for user in users)
        raise NotFoundError(f"{email!r} is a user of several tenants ({tenants}): name one with --tenant.")
    return users[0]

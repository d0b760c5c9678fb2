"""Roles, permissions and plugins: who may do what, what runs for whom, and who is affected when that changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

RUN_PLUGIN = "plugins:run:"
"""What the permission to run a plugin begins with; the plugin's name follows."""
PIPELINE_ROLE = "pipeline"
PAGE_USERS = 2_000

Requirement = Literal["registered", "enabled", "installed", "permitted"]

_PLUGIN_NAME = re.compile(r"(enricher|embedder|summarizer):[a-z0-9][a-z0-9_-]{0,62}")


class Author(NamedTuple):
    """Who makes a change, and in which doing of theirs; both go into its event."""

    actor: str
    correlation_id: UUID


class PluginRow(msgspec.Struct, frozen=True):
    """A registered plugin. `installed` speaks of the tenant asked for, `tenants` counts all that have it."""

    plugin: str
    description: str
    enabled: bool
    default_install: bool
    costs: bool
    """Whether running it costs money, so that rate limits hold for it."""
    tenants: int
    installed: bool | None
    roles: list[str]
    """Roles that may run it."""


class RoleRow(msgspec.Struct, frozen=True):
    """A role, what it allows, and how many users have it."""

    role: str
    description: str
    users: int
    permissions: list[str]


class UserRoleRow(msgspec.Struct, frozen=True):
    """A role that a user has."""

    role: str
    granted_by: str
    granted_at: datetime


def is_plugin_name(plugin: str) -> bool:
    """Whether a plugin can have this name at all."""
    return _PLUGIN_NAME.fullmatch(plugin) is not None


# -- questions --


def missing_for_plugin(connection: Connection, tenant_id: UUID, user_id: UUID, plugin: str) -> tuple[Requirement, ...]:
    """Return what keeps `plugin` from running for the user; empty where nothing does."""
    row = connection.execute(
        sql(PACKAGE, "plugin_decision"), {"tenant_id": tenant_id, "user_id": user_id, "plugin": plugin}
    ).fetchone()
    assert row is not None
    registered, enabled, installed, permitted = row
    if not registered:
        return ("registered",)
    found: dict[Requirement, bool] = {"enabled": enabled, "installed": installed, "permitted": permitted}
    return tuple(requirement for requirement, holds in found.items() if not holds)


def list_plugins(connection: Connection, tenant_id: UUID | None = None) -> list[PluginRow]:
    """Return the registry, with what is installed for the tenant."""
    with connection.cursor(row_factory=class_row(PluginRow)) as cursor:
        return cursor.execute(sql(PACKAGE, "list_plugins"), {"tenant_id": tenant_id}).fetchall()


def plugin_names(connection: Connection) -> list[str]:
    """Return the names of all registered plugins."""
    return [row[0] for row in connection.execute("SELECT plugin FROM plugin_registry ORDER BY plugin")]


def list_roles(connection: Connection) -> list[RoleRow]:
    with connection.cursor(row_factory=class_row(RoleRow)) as cursor:
        return cursor.execute(sql(PACKAGE, "list_roles")).fetchall()


def roles_of_user(connection: Connection, tenant_id: UUID, user_id: UUID) -> list[UserRoleRow]:
    with connection.cursor(row_factory=class_row(UserRoleRow)) as cursor:
        return cursor.execute(
            "SELECT role, granted_by, granted_at FROM user_roles WHERE tenant_id = %s AND user_id = %s ORDER BY role",
            [tenant_id, user_id],
        ).fetchall()


def affected_users(
    connection: Connection, *, tenant_id: UUID | None = None, role: str | None = None
) -> Iterator[list[UUID]]:
    """Yield pages of the users of a tenant (None: of all) who have a role (None: any or none)."""
    last = (UUID(int=0), UUID(int=0))
    while True:
        page = connection.execute(
            sql(PACKAGE, "affected_users"),
            {
                "tenant_id": tenant_id,
                "role": role,
                "after_tenant_id": last[0],
                "after_user_id": last[1],
                "page": PAGE_USERS,
            },
        ).fetchall()
        if page:
            yield [user_id for _, user_id in page]
        if len(page) < PAGE_USERS:
            return
        last = page[-1]


def write_event(
    connection: Connection,
    tenant_id: UUID,
    kind: str,
    author: Author,
    subject_id: UUID | None,
    detail: dict[str, Any],
) -> None:
    """Append to a tenant's log."""
    connection.execute(
        "INSERT INTO events (tenant_id, kind, actor, subject_id, correlation_id, detail)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        [tenant_id, kind, author.actor, subject_id, author.correlation_id, Jsonb(detail)],
    )

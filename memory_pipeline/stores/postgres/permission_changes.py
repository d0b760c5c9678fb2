"""Changes of roles, permissions and plugins, each with its event. They need memory_pipeline.

Each returns whether anything changed: made again it changes nothing and writes no event. A change that concerns one
tenant is an event of it, one that concerns all of them is a row of auth_events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.types.json import Jsonb

from memory_pipeline.model.errors import InvalidRequestError, NotFoundError
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.postgres.permissions import (
    PIPELINE_ROLE,
    RUN_PLUGIN,
    Author,
    is_plugin_name,
    plugin_names,
    write_event,
)
from memory_pipeline.stores.sqlfiles import sql

_NEW_PLUGIN_ROLES = ["admin", "member", PIPELINE_ROLE]


# -- what a user may do --


def grant_role(connection: Connection, tenant_id: UUID, user_id: UUID, role: str, author: Author) -> bool:
    """Give a user a role in their tenant. Raises NotFoundError, InvalidRequestError for the stages' own role."""
    _require_role(connection, role)
    if role == PIPELINE_ROLE:
        raise InvalidRequestError(f"{role} is what the stages of the pipeline act as; no user can have it.")
    changed = _changed(
        connection.execute(
            "INSERT INTO user_roles (tenant_id, user_id, role, granted_by) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            [tenant_id, user_id, role, author.actor],
        )
    )
    if changed:
        write_event(connection, tenant_id, "role_granted", author, user_id, {"role": role})
    return changed


def revoke_role(connection: Connection, tenant_id: UUID, user_id: UUID, role: str, author: Author) -> bool:
    """Take a role from a user. Raises NotFoundError for a role that does not exist."""
    _require_role(connection, role)
    changed = _changed(
        connection.execute(
            "DELETE FROM user_roles WHERE tenant_id = %s AND user_id = %s AND role = %s", [tenant_id, user_id, role]
        )
    )
    if changed:
        write_event(connection, tenant_id, "role_revoked", author, user_id, {"role": role})
    return changed


def allow(connection: Connection, role: str, permission: str, author: Author) -> bool:
    """Have a role allow something, in every tenant. Raises NotFoundError."""
    _require_role(connection, role)
    _require_permission(connection, permission)
    changed = _changed(
        connection.execute(
            "INSERT INTO role_permissions (role, permission) VALUES (%s, %s) ON CONFLICT DO NOTHING", [role, permission]
        )
    )
    if changed:
        _write_common_event(connection, "permission_allowed", author, {"role": role, "permission": permission})
    return changed


def deny(connection: Connection, role: str, permission: str, author: Author) -> bool:
    """Have a role no longer allow something, in every tenant. Raises NotFoundError."""
    _require_role(connection, role)
    _require_permission(connection, permission)
    changed = _changed(
        connection.execute("DELETE FROM role_permissions WHERE role = %s AND permission = %s", [role, permission])
    )
    if changed:
        _write_common_event(connection, "permission_denied", author, {"role": role, "permission": permission})
    return changed


# -- which plugins run --


def install_plugin(connection: Connection, tenant_id: UUID, plugin: str, author: Author) -> bool:
    """Let a plugin see a tenant's messages. Raises NotFoundError."""
    _require_plugin(connection, plugin)
    changed = _changed(
        connection.execute(
            "INSERT INTO plugin_installs (tenant_id, plugin, installed_by) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [tenant_id, plugin, author.actor],
        )
    )
    if changed:
        write_event(connection, tenant_id, "plugin_installed", author, None, {"plugin": plugin})
    return changed


def uninstall_plugin(connection: Connection, tenant_id: UUID, plugin: str, author: Author) -> bool:
    """Keep a plugin from a tenant's messages; what it made before stays. Raises NotFoundError."""
    _require_plugin(connection, plugin)
    changed = _changed(
        connection.execute("DELETE FROM plugin_installs WHERE tenant_id = %s AND plugin = %s", [tenant_id, plugin])
    )
    if changed:
        write_event(connection, tenant_id, "plugin_uninstalled", author, None, {"plugin": plugin})
    return changed


def set_plugin_enabled(connection: Connection, plugin: str, author: Author, *, enabled: bool) -> bool:
    """Let a plugin run where it is installed and permitted, or for nobody. Raises NotFoundError."""
    _require_plugin(connection, plugin)
    changed = _changed(
        connection.execute(
            "UPDATE plugin_registry SET enabled = %s WHERE plugin = %s AND enabled <> %s", [enabled, plugin, enabled]
        )
    )
    if changed:
        kind = "plugin_enabled" if enabled else "plugin_disabled"
        _write_common_event(connection, kind, author, {"plugin": plugin})
    return changed


def register_plugin(
    connection: Connection,
    plugin: str,
    description: str,
    author: Author,
    *,
    default_install: bool,
    costs: bool | None = None,
) -> bool:
    """Add a plugin with its permission, or bring its description up to date. Raises InvalidRequestError.

    `costs` says whether running it costs money, so that rate limits hold for it; None leaves that as it is.

    A new one may be run by the roles that may run those shipped; what was denied since stays denied.
    """
    if not is_plugin_name(plugin):
        raise InvalidRequestError(
            f"{plugin!r} can't be a plugin: a name is enricher:NAME, embedder:NAME or summarizer:NAME, with lower-case "
            "letters, digits, hyphens and underscores, at most 63 of them."
        )
    row = connection.execute(
        sql(PACKAGE, "register_plugin"),
        {"plugin": plugin, "description": description, "default_install": default_install, "costs": costs},
    ).fetchone()
    if row is None:
        return False
    (added,) = row
    if added:
        permission = RUN_PLUGIN + plugin
        connection.execute(
            "INSERT INTO permissions (permission, description) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            [permission, f"run {plugin}"],
        )
        connection.execute(
            "INSERT INTO role_permissions (role, permission) SELECT role, %s FROM roles WHERE role = ANY(%s)"
            " ON CONFLICT DO NOTHING",
            [permission, _NEW_PLUGIN_ROLES],
        )
    kind = "plugin_registered" if added else "plugin_described"
    stated = {} if costs is None else {"costs": costs}
    _write_common_event(connection, kind, author, {"plugin": plugin, "default_install": default_install} | stated)
    return True


# -- shared --


def _changed(cursor: Cursor[Any]) -> bool:
    return cursor.rowcount > 0


def _require_role(connection: Connection, role: str) -> None:
    _require(role, "role", [row[0] for row in connection.execute("SELECT role FROM roles ORDER BY role")])


def _require_permission(connection: Connection, permission: str) -> None:
    rows = connection.execute("SELECT permission FROM permissions ORDER BY permission")
    _require(permission, "permission", [row[0] for row in rows])


def _require_plugin(connection: Connection, plugin: str) -> None:
    _require(plugin, "plugin", plugin_names(connection))


def _require(name: str, kind: str, known: Sequence[str]) -> None:
    if name not in known:
        raise NotFoundError(f"there is no {kind} {name!r}; there are {', '.join(known)}.")


def _write_common_event(connection: Connection, kind: str, author: Author, detail: dict[str, Any]) -> None:
    connection.execute(
        "INSERT INTO auth_events (kind, actor, correlation_id, detail) VALUES (%s, %s, %s, %s)",
        [kind, author.actor, author.correlation_id, Jsonb(detail)],
    )

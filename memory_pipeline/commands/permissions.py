"""`plugins` and `roles`: what runs for which tenant, and what users may do. Every change is an event."""

from __future__ import annotations

from memory_pipeline.commands.desk import open_desk
from memory_pipeline.commands.output import number, out, print_json, table
from memory_pipeline.serving.permissions import Affected, Change
from memory_pipeline.stores.postgres import permission_changes as changes
from memory_pipeline.stores.postgres.permissions import (
    RUN_PLUGIN,
    list_plugins,
    list_roles,
    roles_of_user,
)
from memory_pipeline.stores.postgres.tenants import find_user, tenant_id_of

# -- plugins --


def list_plugins_command(tenant: str | None, *, json: bool) -> int:
    """Show the registry, with what is installed for a tenant where one is named."""
    with open_desk() as desk, desk.database.transaction() as connection:
        rows = list_plugins(connection, None if tenant is None else tenant_id_of(connection, tenant))
    if json:
        print_json(rows)
        return 0
    grid = table(
        "Plugins", "plugin", "enabled", "for new tenants", "costs", tenant or "tenants", "roles", "what it does"
    )
    for row in rows:
        installed = number(row.tenants) if row.installed is None else _yes(row.installed)
        cells = (
            _yes(row.enabled),
            _yes(row.default_install),
            _yes(row.costs),
            installed,
            ", ".join(row.roles) or "none",
        )
        grid.add_row(row.plugin, *cells, row.description)
    out.print(grid)
    return 0


def install_command(plugin: str, tenant: str) -> int:
    """Let a plugin see a tenant's messages."""
    with open_desk() as desk:
        with desk.database.transaction() as connection:
            tenant_id = tenant_id_of(connection, tenant)
        change = desk.change(
            lambda connection: changes.install_plugin(connection, tenant_id, plugin, desk.author),
            Affected(plugins=(plugin,), permissions=False, tenant_id=tenant_id),
        )
    return _say(change, f"{plugin} is installed for {tenant}")


def uninstall_command(plugin: str, tenant: str) -> int:
    """Keep a plugin from a tenant's messages."""
    with open_desk() as desk:
        with desk.database.transaction() as connection:
            tenant_id = tenant_id_of(connection, tenant)
        change = desk.change(
            lambda connection: changes.uninstall_plugin(connection, tenant_id, plugin, desk.author),
            Affected(plugins=(plugin,), permissions=False, tenant_id=tenant_id),
        )
    return _say(change, f"{plugin} is not installed for {tenant}")


def enable_command(plugin: str, *, enabled: bool) -> int:
    """Let a plugin run where it is installed and permitted, or for nobody."""
    with open_desk() as desk:
        change = desk.change(
            lambda connection: changes.set_plugin_enabled(connection, plugin, desk.author, enabled=enabled),
            Affected(plugins=(plugin,), permissions=False),
        )
    return _say(change, f"{plugin} is {'enabled' if enabled else 'disabled'}")


def register_command(plugin: str, description: str, *, default_install: bool, costs: bool | None = None) -> int:
    """Add a plugin to the registry, or change what the registry says of it."""
    with open_desk(make_home=True) as desk:
        change = desk.change(
            lambda connection: changes.register_plugin(
                connection, plugin, description, desk.author, default_install=default_install, costs=costs
            ),
            # The roles that may run it have a permission more.
            Affected(plugins=(plugin,), permissions=True),
        )
    return _say(change, f"{plugin} is registered")


# -- roles --


def list_roles_command(user: str | None, tenant: str | None, *, json: bool) -> int:
    """Show every role with what it allows, or the roles of a user."""
    if user is not None:
        return _list_roles_of(user, tenant, json=json)
    with open_desk() as desk, desk.database.transaction() as connection:
        rows = list_roles(connection)
    if json:
        print_json(rows)
        return 0
    grid = table("Roles", "role", "users", "allows", "who it is for")
    for row in rows:
        grid.add_row(row.role, number(row.users), "\n".join(row.permissions) or "nothing", row.description)
    out.print(grid)
    return 0


def _list_roles_of(email: str, tenant: str | None, *, json: bool) -> int:
    with open_desk() as desk, desk.database.transaction() as connection:
        user = find_user(connection, email, tenant)
        rows = roles_of_user(connection, user.tenant_id, user.user_id)
    if json:
        print_json(rows)
        return 0
    grid = table(f"Roles of {user.email} in {user.tenant_slug}", "role", "granted by", "granted at")
    for row in rows:
        grid.add_row(row.role, row.granted_by, f"{row.granted_at:%Y-%m-%d %H:%M} UTC")
    out.print(grid)
    return 0


def grant_command(role: str, email: str, tenant: str | None) -> int:
    """Give a user a role."""
    with open_desk() as desk:
        with desk.database.transaction() as connection:
            user = find_user(connection, email, tenant)
        change = desk.change(
            lambda connection: changes.grant_role(connection, user.tenant_id, user.user_id, role, desk.author),
            Affected(plugins=None, permissions=True, user_id=user.user_id),
        )
    return _say(change, f"{user.email} is {role} in {user.tenant_slug}")


def revoke_command(role: str, email: str, tenant: str | None) -> int:
    """Take a role from a user."""
    with open_desk() as desk:
        with desk.database.transaction() as connection:
            user = find_user(connection, email, tenant)
        change = desk.change(
            lambda connection: changes.revoke_role(connection, user.tenant_id, user.user_id, role, desk.author),
            Affected(plugins=None, permissions=True, user_id=user.user_id),
        )
    return _say(change, f"{user.email} is not {role} in {user.tenant_slug}")


def allow_command(role: str, permission: str) -> int:
    """Have a role allow something in every tenant."""
    with open_desk(make_home=True) as desk:
        change = desk.change(
            lambda connection: changes.allow(connection, role, permission, desk.author), _of_role(role, permission)
        )
    return _say(change, f"{role} allows {permission}")


def deny_command(role: str, permission: str) -> int:
    """Have a role no longer allow something, in every tenant."""
    with open_desk() as desk:
        change = desk.change(
            lambda connection: changes.deny(connection, role, permission, desk.author), _of_role(role, permission)
        )
    return _say(change, f"{role} does not allow {permission}")


def _of_role(role: str, permission: str) -> Affected:
    plugins = (permission.removeprefix(RUN_PLUGIN),) if permission.startswith(RUN_PLUGIN) else ()
    return Affected(plugins=plugins, permissions=True, role=role)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _say(change: Change, state: str) -> int:
    made = "now" if change.changed else "as before"
    out.print(
        f"{state} ({made}); cached answers dropped for {number(change.users)} users", highlight=False, soft_wrap=True
    )
    return 0

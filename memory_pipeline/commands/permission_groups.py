"""The options of `plugins` and `roles`. Their work is in commands/permissions.py, imported when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

plugins = typer.Typer(
    name="plugins", help="Which enrichers, embedders and summarizers run for whom.", no_args_is_help=True
)
Plugin = Annotated[str, typer.Argument(help="Name such as `embedder:openai`.")]


@plugins.command("list")
def plugins_list(
    tenant: Annotated[str | None, typer.Option(help="Show what is installed for this tenant.")] = None,
    json: Json = False,
) -> None:
    """Show the registered plugins.

    Example: `memory-pipeline plugins list --tenant acme`
    """
    from memory_pipeline.commands.permissions import list_plugins_command

    raise typer.Exit(list_plugins_command(tenant, json=json))


@plugins.command("install")
def plugins_install(plugin: Plugin, tenant: Annotated[str, typer.Option(help="Slug of the tenant.")]) -> None:
    """Let a plugin see a tenant's messages.

    Example: `memory-pipeline plugins install embedder:openai --tenant acme`
    """
    from memory_pipeline.commands.permissions import install_command

    raise typer.Exit(install_command(plugin, tenant))


@plugins.command("uninstall")
def plugins_uninstall(plugin: Plugin, tenant: Annotated[str, typer.Option(help="Slug of the tenant.")]) -> None:
    """Keep a plugin from a tenant's messages; what it made before stays.

    Example: `memory-pipeline plugins uninstall embedder:openai --tenant acme`
    """
    from memory_pipeline.commands.permissions import uninstall_command

    raise typer.Exit(uninstall_command(plugin, tenant))


@plugins.command("enable")
def plugins_enable(plugin: Plugin) -> None:
    """Let a plugin run wherever it is installed and permitted.

    Example: `memory-pipeline plugins enable embedder:openai`
    """
    from memory_pipeline.commands.permissions import enable_command

    raise typer.Exit(enable_command(plugin, enabled=True))


@plugins.command("disable")
def plugins_disable(plugin: Plugin) -> None:
    """Keep a plugin from running for anybody.

    Example: `memory-pipeline plugins disable embedder:openai`
    """
    from memory_pipeline.commands.permissions import enable_command

    raise typer.Exit(enable_command(plugin, enabled=False))


@plugins.command("register")
def plugins_register(
    plugin: Plugin,
    description: Annotated[str, typer.Option(help="What it does, and whether text leaves this machine.")],
    default_install: Annotated[
        bool,
        typer.Option("--default-install/--no-default-install", help="Install it for every tenant made from now on."),
    ] = False,
    costs: Annotated[
        bool | None,
        typer.Option("--costs/--no-costs", help="Running it costs money, so rate limits hold; default as it is."),
    ] = None,
) -> None:
    """Add a plugin to the registry, or change what it says there. Roles admin, member and pipeline may run a new one.

    Example: `memory-pipeline plugins register enricher:llm --description "asks a language model"`
    """
    from memory_pipeline.commands.permissions import register_command

    raise typer.Exit(register_command(plugin, description, default_install=default_install, costs=costs))


roles = typer.Typer(name="roles", help="What users may do: roles of users, permissions of roles.", no_args_is_help=True)
RoleName = Annotated[str, typer.Argument(help="Name such as `reader`.")]
Permission = Annotated[str, typer.Argument(help="Name such as `analytics:read`.")]
UserEmail = Annotated[str, typer.Option("--user", help="E-mail of the user.")]
UserTenant = Annotated[str | None, typer.Option("--tenant", help="Tenant, where the e-mail is known in several.")]


@roles.command("list")
def roles_list(
    user: Annotated[str | None, typer.Option(help="Show the roles of the user with this e-mail.")] = None,
    tenant: UserTenant = None,
    json: Json = False,
) -> None:
    """Show every role and what it allows, or the roles of one user.

    Example: `memory-pipeline roles list --user ana@example.org`
    """
    from memory_pipeline.commands.permissions import list_roles_command

    raise typer.Exit(list_roles_command(user, tenant, json=json))


@roles.command("grant")
def roles_grant(role: RoleName, user: UserEmail, tenant: UserTenant = None) -> None:
    """Give a user a role in their tenant.

    Example: `memory-pipeline roles grant admin --user ana@example.org`
    """
    from memory_pipeline.commands.permissions import grant_command

    raise typer.Exit(grant_command(role, user, tenant))


@roles.command("revoke")
def roles_revoke(role: RoleName, user: UserEmail, tenant: UserTenant = None) -> None:
    """Take a role from a user.

    Example: `memory-pipeline roles revoke admin --user ana@example.org`
    """
    from memory_pipeline.commands.permissions import revoke_command

    raise typer.Exit(revoke_command(role, user, tenant))


@roles.command("allow")
def roles_allow(role: RoleName, permission: Permission) -> None:
    """Have a role allow something, in every tenant.

    Example: `memory-pipeline roles allow member analytics:read`
    """
    from memory_pipeline.commands.permissions import allow_command

    raise typer.Exit(allow_command(role, permission))


@roles.command("deny")
def roles_deny(role: RoleName, permission: Permission) -> None:
    """Have a role no longer allow something, in every tenant.

    Example: `memory-pipeline roles deny member conversations:delete`
    """
    from memory_pipeline.commands.permissions import deny_command

    raise typer.Exit(deny_command(role, permission))

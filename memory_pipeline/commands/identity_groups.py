"""The options of `identity`, `users` and `tenants`. Their work is in commands/identities.py, imported when it runs."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

identity = typer.Typer(
    name="identity", help="Logins of identity providers, and the users they are.", no_args_is_help=True
)
users = typer.Typer(name="users", help="Users of the tenants, and tokens to try things with.", no_args_is_help=True)
tenants = typer.Typer(name="tenants", help="Tenants: locked owners of data.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Subject = Annotated[str, typer.Argument(help="What the issuer calls the login, the `sub` of its tokens.")]
Issuer = Annotated[str | None, typer.Option(help="The issuer; may be left out where only one has this subject.")]
Tenant = Annotated[str | None, typer.Option(help="Slug of the tenant, where the e-mail is known in several.")]
OnlyTenant = Annotated[str | None, typer.Option(help="Only of the tenant with this slug.")]
Email = Annotated[str, typer.Argument(help="E-mail of the user.")]
Slug = Annotated[str, typer.Argument(help="Slug: lower-case letters, digits and hyphens.")]


@identity.command("pending")
def identity_pending(json: Json = False) -> None:
    """List the logins that came and wait to be linked.

    Example: `memory-pipeline identity pending`
    """
    from memory_pipeline.commands.identities import identity_list_command

    raise typer.Exit(identity_list_command("pending", None, None, json=json))


@identity.command("list")
def identity_list(
    state: Annotated[
        Literal["pending", "linked", "revoked"] | None, typer.Option(help="Only those in this state.")
    ] = None,
    tenant: OnlyTenant = None,
    user: Annotated[str | None, typer.Option(help="Only those linked to the user with this e-mail.")] = None,
    json: Json = False,
) -> None:
    """List logins, the newest first.

    Example: `memory-pipeline identity list --state linked --tenant acme`
    """
    from memory_pipeline.commands.identities import identity_list_command

    raise typer.Exit(identity_list_command(state, tenant, user, json=json))


@identity.command("link")
def identity_link(
    subject: Subject,
    user: Annotated[str, typer.Option(help="E-mail of the user it is.")],
    issuer: Issuer = None,
    tenant: Tenant = None,
    unseen: Annotated[bool, typer.Option("--unseen", help="Also a login that never came; name its --issuer.")] = False,
    json: Json = False,
) -> None:
    """Link a login to a user. It stays in the user's tenant for ever.

    Example: `memory-pipeline identity link 'auth0|5f7c8ec7c33c6c004bbafe82' --user ana@example.org --tenant acme`
    """
    from memory_pipeline.commands.identities import identity_link_command

    raise typer.Exit(identity_link_command(subject, issuer, user, tenant, unseen=unseen, json=json))


@identity.command("revoke")
def identity_revoke(subject: Subject, issuer: Issuer = None, json: Json = False) -> None:
    """Refuse a login from now on, and end its sessions. Linking it again lets new tokens in, never the old ones.

    Example: `memory-pipeline identity revoke 'auth0|5f7c8ec7c33c6c004bbafe82'`
    """
    from memory_pipeline.commands.identities import identity_revoke_command

    raise typer.Exit(identity_revoke_command(subject, issuer, json=json))


@identity.command("sessions")
def identity_sessions(
    user: Annotated[str, typer.Option(help="E-mail of the user.")], tenant: Tenant = None, json: Json = False
) -> None:
    """List a user's sessions whose tokens have not expired, the last used first.

    Example: `memory-pipeline identity sessions --user ana@example.org`
    """
    from memory_pipeline.commands.user_sessions import list_command

    raise typer.Exit(list_command(user, tenant, json=json))


@identity.command("end-session")
def identity_end_session(
    session: Annotated[str, typer.Argument(help="The session, as `identity sessions` shows it.")], json: Json = False
) -> None:
    """Refuse one token from now on; the user's other sessions go on.

    Example: `memory-pipeline identity end-session 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`
    """
    from memory_pipeline.commands.user_sessions import end_command

    raise typer.Exit(end_command(session, json=json))


@users.command("token")
def users_token(
    user: Annotated[str, typer.Option(help="E-mail of the user.")],
    tenant: Tenant = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make the user, and the tenant (`default` unless named), where missing.")
    ] = False,
    lifetime: Annotated[int, typer.Option(min=60, max=31_536_000, help="Seconds it is valid.")] = 86_400,
    json: Json = False,
) -> None:
    """Print a token of the development issuer that `memory-pipeline up` makes: for trying things on one machine.

    Example: `TOKEN=$(memory-pipeline users token --user ana@example.org --create)`
    """
    from memory_pipeline.commands.identities import users_token_command

    raise typer.Exit(users_token_command(user, tenant, lifetime, create=create, json=json))


@users.command("add")
def users_add(
    email: Email,
    tenant: Annotated[str, typer.Option(help="Slug of the tenant they belong to for ever.")],
    name: Annotated[str | None, typer.Option(help="What they are called; default the e-mail's first part.")] = None,
    json: Json = False,
) -> None:
    """Add a user to a tenant, with the role `member`.

    Example: `memory-pipeline users add ana@example.org --tenant acme --name "Ana"`
    """
    from memory_pipeline.commands.identities import users_add_command

    raise typer.Exit(users_add_command(email, tenant, name, json=json))


@users.command("list")
def users_list(tenant: OnlyTenant = None, json: Json = False) -> None:
    """List users with their roles.

    Example: `memory-pipeline users list --tenant acme`
    """
    from memory_pipeline.commands.identities import users_list_command

    raise typer.Exit(users_list_command(tenant, json=json))


@users.command("disable")
def users_disable(email: Email, tenant: Tenant = None, json: Json = False) -> None:
    """Refuse a user from now on, whatever login they come with. Their data stays.

    Example: `memory-pipeline users disable ana@example.org`
    """
    from memory_pipeline.commands.identities import users_status_command

    raise typer.Exit(users_status_command(email, tenant, "disabled", json=json))


@users.command("enable")
def users_enable(email: Email, tenant: Tenant = None, json: Json = False) -> None:
    """Let a disabled user in again.

    Example: `memory-pipeline users enable ana@example.org`
    """
    from memory_pipeline.commands.identities import users_status_command

    raise typer.Exit(users_status_command(email, tenant, "active", json=json))


@tenants.command("add")
def tenants_add(
    slug: Slug,
    name: Annotated[str | None, typer.Option(help="What people call it; default the slug.")] = None,
    json: Json = False,
) -> None:
    """Add a tenant.

    Example: `memory-pipeline tenants add acme --name "Acme Ltd"`
    """
    from memory_pipeline.commands.identities import tenants_add_command

    raise typer.Exit(tenants_add_command(slug, name, json=json))


@tenants.command("list")
def tenants_list(json: Json = False) -> None:
    """List tenants.

    Example: `memory-pipeline tenants list --json`
    """
    from memory_pipeline.commands.identities import tenants_list_command

    raise typer.Exit(tenants_list_command(json=json))


@tenants.command("suspend")
def tenants_suspend(slug: Slug, json: Json = False) -> None:
    """Refuse all users of a tenant from now on. Their data stays.

    Example: `memory-pipeline tenants suspend acme`
    """
    from memory_pipeline.commands.identities import tenants_status_command

    raise typer.Exit(tenants_status_command(slug, "suspended", json=json))


@tenants.command("activate")
def tenants_activate(slug: Slug, json: Json = False) -> None:
    """Let the users of a suspended tenant in again.

    Example: `memory-pipeline tenants activate acme`
    """
    from memory_pipeline.commands.identities import tenants_status_command

    raise typer.Exit(tenants_status_command(slug, "active", json=json))

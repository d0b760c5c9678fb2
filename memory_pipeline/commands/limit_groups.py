"""The options of `limits`. The work is in commands/limits.py, imported when it runs."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

limits = typer.Typer(
    name="limits",
    help="How much of what costs money may be done in an hour. What is over a limit waits.",
    no_args_is_help=True,
)

What = Annotated[Literal["embedding", "relation_detection"], typer.Argument(help="The work that is limited.")]
TenantSlug = Annotated[str, typer.Option("--tenant", help="Slug of the tenant.")]
UserEmail = Annotated[str | None, typer.Option("--user", help="E-mail of one user of it; default the whole tenant.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


@limits.command("list")
def limits_list(
    tenant: Annotated[str | None, typer.Option(help="Only of the tenant with this slug.")] = None, json: Json = False
) -> None:
    """Show the limits that were set; where there is none, the settings hold.

    Example: `memory-pipeline limits list --tenant acme`
    """
    from memory_pipeline.commands.limits import list_command

    raise typer.Exit(list_command(tenant, json=json))


@limits.command("set")
def limits_set(
    what: What,
    per_hour: Annotated[int, typer.Argument(min=0, max=1_000_000, help="Most within any 60 minutes; 0 is none.")],
    tenant: TenantSlug,
    user: UserEmail = None,
    json: Json = False,
) -> None:
    """Limit a tenant, or one user of it. It holds for plugins that cost money, from the next piece of work on.

    Example: `memory-pipeline limits set embedding 5000 --tenant acme`
    """
    from memory_pipeline.commands.limits import set_command

    raise typer.Exit(set_command(what, per_hour, tenant, user, json=json))


@limits.command("unset")
def limits_unset(what: What, tenant: TenantSlug, user: UserEmail = None, json: Json = False) -> None:
    """Have the settings hold again.

    Example: `memory-pipeline limits unset embedding --tenant acme --user ana@example.org`
    """
    from memory_pipeline.commands.limits import unset_command

    raise typer.Exit(unset_command(what, tenant, user, json=json))

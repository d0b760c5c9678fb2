"""The options of `flags`. The work is in commands/flags.py, imported when it runs."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

flags = typer.Typer(name="flags", help="What is switched on, changed while everything runs.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
FlagName = Annotated[str, typer.Argument(help="Name such as `enrichment`.")]


@flags.command("list")
def flags_list(json: Json = False) -> None:
    """Show every flag: whether it is on, by whom it was set, and what the settings of this command say.

    Example: `memory-pipeline flags list`
    """
    from memory_pipeline.commands.flags import list_command

    raise typer.Exit(list_command(json=json))


@flags.command("set")
def flags_set(flag: FlagName, state: Annotated[Literal["on", "off"], typer.Argument(help="on or off.")]) -> None:
    """Switch something on or off in every process, whatever its settings say. What is off leaves its work pending.

    Example: `memory-pipeline flags set enrichment off`
    """
    from memory_pipeline.commands.flags import set_command

    raise typer.Exit(set_command(flag, enabled=state == "on"))


@flags.command("unset")
def flags_unset(flag: FlagName) -> None:
    """Have the settings of each process hold again.

    Example: `memory-pipeline flags unset enrichment`
    """
    from memory_pipeline.commands.flags import unset_command

    raise typer.Exit(unset_command(flag))

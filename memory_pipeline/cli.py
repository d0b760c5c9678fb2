"""The command line. Each command imports its work when it runs: `--help` must not wait for heavy libraries.

Exit codes: 0 done; 1 done, but something was rejected, failed or found; 2 wrong usage, setting or record; 3 a store or
provider can't be reached.
"""

from __future__ import annotations

import sys
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from memory_pipeline import __version__
from memory_pipeline.model.errors import MemoryPipelineError

app = typer.Typer(
    name="memory-pipeline",
    help="Long-term memory for chat products: messages in Postgres become facts, embeddings, indexes and analytics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="A UTC day, YYYY-MM-DD.")]


def main() -> NoReturn:
    """Run the command line; an error of ours is one sentence and an exit code."""
    try:
        app()
    except MemoryPipelineError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
    sys.exit(0)


def _finish(exit_code: int) -> None:
    if exit_code:
        raise typer.Exit(exit_code)


def _day(value: datetime | None) -> date | None:
    return value.date() if value else None


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command("import")
def import_(
    format: Annotated[Literal["jsonl", "chatgpt", "slack", "locomo"], typer.Argument(help="What kind of file it is.")],
    path: Annotated[Path, typer.Argument(help="File, folder or zip; `-` reads JSON Lines from standard input.")],
    tenant: Annotated[str, typer.Option(help="Slug of the tenant; created where it is new.")] = "default",
    user: Annotated[str | None, typer.Option(help="E-mail of the user whose memory it is.")] = None,
    project: Annotated[str | None, typer.Option(help="Project to file the conversations under.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every record, write nothing.")] = False,
    json: Json = False,
) -> None:
    """Import conversations. Running it again changes nothing; bad records are named and the good ones kept.

    Example: `memory-pipeline import chatgpt export.zip --tenant acme --user ana@example.org`
    """
    from memory_pipeline.commands.importing import import_file

    _finish(import_file(format, path, tenant, user, project, dry_run=dry_run, json=json))


@app.command()
def materialize(
    assets: Annotated[list[str] | None, typer.Argument(help="Assets by name; none means all of them.")] = None,
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First UTC day.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last UTC day, included.")] = None,
    json: Json = False,
) -> None:
    """Run the asset graph in Dagster over the days that have messages, or over those named.

    Example: `memory-pipeline materialize memory_embeddings chroma_index --from 2026-06-01 --to 2026-06-30`
    """
    from memory_pipeline.commands.materializing import materialize_command

    _finish(materialize_command(assets or [], _day(first), _day(last), json=json))


if __name__ == "__main__":
    main()

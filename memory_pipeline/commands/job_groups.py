"""The options of `jobs`. The work is in commands/jobs.py, imported when it runs."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

jobs = typer.Typer(name="jobs", help="The ledger of asynchronous work, and its dead letters.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
ErrorClass = Annotated[str | None, typer.Option("--class", help="Only those that failed with this error class.")]


@jobs.command("list")
def jobs_list(
    dead: Annotated[bool, typer.Option("--dead", help="Only dead letters, with why they died.")] = False,
    state: Annotated[
        Literal["pending", "processing", "completed", "failed", "dead"] | None, typer.Option(help="Only in this state.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All jobs by age, completed ones too.")] = False,
    error_class: ErrorClass = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most jobs to show.")] = 50,
    json: Json = False,
) -> None:
    """Show how many jobs there are in each state, and those that are not done, the dead first, then the newest.

    Example: `memory-pipeline jobs list --dead`
    """
    if dead + (state is not None) + all_ > 1:
        raise typer.BadParameter("give one of --dead, --state and --all.")
    from memory_pipeline.commands.jobs import UNFINISHED, list_command

    states = ("dead",) if dead else UNFINISHED if state is None else (state,)
    raise typer.Exit(list_command(None if all_ else states, error_class, limit, json=json))


@jobs.command("show")
def jobs_show(job_id: Annotated[str, typer.Argument(help="Id of the job.")], json: Json = False) -> None:
    """Show all that the ledger knows of a job.

    Example: `memory-pipeline jobs show 019e849a-4010-7cc2-8a5e-6a3c1e0d9b11`
    """
    from memory_pipeline.commands.jobs import show_command

    raise typer.Exit(show_command(job_id, json=json))


@jobs.command("retry")
def jobs_retry(
    job_id: Annotated[str | None, typer.Argument(help="Id of one dead job.")] = None,
    error_class: ErrorClass = None,
    all_: Annotated[bool, typer.Option("--all", help="All dead jobs.")] = False,
    rate: Annotated[float, typer.Option(min=0.1, help="Most jobs made pending a second.")] = 200.0,
    json: Json = False,
) -> None:
    """Make dead jobs pending again: one, those of a class, or all. Interrupted, it is simply begun again.

    Example: `memory-pipeline jobs retry --class ProviderError`
    """
    from memory_pipeline.commands.jobs import retry_command

    raise typer.Exit(retry_command(job_id, error_class, everything=all_, rate=rate, json=json))

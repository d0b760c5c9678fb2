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
from memory_pipeline.commands import flag_groups, identity_groups, job_groups, limit_groups, permission_groups
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.terminal import visible

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
        typer.secho(f"error: {visible(str(error))}", fg="red", err=True)
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
    rejects: Annotated[
        Path | None, typer.Option(help="File for all rejected records, one JSON line each; default MEMORY_HOME/logs.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every record by itself, write nothing.")] = False,
    json: Json = False,
) -> None:
    """Import conversations. Running it again changes nothing; bad records are named and the good ones kept.

    Example: `memory-pipeline import chatgpt export.zip --tenant acme --user ana@example.org`
    """
    from memory_pipeline.commands.importing import import_file

    _finish(import_file(format, path, tenant, user, project, rejects, dry_run=dry_run, json=json))


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


@app.command()
def up() -> None:
    """Run the local stack with the API, the Dagster UI and its daemon until Ctrl-C.

    Example: `memory-pipeline up`, then open the addresses it prints.
    """
    from memory_pipeline.commands.operating import up_command

    _finish(up_command())


@app.command()
def api() -> None:
    """Run the API alone, on the stores that the settings name or the stack that is up.

    Example: `MEMORY_API_PORT=8080 memory-pipeline api`
    """
    from memory_pipeline.commands.operating import api_command

    _finish(api_command())


@app.command()
def worker() -> None:
    """Run a worker alone, on the stores that the settings name or the stack that is up. Any number may run.

    Example: `MEMORY_WORKER_PORT=9465 memory-pipeline worker`
    """
    from memory_pipeline.commands.operating import worker_command

    _finish(worker_command())


@app.command()
def env() -> None:
    """Print the addresses of the stack that is up, as shell exports.

    Example: `eval "$(memory-pipeline env)" && dagster dev`
    """
    from memory_pipeline.commands.operating import env_command

    _finish(env_command())


@app.command()
def status(json: Json = False) -> None:
    """Show how many rows each store holds, tenant by tenant.

    Example: `memory-pipeline status --json`
    """
    from memory_pipeline.commands.operating import status_command

    _finish(status_command(json=json))


@app.command()
def doctor(json: Json = False) -> None:
    """Run every start-up check, a line each: ok, or what to do.

    Example: `memory-pipeline doctor`
    """
    from memory_pipeline.commands.operating import doctor_command

    _finish(doctor_command(json=json))


@app.command()
def migrate(
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit 2 where the schema differs.")] = False,
) -> None:
    """Bring the database to the schema of this version.

    Example: `MEMORY_POSTGRES_ADMIN_URL=postgresql://… memory-pipeline migrate`
    """
    from memory_pipeline.commands.operating import migrate_command

    _finish(migrate_command(check=check))


@app.command()
def generate(
    directory: Annotated[Path, typer.Argument(help="Folder for one JSON Lines file per tenant.")],
    messages: Annotated[int, typer.Option(min=1, help="How many messages in all.")] = 10_000,
    tenants: Annotated[int, typer.Option(min=1, help="How many tenants; their sizes are skewed.")] = 3,
    users: Annotated[int, typer.Option(min=1, help="How many users in all.")] = 30,
    days: Annotated[int, typer.Option(min=1, help="Over how many days.")] = 90,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 1,
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="First day.")] = datetime(2026, 1, 1),  # noqa: DTZ001
    json: Json = False,
) -> None:
    """Write synthetic conversations, to try things on and to measure with.

    Example: `memory-pipeline generate /tmp/chats --messages 100000 && memory-pipeline import jsonl /tmp/chats/…`
    """
    from memory_pipeline.commands.generating import generate_command

    _finish(generate_command(directory, messages, tenants, users, days, seed, start.date(), json=json))


@app.command()
def recall(
    query: Annotated[str, typer.Argument(help="What to remember, in plain words.")],
    user: Annotated[str, typer.Option(help="E-mail of the user whose memory is asked.")],
    tenant: Annotated[str | None, typer.Option(help="Tenant, where the e-mail is known in several.")] = None,
    k: Annotated[int | None, typer.Option("--k", min=1, max=200, help="How many memories.")] = None,
    turns: Annotated[int, typer.Option(min=0, max=100, help="How many of the last turns.")] = 0,
    budget: Annotated[int | None, typer.Option(min=1, help="Most tokens the answer may have.")] = None,
    project: Annotated[str | None, typer.Option(help="Only memories of this project.")] = None,
    json: Json = False,
) -> None:
    """Answer a query with a user's memories, each with where it comes from.

    Example: `memory-pipeline recall "where does she live?" --user ana@example.org --k 5`
    """
    from memory_pipeline.commands.recalling import recall_command

    _finish(recall_command(query, user, tenant, k, turns, budget, project, json=json))


@app.command()
def sql(
    query: Annotated[str | None, typer.Argument(help="One SQL query.")] = None,
    question: Annotated[int | None, typer.Option(help="Ask this worked question instead of a query.")] = None,
    questions: Annotated[bool, typer.Option("--questions", help="Only list the worked questions.")] = False,
    format: Annotated[
        Literal["table", "csv", "json", "parquet"], typer.Option(help="How to write the answer.")
    ] = "table",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds before the query is interrupted.")] = 60.0,
    tenant: Annotated[str | None, typer.Option(help="Ask the file that has only this tenant's rows.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Most rows; a table has at most 10,000 unless this says more.")
    ] = None,
) -> None:
    """Ask the published DuckDB file, read-only: a query, or one of the worked questions.

    Example: `memory-pipeline sql "SELECT * FROM mart_daily_activity ORDER BY day DESC LIMIT 7"`
    """
    from memory_pipeline.commands.querying import ask_question_command, list_questions_command, sql_command

    if (query is not None) + (question is not None) + questions != 1:
        raise typer.BadParameter(
            'give a query, such as "SELECT count(*) FROM messages", or --question with a number, or --questions.'
        )
    if query is not None:
        _finish(sql_command(query, format, timeout, tenant, limit))
    elif question is not None:
        _finish(ask_question_command(question, format, timeout, tenant, limit))
    else:
        _finish(list_questions_command())


@app.command()
def audit(json: Json = False) -> None:
    """Compare every store with Postgres, row by row; exit 1 where something differs.

    Example: `memory-pipeline audit --json`
    """
    from memory_pipeline.commands.auditing import audit_command

    _finish(audit_command(json=json))


@app.command("rebuild-index")
def rebuild_index(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's index.")] = None,
) -> None:
    """Make the Chroma indexes anew from Postgres, without embedding; the old ones serve until the switch.

    Example: `memory-pipeline rebuild-index --tenant acme`
    """
    from memory_pipeline.commands.auditing import rebuild_index_command

    _finish(rebuild_index_command(tenant))


@app.command()
def demo() -> None:
    """Take the sample conversations through the whole pipeline, then ask what a user and an analyst would.

    Example: `memory-pipeline demo`
    """
    from memory_pipeline.commands.demonstrating import demo_command

    _finish(demo_command())


evaluate = typer.Typer(name="eval", help="Measure recall on published benchmarks.", no_args_is_help=True)
app.add_typer(evaluate)
app.add_typer(identity_groups.identity)
app.add_typer(identity_groups.users)
app.add_typer(identity_groups.tenants)
app.add_typer(flag_groups.flags)
app.add_typer(limit_groups.limits)
app.add_typer(job_groups.jobs)
app.add_typer(permission_groups.plugins)
app.add_typer(permission_groups.roles)


@evaluate.command("locomo")
def eval_locomo(
    path: Annotated[Path, typer.Argument(help="A LoCoMo JSON file.")],
    json: Json = False,
) -> None:
    """Print evidence recall@5/10/25/50 on LoCoMo, through the real stores and the real recall path.

    Example: `memory-pipeline eval locomo locomo10.json --json`
    """
    from memory_pipeline.commands.evaluating import eval_locomo_command

    _finish(eval_locomo_command(path, json=json))


export = typer.Typer(name="export", help="The published DuckDB files and the Parquet lake.", no_args_is_help=True)
app.add_typer(export)


@export.command("list")
def export_list(json: Json = False) -> None:
    """Show every published file, for everyone and for single consumers, and the lake at MEMORY_LAKE_URL.

    Example: `memory-pipeline export list`
    """
    from memory_pipeline.commands.exporting import export_list_command

    _finish(export_list_command(json=json))


@export.command("verify")
def export_verify(json: Json = False) -> None:
    """Read the lake (and its copy at MEMORY_LAKE_URL) and every published file; exit 1 where one is not as written.

    Example: `memory-pipeline export verify --json`
    """
    from memory_pipeline.commands.exporting import export_verify_command

    _finish(export_verify_command(json=json))


@export.command("prune")
def export_prune(
    keep: Annotated[
        int | None, typer.Option(min=1, help="Generations kept of each file; default MEMORY_EXPORT_GENERATIONS.")
    ] = None,
    json: Json = False,
) -> None:
    """Remove old generations; the one that is served always stays.

    Example: `memory-pipeline export prune --keep 1`
    """
    from memory_pipeline.commands.exporting import export_prune_command

    _finish(export_prune_command(keep, json=json))


if __name__ == "__main__":
    main()

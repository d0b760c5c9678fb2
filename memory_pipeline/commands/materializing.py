"""`materialize`: Dagster runs over the days that have messages, shown as they go."""

from __future__ import annotations

import time
from datetime import date, timedelta
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn

from memory_pipeline.commands.output import err, number, out, print_json, table
from memory_pipeline.commands.session import require_stores, running_stack
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.window import DayWindow
from memory_pipeline.settings import Settings, load_settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.messages import message_days

if TYPE_CHECKING:
    from memory_pipeline.defs.launch import RunReport, StepReport

_SECONDS_FOR_A_RATE = 0.2
_SHOWN_METADATA = (
    "messages",
    "facts_written",
    "relations_written",
    "memories",
    "texts_embedded",
    "reused",
    "added",
    "updated",
    "removed",
    "summaries",
    "rows",
    "findings",
    "failed",
)


def days_to_materialize(settings: Settings, first: date | None, last: date | None) -> DayWindow:
    """Return the days from `first` to `last` (both included); left open, those that have messages."""
    if first is None or last is None:
        with Pipeline(settings) as pipeline, pipeline.database.transaction() as connection:
            days = [entry.day for entry in message_days(connection)]
        if not days:
            raise MemoryPipelineError(
                "there are no messages yet, so there is nothing to materialize; `memory-pipeline import` some first."
            )
        first = days[0] if first is None else first
        last = days[-1] if last is None else last
    if last < first:
        raise MemoryPipelineError(f"--to {last} lies before --from {first}.")
    return DayWindow(first, last + timedelta(days=1))


def materialize_command(assets: list[str], first: date | None, last: date | None, *, json: bool) -> int:
    """Materialize on running stores; return the exit code: 0, or 1 where a run or a check failed."""
    require_stores(load_settings())
    with running_stack(make_home=True) as settings:  # Dagster's own folder, beside servers of one's own
        window = days_to_materialize(settings, first, last)
        reports = run_assets(assets, window, quiet=json)
    if json:
        print_json(reports)
    else:
        show_reports(reports)
    return 0 if all(report.succeeded and not report.failed_checks for report in reports) else 1


def run_assets(assets: list[str], window: DayWindow, *, quiet: bool) -> list[RunReport]:
    """Run the assets in this process, with a live line per step on a terminal."""
    from memory_pipeline.defs.launch import Observer, materialize

    bar = Progress(
        SpinnerColumn(finished_text="[green]✓[/green]"),
        TextColumn("{task.description:<20.20}"),
        TextColumn("{task.fields[state]}"),
        console=err,
        disable=quiet,
    )
    tasks: dict[str, TaskID] = {}
    started: dict[str, float] = {}
    current: list[str] = []

    def begin(name: str) -> None:
        tasks[name] = bar.add_task(name, total=1, state="…")
        started[name] = time.monotonic()
        current.append(name)

    def advance(total: int, unit: str) -> None:
        if current:
            rate = total / max(time.monotonic() - started[current[-1]], 0.001)
            bar.update(tasks[current[-1]], state=f"{number(total)} {unit} ({number(round(rate))}/s)")

    def end(step: StepReport) -> None:
        state = f"{step.seconds:6.2f} s  {_summary(step)}"
        if not step.succeeded:
            state = f"[red]failed[/red] {escape(step.error or '')}"
        bar.update(tasks[step.name], completed=1 if step.succeeded else 0, state=state)

    with bar:
        return list(materialize(assets, window, Observer(begin, advance, end)))


def _summary(step: StepReport) -> str:
    """Return what a step made, the first of it with a rate where the step took long enough to have one."""
    made = [
        (float(step.metadata[label]), label.replace("_", " ")) for label in _SHOWN_METADATA if step.metadata.get(label)
    ]
    parts = [f"{number(count)} {label}" for count, label in made]
    if made and step.seconds >= _SECONDS_FOR_A_RATE:
        parts[0] += f" ({number(round(made[0][0] / step.seconds))}/s)"
    return ", ".join(parts)


def show_reports(reports: list[RunReport]) -> None:
    """Print a line per run, and what failed."""
    grid = table("Dagster runs", "run", "assets", "seconds", "outcome")
    for report in reports:
        outcome = "[green]success[/green]" if report.succeeded else "[red]failure[/red]"
        grid.add_row(report.run_id[:8], ", ".join(report.assets), f"{report.seconds:.1f}", outcome)
    out.print(grid)
    for report in reports:
        for step in report.steps:
            if not step.succeeded:
                err.print(f"[red]{step.name} failed:[/red] {step.error}", highlight=False)
        for warning in report.warnings:
            err.print("[yellow]warning:[/yellow]", escape(warning), highlight=False, soft_wrap=True)
        for check in report.failed_checks:
            err.print(f"[red]check failed:[/red] {check}", highlight=False)

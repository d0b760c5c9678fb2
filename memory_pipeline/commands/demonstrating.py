"""`demo`: the sample conversations through the whole pipeline, then a recall and three answers for an analyst."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from itertools import groupby

from memory_pipeline.commands.importing import Rejections, import_records
from memory_pipeline.commands.materializing import days_to_materialize, run_assets, show_reports
from memory_pipeline.commands.output import number, out, table
from memory_pipeline.commands.recalling import recall_for, show_recall
from memory_pipeline.commands.session import running_stack
from memory_pipeline.model.records import IncomingMessage
from memory_pipeline.serving.ingest import IngestReport
from memory_pipeline.settings import Settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.duckdb.generations import LINK, current_export
from memory_pipeline.stores.duckdb.query import query
from memory_pipeline.stores.duckdb.questions import worked_question
from memory_pipeline.stores.duckdb.writing import write_result
from memory_pipeline.stores.postgres.statistics import StoreCounts, store_counts
from memory_pipeline.synthetic import sample_messages

QUESTION = "Where do I work?"
ASKER = "lena.hoffmann@tavola.example"
ANALYST_QUESTIONS = (2, 9, 10)
"""Worked questions whose answers read well on the sample: its tenants, what people say, what changed in their lives."""
_ANSWER_ROWS = 6
_COUNTED = ("users", "messages", "facts", "summaries", "relations", "vectors", "indexed")


def demo_command() -> int:
    """Import, materialize, show what was made, ask. The second time nothing new is made anywhere."""
    began = time.monotonic()
    with running_stack(make_home=True) as settings:
        out.print(f"embedded Postgres, Redis and Chroma are up ({time.monotonic() - began:.1f} s)", highlight=False)
        with Pipeline(settings) as pipeline:
            before = _totals(pipeline)
            _import_sample(pipeline)
        reports = run_assets([], days_to_materialize(settings, None, None), quiet=False)
        show_reports(reports)
        if not all(report.succeeded and not report.failed_checks for report in reports):
            return 1
        with Pipeline(settings) as pipeline:
            _show_made(before, _totals(pipeline))
            out.print(f'\n[bold]memory-pipeline recall "{QUESTION}" --user {ASKER} --k 4[/bold]', highlight=False)
            # Not on record: a second demo would have something new to export.
            show_recall(recall_for(pipeline, QUESTION, ASKER, k=4, record=False))
        _show_answers(settings)
    out.print(f"\ndone in {time.monotonic() - began:.1f} s. Next: [bold]make up[/bold] opens the Dagster UI on this.")
    return 0


def _import_sample(pipeline: Pipeline) -> None:
    """Import the bundled conversations, tenant by tenant (the file holds them in order of time)."""
    began = time.monotonic()
    total = IngestReport()
    by_tenant = sorted(sample_messages(), key=lambda generated: generated.tenant_slug)
    for tenant, generated in groupby(by_tenant, key=lambda generated: generated.tenant_slug):
        messages: Iterator[IncomingMessage] = (item.message for item in generated)
        report = import_records(pipeline, tenant, None, messages, Rejections(quiet=False))
        total.inserted += report.inserted
        total.duplicates += report.duplicates
    seconds = time.monotonic() - began
    out.print(
        f"imported {number(total.inserted)} sample messages, "
        f"{number(total.duplicates)} there already ({seconds:.1f} s)",
        highlight=False,
    )


def _totals(pipeline: Pipeline) -> dict[str, int]:
    with pipeline.database.transaction() as connection:
        counts: list[StoreCounts] = store_counts(connection)
    return {name: sum(getattr(row, name) for row in counts) for name in _COUNTED}


def _show_made(before: dict[str, int], after: dict[str, int]) -> None:
    grid = table("What was made", "rows", "before", "new", "now")
    for name in _COUNTED:
        grid.add_row(name, number(before[name]), number(after[name] - before[name]), number(after[name]))
    out.print(grid)


def _show_answers(settings: Settings) -> None:
    """Ask the published file what an analyst may ask, and say how to open it."""
    exports = settings.data / "exports"
    path = current_export(exports)
    for chosen in ANALYST_QUESTIONS:
        asked = worked_question(chosen)
        out.print(f"\n[bold]memory-pipeline sql --question {chosen}[/bold]", highlight=False)
        out.print(f"{asked.question}\n\n{asked.statement}\n", highlight=False, markup=False, soft_wrap=True)
        sys.stdout.flush()
        write_result(query(path, asked.statement, max_rows=_ANSWER_ROWS), "table", sys.stdout.buffer)
        sys.stdout.flush()
    file = (exports / LINK).absolute()
    lines = (
        f"\nthe answers come from {file}; open it yourself, read-only:",
        f"  duckdb -readonly {shlex.quote(str(file))}",
        f"  duckdb.connect({str(file)!r}, read_only=True)        # in Python, after: import duckdb",
        "more questions: memory-pipeline sql --questions; what every column means: docs/analyst-guide.md",
    )
    for line in lines:
        out.print(line, highlight=False, markup=False, soft_wrap=True)

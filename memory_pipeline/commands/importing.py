"""`import`: files of chat products into one tenant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import msgspec
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from memory_pipeline.commands.output import err, number, out, print_json
from memory_pipeline.commands.session import running_pipeline
from memory_pipeline.importers import ImportOptions, open_importer, size_of
from memory_pipeline.model.records import IncomingMessage, Rejection
from memory_pipeline.serving.ingest import IngestReport, UserDirectory, ingest, no_user
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.tenants import check_slug, ensure_tenant

_SHOWN_REJECTIONS = 20


class ImportReport(msgspec.Struct):
    """What an import did, for people and programs."""

    path: str
    tenant: str
    dry_run: bool
    inserted: int
    duplicates: int
    rejected: int
    left_out: dict[str, int]
    rejections: list[Rejection]
    """The first ones; all are counted."""
    seconds: float


class Rejections:
    """Counts every rejection, shows the first on the terminal, and writes all of them to a file where one is named."""

    def __init__(self, *, quiet: bool, file: Path | None = None) -> None:
        self._quiet = quiet
        self._file = file
        self._lines: IO[bytes] | None = None
        self.first: list[Rejection] = []
        self.count = 0

    def add(self, rejection: Rejection) -> None:
        self.count += 1
        if self._file is not None:
            if self._lines is None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._lines = self._file.open("wb")
            self._lines.write(msgspec.json.encode(rejection) + b"\n")
        if self.count <= _SHOWN_REJECTIONS:
            self.first.append(rejection)
            if not self._quiet:
                line = f"{rejection.origin}: {rejection.reason}; {rejection.remedy}"
                err.print("[red]rejected[/red]", escape(line), highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Finish the file, and say where it is if not all rejections were shown."""
        if self._lines is not None:
            self._lines.close()
        if self.count > _SHOWN_REJECTIONS and not self._quiet:
            err.print(f"{self.count - _SHOWN_REJECTIONS:,} more were rejected; all are in {self._file}", soft_wrap=True)


def import_file(
    format: str,
    path: Path,
    tenant: str,
    user: str | None,
    project: str | None,
    rejects: Path | None,
    *,
    dry_run: bool,
    json: bool,
) -> int:
    """Import a file and return the exit code: 0, or 1 where records were rejected."""
    settings = load_settings()
    left_out: dict[str, int] = {}
    rejections = Rejections(quiet=json, file=rejects or settings.home / "logs" / f"rejected-{path.name}.jsonl")
    bar = Progress(
        SpinnerColumn(),
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[counts]}"),
        TimeElapsedColumn(),
        console=err,
        disable=json or not err.is_terminal,
    )
    task: TaskID = bar.add_task(f"importing {path.name}", total=size_of(format, path), counts="")

    def skip(kind: str) -> None:
        left_out[kind] = left_out.get(kind, 0) + 1

    options = ImportOptions(
        partition_start=settings.partition_start,
        max_message_bytes=settings.max_message_bytes,
        now=datetime.now(UTC),
        user_email=user,
        project=project,
        on_bytes=lambda count: bar.advance(task, count),
        on_skip=skip,
    )
    check_slug(tenant)
    records = open_importer(format, path, options)
    started = datetime.now(UTC)
    with bar:
        if dry_run:
            report = _count(records, user, rejections)
        else:
            with running_pipeline(make_home=True) as pipeline:
                report = import_records(
                    pipeline,
                    tenant,
                    user,
                    records,
                    rejections,
                    on_batch=lambda done: bar.update(task, counts=f"{number(done.seen)} messages"),
                )
    rejections.close()
    outcome = ImportReport(
        path=str(path),
        tenant=tenant,
        dry_run=dry_run,
        inserted=report.inserted,
        duplicates=report.duplicates,
        rejected=report.rejected,
        left_out=left_out,
        rejections=rejections.first,
        seconds=round((datetime.now(UTC) - started).total_seconds(), 3),
    )
    if json:
        print_json(outcome)
    else:
        _show(outcome)
    return 1 if outcome.rejected else 0


def import_records(
    pipeline: Pipeline,
    tenant: str,
    user: str | None,
    records: Iterable[IncomingMessage | Rejection],
    rejections: Rejections,
    *,
    on_batch: object = None,
) -> IngestReport:
    """Write records into a tenant, creating it where it is new."""
    with pipeline.database.transaction() as connection:
        tenant_id = ensure_tenant(connection, tenant)
    return ingest(
        pipeline.app_database,
        tenant_id,
        UserDirectory(pipeline.app_database, tenant_id, user),
        records,
        actor="import",
        on_reject=rejections.add,
        on_batch=on_batch if callable(on_batch) else None,
    )


def _count(records: Iterator[IncomingMessage | Rejection], user: str | None, rejections: Rejections) -> IngestReport:
    """Count what would be imported, as far as that can be known without the stores."""
    report = IngestReport()
    for record in records:
        if isinstance(record, IncomingMessage) and not (record.user_email or user):
            record = no_user(record.origin)
        if isinstance(record, Rejection):
            report.rejected += 1
            rejections.add(record)
        else:
            report.inserted += 1
    return report


def _show(report: ImportReport) -> None:
    verb = "would be imported" if report.dry_run else "imported"
    rate = f" ({number(report.inserted / report.seconds)}/s)" if report.inserted and report.seconds > 1 else ""
    out.print(f"{number(report.inserted)} messages {verb} into tenant [bold]{report.tenant}[/bold]{rate}", end="")
    out.print(f", {number(report.duplicates)} there already, {number(report.rejected)} rejected")
    for kind, count in sorted(report.left_out.items()):
        out.print(f"  left out on purpose: {number(count)} × {kind}")
    if report.inserted and not report.dry_run:
        out.print("next: [bold]memory-pipeline materialize[/bold] turns them into memories")

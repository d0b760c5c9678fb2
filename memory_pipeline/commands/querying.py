"""`sql`: a query, or a worked question, over the published DuckDB file. Needs no server."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from memory_pipeline.commands.output import err, out
from memory_pipeline.local.accounts import home_of
from memory_pipeline.model.errors import ExportError, ForbiddenError, NoExportError
from memory_pipeline.settings import Settings, load_settings
from memory_pipeline.stores.duckdb.generations import current_export
from memory_pipeline.stores.duckdb.query_process import write_answer
from memory_pipeline.stores.duckdb.questions import questions, worked_question
from memory_pipeline.stores.duckdb.writing import Format

MAX_ROWS = 10_000


def exports_folder(settings: Settings) -> Path:
    """Return where exports are published: with embedded stores below the home they really use (see home_of)."""
    if settings.data_dir is not None or settings.postgres_pipeline_url is not None:
        return settings.data / "exports"
    return home_of(settings.home) / "data" / "exports"


def no_export_in(exports: Path) -> NoExportError:
    """What to say to a person where nothing was exported: where that was, and how to name another place."""
    return NoExportError(
        f"nothing has been exported to {exports} yet: run `memory-pipeline materialize`. If yours is elsewhere, run "
        "this in the folder where you made it, or name it: MEMORY_HOME=/path/to/.memory (or "
        "MEMORY_DATA_DIR, where that was set)."
    )


def list_questions_command() -> int:
    """Print the number and text of every worked question."""
    for one in questions():
        out.print(f"{one.number:>2}  {one.question}", highlight=False, markup=False, soft_wrap=True)
    return 0


def ask_question_command(
    number: int, format_: Format, timeout_seconds: float, tenant: str | None, limit: int | None
) -> int:
    """Print a worked question and its answer; otherwise as `sql_command`."""
    asked = worked_question(number)
    # Beside the answer, not in it: what a program reads stays as it is.
    text = f"{asked.question}\n{asked.context}\n\n{asked.statement}\n"
    err.print(text, highlight=False, markup=False, soft_wrap=True)
    return sql_command(asked.statement, format_, timeout_seconds, tenant, limit)


def sql_command(statement: str, format_: Format, timeout_seconds: float, tenant: str | None, limit: int | None) -> int:
    """Print the answer: at most `limit` rows; where it is not given, MAX_ROWS as a table and all in other formats."""
    shown = limit if limit is not None else MAX_ROWS if format_ == "table" else None
    settings = load_settings()
    exports = exports_folder(settings)

    def answer() -> bool:
        try:
            if tenant is not None and not exports.is_dir():
                raise no_export_in(exports)
            path = (
                current_export(exports)
                if tenant is None
                else _tenant_export(exports, tenant, settings.export_consumers)
            )
        except PermissionError as error:
            raise ForbiddenError(
                f"this account may not open the exports in {exports} ({error}): run this as a member of the group that "
                "MEMORY_EXPORT_GROUP names for whoever publishes, or ask them for a file of your own."
            ) from error
        return write_answer(path, statement, format_, max_rows=shown, timeout_seconds=timeout_seconds)

    try:
        truncated = answer()
    except NoExportError as error:
        raise no_export_in(exports) from error
    except ExportError:
        # A publication may have taken the file away between finding and opening it; nothing was written then.
        truncated = answer()
    if truncated:
        more = "raise --limit" if limit is not None else "ask for csv, json or parquet to get all"
        err.print(f"only the first {shown:,} rows are shown; {more}")
    return 0


def _tenant_export(exports: Path, tenant: str, consumers: Iterable[str]) -> Path:
    from memory_pipeline.stores.duckdb.overview import tenant_export  # late: it brings NumPy along

    return tenant_export(exports, tenant, consumers)

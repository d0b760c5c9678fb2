"""Which tables the lake has, and how the files of each are named."""

from __future__ import annotations

from datetime import date

from memory_pipeline.model.errors import MemoryPipelineError

DAILY_TABLES = (
    "messages",
    "memories",
    "facts",
    "memory_relationships",
    "summaries",
    "profiles",
    "jobs",
    "job_days",
    "audit_runs",
    "audit_findings",
    "events",
    "memory_access",
    "llm_usage",
)
"""Tables with a file per day."""
LEDGERS = ("jobs", "job_days", "audit_runs", "audit_findings", "events", "memory_access", "llm_usage")
"""Daily tables of what the pipeline did, by the day it did it: always exported to the present, whatever days of
messages are asked for."""
DIMENSIONS = ("tenants", "users", "conversations")
"""Tables written whole: their rows change long after they were made, and no day of theirs is that of their messages."""
TABLES = (*DIMENSIONS, *DAILY_TABLES)

FILE_NAME = "part-0.parquet"


def require_table(table: str, known: tuple[str, ...]) -> None:
    """Raise unless `table` is one of `known`."""
    if table not in known:
        raise MemoryPipelineError(f"there is no lake table {table!r}; there are {', '.join(known)}.")


def file_name(day: date | None) -> str:
    """Return the name, within its table's folder, of the file of a day, or of a dimension (None)."""
    return FILE_NAME if day is None else f"day={day}/{FILE_NAME}"


def day_of(name: str) -> date | None:
    """Return the day of a file by its name; None for a dimension's."""
    folder, _, _ = name.rpartition("/")
    return date.fromisoformat(folder.removeprefix("day=")) if folder else None


def staged_name(name: str) -> str:
    """Return the name of a file while it waits to be switched: all of a table lie in one folder, to be flushed once."""
    return name.replace("/", "_")


def served_name(staged: str) -> str:
    """Return the name of a file by that of its staged form."""
    return staged.replace(f"_{FILE_NAME}", f"/{FILE_NAME}")

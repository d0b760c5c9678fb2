"""Feature flags that were set by hand: reading them, and changing them with an event. Changes need memory_pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from memory_pipeline.model.flags import Flag
from memory_pipeline.model.jobs import JobType
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.postgres.permissions import Author
from memory_pipeline.stores.sqlfiles import sql


class FlagOverride(NamedTuple):
    """A flag that holds in every process, whatever its settings say."""

    flag: str
    """One that this release does not know may be another's."""
    enabled: bool
    changed_by: str
    changed_at: datetime


def read_overrides(connection: Connection) -> list[FlagOverride]:
    """Return all flags set by hand, by name."""
    with connection.cursor(row_factory=class_row(FlagOverride)) as cursor:
        return cursor.execute(
            "SELECT flag, enabled, changed_by, changed_at FROM feature_flags ORDER BY flag"
        ).fetchall()


def set_override(connection: Connection, flag: Flag, author: Author, *, enabled: bool) -> bool:
    """Have a flag hold in every process; return whether that is new. A change is a row of auth_events."""
    changed = connection.execute(
        sql(PACKAGE, "set_feature_flag"), {"flag": flag, "enabled": enabled, "changed_by": author.actor}
    ).rowcount
    if changed:
        _write_event(connection, "flag_set", author, {"flag": flag, "enabled": enabled})
    return changed > 0


def unset_override(connection: Connection, flag: Flag, author: Author) -> bool:
    """Have the settings of each process hold again; return whether that is new. A change is a row of auth_events."""
    row = connection.execute("DELETE FROM feature_flags WHERE flag = %s RETURNING enabled", [flag]).fetchone()
    if row is not None:
        _write_event(connection, "flag_unset", author, {"flag": flag, "enabled": row[0]})
    return row is not None


def bring_waiting_forward(connection: Connection, job_types: Sequence[JobType], seconds: float) -> int:
    """Have jobs of these types that were put aside become due within `seconds`; return how many.

    Failed ones keep the wait that their failure brought them.
    """
    return connection.execute(
        sql(PACKAGE, "jobs_bring_waiting_forward"), {"job_types": list(job_types), "seconds": seconds}
    ).rowcount


def _write_event(connection: Connection, kind: str, author: Author, detail: dict[str, object]) -> None:
    connection.execute(
        "INSERT INTO auth_events (kind, actor, correlation_id, detail) VALUES (%s, %s, %s, %s)",
        [kind, author.actor, author.correlation_id, Jsonb(detail)],
    )

"""The limits for what costs money: which plugins do, and what tenants and users may do in an hour."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from memory_pipeline.model.limits import LimitedWork, RateLimit
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.postgres.permissions import Author, write_event
from memory_pipeline.stores.sqlfiles import sql


class RateLimitRow(NamedTuple):
    """A stored limit as the administrator sees it; `email` None is the whole tenant."""

    tenant: str
    email: str | None
    what: LimitedWork
    per_hour: int
    changed_by: str
    changed_at: datetime


def plugin_costs(connection: Connection, plugin: str) -> bool:
    """Whether running a plugin costs money; one that is not registered runs for nobody and costs nothing."""
    row = connection.execute("SELECT costs FROM plugin_registry WHERE plugin = %s", [plugin]).fetchone()
    return row is not None and bool(row[0])


def read_limits(connection: Connection, what: LimitedWork, tenant_ids: Sequence[UUID]) -> list[RateLimit]:
    """Return the stored limits of these tenants and their users."""
    with connection.cursor(row_factory=class_row(RateLimit)) as cursor:
        return cursor.execute(
            "SELECT tenant_id, user_id, per_hour FROM memory_rate_limits WHERE what = %s AND tenant_id = ANY(%s)",
            [what, list(tenant_ids)],
        ).fetchall()


def set_limit(connection: Connection, what: LimitedWork, limit: RateLimit, author: Author) -> bool:
    """Store a limit; return whether that changed anything. A change is an event of the tenant."""
    changed = connection.execute(
        sql(PACKAGE, "set_rate_limit"), limit._asdict() | {"what": what, "changed_by": author.actor}
    ).rowcount
    if changed:
        detail = {"what": what, "per_hour": limit.per_hour}
        write_event(connection, limit.tenant_id, "rate_limit_set", author, limit.user_id, detail)
    return changed > 0


def unset_limit(
    connection: Connection, what: LimitedWork, tenant_id: UUID, user_id: UUID | None, author: Author
) -> bool:
    """Forget a stored limit, so that the settings hold, and write that down; return whether there was one."""
    removed = connection.execute(
        "DELETE FROM memory_rate_limits WHERE tenant_id = %s AND user_id IS NOT DISTINCT FROM %s AND what = %s",
        [tenant_id, user_id, what],
    ).rowcount
    if removed:
        write_event(connection, tenant_id, "rate_limit_unset", author, user_id, {"what": what})
    return removed > 0


def list_limits(connection: Connection, tenant: str | None = None) -> list[RateLimitRow]:
    """Return the stored limits of the tenant with this slug, or of all."""
    with connection.cursor(row_factory=class_row(RateLimitRow)) as cursor:
        return cursor.execute(sql(PACKAGE, "list_rate_limits"), {"tenant": tenant}).fetchall()

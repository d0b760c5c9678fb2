"""`limits list`, `limits set`, `limits unset`: the limits that are stored. Every change is an event of the tenant."""

from __future__ import annotations

from uuid import UUID

from memory_pipeline.commands.desk import Desk, open_desk
from memory_pipeline.commands.output import number, out, print_json, table
from memory_pipeline.model.limits import LimitedWork, RateLimit
from memory_pipeline.stores.postgres.rate_limits import list_limits, set_limit, unset_limit
from memory_pipeline.stores.postgres.tenants import find_user, tenant_id_of


def list_command(tenant: str | None, *, json: bool) -> int:
    """Show every stored limit."""
    with open_desk() as desk, desk.database.transaction() as connection:
        if tenant is not None:
            tenant_id_of(connection, tenant)
        rows = list_limits(connection, tenant)
    if json:
        print_json([row._asdict() for row in rows])
        return 0
    grid = table("Limits", "tenant", "of", "work", "an hour", "set by", "at")
    for row in rows:
        at = f"{row.changed_at:%Y-%m-%d %H:%M} UTC"
        grid.add_row(row.tenant, row.email or "the whole tenant", row.what, number(row.per_hour), row.changed_by, at)
    out.print(grid)
    return 0


def set_command(what: LimitedWork, per_hour: int, tenant: str, email: str | None, *, json: bool) -> int:
    """Store a limit."""
    with open_desk() as desk:
        tenant_id, user_id = _whose(desk, tenant, email)
        with desk.database.transaction() as connection:
            changed = set_limit(connection, what, RateLimit(tenant_id, user_id, per_hour), desk.author)
    state = f"{email or tenant}: {what} {number(per_hour)} times an hour"
    return _say(state, {"what": what, "per_hour": per_hour, "tenant": tenant, "user": email}, changed, json=json)


def unset_command(what: LimitedWork, tenant: str, email: str | None, *, json: bool) -> int:
    """Forget a stored limit."""
    with open_desk() as desk:
        tenant_id, user_id = _whose(desk, tenant, email)
        with desk.database.transaction() as connection:
            changed = unset_limit(connection, what, tenant_id, user_id, desk.author)
    state = f"{email or tenant}: {what} as the settings say"
    return _say(state, {"what": what, "per_hour": None, "tenant": tenant, "user": email}, changed, json=json)


def _whose(desk: Desk, tenant: str, email: str | None) -> tuple[UUID, UUID | None]:
    with desk.database.transaction() as connection:
        if email is None:
            return tenant_id_of(connection, tenant), None
        user = find_user(connection, email, tenant)
        return user.tenant_id, user.user_id


def _say(state: str, answer: dict[str, object], changed: bool, *, json: bool) -> int:
    if json:
        print_json(answer | {"changed": changed})
    else:
        out.print(f"{state} ({'now' if changed else 'as before'})", highlight=False, markup=False)
    return 0

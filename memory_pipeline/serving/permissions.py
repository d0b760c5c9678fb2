"""What a caller may do, and changing it: a change is stored, then the cached answers it makes wrong are dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID, uuid4

import msgspec

from memory_pipeline.model.errors import ForbiddenError, StoreUnavailableError
from memory_pipeline.model.identity import Principal
from memory_pipeline.serving.cached_answers import KEYS_AT_ONCE, drop_or_raise
from memory_pipeline.stages.refusals import RefusalLog
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.permissions import Author, affected_users, plugin_names
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager


def require_permission(
    principal: Principal, permission: str, refusals: RefusalLog, *, correlation_id: UUID | None = None
) -> None:
    """Raise ForbiddenError that names `permission`, unless the user has it.

    A refusal is an event `permission_refused` of the tenant, under `correlation_id` (None: one of its own).
    """
    if permission in principal.permissions:
        return
    author = Author(principal.actor, correlation_id or uuid4())
    refusals.record(principal, "permission_refused", author, {"permission": permission})
    raise ForbiddenError(
        f"this needs the permission {permission}, which none of your roles has. Ask an administrator.",
        permission=permission,
    )


class Affected(msgspec.Struct, frozen=True, kw_only=True):
    """Whose cached answers a change makes wrong: of one user, or of all users with a tenant and role (None: any)."""

    plugins: tuple[str, ...] | None
    """Decisions about these plugins; None means all that are registered."""
    permissions: bool
    """What users may do otherwise, too."""
    user_id: UUID | None = None
    tenant_id: UUID | None = None
    role: str | None = None


class Change(msgspec.Struct, frozen=True):
    """What a change did: whether anything was changed, and of how many users cached answers were dropped."""

    changed: bool
    users: int


def make_change(
    database: Database, redis: RedisManager, change: Callable[[Connection], bool], affected: Affected
) -> Change:
    """Commit `change`, then drop the cached answers, also where nothing was left to change.

    Nobody is answered from before the change once this returns. Raises StoreUnavailableError where Redis could not be
    told: the change is stored then, and the same call again drops what is left.
    """
    with database.transaction() as connection:
        changed = change(connection)
    dropped = 0
    try:
        with database.transaction() as connection:
            plugins = plugin_names(connection) if affected.plugins is None else affected.plugins
            for users in _users(connection, affected):
                for user_ids in _chunks(users, max(1, KEYS_AT_ONCE // (len(plugins) + 1))):
                    drop_or_raise(redis, _keys(user_ids, plugins, permissions=affected.permissions))
                    dropped += len(user_ids)
    except StoreUnavailableError as error:
        raise StoreUnavailableError(
            f"the change is stored, but cached answers could be dropped for {dropped} users only: {error} Others may "
            f"be answered as before for up to {keys.AUTH.seconds or 0} seconds. Run the same command again: that "
            "changes nothing more and drops the rest."
        ) from error
    return Change(changed, dropped)


def _users(connection: Connection, affected: Affected) -> Iterator[Sequence[UUID]]:
    if affected.user_id is not None:
        yield [affected.user_id]
    else:
        yield from affected_users(connection, tenant_id=affected.tenant_id, role=affected.role)


def _chunks(users: Sequence[UUID], size: int) -> Iterator[Sequence[UUID]]:
    for start in range(0, len(users), size):
        yield users[start : start + size]


def _keys(user_ids: Sequence[UUID], plugins: Sequence[str], *, permissions: bool) -> list[str]:
    names = [keys.rbac(user_id, plugin) for user_id in user_ids for plugin in plugins]
    return names + [keys.auth(user_id) for user_id in user_ids] if permissions else names

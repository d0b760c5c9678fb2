"""Whether a plugin may run for a user: registered, enabled, installed for their tenant, permitted to a role of theirs.

The stages ask the same of all tenants at once, in the role `pipeline` (`stores.postgres.plugins.permitted_tenants`,
or the view `permitted_plugins` inside their own statements).
"""

from __future__ import annotations

from uuid import UUID, uuid4

import msgspec

from memory_pipeline import metrics
from memory_pipeline.model.errors import ForbiddenError
from memory_pipeline.model.identity import Principal
from memory_pipeline.stages.refusals import RefusalLog
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.permissions import (
    RUN_PLUGIN,
    Author,
    Requirement,
    is_plugin_name,
    missing_for_plugin,
)
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager

_REASONS: dict[Requirement, str] = {
    "registered": "it is not registered",
    "enabled": "it is not enabled",
    "installed": "it is not installed for your tenant",
    "permitted": "it is not permitted to any role of yours ({permission})",
}


class PluginDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps a plugin from running for a user; nothing where it may run. Cached in Redis."""

    tenant_id: UUID
    missing: tuple[Requirement, ...]


class PluginGate:
    """Answers whether a plugin may run, from Redis for five minutes, else from Postgres. Safe to use from threads.

    Whoever changes what is asked here drops the cached decisions (`serving.permissions.make_change`).
    """

    def __init__(self, database: Database, redis: RedisManager | None, *, refusals: RefusalLog | None = None) -> None:
        self._database = database
        self._redis = redis
        self._refusals = refusals or RefusalLog(database)

    def require(self, principal: Principal, plugin: str, *, correlation_id: UUID | None = None) -> None:
        """Raise ForbiddenError that names what is missing, unless `plugin` may run for the user.

        A refusal is an event `plugin_refused` of the tenant, under `correlation_id` (None: one of its own). Raises
        StoreUnavailableError where neither Redis nor Postgres can say.
        """
        missing = self._decide(principal, plugin).missing
        metrics.rbac_validations.labels(f"not_{missing[0]}" if missing else "allowed").inc()
        if not missing:
            return
        permission = RUN_PLUGIN + plugin
        # What can't be a plugin's name may be anything: it is shown to the caller, and not written down.
        named = {"plugin": plugin, "permission": permission} if is_plugin_name(plugin) else {}
        author = Author(principal.actor, correlation_id or uuid4())
        self._refusals.record(principal, "plugin_refused", author, named | {"missing": list(missing)})
        reasons = " and ".join(_REASONS[requirement].format(permission=permission) for requirement in missing)
        raise ForbiddenError(
            f"plugin {plugin!r} may not run for you: {reasons}. Ask an administrator.",
            code="plugin_forbidden",
            permission=permission,
        )

    def _decide(self, principal: Principal, plugin: str) -> PluginDecision:
        if not is_plugin_name(plugin):
            return PluginDecision(tenant_id=principal.tenant_id, missing=("registered",))
        key = keys.rbac(principal.user_id, plugin)
        if self._redis is not None:
            cached = self._redis.get_value(key, PluginDecision, cache="rbac")
            if cached is not None and cached.tenant_id == principal.tenant_id:
                return cached
        with self._database.tenant_transaction(principal.tenant_id) as connection:
            missing = missing_for_plugin(connection, principal.tenant_id, principal.user_id, plugin)
        decision = PluginDecision(tenant_id=principal.tenant_id, missing=missing)
        if self._redis is not None:
            self._redis.warm_value(key, decision, keys.RBAC.seconds or 0)
        return decision

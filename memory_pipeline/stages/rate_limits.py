"""Who may have something done now that costs money, and how long the others wait. What costs nothing asks nobody."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from uuid import UUID

import structlog

from memory_pipeline import metrics
from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.model.limits import DefaultLimits, LimitedWork, LimitsInForce, Requester, waits
from memory_pipeline.settings import Settings
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.rate_limits import plugin_costs, read_limits
from memory_pipeline.stores.redis.limits import HourlyWindows

AWAY_SECONDS = 5.0
"""How long limited work waits where Redis can't say whether there is room."""
_COSTS_SECONDS = 10.0
"""How old the knowledge may be whether a plugin costs money."""

log = structlog.get_logger(__name__)


class RateLimits:
    """The limits of one process's work: stored in Postgres, counted in Redis for all processes. Safe from threads."""

    def __init__(self, settings: Settings, windows: Callable[[], HourlyWindows]) -> None:
        """`windows` opens the connection to Redis; it is not called before something has a limit."""
        self._windows = windows
        self._defaults: dict[LimitedWork, DefaultLimits] = {
            "embedding": DefaultLimits(per_tenant=settings.embedding_rate_limit, per_user=None),
            "relation_detection": DefaultLimits(per_tenant=None, per_user=settings.relation_detection_rate_limit),
        }
        self._lock = threading.Lock()
        self._costs: dict[str, tuple[bool, float]] = {}

    def admit(
        self, connection: Connection, what: LimitedWork, plugin: str, requesters: Sequence[Requester]
    ) -> list[float]:
        """Return for each piece of work 0.0 where `plugin` may do it now, else how many seconds it waits.

        What may be done is counted. Nothing of a tenant without a limit waits; a tenant with one waits while Redis is
        away. Of what is over the limit the first come first.
        """
        if not requesters or not self._plugin_costs(connection, plugin):
            return [0.0] * len(requesters)
        positions: dict[UUID, list[int]] = defaultdict(list)
        for position, requester in enumerate(requesters):
            positions[requester.tenant_id].append(position)
        limits = LimitsInForce(read_limits(connection, what, list(positions)), self._defaults[what])
        answers = [0.0] * len(requesters)
        for places in positions.values():
            of_tenant = self._admit_tenant(what, limits, [requesters[place] for place in places])
            for place, seconds in zip(places, of_tenant, strict=True):
                answers[place] = seconds
        waiting = sum(1 for seconds in answers if seconds)
        if waiting:
            metrics.rate_limited.labels(what).inc(waiting)
            log.info("rate_limited", what=what, plugin=plugin, admitted=len(answers) - waiting, waiting=waiting)
        return answers

    def _plugin_costs(self, connection: Connection, plugin: str) -> bool:
        with self._lock:
            costs, known_at = self._costs.get(plugin, (False, float("-inf")))
        if time.monotonic() - known_at > _COSTS_SECONDS:
            costs = plugin_costs(connection, plugin)
            with self._lock:
                self._costs[plugin] = (costs, time.monotonic())
        return costs

    def _admit_tenant(self, what: LimitedWork, limits: LimitsInForce, requesters: Sequence[Requester]) -> list[float]:
        try:
            return self._ask(what, limits, requesters)
        except StoreUnavailableError as error:
            log.warning("limited_work_waits", what=what, tenant_id=str(requesters[0].tenant_id), message=str(error))
            return [AWAY_SECONDS] * len(requesters)

    def _ask(self, what: LimitedWork, limits: LimitsInForce, requesters: Sequence[Requester]) -> list[float]:
        """Ask the tenant's window, then those of its users; each piece waits for the first that has no room."""
        answers = [0.0] * len(requesters)
        tenant_id = requesters[0].tenant_id
        per_tenant = limits.of_tenant(tenant_id)
        per_user = {requester: limits.of_user(requester) for requester in dict.fromkeys(requesters)}
        places: dict[Requester, list[int]] = defaultdict(list)
        for place, requester in enumerate(requesters):
            places[requester].append(place)
        if per_tenant is not None:
            # What a user has no room for must not be counted for the tenant.
            for requester, per_hour in per_user.items():
                if per_hour is not None:
                    room = self._windows().room(what, _id(requester), per_hour)
                    _put_aside(answers, places[requester], room.granted, per_hour, room.room_in)
            asking = [place for place, seconds in enumerate(answers) if not seconds]
            if asking:
                taken = self._windows().take(what, tenant_id, per_tenant, len(asking))
                _put_aside(answers, asking, taken.granted, per_tenant, taken.room_in)
        for requester, per_hour in per_user.items():
            asking = [place for place in places[requester] if not answers[place]]
            if per_hour is not None and asking:
                taken = self._windows().take(what, _id(requester), per_hour, len(asking))
                _put_aside(answers, asking, taken.granted, per_hour, taken.room_in)
        return answers


def _put_aside(answers: list[float], places: Sequence[int], granted: int, per_hour: int, room_in: float) -> None:
    """Have all but the first `granted` of these places wait."""
    rest = places[granted:]
    for place, seconds in zip(rest, waits(len(rest), per_hour, room_in), strict=True):
        answers[place] = seconds


def _id(requester: Requester) -> UUID:
    return requester.user_id or requester.tenant_id

"""Rate limits: what costs money is done so often within an hour, and the rest waits. No clock in here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, get_args
from uuid import UUID

LimitedWork = Literal["embedding", "relation_detection"]
LIMITED_WORK: tuple[LimitedWork, ...] = get_args(LimitedWork)

WINDOW_SECONDS = 3600
LONGEST_WAIT_SECONDS = 3000.0
"""Below an hour, after which the relay takes a waiting job for one that a clock set back has stranded."""
SHORTEST_WAIT_SECONDS = 1.0


class Requester(NamedTuple):
    """On whose behalf something is to be done; `user_id` None is the tenant as such."""

    tenant_id: UUID
    user_id: UUID | None


class RateLimit(NamedTuple):
    """A limit of a tenant (`user_id` None) or of one user of it."""

    tenant_id: UUID
    user_id: UUID | None
    per_hour: int


class DefaultLimits(NamedTuple):
    """What holds where Postgres has no limit; None is no limit."""

    per_tenant: int | None
    per_user: int | None


class LimitsInForce:
    """The limits of some tenants for one kind of work."""

    def __init__(self, stored: Iterable[RateLimit], defaults: DefaultLimits) -> None:
        self._stored: Mapping[Requester, int] = {
            Requester(limit.tenant_id, limit.user_id): limit.per_hour for limit in stored
        }
        self._defaults = defaults

    def of_tenant(self, tenant_id: UUID) -> int | None:
        """Return how much the whole tenant may do in an hour; None is no limit."""
        return self._stored.get(Requester(tenant_id, None), self._defaults.per_tenant)

    def of_user(self, requester: Requester) -> int | None:
        """Return how much the user may do in an hour, whatever the tenant may; None is no limit."""
        if requester.user_id is None:
            return None
        return self._stored.get(requester, self._defaults.per_user)


def waits(count: int, per_hour: int, room_in: float) -> list[float]:
    """Return how many seconds each of `count` pieces of work waits that are over a limit, one after the other.

    The first until there is room, `room_in` seconds from now, the others at the pace of the limit: if all came back at
    once, all but one would have come for nothing.
    """
    pace = WINDOW_SECONDS / per_hour if per_hour else LONGEST_WAIT_SECONDS
    return [
        min(LONGEST_WAIT_SECONDS, max(SHORTEST_WAIT_SECONDS, room_in + position * pace)) for position in range(count)
    ]

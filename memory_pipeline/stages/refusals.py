"""The log of refusals: a flood of refused requests becomes a few events, each with how many there were."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any

import structlog

from memory_pipeline.model.errors import BusyError, StoreUnavailableError
from memory_pipeline.model.identity import Principal
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.permissions import Author, write_event

_RETRY_SECONDS = 30.0
"""How long nothing is written after an event was lost: each try keeps a caller waiting for a Postgres that is away."""
_MOST_KINDS = 10_000
"""How many different refusals are told apart; the one that was longest not seen is forgotten first."""

_log = structlog.get_logger(__name__)


class RefusalLog:
    """Writes refusals as events of the tenant: each kind once in `seconds`, for this process.

    Those in between are counted and come with the next event of the kind.
    """

    def __init__(self, database: Database, *, seconds: float = 300.0) -> None:
        self._database = database
        self._seconds = seconds
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[object, ...], tuple[float, int]] = OrderedDict()
        """When the last event of the kind was written, and refusals since."""

    def record(self, principal: Principal, kind: str, author: Author, detail: dict[str, Any]) -> None:
        """Count one refusal, and write the event where one is due.

        Never raises for a database that is away or busy: the caller is being refused anyway and must hear why.
        """
        key = (principal.tenant_id, principal.user_id, kind, *(str(value) for value in detail.values()))
        refusals = self._count(key)
        if refusals is None:
            return
        try:
            with self._database.tenant_transaction(principal.tenant_id) as connection:
                write_event(
                    connection, principal.tenant_id, kind, author, principal.user_id, detail | {"refusals": refusals}
                )
        except (BusyError, StoreUnavailableError) as error:
            self._put_back(key, refusals)
            _log.warning("refusal_not_in_events", kind=kind, user_id=str(principal.user_id), error=str(error), **detail)

    def _count(self, key: tuple[object, ...]) -> int | None:
        """Return the refusals the event due now stands for, or None where none is due."""
        now = time.monotonic()
        with self._lock:
            written_at, refusals = self._seen.pop(key, (None, 0))
            due = written_at is None or now - written_at >= self._seconds
            self._seen[key] = (now, 0) if written_at is None or due else (written_at, refusals + 1)
            if len(self._seen) > _MOST_KINDS:
                self._seen.popitem(last=False)
        return refusals + 1 if due else None

    def _put_back(self, key: tuple[object, ...], refusals: int) -> None:
        """Have a later refusal of the kind write the event that was lost."""
        retry_at = time.monotonic() + min(self._seconds, _RETRY_SECONDS)
        with self._lock:
            _, since = self._seen.get(key, (0.0, 0))
            self._seen[key] = (retry_at - self._seconds, since + refusals)

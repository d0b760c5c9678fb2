"""Which parts of the system are switched on: the settings of this process, and over them the flags set in Postgres."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import structlog

from memory_pipeline.model.errors import BusyError, StoreUnavailableError
from memory_pipeline.model.flags import Flag, flag_named
from memory_pipeline.settings import Settings
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.feature_flags import read_overrides

READ_SECONDS = 2.0
"""How old the flags of a process may be."""

log = structlog.get_logger(__name__)


class FeatureFlags:
    """The flags of one process. Safe to use from threads.

    While Postgres is away those last read hold; before any was read, the settings.
    """

    def __init__(self, database: Database, settings: Settings, *, seconds: float = READ_SECONDS) -> None:
        self._database = database
        self._defaults = {flag: bool(getattr(settings, flag.field)) for flag in Flag}
        self._seconds = seconds
        self._reading = threading.Lock()
        self._asked_at = float("-inf")
        self._overrides: Mapping[Flag, bool] | None = None
        self._told = False
        """Whether the log says that they can't be read just now."""

    def enabled(self, flag: Flag) -> bool:
        """Whether a flag is on, as last read. Costs nothing."""
        return (self._overrides or {}).get(flag, self._defaults[flag])

    def refresh(self) -> None:
        """Read the flags where they are too old; one thread does, the others go on with what is known."""
        # Before anything is known there is nothing to go on with.
        if not self._reading.acquire(blocking=self._overrides is None):
            return
        try:
            if time.monotonic() - self._asked_at > self._seconds:
                self._read()
                self._asked_at = time.monotonic()
        finally:
            self._reading.release()

    def off(self, *needed: Flag) -> tuple[Flag, ...]:
        """Return which of these flags, and of that of the whole system, are off now; none means that work may go on."""
        self.refresh()
        return tuple(flag for flag in (Flag.SYSTEM, *needed) if not self.enabled(flag))

    def _read(self) -> None:
        try:
            with self._database.transaction() as connection:
                rows = read_overrides(connection)
        except (BusyError, StoreUnavailableError) as error:
            if not self._told:
                log.warning("feature_flags_not_read", error=type(error).__name__, message=str(error))
            self._told = True
            return
        self._told = False
        named = [(flag_named(row.flag), row.enabled) for row in rows]
        overrides = {flag: enabled for flag, enabled in named if flag is not None}
        before = {flag: self.enabled(flag) for flag in Flag}
        self._overrides = overrides
        changed = {flag.value: self.enabled(flag) for flag in Flag if self.enabled(flag) != before[flag]}
        if changed:
            log.info("feature_flags_changed", **changed)

"""A tenant's numbers for its dashboards: read from the published DuckDB file, kept in Redis for minutes.

An answer belongs to one generation of the file, whose name is in the key: a new export is seen at once, and nothing has
to be dropped. Redis may be away: then every answer comes from the file.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from hashlib import sha256
from pathlib import Path
from threading import BoundedSemaphore
from typing import NamedTuple
from uuid import UUID

import msgspec
import structlog
from anyio import CapacityLimiter

from memory_pipeline.model.errors import (
    BusyError,
    ExportError,
    InvalidRequestError,
    MemoryPipelineError,
    NoExportError,
    NotFoundError,
    QueryTimeoutError,
    StoreUnavailableError,
)
from memory_pipeline.model.identity import Principal
from memory_pipeline.stores.duckdb.generations import current_export, manifest_of
from memory_pipeline.stores.duckdb.reports import reports, run_report, statement_digest
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager

log = structlog.get_logger(__name__)

PERMISSION = "analytics:read"
AT_ONCE = 2
"""Reports worked out at once: DuckDB takes every core for each."""
QUERY_SECONDS = 2.0
_WAIT_SECONDS = 1.0
"""Longest wait for one of these places. Reports take milliseconds, so a dashboard may ask for all of them at once."""
_READINGS = 3
"""Files tried: the one that is served may be replaced and removed between finding and opening it."""
_CACHED_BYTES = 256 * 1024
"""Longer rows are not kept: the cache may share its memory with the write buffer."""


class Asked(msgspec.Struct, frozen=True):
    """What is asked of a report: the days from first to last, both included, and at most so many rows."""

    first_day: date | None = None
    last_day: date | None = None
    limit: int = 1000


class _Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an answer."""

    tenant_id: UUID
    report: str
    columns: list[str]
    rows: msgspec.Raw
    """JSON, from the file to the answer."""
    truncated: bool
    as_of: datetime | None
    generation: str


class _Served(NamedTuple):
    """The file that is served."""

    path: Path
    as_of: datetime | None


class _UnreadableFileError(Exception):
    """The file could not be read; it may have been replaced meanwhile."""


class Analytics:
    """The reports of one API process."""

    def __init__(
        self,
        exports_root: Path,
        redis: RedisManager,
        require: Callable[[Principal, str, UUID], None],
        *,
        query_seconds: float = QUERY_SECONDS,
    ) -> None:
        """`require` raises ForbiddenError unless the user has the permission, under a correlation id."""
        self._exports_root = exports_root
        self._redis = redis
        self._require = require
        self._query_seconds = query_seconds
        self._places = BoundedSemaphore(AT_ONCE)
        self.threads = CapacityLimiter(2 * AT_ONCE)
        """Threads of their own, so that reports never take those that messages are stored in."""

    def list_reports(self, principal: Principal, correlation_id: UUID) -> bytes:
        """Return the reports there are, as JSON. Raises ForbiddenError."""
        self._require(principal, PERMISSION, correlation_id)
        return msgspec.json.encode({"reports": list(reports().values())})

    def answer(self, principal: Principal, name: str, asked: Asked, correlation_id: UUID) -> bytes:
        """Return one report about the user's tenant, as JSON.

        Raises ForbiddenError, NotFoundError for an unknown report, InvalidRequestError for days the wrong way round,
        NoExportError, BusyError where too many reports are worked out or this one takes too long, and
        StoreUnavailableError where the file can't be read.
        """
        self._require(principal, PERMISSION, correlation_id)
        if name not in reports():
            raise NotFoundError(f"there is no such report. There are {', '.join(reports())}.")
        if asked.first_day and asked.last_day and asked.first_day > asked.last_day:
            raise InvalidRequestError(f"from: {asked.first_day} is after to: {asked.last_day}.")
        for reading in range(_READINGS):
            served = self._find_served()
            key = _key(principal.tenant_id, name, asked, served)
            kept = self._redis.get_value(key, _Numbers, cache="analytics")
            if kept is not None and _is_of(kept, principal.tenant_id):
                return _document(kept, cached=True)
            try:
                numbers = self._work_out(served, principal.tenant_id, name, asked)
            except _UnreadableFileError as error:
                if reading + 1 < _READINGS and self._find_served() != served:
                    continue
                log.error("export_unreadable", path=str(served.path), message=str(error))
                raise _unreadable() from error
            if len(numbers.rows) <= _CACHED_BYTES:
                self._redis.warm_value(key, numbers)
            return _document(numbers, cached=False)
        raise AssertionError("every reading answers, raises, or is followed by another")

    def _find_served(self) -> _Served:
        """Return the file that is served. Raises NoExportError and StoreUnavailableError, naming no path to callers."""
        for reading in range(_READINGS):
            try:
                path = current_export(self._exports_root)
                manifest = manifest_of(path)
            except NoExportError as error:
                raise NoExportError(
                    "nothing was exported yet, so there are no numbers. The hourly export brings them; an operator "
                    "does it at once by `memory-pipeline materialize`."
                ) from error
            except (ExportError, OSError) as error:
                # A publication may have switched and removed the old one between the two looks.
                if reading + 1 < _READINGS:
                    continue
                log.error("export_unreadable", message=str(error))
                raise _unreadable() from error
            return _Served(path, manifest.source.taken_at if manifest.source else None)
        raise AssertionError("every reading answers, raises, or is followed by another")

    def _work_out(self, served: _Served, tenant_id: UUID, name: str, asked: Asked) -> _Numbers:
        if not self._places.acquire(timeout=_WAIT_SECONDS):
            raise BusyError(f"{AT_ONCE} reports are being worked out, which is as many as may be: ask again.")
        try:
            result = run_report(
                served.path,
                name,
                tenant_id,
                asked.first_day or date.min,
                asked.last_day or date.max,
                max_rows=asked.limit,
                timeout_seconds=self._query_seconds,
            )
        except QueryTimeoutError as error:
            raise BusyError(
                f"the report took longer than {self._query_seconds:g} s and was stopped: ask again, or for fewer days."
            ) from error
        except MemoryPipelineError as error:
            raise _UnreadableFileError(str(error)) from error
        finally:
            self._places.release()
        return _Numbers(
            tenant_id=tenant_id,
            report=name,
            columns=result.columns,
            rows=msgspec.Raw(msgspec.json.encode(result.rows)),
            truncated=result.truncated,
            as_of=served.as_of,
            generation=served.path.name,
        )


def _key(tenant_id: UUID, name: str, asked: Asked, served: _Served) -> str:
    # The moment too: an export folder that was deleted begins again with the same names.
    depends_on = msgspec.json.encode([statement_digest(name), served.as_of, asked])
    return keys.analytics(tenant_id, served.path.name, name, sha256(depends_on).digest())


def _is_of(kept: _Numbers, tenant_id: UUID) -> bool:
    if kept.tenant_id == tenant_id:
        return True
    log.error("cached_value_of_another_tenant", cache="analytics", report=kept.report)
    return False


def _document(numbers: _Numbers, *, cached: bool) -> bytes:
    return msgspec.json.encode(
        {
            "report": numbers.report,
            "columns": numbers.columns,
            "rows": numbers.rows,
            "truncated": numbers.truncated,
            "as_of": numbers.as_of,
            "generation": numbers.generation,
            "cached": cached,
        }
    )


def _unreadable() -> StoreUnavailableError:
    return StoreUnavailableError(
        "the exported file can't be read; the log of the API says why. An operator looks at `memory-pipeline export "
        "verify` and exports again."
    )

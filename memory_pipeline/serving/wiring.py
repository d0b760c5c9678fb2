"""The wiring check: all settings of a process, and all processes that share a Redis, lead to one database.

Memory was lost where a writer and a reader used different databases. So each process compares its own connections, says
through Redis which database it works on, and reads what the others say: at start, where a difference is a refusal, and
every minute, where it shows in the report (`/health`). Processes with different Redis servers can't see each other.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, Self

import msgspec

from memory_pipeline import metrics
from memory_pipeline.model.errors import BusyError, SchemaVersionError, StoreUnavailableError, WiringError
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.fingerprint import Fingerprint, read_fingerprint
from memory_pipeline.stores.postgres.migrate import check_schema
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.announcements import announce, read_announcements, withdraw
from memory_pipeline.stores.redis.manager import RedisManager

ProcessName = Literal["api", "worker", "dagster", "command"]

Result = Literal["same", "not_compared", "other_database", "other_schema", "database_away"]
"""`not_compared`: this process's own settings agree, but what others use is not known."""

_RENEW_SECONDS = 60.0
_RECHECK_SECONDS = 5.0
"""While something is wrong or unknown: what was put right should show soon."""
_NAMED = 3


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What a process says of itself."""

    process: str
    host: str
    pid: int
    fingerprint: Fingerprint

    def __str__(self) -> str:
        return f"{self.process} (host {self.host}, pid {self.pid})"


class WiringReport(msgspec.Struct, frozen=True, kw_only=True):
    """The newest comparison. Names hosts, never users or passwords."""

    result: Result
    message: str
    fingerprint: Fingerprint
    others: tuple[Announcement, ...]
    checked_at: datetime

    @property
    def ok(self) -> bool:
        """False where this process must not be trusted with reads and writes; stores that are away are no reason."""
        return self.result not in {"other_database", "other_schema"}


class Wiring:
    """The check of one process. As a context manager it refuses at the start and announces until the end.

    `databases` are the process's connections by the name of the setting each comes from. Without Redis, or with one
    that is away, only these are compared. `host` is how this machine is named to people and tells processes with one
    pid apart; None asks the system.
    """

    def __init__(
        self,
        process: ProcessName,
        databases: Mapping[str, Database],
        redis: RedisManager | None,
        *,
        host: str | None = None,
    ) -> None:
        if not databases:
            raise WiringError("there is no database to compare: name at least one connection.")
        self._databases = dict(databases)
        self._redis = redis
        self._process = process
        self._host = host or socket.gethostname()
        self._pid = os.getpid()
        self._key = keys.wiring(process, f"{self._host}:{self._pid}")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._started_with: Fingerprint | None = None
        self._report: WiringReport | None = None

    @property
    def report(self) -> WiringReport:
        """The newest comparison, about a minute old at most (unless the pool of Postgres is busy all the time)."""
        if self._report is None:
            raise WiringError("the wiring was not checked yet.")
        if self._thread is not None and not self._thread.is_alive() and not self._stop.is_set():
            message = f"comparing ended with an error, which the log shows, after {self._report.checked_at}; restart."
            return msgspec.structs.replace(self._report, result="not_compared", message=message)
        return self._report

    def start(self) -> Self:
        """Compare; then announce, and compare again every minute, in a thread.

        Raises WiringError, SchemaVersionError, and StoreUnavailableError or BusyError where Postgres does not answer.
        """
        try:
            self._started_with = self._own_fingerprint()
            self._report = self._compare(self._started_with)
        except (WiringError, SchemaVersionError, StoreUnavailableError) as error:
            metrics.schema_checks.labels(_result_of(error)).inc()
            self._withdraw()
            raise
        metrics.schema_checks.labels(self._report.result).inc()
        if self._redis is not None:
            self._thread = threading.Thread(target=self._renew, name="wiring", daemon=True)
            self._thread.start()
        return self

    def check(self) -> WiringReport:
        """Compare again; what was found is in the report, not raised. Where the pool is busy the report stays."""
        fingerprint = self.report.fingerprint
        try:
            fingerprint = self._own_fingerprint()
            self._require_unmoved(fingerprint)
            report = self._compare(fingerprint)
        except (WiringError, SchemaVersionError, StoreUnavailableError) as error:
            report = self._reported(_result_of(error), str(error), fingerprint, self.report.others)
            # Others compare themselves with this process, whatever it found.
            self._announce(fingerprint)
        except BusyError:  # nothing was found out, so what was found before stands
            self._announce(fingerprint)
            return self.report
        metrics.schema_checks.labels(report.result).inc()
        self._report = report
        return report

    def stop(self) -> None:
        """End the renewal and take the announcement back."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._withdraw()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _renew(self) -> None:
        while not self._stop.wait(_RENEW_SECONDS if self.report.result == "same" else _RECHECK_SECONDS):
            self.check()

    def _own_fingerprint(self) -> Fingerprint:
        """Return the database that all settings of this process lead to."""
        found: dict[str, Fingerprint] = {}
        for name, database in self._databases.items():
            with database.transaction() as connection:
                check_schema(connection)
                found[name] = read_fingerprint(connection)
        (first_name, first), *rest = found.items()
        for name, fingerprint in rest:
            if not fingerprint.is_same_database(first):
                raise WiringError(
                    f"{first_name} leads to {first}, but {name} leads to {fingerprint}. Point both at one database."
                )
        return first

    def _require_unmoved(self, fingerprint: Fingerprint) -> None:
        if self._started_with is not None and not fingerprint.is_same_database(self._started_with):
            raise WiringError(
                f"this process started on {self._started_with}, and its settings now lead to {fingerprint}. "
                "Restart it once they lead where they should."
            )

    def _compare(self, fingerprint: Fingerprint) -> WiringReport:
        # First say, then ask: of two processes that start at once, at least one sees the other.
        problem = self._announce(fingerprint)
        if problem is None:
            try:
                return self._compared(fingerprint, self._others())
            except StoreUnavailableError as error:
                problem = str(error)
        return self._reported("not_compared", f"what other processes use is not known: {problem}", fingerprint, ())

    def _compared(self, fingerprint: Fingerprint, others: list[Announcement]) -> WiringReport:
        different = [other for other in others if not fingerprint.is_same_database(other.fingerprint)]
        if different:
            raise WiringError(
                f"{self._announcement(fingerprint)} uses {fingerprint}, but {_named(different)}. Point all processes "
                "at one database, or give each installation a Redis of its own. A process that was killed is "
                f"forgotten after {keys.WIRING.seconds} seconds."
            )
        behind = [other for other in others if other.fingerprint.schema_version != fingerprint.schema_version]
        message = f"{fingerprint}, schema {fingerprint.schema_version}; {len(others)} other processes use it"
        if behind:
            message += f"; still to be restarted on that schema: {', '.join(map(str, behind[:_NAMED]))}"
        return self._reported("same", message, fingerprint, tuple(others))

    def _announcement(self, fingerprint: Fingerprint) -> Announcement:
        return Announcement(process=self._process, host=self._host, pid=self._pid, fingerprint=fingerprint)

    def _announce(self, fingerprint: Fingerprint) -> str | None:
        """Announce this process; return what kept it from that."""
        if self._redis is None:
            return "this process has no Redis (MEMORY_REDIS_URL)."
        try:
            announce(self._redis, self._key, msgspec.json.encode(self._announcement(fingerprint)))
        except StoreUnavailableError as error:
            return str(error)
        return None

    def _others(self) -> list[Announcement]:
        if self._redis is None:
            return []
        found = read_announcements(self._redis)
        return [msgspec.json.decode(value, type=Announcement) for key, value in found.items() if key != self._key]

    def _withdraw(self) -> None:
        if self._redis is None:
            return
        # Where Redis is away the announcement ends by itself.
        with suppress(StoreUnavailableError):
            withdraw(self._redis, self._key)

    def _reported(
        self, result: Result, message: str, fingerprint: Fingerprint, others: tuple[Announcement, ...]
    ) -> WiringReport:
        return WiringReport(
            result=result, message=message, fingerprint=fingerprint, others=others, checked_at=datetime.now(UTC)
        )


@contextmanager
def wired(process: ProcessName, pipeline: Pipeline) -> Iterator[Wiring]:
    """Check the databases of a pipeline's settings, and announce the process for as long as this lasts.

    Raises what `Wiring.start` raises.
    """
    settings = pipeline.settings
    databases = {"MEMORY_POSTGRES_PIPELINE_URL": pipeline.database}
    if settings.postgres_app_url is not None:
        databases["MEMORY_POSTGRES_APP_URL"] = pipeline.app_database
    with ExitStack() as opened:
        redis = None
        if settings.redis_url is not None:
            redis = opened.enter_context(RedisManager(settings.redis_url, cache_url=settings.redis_cache_url))
        yield opened.enter_context(Wiring(process, databases, redis))


def _named(others: list[Announcement]) -> str:
    named = ", ".join(f"{other} uses {other.fingerprint}" for other in others[:_NAMED])
    return named if len(others) <= _NAMED else f"{named}, and {len(others) - _NAMED} more use others"


def _result_of(error: WiringError | SchemaVersionError | StoreUnavailableError) -> Result:
    if isinstance(error, WiringError):
        return "other_database"
    return "other_schema" if isinstance(error, SchemaVersionError) else "database_away"

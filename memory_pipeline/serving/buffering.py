"""Writes while Postgres is away: into the buffer in Redis, and out of it in order, once each, when Postgres is back.

Every API process may replay; an advisory lock lets one at a time. A request leaves the buffer after Postgres has both
its messages and its ledger row, so a crash in between repeats a write that is idempotent, or finds the row and only
removes the request. What is refused becomes a dead job that holds the whole request.
"""

from __future__ import annotations

import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from uuid import UUID

import msgspec
import structlog

from memory_pipeline import metrics
from memory_pipeline.model.errors import (
    BusyError,
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    RecordRefusedError,
    StoreUnavailableError,
    UnauthenticatedError,
)
from memory_pipeline.model.records import BufferedWrite
from memory_pipeline.model.validation import Limits, check_message
from memory_pipeline.stores.postgres import replays
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.redis.buffer import AddedEntry, WriteBuffer

BATCH_ENTRIES = 100
"""Requests per hold of the lock and per transaction of the ledger."""
TRIES = 5
"""How often a request may fail for an unforeseen reason before it is refused, so that it can't block the rest."""

Write = Callable[[BufferedWrite], int]
"""Writes a request as the direct path does, and answers how many of its messages were new.

It must be idempotent by message id and must not buffer: where Postgres is away it raises StoreUnavailableError."""

_AWAY = (StoreUnavailableError, BusyError)
_REFUSALS = (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    RecordRefusedError,
    UnauthenticatedError,
)
_log = structlog.get_logger(__name__)


class ReplayReport(msgspec.Struct):
    """What one replay did; counts are messages but for `entries`."""

    entries: int = 0
    """Requests that left the buffer."""
    inserted: int = 0
    duplicates: int = 0
    """Were in Postgres already."""
    refused: int = 0
    """Kept as dead jobs."""
    set_aside: int = 0
    """Kept in Redis, because Postgres has no such tenant."""
    locked_out: bool = False
    """Another process is replaying."""
    stopped: str | None = None
    """Why it ended before the buffer was empty."""


class _Refusal(msgspec.Struct, frozen=True):
    error_class: str
    error_text: str


_Result = int | _Refusal | None
"""Messages that were new; why it was refused; None where the ledger has it already."""


def accept_write(buffer: WriteBuffer, limits: Limits, entry: BufferedWrite) -> None:
    """Buffer a request that Postgres could not take, after the checks of the direct path: a message that is refused
    never reaches Redis.

    Raises InvalidRequestError, BufferFullError, StoreUnavailableError; then nothing was acknowledged.
    """
    for message in entry.messages:
        if problem := check_message(message, limits):
            raise InvalidRequestError(f"message {message.source_message_id!r}: {problem.reason}; {problem.remedy}.")
    buffer.add(entry)


def replay(
    buffer: WriteBuffer,
    database: Database,
    write: Write,
    *,
    failures: Counter[UUID] | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> ReplayReport:
    """Write the buffered requests into Postgres, in order, until the buffer is empty or a store is away.

    database: as memory_pipeline; it holds one of its connections per batch while `write` uses its own. failures: how
    often a request has failed for an unforeseen reason; keep it from call to call.
    """
    report = ReplayReport()
    counted = Counter[UUID]() if failures is None else failures
    try:
        while not stopping() and _replay_batch(buffer, database, write, report, counted, stopping):
            pass
    except _AWAY as error:
        report.stopped = str(error)
    return report


def _replay_batch(
    buffer: WriteBuffer,
    database: Database,
    write: Write,
    report: ReplayReport,
    failures: Counter[UUID],
    stopping: Callable[[], bool],
) -> bool:
    """Replay the first requests; False where there is nothing (more) that could be done now."""
    results: list[tuple[BufferedWrite, _Result]] = []
    strays: list[BufferedWrite] = []
    with database.transaction() as connection:
        if not replays.try_replay_lock(connection):
            report.locked_out = True
            return False
        entries = buffer.head(BATCH_ENTRIES)
        for entry in entries:
            if stopping():
                report.stopped = "this process ends"
                break
            standing = replays.standing(connection, entry)
            if standing.tenant is None:
                strays.append(entry)
                continue
            try:
                results.append((entry, _replay_entry(entry, standing, write, failures)))
            except _AWAY as error:
                report.stopped = str(error)
                break
            except _UnforeseenError as error:
                report.stopped = str(error)
                break
        _record(connection, results)
    # From here on Postgres has them all. Whoever takes the lock now finds their ledger rows.
    buffer.remove(*(entry for entry, _result in results))
    for entry in strays:
        buffer.set_aside(entry, f"Postgres has no tenant {entry.tenant_id}")
        report.set_aside += len(entry.messages)
        metrics.redis_buffer_replays.labels("set_aside").inc(len(entry.messages))
    for entry, result in results:
        _count(report, entry, result)
        failures.pop(entry.entry_id, None)
    return report.stopped is None and len(entries) > 0


class _UnforeseenError(Exception):
    """A request failed for a reason that is neither its own nor a store's; it is tried again a little later."""


def _replay_entry(entry: BufferedWrite, standing: replays.Standing, write: Write, failures: Counter[UUID]) -> _Result:
    if standing.settled:
        return None
    if problem := _problem(entry, standing):
        return _Refusal("ForbiddenError", problem)
    try:
        return write(entry)
    except _AWAY:
        raise
    except _REFUSALS as error:
        return _Refusal(type(error).__name__, str(error))
    except Exception as error:  # whatever it is, it must neither block the buffer nor be lost
        failures[entry.entry_id] += 1
        frame = traceback.extract_tb(error.__traceback__)[-1]
        _log.error(
            "replay_failed",
            entry_id=str(entry.entry_id),
            correlation_id=str(entry.correlation_id),
            error=type(error).__name__,  # its text may quote a message
            where=f"{frame.filename}:{frame.lineno}",
            tries=failures[entry.entry_id],
        )
        if failures[entry.entry_id] < TRIES:
            raise _UnforeseenError(f"request {entry.entry_id} failed with {type(error).__name__}") from error
        return _Refusal(type(error).__name__, f"failed {TRIES} times: {error}")


def write_refused(database: Database, entry: BufferedWrite, write: Write) -> None:
    """Write a request that was refused when it was replayed, and is to be tried again. database: as memory_pipeline.

    Raises ForbiddenError where its user may still not write, and as `write` does.
    """
    with database.transaction() as connection:
        standing = replays.standing(connection, entry)
    if problem := _problem(entry, standing):
        raise ForbiddenError(f"{problem}.")
    write(entry)
    with database.transaction() as connection:
        replays.forget_request(connection, entry)


def _problem(entry: BufferedWrite, standing: replays.Standing) -> str | None:
    """Why a request that was allowed when it came may no longer be written; None where it may."""
    if standing.tenant != "active":
        return f"tenant {entry.tenant_id} is {standing.tenant}; activate it and retry the job"
    if standing.user != "active":
        return f"user {entry.user_id} {_is(standing.user)}; retry the job when they may write again"
    if standing.identity != "linked":
        return (
            f"subject {entry.subject!r} of {entry.issuer} {_is(standing.identity)} as user {entry.user_id}; retry the "
            "job if what they wrote before is wanted"
        )
    return None


def _is(state: str | None) -> str:
    return "does not exist" if state is None else f"is {state}"


def _record(connection: Connection, results: list[tuple[BufferedWrite, _Result]]) -> None:
    """Write the ledger rows of a batch."""
    written = [(entry, result) for entry, result in results if isinstance(result, int)]
    if written:
        replays.record_replayed(connection, written)
    for entry, result in results:
        if isinstance(result, _Refusal):
            replays.record_refused(connection, entry, result.error_class, result.error_text)


def _count(report: ReplayReport, entry: BufferedWrite, result: _Result) -> None:
    report.entries += 1
    messages = len(entry.messages)
    if isinstance(result, _Refusal):
        report.refused += messages
        metrics.redis_buffer_replays.labels("refused").inc(messages)
        _log.error(
            "buffered_write_refused",
            entry_id=str(entry.entry_id),
            tenant_id=str(entry.tenant_id),
            correlation_id=str(entry.correlation_id),
            error=result.error_class,
            messages=messages,
            remedy="the request is kept as a dead job: memory-pipeline jobs show",
        )
        return
    inserted = 0 if result is None else result
    report.inserted += inserted
    report.duplicates += messages - inserted
    metrics.redis_buffer_replays.labels("inserted").inc(inserted)
    metrics.redis_buffer_replays.labels("duplicate").inc(messages - inserted)


def report_lost(buffer: WriteBuffer, database: Database) -> int:
    """Find out what became of the entries this process has added; return how many messages are lost.

    An entry that is neither in Redis nor in the ledger was lost: an event `buffered_writes_lost` per tenant, an error
    line and a metric say so. Redis is asked first: a replay writes the ledger before it removes, so an entry that is
    just leaving is always found. database: as memory_pipeline. Raises StoreUnavailableError; nothing is forgotten then.
    """
    added = buffer.unsettled()
    gone = buffer.missing(added) if added else []
    if not gone:
        return 0
    with database.transaction() as connection:
        settled = replays.settled_entries(connection, [(added[entry_id].tenant_id, entry_id) for entry_id in gone])
        lost: dict[UUID, list[AddedEntry]] = defaultdict(list)
        for entry_id in gone:
            if entry_id not in settled:
                lost[added[entry_id].tenant_id].append(added[entry_id])
        for tenant_id, entries in lost.items():
            replays.record_lost(
                connection,
                tenant_id,
                len(entries),
                sum(entry.messages for entry in entries),
                [entry.correlation_id for entry in entries],
            )
    buffer.settle(gone)
    messages = sum(entry.messages for entries in lost.values() for entry in entries)
    if messages:
        metrics.redis_buffer_lost.inc(messages)
        _log.error(
            "buffered_writes_lost",
            messages=messages,
            entries=sum(map(len, lost.values())),
            tenants=len(lost),
            remedy="ask the senders to send them again; events of the same name hold the correlation ids",
        )
    return messages

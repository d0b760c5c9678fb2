"""Taking messages in: from records of any source to rows of one tenant, in batches that are all or nothing.

A message is identified by its source and source id. Sending it again changes nothing; sending other content under the
same id is refused, and the message that was there stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from uuid import UUID, uuid4

import msgspec

from memory_pipeline.model import ids
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.records import IncomingMessage, Rejection, Role
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.messages import IncomingRow, Inserted, insert_messages
from memory_pipeline.stores.postgres.tenants import ensure_user

Batch = dict[tuple[str, str], tuple[IncomingRow, str]]
"""Rows with their origins, by source and source message id."""

BATCH_MESSAGES = 10_000
_WRITERS = 2
_REMEMBERED_ROLES = frozenset({Role.USER, Role.ASSISTANT})


class IngestReport(msgspec.Struct):
    """What became of the messages of one import."""

    inserted: int = 0
    duplicates: int = 0
    rejected: int = 0

    @property
    def seen(self) -> int:
        return self.inserted + self.duplicates + self.rejected


class UserDirectory:
    """The users of one tenant by e-mail, created where they are new. One per import; looks each up once."""

    def __init__(self, database: Database, tenant_id: UUID, default_email: str | None) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._default_email = default_email
        self._known: dict[str, tuple[str, str]] = {}

    def resolve(self, message: IncomingMessage) -> tuple[str, str]:
        """Return (user id in hexadecimal, name of the speaker) for a message."""
        email = message.user_email or self._default_email
        if email is None:
            raise MemoryPipelineError(f"{message.origin}: the message names no user; pass --user EMAIL.")
        known = self._known.get(email)
        if known is None:
            known = self._known[email] = self._look_up(email, message)
        user_id, display_name = known
        if message.speaker:
            return user_id, message.speaker
        return user_id, display_name if message.role is Role.USER else message.role.value.capitalize()

    def _look_up(self, email: str, message: IncomingMessage) -> tuple[str, str]:
        spoke_for_themselves = message.role is Role.USER and message.user_email is not None and message.speaker
        display_name = message.speaker if spoke_for_themselves else email.split("@")[0]
        assert display_name is not None
        with self._database.tenant_transaction(self._tenant_id) as connection:
            return ensure_user(connection, self._tenant_id, email, display_name).hex, display_name


def ingest(
    database: Database,
    tenant_id: UUID,
    users: UserDirectory,
    records: Iterable[IncomingMessage | Rejection],
    *,
    actor: str,
    on_reject: Callable[[Rejection], None],
    on_batch: Callable[[IngestReport], None] | None = None,
    batch_messages: int = BATCH_MESSAGES,
) -> IngestReport:
    """Write the messages of one tenant and return the counts; rejections and conflicts go to `on_reject`.

    Reading and preparing the next batch goes on while Postgres takes the last ones: two batches are on their way at
    most, so memory is bounded by three batches.
    """
    report = IngestReport()
    correlation_id = uuid4()

    def write(batch: Batch) -> Inserted:
        with database.tenant_transaction(tenant_id) as connection:
            rows = [row for row, _origin in batch.values()]
            return insert_messages(connection, rows, actor=actor, correlation_id=correlation_id)

    def reject(rejection: Rejection) -> None:
        report.rejected += 1
        on_reject(rejection)

    def settle(batch: Batch, written: Future[Inserted]) -> None:
        outcome = written.result()
        report.inserted += outcome.inserted
        report.duplicates += len(batch) - outcome.inserted - len(outcome.conflicting)
        for key in outcome.conflicting:
            row, origin = batch[key]
            reject(_conflict(origin, row.source_message_id))
        if on_batch is not None:
            on_batch(report)

    in_flight: deque[tuple[Batch, Future[Inserted]]] = deque()
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="ingest") as writers:
        for batch in _batches(tenant_id, users, records, report, reject, batch_messages):
            while len(in_flight) >= _WRITERS:
                settle(*in_flight.popleft())
            in_flight.append((batch, writers.submit(write, batch)))
        while in_flight:
            settle(*in_flight.popleft())
    return report


def _batches(
    tenant_id: UUID,
    users: UserDirectory,
    records: Iterable[IncomingMessage | Rejection],
    report: IngestReport,
    reject: Callable[[Rejection], None],
    batch_messages: int,
) -> Iterator[Batch]:
    """Group messages into batches by source id; what repeats within a batch is counted or refused right here."""
    remaining = iter(records)
    while chunk := list(islice(remaining, batch_messages)):
        batch: Batch = {}
        for record in chunk:
            if isinstance(record, Rejection):
                reject(record)
                continue
            row = prepare_row(tenant_id.hex, users, record)
            earlier = batch.setdefault((row.source, row.source_message_id), (row, record.origin))[0]
            if earlier is row:
                continue
            if (earlier.role, earlier.speaker, earlier.content) == (row.role, row.speaker, row.content):
                report.duplicates += 1
            else:
                reject(_conflict(record.origin, row.source_message_id))
        if batch:
            yield batch


def prepare_row(tenant_hex: str, users: UserDirectory, message: IncomingMessage) -> IncomingRow:
    """Return the row of one message, with its derived ids."""
    user_id, speaker = users.resolve(message)
    message_id = ids.message_hex(
        tenant_hex, message.source, message.source_message_id, ids.milliseconds(message.sent_at)
    )
    return IncomingRow(
        message_id,
        ids.conversation_hex(tenant_hex, message.source, message.source_conversation_id),
        user_id,
        message.source,
        message.source_message_id,
        message.source_conversation_id,
        message.conversation_title,
        message.project,
        message.role.value,
        message.speaker,
        message.content,
        message.sent_at,
        message.position,
        msgspec.json.encode(message.raw_data).decode() if message.raw_data else None,
        ids.episode_hex(message_id) if message.role in _REMEMBERED_ROLES else None,
        speaker,
    )


def _conflict(origin: str, source_message_id: str) -> Rejection:
    return Rejection(
        origin=origin,
        reason=f"message id {source_message_id!r} is taken by a message with other content",
        remedy="messages are append-only: give the changed message an id of its own, or leave it out",
    )

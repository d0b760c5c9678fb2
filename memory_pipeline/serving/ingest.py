"""Taking messages in: from records of any source to rows of one tenant, in batches that are all or nothing.

A message is identified by its source and source id. Sending it again changes nothing; sending other content under the
same id, or the same in another conversation or for another user, is refused, and the message that was there stays. What
is refused or repeated never depends on how the records fall into batches: the first in the order of the records counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from uuid import UUID, uuid4

import msgspec

from memory_pipeline.model.errors import RecordRefusedError
from memory_pipeline.model.records import IncomingMessage, Rejection, Role
from memory_pipeline.serving.rows import conversation_row, identity_of, incoming_row, speaker_of
from memory_pipeline.stores.postgres.conversations import owe_invalidations
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.messages import (
    ConversationRow,
    IncomingRow,
    Inserted,
    MessageIdentity,
    MessageKey,
    insert_messages,
)
from memory_pipeline.stores.postgres.tenants import display_name_of, ensure_user

BATCH_MESSAGES = 10_000
BATCH_CHARACTERS = 16_000_000
"""A batch ends here too, so that long messages do not make it large."""
_WRITERS = 2


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

    def resolve(self, message: IncomingMessage) -> tuple[str, str] | None:
        """Return (user id in hexadecimal, name of the speaker) for a message; None where it names no user."""
        email = message.user_email or self._default_email
        if not email:
            return None
        known = self._known.get(email)
        if known is None:
            known = self._known[email] = self._look_up(email, message)
        user_id, display_name = known
        return user_id, speaker_of(message, display_name)

    def _look_up(self, email: str, message: IncomingMessage) -> tuple[str, str]:
        """A new user is called what they call themselves, else by the part of the address that is theirs."""
        named_themselves = message.role is Role.USER and message.user_email and message.speaker
        display_name = named_themselves or email.split("@")[0]
        with self._database.tenant_transaction(self._tenant_id) as connection:
            user_id = ensure_user(connection, self._tenant_id, email, display_name)
            return user_id.hex, display_name_of(connection, self._tenant_id, user_id)


class Batch:
    """Messages of one transaction, with what is to be told about each."""

    def __init__(self) -> None:
        self.rows: dict[MessageKey, tuple[IncomingRow, str]] = {}
        """Rows with their origins."""
        self.repeats: list[tuple[MessageKey, MessageIdentity, str]] = []
        """Key, identity and origin of records under a key that is taken within this batch."""
        self.conversations: dict[str, tuple[tuple[datetime, int], ConversationRow]] = {}
        """By id, with the time and position of the turn they are described by: the earliest."""
        self.characters = 0

    def add(self, row: IncomingRow, message: IncomingMessage) -> None:
        self.rows[row.source, row.source_message_id] = (row, message.origin)
        self.characters += len(row.content)
        turn = (row.sent_at, row.position)
        known = self.conversations.get(row.conversation_id)
        if known is None or turn < known[0]:
            self.conversations[row.conversation_id] = (turn, conversation_row(row, message))

    def inherit(self, earlier: Batch) -> None:
        """Describe conversations as an earlier batch does: either of the two may be the first to store them."""
        for conversation_id in self.conversations.keys() & earlier.conversations.keys():
            self.conversations[conversation_id] = earlier.conversations[conversation_id]

    def halves(self) -> tuple[Batch, Batch]:
        """Split the rows in two; repeats are left out."""
        first, second = Batch(), Batch()
        for place, (key, (row, origin)) in enumerate(self.rows.items()):
            half = first if place < len(self.rows) // 2 else second
            half.rows[key] = (row, origin)
            half.conversations[row.conversation_id] = self.conversations[row.conversation_id]
        return first, second


class Written(msgspec.Struct):
    """What became of the rows of a batch."""

    inserted: int
    conflicting: dict[MessageKey, MessageIdentity]
    """Rows whose id is taken by another message, with the identity of that message."""
    refused: dict[MessageKey, str]
    """Rows that Postgres can't store, with the reason."""


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
    most, so memory is bounded by three batches. What a writer raises ends the import; batches are whole or absent, and
    importing again completes it.
    """
    report = IngestReport()
    correlation_id = uuid4()

    def reject(rejection: Rejection) -> None:
        report.rejected += 1
        on_reject(rejection)

    def settle(batch: Batch, written: Future[Written]) -> None:
        _settle(batch, written.result(), report, reject)
        if on_batch is not None:
            on_batch(report)

    in_flight: deque[tuple[Batch, Future[Written]]] = deque()
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="ingest") as writers:
        for batch in _batches(tenant_id, users, records, reject, batch_messages):
            # Of two records under one id the first must win, so batches that share an id are written one by one.
            while len(in_flight) >= _WRITERS or any(
                not batch.rows.keys().isdisjoint(earlier.rows) for earlier, _written in in_flight
            ):
                settle(*in_flight.popleft())
            for earlier, _written in in_flight:
                batch.inherit(earlier)
            in_flight.append((batch, writers.submit(_write, database, tenant_id, batch, actor, correlation_id)))
        while in_flight:
            settle(*in_flight.popleft())
    return report


def _write(database: Database, tenant_id: UUID, batch: Batch, actor: str, correlation_id: UUID) -> Written:
    """Write a batch; where Postgres refuses it for a record, halve it until that record stands alone."""

    def insert(connection: Connection) -> Inserted:
        conversations = [conversation for _turn, conversation in batch.conversations.values()]
        rows = [row for row, _origin in batch.rows.values()]
        outcome = insert_messages(connection, conversations, rows, actor=actor, correlation_id=correlation_id)
        if outcome.inserted:
            # A conversation that was there before may be cached; an import knows nothing of Redis.
            known = [UUID(conversation_id) for conversation_id in batch.conversations]
            older = [each for each in known if each not in outcome.new_conversations]
            owe_invalidations(connection, tenant_id, older)
        return outcome

    try:
        outcome = database.in_tenant(tenant_id, insert)
    except RecordRefusedError as error:
        if len(batch.rows) == 1:
            return Written(0, {}, dict.fromkeys(batch.rows, str(error)))
        halves = [_write(database, tenant_id, half, actor, correlation_id) for half in batch.halves()]
        return Written(
            sum(half.inserted for half in halves),
            halves[0].conflicting | halves[1].conflicting,
            halves[0].refused | halves[1].refused,
        )
    return Written(outcome.inserted, dict(outcome.conflicting), {})


def _settle(batch: Batch, written: Written, report: IngestReport, reject: Callable[[Rejection], None]) -> None:
    """Count what was written and tell what was not."""
    report.inserted += written.inserted
    report.duplicates += len(batch.rows) - written.inserted - len(written.conflicting) - len(written.refused)
    for key, (_row, origin) in batch.rows.items():
        if key in written.conflicting:
            reject(_conflict(origin, key))
        elif key in written.refused:
            reject(_refusal(origin, written.refused[key]))
    for key, identity, origin in batch.repeats:
        row, _origin = batch.rows[key]
        if key in written.refused:
            reject(_refusal(origin, f"the record before it under message id {key[1]!r} was refused"))
        elif identity == written.conflicting.get(key, identity_of(row)):
            report.duplicates += 1
        else:
            reject(_conflict(origin, key))


def _batches(
    tenant_id: UUID,
    users: UserDirectory,
    records: Iterable[IncomingMessage | Rejection],
    reject: Callable[[Rejection], None],
    batch_messages: int,
) -> Iterator[Batch]:
    """Group messages into batches without a repeated id; what can't be prepared is rejected right here."""
    batch = Batch()
    for record in records:
        if isinstance(record, Rejection):
            reject(record)
            continue
        key = (record.source, record.source_message_id)
        try:
            if isinstance(prepared := prepare_row(tenant_id.hex, users, record), Rejection):
                reject(prepared)
            elif key in batch.rows:
                batch.repeats.append((key, identity_of(prepared), record.origin))
            else:
                batch.add(prepared, record)
        except UnicodeEncodeError as error:
            reject(_refusal(record.origin, f"it holds half of a surrogate pair ({error.reason})"))
        except RecordRefusedError as error:
            reject(_refusal(record.origin, str(error)))
        if len(batch.rows) + len(batch.repeats) >= batch_messages or batch.characters >= BATCH_CHARACTERS:
            yield batch
            batch = Batch()
    if batch.rows:
        yield batch


def prepare_row(tenant_hex: str, users: UserDirectory, message: IncomingMessage) -> IncomingRow | Rejection:
    """Return the row of one message with its derived ids, or why it can't have one."""
    resolved = users.resolve(message)
    if resolved is None:
        return no_user(message.origin)
    user_id, speaker = resolved
    return incoming_row(tenant_hex, user_id, speaker, message)


def no_user(origin: str) -> Rejection:
    """Return the rejection of a message that belongs to nobody."""
    return Rejection(
        origin=origin,
        reason="the message names no user",
        remedy="give it the e-mail of its user, or pass --user EMAIL for all messages that name none",
    )


def _conflict(origin: str, key: MessageKey) -> Rejection:
    return Rejection(
        origin=origin,
        reason=f"message id {key[1]!r} is taken by another message (other content, conversation or user)",
        remedy="messages are append-only: give the changed message an id of its own, or leave it out",
    )


def _refusal(origin: str, reason: str) -> Rejection:
    return Rejection(origin=origin, reason=reason, remedy="mend the record at its source and import it again")

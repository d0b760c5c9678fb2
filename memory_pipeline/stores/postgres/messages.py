"""Messages and conversations in Postgres: bulk insertion that may be repeated, and reading turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from memory_pipeline.model.errors import RecordRefusedError
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

_ROWS_PER_WRITE = 500
_NULL = "\\N"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\b": "\\b", "\f": "\\f", "\v": "\\v"})

MessageKey = tuple[str, str]
"""Source and source message id."""


class MessageIdentity(NamedTuple):
    """What must be the same for two records under one key to be one message; the time may differ."""

    content_hash: bytes
    """Of role, speaker and content."""
    conversation_id: str
    """Hexadecimal text; so too the user id."""
    user_id: str


class ConversationRow(NamedTuple):
    """What is stored of a conversation that is new. Ids are hexadecimal text."""

    conversation_id: str
    user_id: str
    """Who took part first."""
    source: str
    source_conversation_id: str
    title: str | None
    project: str | None


class IncomingRow(NamedTuple):
    """A row of the temporary table `incoming`, in the order of its columns. Ids are hexadecimal text."""

    message_id: str
    conversation_id: str
    user_id: str
    source: str
    source_message_id: str
    project: str | None
    role: str
    speaker: str | None
    content: str
    sent_at: datetime
    position: int
    raw_data: str | None
    memory_id: str | None
    """None where the message gets no episode memory (system and tool messages)."""
    memory_speaker: str
    """Who is named in the episode: the speaker, else the user's display name or the role."""


class Inserted(NamedTuple):
    """What became of one batch; what was neither inserted nor in conflict was there already."""

    inserted: int
    conflicting: Mapping[MessageKey, MessageIdentity]
    """Rows whose id is taken by another message, with the identity of that message."""
    new_conversations: Mapping[UUID, datetime]
    """Conversations that were made for these messages, with the time; all their messages are of this batch."""


class ReferenceGoneError(RecordRefusedError):
    """A conversation or user of the batch was deleted while it was written; written again, it is made anew."""


class StoredMessage(NamedTuple):
    """What is stored under the key of an incoming message."""

    source: str
    source_message_id: str
    message_id: UUID
    conversation_id: UUID
    role: str
    speaker: str | None
    content: str
    sent_at: datetime
    position: int


class MessageDay(NamedTuple):
    """Messages of one UTC day."""

    day: date
    messages: int
    tenants: int


class ConversationTurn(NamedTuple):
    """One message as recall shows it."""

    message_id: UUID
    conversation_id: UUID
    role: str
    speaker: str
    content: str
    sent_at: datetime


def copy_line(row: IncomingRow) -> str:
    """Return a row in COPY's text format: a line of tab-separated fields, \\N for NULL.

    psycopg's own write_row looks up how to write each field, which takes half as long again (5 µs a row).
    """
    texts = (
        f"{row.source}{row.source_message_id}{row.project}{row.speaker}{row.content}{row.raw_data}{row.memory_speaker}"
    )
    if "\\" in texts or not texts.isprintable():
        row = IncomingRow._make(field.translate(_ESCAPES) if isinstance(field, str) else field for field in row)
    return (
        f"{row.message_id}\t{row.conversation_id}\t{row.user_id}\t{row.source}\t{row.source_message_id}\t"
        f"{_NULL if row.project is None else row.project}\t{row.role}\t"
        f"{_NULL if row.speaker is None else row.speaker}\t"
        f"{row.content}\t{row.sent_at.isoformat()}\t{row.position}\t{_NULL if row.raw_data is None else row.raw_data}\t"
        f"{_NULL if row.memory_id is None else row.memory_id}\t{row.memory_speaker}\n"
    )


def insert_messages(
    connection: Connection,
    conversations: Sequence[ConversationRow],
    rows: Sequence[IncomingRow],
    *,
    actor: str,
    correlation_id: UUID,
    with_jobs: bool = False,
) -> Inserted:
    """Insert messages, episodes, conversations and events of one batch within a tenant transaction.

    (source, source_message_id) must be unique within the batch, and `conversations` must name each conversation of the
    rows once. Messages that are there already are left as they are. `with_jobs` asks for the enrichment of each new
    episode by a job; without, it waits for a run over its day. Raises RecordRefusedError where Postgres refuses what is
    in a row; the transaction can't go on then.
    """
    try:
        connection.execute(sql(PACKAGE, "incoming_table"))
        with connection.cursor() as cursor, cursor.copy("COPY incoming FROM STDIN") as copy:
            for start in range(0, len(rows), _ROWS_PER_WRITE):
                copy.write("".join([copy_line(row) for row in rows[start : start + _ROWS_PER_WRITE]]))
        counted = connection.execute(
            sql(PACKAGE, "insert_messages"),
            {
                "actor": actor,
                "correlation_id": correlation_id,
                "conversation_ids": [conversation.conversation_id for conversation in conversations],
                "user_ids": [conversation.user_id for conversation in conversations],
                "sources": [conversation.source for conversation in conversations],
                "source_conversation_ids": [conversation.source_conversation_id for conversation in conversations],
                "titles": [conversation.title for conversation in conversations],
                "projects": [conversation.project for conversation in conversations],
                "with_jobs": with_jobs,
            },
        ).fetchone()
    except psycopg.errors.ForeignKeyViolation as error:
        raise ReferenceGoneError(f"Postgres can't store it: {str(error).partition(chr(10))[0]}") from error
    except (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded, UnicodeError) as error:
        # The first line says what; those after it may quote the whole row.
        raise RecordRefusedError(f"Postgres can't store it: {str(error).partition(chr(10))[0]}") from error
    assert counted is not None  # the statement answers one row
    inserted = int(counted[0])
    new_conversations = dict(zip(counted[1] or [], counted[2] or [], strict=True))
    if inserted == len(rows):
        return Inserted(inserted, {}, new_conversations)
    conflicts = connection.execute(sql(PACKAGE, "conflicting_messages")).fetchall()
    return Inserted(
        inserted,
        {
            (source, source_message_id): MessageIdentity(content_hash, conversation_id.hex, user_id.hex)
            for source, source_message_id, content_hash, conversation_id, user_id in conflicts
        },
        new_conversations,
    )


def stored_messages(connection: Connection) -> list[StoredMessage]:
    """Return what is stored under the keys of the batch just inserted in this transaction, new or there before."""
    with connection.cursor(row_factory=class_row(StoredMessage)) as cursor:
        return cursor.execute(sql(PACKAGE, "stored_messages")).fetchall()


def message_days(connection: Connection) -> list[MessageDay]:
    """Return how many messages each UTC day holds, over all tenants the connection may see, in order."""
    with connection.cursor(row_factory=class_row(MessageDay)) as cursor:
        return cursor.execute(sql(PACKAGE, "message_days")).fetchall()


def last_turns(connection: Connection, tenant_id: UUID, conversation_id: UUID, turns: int) -> list[ConversationTurn]:
    """Return the newest `turns` messages of a conversation, oldest first."""
    with connection.cursor(row_factory=class_row(ConversationTurn)) as cursor:
        return cursor.execute(
            sql(PACKAGE, "last_turns"),
            {"tenant_id": tenant_id, "conversation_id": conversation_id, "turns": turns},
        ).fetchall()

"""What a message must be before any store sees it: pure checks, shared by the importers and the API.

Every check answers None where all is well, else a `Problem`: what is wrong, and what to do about it. The caller knows
which record it was. One NUL byte or lone surrogate would poison a whole batch in Postgres, so they are caught here.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

import msgspec

from memory_pipeline.model.records import IncomingMessage, Role

MAX_ID_CHARACTERS = 512
"""Ids are indexed: 512 characters of four bytes, with the source beside them, still fit a Postgres index entry."""
MAX_SOURCE_CHARACTERS = 64
MAX_NAME_CHARACTERS = 1000
"""Speakers, titles, projects."""
MAX_EMAIL_CHARACTERS = 254
MAX_JSON_DEPTH = 100
"""Deeper raw data would exhaust the stack of one of the parsers on its way."""
MAX_POSITION = 2**63 - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EMAIL = re.compile(r"[^\s@<>()\[\],;:\"\\\x00-\x1f\x7f]+@[^\s@<>()\[\],;:\"\\\x00-\x1f\x7f]+")
_ROLES = ", ".join(Role)


class Problem(NamedTuple):
    """Why a record can't be taken, in words for the person who has to mend it."""

    reason: str
    remedy: str


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a run, worked out once. Make it with `Limits.at`."""

    max_message_bytes: int
    partition_start: date
    earliest: datetime
    latest: datetime

    @classmethod
    def at(cls, now: datetime, *, partition_start: date, max_message_bytes: int) -> Limits:
        """Limits as of `now` (aware). Raises ValueError where `now` is naive."""
        if now.utcoffset() is None:
            raise ValueError(f"now must carry a time zone: {now.isoformat()}")
        return cls(
            max_message_bytes=max_message_bytes,
            partition_start=partition_start,
            earliest=max(_EPOCH, datetime.combine(partition_start, time(), UTC)),
            latest=now.astimezone(UTC) + timedelta(days=1),
        )


def check_text(name: str, text: str) -> Problem | None:
    """Refuse what Postgres can't store as text: NUL characters and halves of surrogate pairs."""
    if "\0" in text:
        return Problem(
            f"the {name} holds a NUL character (position {text.index(chr(0))}), which Postgres can't store",
            "remove the NUL character from the source",
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return _surrogate(name, error)
    return None


def check_name(name: str, text: str | None, max_characters: int = MAX_NAME_CHARACTERS) -> Problem | None:
    """Check an optional short text: None, or storable and at most `max_characters` long."""
    if text is None:
        return None
    if len(text) > max_characters:
        return Problem(
            f"the {name} has {len(text):,} characters, more than {max_characters:,}",
            f"shorten the {name} in the source",
        )
    return check_text(name, text)


def check_id(name: str, text: str) -> Problem | None:
    """Check an id of the source: not blank, at most 512 characters, storable."""
    if not text or text.isspace():
        return Problem(
            f"the {name} is empty", f"give every record a {name}; it must stay the same from import to import"
        )
    return check_name(name, text, MAX_ID_CHARACTERS)


def check_content(content: str, max_bytes: int) -> Problem | None:
    """Check what was said: not blank, storable, at most `max_bytes` in UTF-8."""
    if not content or content.isspace():
        return Problem("the content is empty", "leave messages without text out, or fill in the content")
    size = len(content)
    if not content.isascii():
        try:
            size = len(content.encode())
        except UnicodeEncodeError as error:
            return _surrogate("content", error)
    if size > max_bytes:
        return Problem(
            f"the content has {size:,} bytes, more than the {max_bytes:,} allowed",
            "split the message, or raise MEMORY_MAX_MESSAGE_BYTES",
        )
    return check_text("content", content) if "\0" in content else None


def check_sent_at(sent_at: datetime, limits: Limits) -> Problem | None:
    """Check the time of a message: aware, not before 1970 or the first partition, at most a day ahead of the clock."""
    if sent_at.utcoffset() is None:
        return Problem(
            f"the time {sent_at.isoformat()} has no offset from UTC", "add the offset, such as Z or +02:00, to the time"
        )
    if limits.earliest <= sent_at <= limits.latest:
        return None
    if sent_at < _EPOCH:
        return Problem(
            f"the time {sent_at.isoformat()} is before 1970", "correct the time; numbers count as epoch seconds"
        )
    if sent_at > limits.latest:
        return Problem(
            f"the time {sent_at.isoformat()} is more than a day in the future",
            "correct the time (numbers count as epoch seconds, not milliseconds) or the clock of this machine",
        )
    return Problem(
        f"the time {sent_at.isoformat()} is before the first partition, {limits.partition_start.isoformat()}",
        f"set MEMORY_PARTITION_START to {sent_at.astimezone(UTC).date().isoformat()} or earlier to take it",
    )


def check_role(role: str) -> Problem | None:
    """Check that `role` is one of the roles of chat APIs."""
    if role in Role.__members__.values():
        return None
    return Problem(f"unknown role {role[:50]!r}", f"use one of {_ROLES}")


def check_email(email: str | None) -> Problem | None:
    """Check the form of an e-mail address; None is fine. Whether it is anybody's is not asked."""
    if email is None:
        return None
    if len(email) > MAX_EMAIL_CHARACTERS or not _EMAIL.fullmatch(email):
        return Problem(f"{email[:80]!r} is not an e-mail address", "give the user as name@domain")
    return check_text("e-mail address", email)


def check_position(position: int) -> Problem | None:
    if 0 <= position <= MAX_POSITION:
        return None
    return Problem(f"the position {position:.6g} is out of range", "number the messages of a conversation from 0 up")


def check_json(name: str, document: dict[str, Any] | None) -> Problem | None:
    """Check that `document` can be stored as jsonb: JSON types, finite numbers, storable texts, bounded depth."""
    if not document:
        return None
    pending: list[tuple[Any, int]] = [(document, 1)]
    while pending:
        value, depth = pending.pop()
        problem = None
        if isinstance(value, str):
            problem = check_text(name, value)
        elif isinstance(value, dict | list | tuple):
            if depth > MAX_JSON_DEPTH:
                return Problem(f"the {name} is nested more than {MAX_JSON_DEPTH} levels deep", f"flatten the {name}")
            if isinstance(value, dict):
                pending.extend((key, depth + 1) for key in value)
                pending.extend((item, depth + 1) for item in value.values())
            else:
                pending.extend((item, depth + 1) for item in value)
        elif isinstance(value, float):
            if not math.isfinite(value):
                problem = Problem(f"the {name} holds {value}, which is not a JSON number", "use null or a text instead")
        elif value is not None and not isinstance(value, bool | int):
            problem = Problem(f"the {name} holds a {type(value).__name__}, which is not JSON", "use JSON values only")
        if problem:
            return problem
    return None


def check_message(message: IncomingMessage, limits: Limits) -> Problem | None:
    """Return the first problem of `message`, or None where it may be stored."""
    return (
        check_id("message id", message.source_message_id)
        or check_id("conversation id", message.source_conversation_id)
        or check_content(message.content, limits.max_message_bytes)
        or check_sent_at(message.sent_at, limits)
        or check_position(message.position)
        or (check_id("source", message.source) or check_name("source", message.source, MAX_SOURCE_CHARACTERS))
        or check_role(message.role)
        or check_email(message.user_email)
        or check_name("speaker", message.speaker)
        or check_name("title", message.conversation_title)
        or check_name("project", message.project)
        or check_json("raw data", message.raw_data)
    )


def _surrogate(name: str, error: UnicodeEncodeError) -> Problem:
    return Problem(
        f"the {name} holds half of a surrogate pair, or a byte that is not UTF-8 (position {error.start})",
        "write the character whole, as UTF-8 or as both halves of the pair",
    )

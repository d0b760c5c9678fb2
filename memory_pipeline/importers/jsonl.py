"""Reads the project's own format, one JSON object per line: docs/jsonl-format.md.

The path of a valid line is short on purpose: one typed decode, one validation, one struct.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import msgspec

from memory_pipeline.importers.files import DamagedFileError, open_readable, read_maybe_gzip
from memory_pipeline.importers.options import SEE_DOCS, ImportOptions, from_epoch, reject
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.records import IncomingMessage, Rejection, Role
from memory_pipeline.model.validation import Limits, Problem, check_message

STDIN = Path("-")
_BOM = b"\xef\xbb\xbf"
_NOT_LINES = {
    b"PK\x03\x04": "is a zip archive; unpack it, or name its own format (chatgpt, slack)",
    b"\xff\xfe": "is UTF-16; save it as UTF-8",
    b"\xfe\xff": "is UTF-16; save it as UTF-8",
}


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    conversation_id: str
    content: str
    sent_at: str | float
    role: Role = Role.USER
    speaker: str | None = None
    user: str | None = None
    title: str | None = None
    project: str | None = None
    position: int | None = None
    source: str = "jsonl"
    metadata: dict[str, Any] | None = None


def read_jsonl(path: Path, options: ImportOptions) -> Iterator[IncomingMessage | Rejection]:
    """Yield a message or a rejection for each line of `path` that isn't blank; `-` reads standard input.

    Raises MemoryPipelineError where the file can't be opened or is plainly another kind of file. Damage further on
    ends the file with a rejection, after everything before it.
    """
    opened: AbstractContextManager[IO[bytes]]
    if path == STDIN:
        opened, name = nullcontext(sys.stdin.buffer), "stdin"
    else:
        opened, name = open_readable(path), path.name
    decode = msgspec.json.Decoder(_Line).decode
    limits, user, project = options.limits, options.user_email, options.project
    number = 0
    with opened as stream:
        try:
            for number, line in enumerate(_lines(stream, name, options), 1):
                if line is None:
                    yield _too_long(f"{name}:{number}", options.max_record_bytes)
                    continue
                try:
                    record = decode(line)
                except (ValueError, RecursionError) as error:
                    if line.strip():
                        yield reject(f"{name}:{number}", _explain(error))
                    continue
                yield _message(record, number, f"{name}:{number}", limits, user, project)
        except DamagedFileError as error:
            yield Rejection(
                origin=f"{name}:{number + 1}",
                reason=f"the file is damaged from here on: {error}",
                remedy="the lines before were read; get the file again and import it whole, repeats change nothing",
            )


def _message(
    record: _Line, number: int, origin: str, limits: Limits, user: str | None, project: str | None
) -> IncomingMessage | Rejection:
    sent_at = _time(record.sent_at)
    if isinstance(sent_at, Problem):
        return reject(origin, sent_at)
    email = user if record.user is None else record.user
    message = IncomingMessage(
        source=record.source,
        source_message_id=record.id,
        source_conversation_id=record.conversation_id,
        role=record.role,
        content=record.content,
        sent_at=sent_at,
        position=number if record.position is None else record.position,
        speaker=record.speaker,
        user_email=None if email is None else email.lower(),
        conversation_title=record.title,
        project=project if record.project is None else record.project,
        raw_data=record.metadata,
        origin=origin,
    )
    problem = check_message(message, limits)
    if problem is not None:
        return reject(origin, problem)
    if sent_at.tzinfo is UTC:
        return message
    # Only now: a time at the very edge of the calendar can't be moved to UTC, and has been refused by here.
    return msgspec.structs.replace(message, sent_at=sent_at.astimezone(UTC))


def _time(value: str | float) -> datetime | Problem:
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return Problem(f"the time {value[:50]!r} is not ISO 8601", "write it like 2024-05-01T09:30:00+02:00")
    return from_epoch(value)


def _explain(error: Exception) -> Problem:
    if isinstance(error, msgspec.ValidationError):
        return Problem(f"the line does not fit the format: {error}", SEE_DOCS)
    if isinstance(error, UnicodeDecodeError):
        return Problem("the line is not valid UTF-8", "save the file as UTF-8")
    if isinstance(error, RecursionError):
        return Problem("the line is nested too deeply to be read", "flatten its metadata")
    return Problem(f"the line is not one whole JSON object: {error}", f"write one object per line; {SEE_DOCS}")


def _too_long(origin: str, limit: int) -> Rejection:
    return Rejection(
        origin=origin,
        reason=f"the line is longer than {limit:,} bytes",
        remedy="split the message; check that the file has one object per line",
    )


def _lines(stream: IO[bytes], name: str, options: ImportOptions) -> Iterator[bytes | None]:
    """Yield the lines of `stream` without their ends; None for one that is too long to hold."""
    first = True
    for line in _split_lines(read_maybe_gzip(stream, options.on_bytes), options.max_record_bytes):
        if first and line is not None:
            for magic, what in _NOT_LINES.items():
                if line.startswith(magic):
                    raise MemoryPipelineError(f"{name} {what}")
            line = line.removeprefix(_BOM)
        first = False
        yield line


def _split_lines(blocks: Iterable[bytes], limit: int) -> Iterator[bytes | None]:
    # A line that spans blocks is kept in pieces and joined once; past the limit the pieces are dropped.
    pieces: list[bytes] = []
    held = 0
    for block in blocks:
        *whole, rest = block.split(b"\n")
        for line in whole:
            if held:
                pieces.append(line)
                held += len(line)
                yield b"".join(pieces) if held <= limit else None
                pieces.clear()
                held = 0
            else:
                yield line if len(line) <= limit else None
        held += len(rest)
        if held > limit:
            pieces.clear()
        elif rest:
            pieces.append(rest)
    if held:
        yield b"".join(pieces) if held <= limit else None

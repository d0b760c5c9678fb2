"""Reads conversations of the LoCoMo benchmark (Maharana et al., ACL 2024): a JSON array of samples.

One sample is one conversation of two people in dated sessions. Turns carry no times of their own: each gets its
session's time, taken as UTC, plus one second per turn before it. A shared picture is known by its machine-made caption,
appended to the text as "[shares a photo: …]". Questions and annotations of the benchmark are not messages.

Samples name no user. Where none is given either, each sample gets one of its own, `<sample_id>@locomo.example` in lower
case: memories of one conversation must not answer questions about another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from memory_pipeline.importers.decoding import UndecodableError, convert, decode
from memory_pipeline.importers.files import DamagedFileError, open_readable, read_blocks
from memory_pipeline.importers.json_array import BrokenJsonError, Oversized, split_array
from memory_pipeline.importers.options import ImportOptions, checked, reject, rest_unread
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.records import IncomingMessage, Rejection, Role
from memory_pipeline.model.validation import Problem

SOURCE = "locomo"

_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
           "november", "december")  # fmt: skip
# "1:56 pm on 8 May, 2023"; strptime would depend on the locale.
_TIME = re.compile(r"(\d{1,2}):(\d{2}) ?([ap])m on (\d{1,2}) ([a-z]+),? (\d{4})", re.IGNORECASE)
_SESSION = re.compile(r"session_(\d{1,9})")
_COMPARE = "compare the file with the published LoCoMo data"


class _Sample(msgspec.Struct):
    sample_id: str
    conversation: dict[str, Any]


class _Turn(msgspec.Struct):
    speaker: str
    dia_id: str
    text: str = ""
    blip_caption: str | None = None


def parse_session_time(text: str) -> datetime | None:
    """Return the UTC time that LoCoMo writes as "1:56 pm on 8 May, 2023"; None where `text` is no such time."""
    match = _TIME.fullmatch(text.strip())
    if match is None or match[5].lower() not in _MONTHS or not 1 <= int(match[1]) <= 12:
        return None
    if match[6] == "9999":  # leaves no room to add the turns' seconds
        return None
    hour = int(match[1]) % 12 + (12 if match[3].lower() == "p" else 0)
    try:
        return datetime(
            int(match[6]), _MONTHS.index(match[5].lower()) + 1, int(match[4]), hour, int(match[2]), tzinfo=UTC
        )
    except ValueError:  # 31 June, 10:75
        return None


def sample_email(sample_id: str) -> str:
    """Return the e-mail of the user that a sample belongs to where the import names none."""
    return f"{sample_id}@locomo.example".lower()


def read_locomo(path: Path, options: ImportOptions) -> Iterator[IncomingMessage | Rejection]:
    """Yield the turns of every sample in `path`, and rejections for what can't be taken.

    Raises MemoryPipelineError where the file can't be opened or is no JSON array. Damage further on ends the file with
    a rejection, after everything before it.
    """
    number = 0
    with open_readable(path) as stream:
        try:
            for number, element in enumerate(split_array(read_blocks(stream, options.on_bytes)), 1):
                origin = f"{path.name}, sample {number}"
                if isinstance(element, Oversized):
                    yield Rejection(origin=origin, reason="the sample is too large to hold", remedy=_COMPARE)
                else:
                    yield from _sample(element, origin, options)
        except (BrokenJsonError, DamagedFileError) as error:
            if number == 0:
                raise MemoryPipelineError(f"{path} is not LoCoMo data: {error}") from error
            yield rest_unread(f"{path.name}, after sample {number}", error, "file")


def _sample(element: bytes, origin: str, options: ImportOptions) -> Iterator[IncomingMessage | Rejection]:
    try:
        sample = decode(element, _Sample)
    except UndecodableError as error:
        yield reject(origin, Problem(f"the sample can't be read: {error}", _COMPARE))
        return
    sessions = sorted(
        (int(match[1]), key) for key in sample.conversation if (match := _SESSION.fullmatch(key)) is not None
    )
    position = 0
    for session, key in sessions:
        where = f"{origin} {sample.sample_id!r}, {key}"
        try:
            turns = convert(sample.conversation[key], list[Any])
            written = convert(sample.conversation.get(f"{key}_date_time", ""), str)
        except UndecodableError as error:
            yield reject(where, Problem(f"the session can't be read: {error}", _COMPARE))
            continue
        started = parse_session_time(written)
        if started is None:
            reason = f"the session's time {written[:50]!r} can't be read, so its {len(turns)} turns have none"
            yield reject(where, Problem(reason, "write it like '1:56 pm on 8 May, 2023'"))
        for index, raw in enumerate(turns):
            if started is not None:
                sent_at = started + timedelta(seconds=index)
                yield _turn(raw, sample.sample_id, session, position, sent_at, f"{where}, turn {index + 1}", options)
            position += 1


def _turn(
    raw: Any,
    sample_id: str,
    session: int,
    position: int,
    sent_at: datetime,
    origin: str,
    options: ImportOptions,
) -> IncomingMessage | Rejection:
    try:
        turn = convert(raw, _Turn)
    except UndecodableError as error:
        return reject(origin, Problem(f"the turn can't be read: {error}", _COMPARE))
    raw_data: dict[str, Any] = {"dia_id": turn.dia_id, "session": session}
    text = turn.text
    if turn.blip_caption:
        raw_data["blip_caption"] = turn.blip_caption
        text = f"{text}\n[shares a photo: {turn.blip_caption}]" if text else f"[shares a photo: {turn.blip_caption}]"
    if not turn.dia_id:
        return reject(origin, Problem("the turn has no dia_id", _COMPARE))
    return checked(
        IncomingMessage(
            source=SOURCE,
            source_message_id=f"{sample_id}:{turn.dia_id}",
            source_conversation_id=sample_id,
            role=Role.USER,
            content=text,
            sent_at=sent_at,
            position=position,
            speaker=turn.speaker,
            user_email=options.user_email or sample_email(sample_id),
            raw_data=raw_data,
            origin=origin,
        ),
        options.limits,
    )

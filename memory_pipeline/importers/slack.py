"""Reads a Slack workspace export: the zip, or the folder it unpacks to.

Channels are conversations (private ones and direct messages too, where the export has them); a thread stays part of
its channel, and `thread_ts` is kept in the raw data. Joins, topic changes and other notices are left out and counted
by their subtype; so are messages without any text. A message belongs to the memory
of the user that is given, else of its author by the e-mail in users.json; where both are missing (bots, guests, members
without an address) it is left out and counted too. Edited messages are taken as exported: the last wording. A message
that only shares files says their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from memory_pipeline.importers.decoding import UndecodableError, decode
from memory_pipeline.importers.files import DamagedFileError, Export, open_export
from memory_pipeline.importers.json_array import BrokenJsonError, Oversized, split_array
from memory_pipeline.importers.options import ImportOptions, checked, label, reject, rest_unread
from memory_pipeline.importers.slack_directory import LISTINGS, USER_FILES, Directory, read_directory
from memory_pipeline.importers.slack_text import plain_text
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.records import IncomingMessage, Rejection, Role
from memory_pipeline.model.validation import Problem

SOURCE = "slack"
SPOKEN_SUBTYPES = frozenset({"thread_broadcast", "me_message", "file_share", "file_comment", "bot_message"})
"""Subtypes in which somebody says something; every other subtype is a notice about the channel."""
MAX_DAY_BYTES = 512 * 1024 * 1024
"""A day of one channel is sorted in memory, so there is an end to how much of it is taken."""

_DAY_FILE = re.compile(r"([^/]+)/\d{4}-\d{2}-\d{2}\.json")
_TS = re.compile(r"([0-9]{1,11})\.([0-9]{1,6})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WITHOUT_USER = {True: "message of a bot without a user", False: "message of a member without an e-mail"}
_AGAIN = "export the workspace again; the other messages are not affected"


class _Titled(msgspec.Struct):
    name: str | None = None
    title: str | None = None


class _Attachment(msgspec.Struct):
    text: str | None = None
    fallback: str | None = None


class _Profile(msgspec.Struct):
    real_name: str | None = None
    display_name: str | None = None


class _Message(msgspec.Struct):
    ts: str
    text: str | None = None
    subtype: str | None = None
    user: str | None = None
    username: str | None = None
    bot_id: str | None = None
    bot_profile: _Titled | None = None
    user_profile: _Profile | None = None
    thread_ts: str | None = None
    files: list[_Titled] | None = None
    attachments: list[_Attachment] | None = None


def slack_files(export: Export, path: Path) -> tuple[str, dict[str, int]]:
    """Return the folder the export is in ("" or "name/"), and the bytes of each file that is read, in reading order.

    Raises MemoryPipelineError where it isn't a Slack export.
    """
    sizes = export.sizes()
    listings = [name for name in sizes if name.rpartition("/")[2] in (*USER_FILES, *LISTINGS)]
    if path.is_file() and not sizes.keys() - {path.name}:
        listings = []
    if not listings:
        raise MemoryPipelineError(
            f"{path} holds neither users.json nor channels.json; give the zip of a Slack export, or its folder"
        )
    root = min((name.rpartition("/") for name in listings), key=lambda parts: (parts[0].count("/"), parts[0]))
    prefix = root[0] + root[1]
    inside = {name.removeprefix(prefix): size for name, size in sizes.items() if name.startswith(prefix)}
    wanted = [name for name in (*USER_FILES, *LISTINGS) if name in inside]
    wanted += sorted(name for name in inside if _DAY_FILE.fullmatch(name))
    return prefix, {name: inside[name] for name in wanted}


def read_slack(path: Path, options: ImportOptions) -> Iterator[IncomingMessage | Rejection]:
    """Yield the messages of every channel in the export at `path`, by channel and time, and rejections.

    Raises MemoryPipelineError where `path` isn't a Slack export. A damaged file ends with a rejection, after
    everything before the damage; the other files are read.
    """
    with open_export(path) as export:
        prefix, sizes = slack_files(export, path)
        directory = Directory()
        for name in sizes:
            if _DAY_FILE.fullmatch(name):
                break
            yield from read_directory(directory, name, export.blocks(prefix + name, options.on_bytes))
        for name, size in sizes.items():
            day = _DAY_FILE.fullmatch(name)
            if day is None:
                continue
            if size > MAX_DAY_BYTES:
                yield Rejection(
                    origin=name,
                    reason=f"the day has {size:,} bytes, more than the {MAX_DAY_BYTES:,} that are sorted in memory",
                    remedy="split it into several files of the same form",
                )
                options.on_bytes(size)
                continue
            yield from _day(export, prefix, name, day[1], directory, options)


def _day(
    export: Export, prefix: str, name: str, folder: str, directory: Directory, options: ImportOptions
) -> Iterator[IncomingMessage | Rejection]:
    """Yield what was said in one channel on one day, by time; rejections of what has no time come first."""
    messages: list[tuple[int, int, _Message]] = []
    damage: Rejection | None = None
    number = 0
    try:
        blocks = export.blocks(prefix + name, options.on_bytes)
        for number, element in enumerate(split_array(blocks, options.max_record_bytes), 1):
            decoded = _decode(element, f"{name}, message {number}")
            if isinstance(decoded, Rejection):
                yield decoded
            else:
                micros, message = decoded
                messages.append((micros, number, message))
    except (BrokenJsonError, DamagedFileError) as error:
        damage = rest_unread(f"{name}, after message {number}", error, "export")
    messages.sort(key=lambda each: each[:2])
    for micros, number, message in messages:
        if message.subtype is not None and message.subtype not in SPOKEN_SUBTYPES:
            options.on_skip(f"{label(message.subtype)} notice")
            continue
        text = _text(message, directory)
        if not text.strip():
            options.on_skip("message without text")
            continue
        email = options.user_email or directory.email_of(message.user)
        if email is None:
            options.on_skip(_WITHOUT_USER[_is_bot(message, directory)])
            continue
        origin = f"{name}, message {number} (ts {message.ts})"
        yield _incoming(message, micros, text, origin, folder, email, directory, options)
    if damage is not None:
        yield damage


def _decode(element: bytes | Oversized, origin: str) -> tuple[int, _Message] | Rejection:
    """Return a message with its time in microseconds since 1970."""
    if isinstance(element, Oversized):
        return reject(origin, Problem("the message is too large to hold", _AGAIN))
    try:
        message = decode(element, _Message)
    except UndecodableError as error:
        return reject(origin, Problem(f"the message can't be read: {error}", _AGAIN))
    match = _TS.fullmatch(message.ts)
    if match is None:
        return reject(origin, Problem(f"{message.ts[:50]!r} is not a time as Slack writes it", _AGAIN))
    # As whole numbers: a float can't tell neighbouring microseconds of these years apart.
    return int(match[1]) * 1_000_000 + int(match[2].ljust(6, "0")), message


def _incoming(
    message: _Message,
    micros: int,
    text: str,
    origin: str,
    folder: str,
    email: str,
    directory: Directory,
    options: ImportOptions,
) -> IncomingMessage | Rejection:
    try:
        sent_at = _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return reject(origin, Problem(f"{message.ts!r} is not a time in epoch seconds", _AGAIN))
    channel = directory.channel_of(folder)
    raw: dict[str, Any] = {"ts": message.ts, "channel": folder}
    for key in ("user", "thread_ts", "subtype", "bot_id"):
        if (value := getattr(message, key)) is not None:
            raw[key] = value
    if message.files:
        raw["files"] = _titles(message.files)
    return checked(
        IncomingMessage(
            source=SOURCE,
            source_message_id=f"{channel.id}:{message.ts}",
            source_conversation_id=channel.id,
            role=Role.ASSISTANT if _is_bot(message, directory) else Role.USER,
            content=text,
            sent_at=sent_at,
            # The time itself: unlike a running number it stays the same when another export holds more or less.
            position=micros,
            speaker=_speaker(message, directory),
            user_email=email.lower(),
            conversation_title=channel.title,
            project=options.project,
            raw_data=raw,
            origin=origin,
        ),
        options.limits,
    )


def _is_bot(message: _Message, directory: Directory) -> bool:
    member = directory.users.get(message.user or "")
    return bool(message.bot_id) or message.subtype == "bot_message" or (member is not None and member.is_bot)


def _speaker(message: _Message, directory: Directory) -> str | None:
    member = directory.users.get(message.user or "")
    if member is not None:
        return member.name
    profile = message.user_profile or _Profile()
    bot = message.bot_profile or _Titled()
    return (profile.real_name or profile.display_name or message.username or bot.name
            or message.user or message.bot_id)  # fmt: skip


def _text(message: _Message, directory: Directory) -> str:
    """Return what a message says; where it has no text of its own, its attachments' text or its files' names."""
    text = message.text or ""
    if not text.strip():
        text = "\n".join(each.text or each.fallback or "" for each in message.attachments or ())
    text = plain_text(text, directory.user_names, directory.channel_names)
    if not text.strip():
        text = "\n".join(f"[shares a file: {title}]" for title in _titles(message.files or []))
    return text


def _titles(files: list[_Titled]) -> list[str]:
    return [title for each in files if (title := each.title or each.name)]

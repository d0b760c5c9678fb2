"""Reads a ChatGPT data export: the zip, the unpacked folder, or its `conversations.json` (or `conversations-NNN.json`).

A conversation is stored as a tree of nodes, because a turn can be regenerated or edited. The thread is the path from
`current_node` up to the root, turned round; abandoned branches are left out. On the path these are left out and
counted by kind: system and tool messages, hidden messages, calls of tools, thoughts and other content types, messages
without text. Kept are texts, code shown to the user, and what was said by voice. A picture becomes "[image]" in a
message that also has text; a picture alone says nothing a memory could hold, so such a message is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from memory_pipeline.importers.decoding import UndecodableError, convert, decode
from memory_pipeline.importers.files import DamagedFileError, Export, open_export
from memory_pipeline.importers.json_array import BrokenJsonError, Oversized, split_array
from memory_pipeline.importers.options import ImportOptions, checked, from_epoch, label, reject, rest_unread
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.records import IncomingMessage, Rejection, Role
from memory_pipeline.model.validation import Problem

SOURCE = "chatgpt"
ASSISTANT_NAME = "ChatGPT"

_SHARD = re.compile(r"(?:.*/)?conversations(?:-\d+)?\.json")
_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT}
_AGAIN = "export the data from ChatGPT again; the other messages are not affected"


class _Conversation(msgspec.Struct):
    mapping: dict[str, Any]
    title: str | None = None
    create_time: float | None = None
    id: str | None = None
    conversation_id: str | None = None
    current_node: str | None = None


class _Link(msgspec.Struct):
    """A node as far as the walk needs it; its message is converted by itself, so that a bad one costs only itself."""

    parent: str | None = None
    message: Any = None


class _Author(msgspec.Struct):
    role: str
    name: str | None = None


class _Content(msgspec.Struct):
    content_type: str
    parts: list[Any] | None = None
    text: str | None = None


class _Metadata(msgspec.Struct):
    is_visually_hidden_from_conversation: bool | None = None
    model_slug: str | None = None


class _Message(msgspec.Struct):
    author: _Author
    content: _Content | None = None
    id: str | None = None
    create_time: float | None = None
    recipient: str | None = None
    metadata: _Metadata | None = None


def conversation_files(export: Export, path: Path) -> dict[str, int]:
    """Return the bytes of each conversations file by name. Raises MemoryPipelineError where there is none."""
    sizes = export.sizes()
    if path.is_file() and list(sizes) == [path.name]:  # the file itself was given, whatever its name
        return sizes
    found = sorted((name for name in sizes if _SHARD.fullmatch(name)), key=lambda name: (name.count("/"), name))
    if not found:
        raise MemoryPipelineError(
            f"{path} holds no conversations.json; give the zip or folder of a ChatGPT data export, or that file itself"
        )
    depth = found[0].count("/")
    return {name: sizes[name] for name in found if name.count("/") == depth}


def read_chatgpt(path: Path, options: ImportOptions) -> Iterator[IncomingMessage | Rejection]:
    """Yield the messages of every conversation of the export at `path`, and rejections for what can't be taken.

    Raises MemoryPipelineError where there is no such export, or its only file is no JSON array. Damage further on ends
    that file with a rejection, after everything before it.
    """
    with open_export(path) as export:
        names = conversation_files(export, path)
        for name in names:
            number = 0
            try:
                for number, element in enumerate(split_array(export.blocks(name, options.on_bytes)), 1):
                    origin = f"{name}, conversation {number}"
                    if isinstance(element, Oversized):
                        yield Rejection(origin=origin, reason="the conversation is too large to hold", remedy=_AGAIN)
                    else:
                        yield from _conversation(element, origin, options)
            except (BrokenJsonError, DamagedFileError) as error:
                if number == 0 and len(names) == 1:
                    raise MemoryPipelineError(f"{path} is not a ChatGPT export: in {name}, {error}") from error
                yield rest_unread(f"{name}, after conversation {number}", error, "export")


def _conversation(element: bytes, origin: str, options: ImportOptions) -> Iterator[IncomingMessage | Rejection]:
    try:
        conversation = decode(element, _Conversation)
    except UndecodableError as error:
        yield reject(origin, Problem(f"the conversation can't be read: {error}", _AGAIN))
        return
    identity = conversation.conversation_id or conversation.id
    if not identity:
        yield reject(origin, Problem("the conversation has no id", _AGAIN))
        return
    leaf = conversation.current_node
    if not leaf:
        if not conversation.mapping:
            options.on_skip("conversation without messages")
            return
        only = _only_leaf(conversation.mapping)
        if isinstance(only, Problem):
            yield reject(origin, only)
            return
        leaf = only
    thread, problem = _thread(conversation.mapping, leaf)
    if problem is not None:
        yield reject(origin, problem)
    last_time = conversation.create_time
    for position, (node, raw) in enumerate(thread):
        where = f"{origin}, message {node!r}"
        if raw is None:  # the root, and joints between branches
            continue
        try:
            message = convert(raw, _Message)
        except UndecodableError as error:
            yield reject(where, Problem(f"the message can't be read: {error}", _AGAIN))
            continue
        known = message.create_time or last_time
        text, skipped = _text(message)
        if text is None:
            options.on_skip(skipped)
        else:
            yield _incoming(message, text, known, f"{identity}:{message.id or node}", where, options,
                            conversation_id=identity, title=conversation.title, position=position)  # fmt: skip
        last_time = known


def _incoming(
    message: _Message,
    text: str,
    seconds: float | None,
    message_id: str,
    origin: str,
    options: ImportOptions,
    *,
    conversation_id: str,
    title: str | None,
    position: int,
) -> IncomingMessage | Rejection:
    if seconds is None:
        return reject(origin, Problem("neither the message nor its conversation has a time", _AGAIN))
    sent_at = from_epoch(seconds)
    if isinstance(sent_at, Problem):
        return reject(origin, sent_at)
    role = _ROLES[message.author.role]
    raw: dict[str, Any] = {}
    if message.content and message.content.content_type != "text":
        raw["content_type"] = message.content.content_type
    if message.metadata and message.metadata.model_slug:
        raw["model"] = message.metadata.model_slug
    if not message.create_time:
        raw["sent_at_inherited"] = True
    return checked(
        IncomingMessage(
            source=SOURCE,
            source_message_id=message_id,
            source_conversation_id=conversation_id,
            role=role,
            content=text,
            sent_at=sent_at,
            position=position,
            # None would mean the user's own name.
            speaker=message.author.name or (ASSISTANT_NAME if role is Role.ASSISTANT else None),
            user_email=options.user_email,
            conversation_title=title,
            project=options.project,
            raw_data=raw or None,
            origin=origin,
        ),
        options.limits,
    )


def _text(message: _Message) -> tuple[str | None, str]:
    """Return what a message says; or None and the kind of part that is left out."""
    content, role = message.content, message.author.role
    if role not in _ROLES:
        return None, f"{label(role)} message"
    if message.metadata and message.metadata.is_visually_hidden_from_conversation:
        return None, "hidden message"
    if message.recipient not in (None, "", "all"):
        return None, "call of a tool"
    if content is None:
        return None, "message without text"
    if content.content_type == "code":
        text, alone = content.text or "", "message without text"
    elif content.content_type in ("text", "multimodal_text"):
        text, alone = _join(content.parts or [])
    else:
        return None, f"{label(content.content_type)} content"
    return (text, "") if text.strip() else (None, alone)


def _join(parts: list[Any]) -> tuple[str, str]:
    """Return the text of `parts`, and the kind to count should there be none."""
    pieces: list[str] = []
    images = texts = 0
    for part in parts:
        if isinstance(part, dict) and part.get("content_type") == "image_asset_pointer":
            images += 1
            pieces.append("[image]")
            continue
        piece = part.get("text") if isinstance(part, dict) else part  # a dict with text: speech, transcribed
        if isinstance(piece, str) and piece:
            texts += not piece.isspace()
            pieces.append(piece)
    if texts:
        return "\n".join(pieces), ""
    return "", "image without text" if images else "message without text"


def _thread(nodes: dict[str, Any], leaf: str) -> tuple[list[tuple[str, Any]], Problem | None]:
    """Return the (node id, message) path from the root to `leaf`, and what broke it off on the way up, if anything."""
    path: list[tuple[str, Any]] = []
    seen: set[str] = set()
    problem = None
    node: str | None = leaf
    while node is not None:
        below = f"message {path[-1][0]!r}" if path else "the current node"
        if node in seen:
            problem = Problem(f"the messages run in a circle: above {below} comes {node!r} again", _AGAIN)
            break
        if node not in nodes:
            problem = Problem(f"the thread is broken off: {node!r}, above {below}, is not in the export", _AGAIN)
            break
        seen.add(node)
        try:
            link = convert(nodes[node], _Link)
        except UndecodableError as error:
            problem = Problem(f"the thread is broken off: node {node!r} can't be read ({error})", _AGAIN)
            break
        path.append((node, link.message))
        node = link.parent
    path.reverse()
    return path, problem


def _only_leaf(nodes: dict[str, Any]) -> str | Problem:
    """Return the one node that is nobody's parent, where there is exactly one: exports of before `current_node`."""
    parents: set[str | None] = set()
    unreadable = ""
    for node, raw in nodes.items():
        try:
            parents.add(convert(raw, _Link).parent)
        except UndecodableError as error:  # its parent looks like a leaf now, so it may be to blame for several
            unreadable = unreadable or f", and node {node!r} can't be read ({error})"
    leaves = [node for node in nodes if node not in parents]
    if len(leaves) != 1:
        return Problem(f"the conversation does not say which branch is current{unreadable}", _AGAIN)
    return leaves[0]

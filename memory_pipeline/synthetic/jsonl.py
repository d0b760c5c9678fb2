"""The JSONL format of conversations: one message per line, as importers read it and as the generator writes it.

Keys: `id`, `conversation_id`, `content`, `sent_at` (ISO 8601, UTC, with Z), `role`, `position`, and where they are
known `speaker`, `user` (e-mail), `title`, `project`. The bundled sample, which holds several tenants in one file, has
`tenant` too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.records import IncomingMessage, Role

_FLUSH_BYTES = 1 << 16


class GeneratedMessage(NamedTuple):
    """One message and the slug of the tenant it belongs to."""

    tenant_slug: str
    message: IncomingMessage


class JsonlLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the format; what is None is left out."""

    tenant: str | None = None
    id: str
    conversation_id: str
    content: str
    sent_at: datetime
    role: Role
    speaker: str | None = None
    user: str | None = None
    title: str | None = None
    project: str | None = None
    position: int


def jsonl_line(message: IncomingMessage, tenant: str | None = None) -> JsonlLine:
    """Return `message` in the JSONL format. The format has no place for `raw_data`, `source` and `origin`."""
    return JsonlLine(
        tenant=tenant,
        id=message.source_message_id,
        conversation_id=message.source_conversation_id,
        content=message.content,
        sent_at=message.sent_at,
        role=message.role,
        speaker=message.speaker,
        user=message.user_email,
        title=message.conversation_title,
        project=message.project,
        position=message.position,
    )


def tenant_file_in(directory: Path) -> Callable[[str], Path]:
    """Return the usual `path_for_tenant` of `write_jsonl`: `<directory>/<tenant-slug>.jsonl`."""
    return lambda tenant_slug: directory / f"{tenant_slug}.jsonl"


def write_jsonl(messages: Iterable[GeneratedMessage], path_for_tenant: Callable[[str], Path]) -> dict[str, int]:
    """Write one JSONL file per tenant and return the number of lines of each, by tenant slug.

    Files appear under their names when all of them are whole: until then each is `<name>.partial`. No file is held open
    between writes, so any number of tenants will do; memory is at most 64 KiB and a line per tenant. Raises
    MemoryPipelineError where two tenants would share a file, since a line doesn't say whose it is.
    """
    encoder = msgspec.json.Encoder()
    buffers: dict[str, bytearray] = {}
    paths: dict[str, Path] = {}
    counts: dict[str, int] = {}
    for tenant_slug, message in messages:
        buffer = buffers.get(tenant_slug)
        if buffer is None:
            paths[tenant_slug] = _start_file(tenant_slug, path_for_tenant(tenant_slug), paths)
            buffer = buffers[tenant_slug] = bytearray()
            counts[tenant_slug] = 0
        encoder.encode_into(jsonl_line(message), buffer, -1)
        buffer += b"\n"
        counts[tenant_slug] += 1
        if len(buffer) >= _FLUSH_BYTES:
            _append(paths[tenant_slug], buffer)
            buffer.clear()
    for tenant_slug, buffer in buffers.items():
        _append(paths[tenant_slug], buffer)
    for path in paths.values():
        os.replace(_partial(path), path)
    return counts


def _start_file(tenant_slug: str, path: Path, taken: dict[str, Path]) -> Path:
    for other_slug, other in taken.items():
        if other == path:
            raise MemoryPipelineError(
                f"Tenants {other_slug!r} and {tenant_slug!r} would both be written to {path}; give each its own file."
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    _partial(path).write_bytes(b"")
    return path


def _append(path: Path, lines: bytearray) -> None:
    with _partial(path).open("ab") as file:
        file.write(lines)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")

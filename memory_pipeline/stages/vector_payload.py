"""What is stored in Chroma beside a vector: the metadata that filters and audits read, and the memory as a document."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

import msgspec

from memory_pipeline.model import ids
from memory_pipeline.stores.chroma.store import VectorMetadata
from memory_pipeline.stores.postgres.index import DueVector


def vector_metadata(row: DueVector) -> VectorMetadata:
    """Return what is stored beside a vector: every key, always."""
    return {
        "user_id": row.user_id,
        "conversation_id": row.conversation_id,
        "project": row.project,
        "kind": row.kind,
        "day": row.day.year * 10_000 + row.day.month * 100 + row.day.day,
        "version": row.version,
        "bucket": ids.bucket_of(row.memory_id),
        "content_hash": row.content_hash.hex(),
        "chunk": row.chunk,
    }


class _MemoryDocument(msgspec.Struct, frozen=True):
    tenant_id: UUID
    memory_id: UUID
    user_id: str
    conversation_id: str | None
    kind: str
    status: str
    content: str | None
    content_hash: str
    day: date
    source_message_ids: list[str]
    version: int
    project: str | None
    confidence: float | None
    valid_from: datetime | None
    valid_to: datetime | None


class _ChunkDocument(msgspec.Struct, frozen=True):
    memory_id: UUID
    chunk: int


def memory_document(tenant_id: UUID, row: DueVector) -> str:
    """Return the JSON stored with a vector: the memory at its first chunk, a reference at the others."""
    document: _MemoryDocument | _ChunkDocument
    if row.chunk:
        document = _ChunkDocument(row.memory_id, row.chunk)
    else:
        document = _MemoryDocument(
            tenant_id,
            row.memory_id,
            row.user_id,
            row.conversation_id or None,
            row.kind,
            row.status,
            row.content,
            row.content_hash.hex(),
            row.day,
            row.source_message_ids,
            row.version,
            row.project or None,
            row.confidence,
            row.valid_from,
            row.valid_to,
        )
    return msgspec.json.encode(document).decode()

"""What requests and answers look like: the source of the OpenAPI document."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from memory_pipeline.serving.posted_messages import MAX_CLIENT_ID_CHARACTERS, MAX_MESSAGES


class _Request(BaseModel):
    # A field that is misspelt would otherwise be lost in silence.
    model_config = ConfigDict(extra="forbid")


class PostedMessage(_Request):
    """One chat turn."""

    conversation_id: str = Field(
        min_length=1,
        max_length=MAX_CLIENT_ID_CHARACTERS,
        description="Your name for the conversation.",
        examples=["c1"],
    )
    role: Literal["user", "assistant", "system", "tool"]
    content: str = Field(min_length=1, description="What was said.", examples=["I moved to Lisbon in May."])
    id: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_CLIENT_ID_CHARACTERS,
        description="Your name for the message. Posting it again under the same name changes nothing.",
        examples=["m1"],
    )
    sent_at: datetime | None = Field(None, description="When it was said, with an offset; else when it arrives.")
    speaker: str | None = Field(None, max_length=1000, description="Who spoke, where it is not the user.")
    project: str | None = Field(None, max_length=1000, description="Files the conversation under a project.")
    conversation_title: str | None = Field(None, max_length=1000)
    metadata: dict[str, Any] | None = Field(None, description="Kept beside the message; not searched.")


class PostedMessages(_Request):
    """Messages of one request: all are stored, or none."""

    messages: list[PostedMessage] = Field(min_length=1, max_length=MAX_MESSAGES)


class TakenMessage(BaseModel):
    """A message that was taken; the ids of ours are null while it is only buffered."""

    id: str
    conversation_id: UUID
    message_id: UUID | None
    memory_id: UUID | None
    sent_at: datetime


class TakenMessages(BaseModel):
    status: Literal["durable", "buffered"] = Field(
        description="`durable`: in Postgres. `buffered`: Postgres is away; kept in Redis until it is back."
    )
    correlation_id: UUID
    messages: list[TakenMessage]


class ConversationAnswer(BaseModel):
    conversation_id: UUID
    id: str = Field(description="The application's name for it.")
    source: str
    title: str | None
    project: str | None
    created_at: datetime


class MessageAnswer(BaseModel):
    message_id: UUID
    id: str
    role: str
    speaker: str | None
    content: str
    sent_at: datetime


class ConversationMessages(BaseModel):
    """A conversation with its newest messages, oldest first."""

    conversation: ConversationAnswer
    messages: list[MessageAnswer]


class ConversationList(BaseModel):
    conversations: list[ConversationAnswer]


class DeletedAnswer(BaseModel):
    conversation_id: UUID
    messages: int
    memories: int


class ReportColumn(BaseModel):
    name: str
    type: str = Field(description="Of DuckDB.", examples=["BIGINT"])
    meaning: str


class AnalyticsReport(BaseModel):
    """A report that may be asked for."""

    name: str
    sentence: str
    columns: list[ReportColumn]


class AnalyticsReports(BaseModel):
    reports: list[AnalyticsReport]


class AnalyticsAnswer(BaseModel):
    """A report about one tenant."""

    report: str
    columns: list[str]
    rows: list[list[str | int | float | None]] = Field(description="The newest first; days are written YYYY-MM-DD.")
    truncated: bool = Field(description="There are more rows than `limit`; the oldest are missing.")
    as_of: datetime | None = Field(description="The moment of the data; null where no data was exported yet.")
    generation: str = Field(description="The exported file that says so.")
    cached: bool


class ErrorDetail(BaseModel):
    code: str
    message: str
    permission: str | None = None


class ErrorAnswer(BaseModel):
    error: ErrorDetail


class QueueStats(BaseModel):
    pending: int
    processing: int
    completed: int
    failed: int
    dead: int


class HealthAnswer(BaseModel):
    """How the service is. `ok` is false where something needs a person or a moment."""

    ok: bool
    system_enabled: bool
    worker_enabled: bool
    worker_running: bool
    stores: dict[str, dict[str, Any]]
    queue_stats: QueueStats | None
    cache: dict[str, Any]
    buffer: dict[str, Any]
    wiring: dict[str, Any]


class CacheStats(BaseModel):
    connected: bool
    keys_count: int | None
    memory_used: int | None = Field(description="Bytes.")
    hits: int
    misses: int
    hit_rate: float | None

"""Messages for tests of faults: valid ones, whatever their text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from memory_pipeline.model.records import IncomingMessage, Role

START = datetime(2025, 3, 1, 12, tzinfo=UTC)


def message(source_message_id: str, content: str, *, position: int = 0) -> IncomingMessage:
    """A user's turn of the conversation `c1`, one second after the one before it."""
    return IncomingMessage(
        source="test",
        source_message_id=source_message_id,
        source_conversation_id="c1",
        role=Role.USER,
        content=content,
        sent_at=START + timedelta(seconds=position),
        position=position,
        origin=source_message_id,
    )

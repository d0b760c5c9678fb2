"""Messages as an application posts them: checked, and given every field that a stored one has.

A client names its messages and conversations; the names are its user's own, so two users never meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec

from memory_pipeline.model.errors import InvalidRequestError
from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline.model.validation import Limits, Problem, check_id, check_message
from memory_pipeline.serving.transcript import API_SOURCE

MAX_MESSAGES = 1_000
MAX_CLIENT_ID_CHARACTERS = 400
"""With the user's id in front it is a source id, of at most 512."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message as an application posts it."""

    conversation_id: str
    """The application's name for the conversation."""
    role: Role
    content: str
    id: str | None = None
    """The application's name for the message; None gets one, and then posting it again posts another message."""
    sent_at: datetime | None = None
    """None is the time of arrival."""
    speaker: str | None = None
    project: str | None = None
    conversation_title: str | None = None
    metadata: dict[str, Any] | None = None


def scoped(user_id: UUID, name: str) -> str:
    """Return a client's name for a message or conversation as it is stored."""
    return f"{user_id}/{name}"


def prepare(user_id: UUID, posted: Sequence[NewMessage], limits: Limits, arrived_at: datetime) -> list[IncomingMessage]:
    """Return the messages with every field filled in.

    Raises InvalidRequestError for the first that can't be taken, saying which. Nothing is to be stored then.
    """
    messages = []
    first_position = positions_from(arrived_at)
    for number, new in enumerate(posted):
        message_name = uuid4().hex if new.id is None else new.id
        problem = _check_client_id("message id", message_name) or _check_client_id(
            "conversation id", new.conversation_id
        )
        message = IncomingMessage(
            source=API_SOURCE,
            source_message_id=scoped(user_id, message_name),
            source_conversation_id=scoped(user_id, new.conversation_id),
            role=new.role,
            content=new.content,
            sent_at=new.sent_at or arrived_at,
            position=first_position + number,
            speaker=new.speaker,
            conversation_title=new.conversation_title,
            project=new.project,
            raw_data=new.metadata,
        )
        problem = problem or check_message(message, limits)
        if problem:
            raise InvalidRequestError(f"messages[{number}]: {problem.reason}; {problem.remedy}.")
        messages.append(message)
    return messages


def positions_from(arrived_at: datetime) -> int:
    """Return the position of a request's first message: messages that carry the same time keep the order they came in,
    across requests too. A request has fewer messages than lie between two microseconds.
    """
    # In whole numbers: as a float, two times a microsecond apart may come out alike.
    return (arrived_at - _EPOCH) // _MICROSECOND * 1024


def _check_client_id(name: str, text: str) -> Problem | None:
    if len(text) > MAX_CLIENT_ID_CHARACTERS:
        return Problem(
            f"the {name} has {len(text)} characters, more than {MAX_CLIENT_ID_CHARACTERS}", f"shorten the {name}"
        )
    return check_id(name, text)

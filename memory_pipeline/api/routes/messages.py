"""Posting messages."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Response

from memory_pipeline.api.app import PREFIX, BodyRoute, Caller, CorrelationId, OpenServices
from memory_pipeline.api.errors import DOCUMENTED
from memory_pipeline.api.schemas import ErrorAnswer, PostedMessages, TakenMessages
from memory_pipeline.model.records import Role
from memory_pipeline.serving.posted_messages import NewMessage

router = APIRouter(prefix=PREFIX, tags=["messages"], route_class=BodyRoute)


@router.post(
    "/messages",
    response_model=TakenMessages,
    responses={
        **DOCUMENTED,
        202: {"model": TakenMessages, "description": "Taken into the write buffer: Postgres is away."},
        409: {"model": ErrorAnswer, "description": "A message id is taken by another message."},
    },
)
def post_messages(
    body: PostedMessages, caller: Caller, services: OpenServices, correlation_id: CorrelationId
) -> Response:
    """Store one message or up to 1,000, all or none. Posting the same again answers the same."""
    posted = [
        NewMessage(
            conversation_id=message.conversation_id,
            role=Role(message.role),
            content=message.content,
            id=message.id,
            sent_at=message.sent_at,
            speaker=message.speaker,
            project=message.project,
            conversation_title=message.conversation_title,
            metadata=message.metadata,
        )
        for message in body.messages
    ]
    taken = services.post_messages(caller, posted, correlation_id)
    return Response(
        msgspec.json.encode(taken), 200 if taken.status == "durable" else 202, media_type="application/json"
    )

"""Reading, listing and deleting one's conversations."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query, Response

from memory_pipeline.api.app import PREFIX, AuthenticatedRoute, Caller, CorrelationId, OpenServices
from memory_pipeline.api.errors import DOCUMENTED
from memory_pipeline.api.schemas import ConversationList, ConversationMessages, DeletedAnswer, ErrorAnswer

router = APIRouter(prefix=PREFIX, tags=["conversations"], route_class=AuthenticatedRoute)

_NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorAnswer, "description": "You have no such conversation."}
}
_JSON = "application/json"


@router.get("/conversations", response_model=ConversationList, responses={**DOCUMENTED})
def list_conversations(
    caller: Caller,
    services: OpenServices,
    correlation_id: CorrelationId,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[UUID | None, Query(description="The last conversation of the page before.")] = None,
) -> Response:
    """List your conversations, newest first."""
    return Response(services.list_conversations(caller, limit, after, correlation_id), media_type=_JSON)


@router.get(
    "/conversations/{conversation_id}", response_model=ConversationMessages, responses={**DOCUMENTED, **_NOT_FOUND}
)
def read_conversation(
    conversation_id: UUID,
    caller: Caller,
    services: OpenServices,
    correlation_id: CorrelationId,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[UUID | None, Query(description="Only messages before this one.")] = None,
) -> Response:
    """Read a conversation with its newest messages, oldest first."""
    return Response(
        services.read_conversation(caller, conversation_id, limit, before, correlation_id), media_type=_JSON
    )


@router.delete("/conversations/{conversation_id}", response_model=DeletedAnswer, responses={**DOCUMENTED, **_NOT_FOUND})
def delete_conversation(
    conversation_id: UUID, caller: Caller, services: OpenServices, correlation_id: CorrelationId
) -> Response:
    """Delete a conversation with its messages and everything that was derived from them."""
    deleted = services.delete_conversation(caller, conversation_id, correlation_id)
    return Response(msgspec.json.encode({"conversation_id": conversation_id, **deleted._asdict()}), media_type=_JSON)

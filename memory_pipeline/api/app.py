"""The FastAPI application over opened services."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from memory_pipeline import __version__, logs
from memory_pipeline.api import errors
from memory_pipeline.api.middleware import RequestFrame
from memory_pipeline.model.identity import Principal
from memory_pipeline.serving.services import Services

PREFIX = "/api/v1/memory"

_bearer = HTTPBearer(
    auto_error=False, description="A JWT of a trusted issuer; `memory-pipeline users token` prints one for trying."
)


# Dependencies that only look something up are coroutines: FastAPI runs plain functions in a thread, one hop for each.


async def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def correlation_id_of(request: Request) -> UUID:
    """The id that this request's log lines, events and jobs carry, and that its answer names."""
    correlation_id: UUID = request.state.correlation_id
    return correlation_id


async def _authenticate(request: Request) -> Principal:
    services = await services_of(request)
    services.require_enabled()
    credentials = await _bearer(request)
    token = credentials.credentials if credentials is not None else None
    sent = request.headers.getlist("authorization")
    if len(sent) > 1:
        # As HTTP reads a header that is there twice; that is no token, so nobody can choose which one counts.
        token = ", ".join(sent)
    principal = await run_in_threadpool(services.sessions.authenticate, token, request.state.correlation_id)
    # Here and not in a thread, which would bind them in a context of its own that ends with it.
    logs.bind(tenant_id=principal.tenant_id, user_id=principal.user_id)
    return principal


class AuthenticatedRoute(APIRoute):
    """A route that knows who is asking before it reads the body, which FastAPI parses before it asks dependencies."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_authenticated(request: Request) -> Response:
            request.state.principal = await _authenticate(request)
            return await handle(request)

        return handle_authenticated


async def principal_of(
    request: Request, _documented: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """Who is asking; the route has found out, or has answered 401, 403 or 503."""
    principal: Principal = request.state.principal
    return principal


Caller = Annotated[Principal, Depends(principal_of)]
OpenServices = Annotated[Services, Depends(services_of)]
CorrelationId = Annotated[UUID, Depends(correlation_id_of)]


def create_app(services: Services) -> FastAPI:
    """Return the application; the services are opened and closed by the caller."""
    from memory_pipeline.api.routes import conversations, messages, operations

    app = FastAPI(
        title="memory_pipeline",
        version=__version__,
        description=(
            "Long-term memory for chat products: post messages, read conversations. Whatever is refused is answered "
            "with an `ErrorAnswer`, also an unknown path (404) and a method that a path does not have (405)."
        ),
        responses=errors.ANYWHERE,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=f"{PREFIX}/docs",
        redoc_url=None,
    )
    app.state.services = services
    errors.install(app)
    for module in (messages, conversations, operations):
        app.include_router(module.router)
    app.add_middleware(
        _Framed, max_bytes=services.settings.api_max_request_bytes, most_requests=services.settings.api_max_requests
    )
    return app


class _Framed(RequestFrame):
    """Starlette passes keyword arguments only."""

    def __init__(self, app: Any, *, max_bytes: int, most_requests: int) -> None:
        super().__init__(app, max_bytes, most_requests)

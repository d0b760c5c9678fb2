"""The FastAPI application over opened services."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from uuid import UUID

import anyio
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.types import Receive

from memory_pipeline import __version__, logs
from memory_pipeline.api import errors
from memory_pipeline.api.bodies import parse_body
from memory_pipeline.api.docs_page import POLICY, docs_page
from memory_pipeline.api.middleware import RequestFrame
from memory_pipeline.model.identity import Principal
from memory_pipeline.serving.services import Services

PREFIX = "/api/v1/memory"
_SMALL_BYTES = 65_536
"""As much as the server reads ahead in any case."""
_SOON_SECONDS = 0.05
"""How long a small body may take to arrive before its sender has to be known."""

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


def _token_of(request: Request) -> str | None:
    sent = request.headers.getlist("authorization")
    if len(sent) != 1:
        # As HTTP reads a header that is there twice; that is no token, so nobody can choose which one counts.
        return ", ".join(sent) or None
    scheme, _, token = sent[0].partition(" ")
    return token if scheme.lower() == "bearer" else None


def _authenticate(request: Request) -> Principal:
    """Find out who is asking. Waits for stores, so it is called in a thread."""
    services: Services = request.app.state.services
    services.require_enabled()
    principal = services.sessions.authenticate(_token_of(request), request.state.correlation_id)
    request.state.principal = principal
    return principal


def _bind(request: Request) -> None:
    """Have log lines name who is asking, where that is known."""
    principal: Principal | None = getattr(request.state, "principal", None)
    if principal is not None:
        logs.bind(tenant_id=principal.tenant_id, user_id=principal.user_id)


class AuthenticatedRoute(APIRoute):
    """A route that knows who is asking before it reads the body, which FastAPI parses before it asks dependencies."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_authenticated(request: Request) -> Response:
            await run_in_threadpool(_authenticate, request)
            # Here and not in the thread, which has a context of its own that ends with it.
            _bind(request)
            return await handle(request)

        return handle_authenticated


class _ArrivingBody:
    """A body as far as it has arrived; reading may be given up and gone on with."""

    def __init__(self, receive: Receive) -> None:
        self.chunks: list[bytes] = []
        self.is_whole = False
        self._receive = receive

    async def read(self) -> None:
        """Read to the end. Raises HTTPException where the connection ends before."""
        while not self.is_whole:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise HTTPException(400, "the connection ended before the body did")
            self.chunks.append(message.get("body", b""))
            self.is_whole = not message.get("more_body", False)


class BodyRoute(AuthenticatedRoute):
    """A route whose endpoint is `(body, caller, services, correlation_id)`, documented by FastAPI as any other.

    Small bodies are taken in one thread, from the token to the answer: FastAPI's own way has two, and parses in the
    event loop, which every other request waits for.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        endpoint = self.endpoint
        model: type[BaseModel] = inspect.signature(endpoint, eval_str=True).parameters["body"].annotation

        def work(request: Request, raw: bytes) -> Response:
            known: Principal | None = getattr(request.state, "principal", None)
            caller = known or _authenticate(request)
            _bind(request)
            body = parse_body(model, raw, request.headers.get("content-type"))
            answer: Response = endpoint(body, caller, request.app.state.services, request.state.correlation_id)
            return answer

        async def handle_small(request: Request) -> Response:
            length = request.headers.get("content-length", "")
            if not length.isdigit() or int(length) > _SMALL_BYTES:
                return await handle(request)
            body = _ArrivingBody(request.receive)
            with anyio.move_on_after(_SOON_SECONDS):
                await body.read()
            if not body.is_whole:
                # Who sends slowly says first who they are: else anybody could hold requests up.
                await run_in_threadpool(_authenticate, request)
                _bind(request)
                await body.read()
            try:
                return await run_in_threadpool(work, request, b"".join(body.chunks))
            finally:
                _bind(request)

        return handle_small


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
    from memory_pipeline.api.routes import analytics, conversations, messages, operations

    app = FastAPI(
        title="memory_pipeline",
        version=__version__,
        description=(
            "Long-term memory for chat products: post messages, read conversations. Whatever is refused is answered "
            "with an `ErrorAnswer`, also an unknown path (404) and a method that a path does not have (405)."
        ),
        responses=errors.ANYWHERE,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # FastAPI's own page loads its script from elsewhere
        redoc_url=None,
    )
    app.state.services = services
    errors.install(app)
    for module in (messages, conversations, analytics, operations):
        app.include_router(module.router)
    app.add_api_route(f"{PREFIX}/docs", _docs, include_in_schema=False)
    app.add_middleware(
        _Framed, max_bytes=services.settings.api_max_request_bytes, most_requests=services.settings.api_max_requests
    )
    return app


def _docs(request: Request) -> HTMLResponse:
    # A closure over the app would be kept, with its services, by a cache that FastAPI has of signatures.
    app: FastAPI = request.app
    document_url = f"{request.scope.get('root_path', '')}{PREFIX}/openapi.json"
    page = docs_page(app.openapi(), str(request.base_url).rstrip("/"), document_url)
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})


class _Framed(RequestFrame):
    """Starlette passes keyword arguments only."""

    def __init__(self, app: Any, *, max_bytes: int, most_requests: int) -> None:
        super().__init__(app, max_bytes, most_requests)

"""The API as a process: services opened, uvicorn run until a signal, everything closed."""

from __future__ import annotations

import uvicorn

from memory_pipeline.api.app import create_app
from memory_pipeline.logs import configure_logs
from memory_pipeline.serving.services import Services
from memory_pipeline.settings import Settings

_STOP_SECONDS = 10
_KEEP_ALIVE_SECONDS = 75


def serve(settings: Settings) -> None:
    """Answer on MEMORY_API_HOST and MEMORY_API_PORT until SIGTERM or Ctrl-C; requests under way are finished."""
    configure_logs()
    with Services(settings) as services:
        uvicorn.run(
            create_app(services),
            host=settings.api_host,
            port=settings.api_port,
            access_log=False,
            log_level="warning",
            server_header=False,
            # Longer than load balancers keep a connection, so that they and not we end it.
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )

"""The API as a process: services opened, uvicorn run until a signal, everything closed."""

from __future__ import annotations

import gc

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
        app = create_app(services)
        # Modules and routes live as long as the process: left to the collector, a full collection walks 120,000 objects
        # and holds every request up for 60 ms.
        gc.collect()
        gc.freeze()
        uvicorn.run(
            app,
            host=settings.api_host,
            port=settings.api_port,
            access_log=False,
            log_level="warning",
            server_header=False,
            # Longer than load balancers keep a connection, so that they and not we end it.
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )

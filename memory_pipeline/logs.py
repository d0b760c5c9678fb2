"""Structured logs: one JSON object a line on standard error, with the correlation id of what is being done.

Logs name ids and counts, never what a message says.
"""

from __future__ import annotations

import logging
import sys
import traceback
from uuid import UUID

import structlog

_PLACES = 4


def configure_logs(level: int = logging.INFO) -> None:
    """Send this process's log lines to standard error as JSON. Called once, by the process's own entry point."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def bind(**ids: UUID | str | None) -> None:
    """Have every later log line of this request or job name these ids (correlation_id, tenant_id, user_id, …)."""
    structlog.contextvars.bind_contextvars(**{name: str(value) for name, value in ids.items() if value is not None})


def clear() -> None:
    """Forget the bound ids: the request or job is over."""
    structlog.contextvars.clear_contextvars()


def places_of(error: BaseException) -> str:
    """Say what was raised and where. The text of a foreign error may quote a message, so it is left out."""
    places = [f"{frame.name} ({frame.lineno})" for frame in traceback.extract_tb(error.__traceback__)][-_PLACES:]
    return f"{type(error).__name__} in {' < '.join(reversed(places))}"

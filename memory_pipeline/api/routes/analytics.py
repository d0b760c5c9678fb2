"""A tenant's numbers, from the exported file: dashboards of applications ask here and never open it themselves."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Response
from pydantic import BeforeValidator

from memory_pipeline.api.app import PREFIX, AuthenticatedRoute, Caller, CorrelationId, OpenServices
from memory_pipeline.api.errors import DOCUMENTED
from memory_pipeline.api.schemas import AnalyticsAnswer, AnalyticsReports, ErrorAnswer
from memory_pipeline.serving.analytics import Asked
from memory_pipeline.stores.duckdb.reports import reports

router = APIRouter(prefix=PREFIX, tags=["analytics"], route_class=AuthenticatedRoute)

_JSON = "application/json"
_MOST_ROWS = 5000
_NO_ANSWER: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorAnswer, "description": "No such report (`not_found`), or nothing exported yet (`no_export`)."}
}


def _as_written(value: object) -> object:
    """Let nothing but YYYY-MM-DD through: pydantic also takes seconds since 1970 for a day."""
    if isinstance(value, str) and not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError("a day is written YYYY-MM-DD")
    return value


Day = Annotated[date | None, BeforeValidator(_as_written)]


@router.get("/analytics", response_model=AnalyticsReports, responses={**DOCUMENTED})
async def list_reports(caller: Caller, services: OpenServices, correlation_id: CorrelationId) -> Response:
    """List the reports there are, with their columns. Needs the permission `analytics:read`."""
    found = await to_thread.run_sync(
        services.analytics.list_reports, caller, correlation_id, limiter=services.analytics.threads
    )
    return Response(found, media_type=_JSON)


@router.get("/analytics/{report}", response_model=AnalyticsAnswer, responses={**DOCUMENTED, **_NO_ANSWER})
async def read_report(
    report: Annotated[str, Path(json_schema_extra={"enum": list(reports())})],
    caller: Caller,
    services: OpenServices,
    correlation_id: CorrelationId,
    first_day: Annotated[Day, Query(alias="from", description="First UTC day; else all from the beginning.")] = None,
    last_day: Annotated[Day, Query(alias="to", description="Last UTC day, included; else all to the end.")] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_ROWS, description="The newest rows are kept.")] = 1000,
) -> Response:
    """Read one report about your tenant, newest first. Needs the permission `analytics:read`.

    The numbers are those of the last export (`as_of`), and kept in a cache for ten minutes or until the next one.
    """
    answer = await to_thread.run_sync(
        services.analytics.answer,
        caller,
        report,
        Asked(first_day, last_day, limit),
        correlation_id,
        limiter=services.analytics.threads,
    )
    return Response(answer, media_type=_JSON)

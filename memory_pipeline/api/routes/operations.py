"""Health, cache statistics, metrics: for operators, without a token. They tell counts and states, never data."""

from __future__ import annotations

from functools import cache

import msgspec
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from memory_pipeline import metrics
from memory_pipeline.api.app import PREFIX, OpenServices
from memory_pipeline.api.schemas import CacheStats, ErrorAnswer, HealthAnswer
from memory_pipeline.serving.services import Services

router = APIRouter(tags=["operations"])

_THREADS = 4


@cache
def _limiter(_services: Services) -> CapacityLimiter:
    """Threads that requests for data can't take: how the service is must be told when it is busy, too."""
    return CapacityLimiter(_THREADS)


@router.get(
    f"{PREFIX}/health",
    response_model=HealthAnswer,
    responses={503: {"model": HealthAnswer, "description": "Something the service needs is away or wrong."}},
)
async def health(services: OpenServices) -> Response:
    """Say how each store, the queue, the cache, the write buffer and the wiring are."""
    report = await to_thread.run_sync(services.health, limiter=_limiter(services))
    return Response(msgspec.json.encode(report), 200 if report.ok else 503, media_type="application/json")


@router.get(
    f"{PREFIX}/cache/stats",
    response_model=CacheStats,
    responses={503: {"model": ErrorAnswer, "description": "The system is switched off."}},
)
async def cache_stats(services: OpenServices) -> Response:
    """Say how large the cache is and how often it answered."""
    services.require_enabled()
    stats = await to_thread.run_sync(services.cache_stats, limiter=_limiter(services))
    return Response(msgspec.json.encode(stats), media_type="application/json")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def prometheus_metrics() -> Response:
    """Every metric, in Prometheus' text format."""
    return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)

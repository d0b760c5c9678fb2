"""Health, cache statistics, metrics: for operators, without a token. They tell counts and states, never data."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from memory_pipeline import metrics
from memory_pipeline.api.app import PREFIX, OpenServices
from memory_pipeline.api.schemas import CacheStats, ErrorAnswer, HealthAnswer

router = APIRouter(tags=["operations"])


@router.get(
    f"{PREFIX}/health",
    response_model=HealthAnswer,
    responses={503: {"model": HealthAnswer, "description": "Something the service needs is away or wrong."}},
)
def health(services: OpenServices) -> Response:
    """Say how each store, the queue, the cache, the write buffer and the wiring are."""
    report = services.health()
    return Response(msgspec.json.encode(report), 200 if report.ok else 503, media_type="application/json")


@router.get(
    f"{PREFIX}/cache/stats",
    response_model=CacheStats,
    responses={503: {"model": ErrorAnswer, "description": "The system is switched off."}},
)
def cache_stats(services: OpenServices) -> Response:
    """Say how large the cache is and how often it answered."""
    services.require_enabled()
    return Response(msgspec.json.encode(services.cache_stats()), media_type="application/json")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def prometheus_metrics() -> Response:
    """Every metric, in Prometheus' text format."""
    return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)

"""Every Prometheus metric of the project, in one registry of its own. `GET /metrics` shows it.

Labels are few and bounded: never an id, a user, or text.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry(auto_describe=True)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

requests = Counter(
    "memory_api_requests",
    "Requests answered, by route, method and status.",
    ["route", "method", "status"],
    registry=REGISTRY,
)
request_seconds = Histogram(
    "memory_api_request_seconds", "Time to answer, by route.", ["route"], buckets=_SECONDS, registry=REGISTRY
)
messages_ingested = Counter(
    "memory_messages_ingested", "Messages taken by the API, by outcome.", ["outcome"], registry=REGISTRY
)
cache_reads = Counter(
    "memory_cache_reads", "Reads of a cache, by cache and result.", ["cache", "result"], registry=REGISTRY
)
redis_failures = Counter(
    "memory_redis_failures", "Redis calls that failed or were skipped.", ["reason"], registry=REGISTRY
)
redis_connected = Gauge("memory_redis_connected", "1 while Redis answers.", registry=REGISTRY)
redis_buffer_writes = Counter("redis_buffer_writes", "Messages taken into the write buffer.", registry=REGISTRY)
redis_buffer_replays = Counter(
    "redis_buffer_replays", "Buffered messages replayed into Postgres, by outcome.", ["outcome"], registry=REGISTRY
)
redis_buffer_lost = Counter(
    "redis_buffer_lost", "Buffered messages that left Redis without reaching Postgres.", registry=REGISTRY
)
redis_buffer_fill = Gauge(
    "redis_buffer_fill_ratio", "How full the write buffer is, 0 to 1, by count or bytes.", registry=REGISTRY
)
rbac_validations = Counter(
    "memory_rbac_validations", "Questions whether a plugin may run, by answer.", ["answer"], registry=REGISTRY
)
tokens_refused = Counter("memory_tokens_refused", "Tokens refused, by reason.", ["reason"], registry=REGISTRY)
schema_checks = Counter(
    "memory_schema_checks", "Comparisons of schema and fingerprint, by result.", ["result"], registry=REGISTRY
)

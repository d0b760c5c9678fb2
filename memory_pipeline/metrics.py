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
accesses_unlogged = Counter(
    "memory_accesses_unlogged", "Recalls that were answered but not written down.", registry=REGISTRY
)
rbac_validations = Counter(
    "memory_rbac_validations", "Questions whether a plugin may run, by answer.", ["answer"], registry=REGISTRY
)
tokens_refused = Counter("memory_tokens_refused", "Tokens refused, by reason.", ["reason"], registry=REGISTRY)
schema_checks = Counter(
    "memory_schema_checks", "Comparisons of schema and fingerprint, by result.", ["result"], registry=REGISTRY
)
for _result in ("same", "other_schema", "other_database", "not_compared"):
    schema_checks.labels(_result)  # from the start: a series that begins at 1 has not increased
job_claims = Counter(
    "memory_job_claims", "Micro-batches taken, by where the ids came from.", ["via"], registry=REGISTRY
)
jobs_ended = Counter(
    "memory_jobs_ended", "Attempts at jobs, by type and outcome.", ["job_type", "outcome"], registry=REGISTRY
)
jobs_reclaimed = Counter("memory_jobs_reclaimed", "Jobs taken from workers that were silent.", registry=REGISTRY)
job_batch_size = Histogram(
    "memory_job_batch_size",
    "Jobs of a micro-batch.",
    ["job_type"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
    registry=REGISTRY,
)
job_seconds = Histogram(
    "memory_job_batch_seconds", "Time a micro-batch took.", ["job_type"], buckets=_SECONDS, registry=REGISTRY
)
stage_seconds = Histogram(
    "memory_stage_seconds", "Time of a stage within a micro-batch.", ["stage"], buckets=_SECONDS, registry=REGISTRY
)
searchable_lag_seconds = Histogram(
    "memory_searchable_lag_seconds",
    "From the writing of a job to its end: for enrich_and_embed, from a message to its being found.",
    ["job_type"],
    buckets=(0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 5, 10, 20, 30, 60, 300, 3600),
    registry=REGISTRY,
)
relay_lag_seconds = Gauge(
    "memory_relay_lag_seconds", "How long the oldest job that is not published yet has been due.", registry=REGISTRY
)
oldest_writer_seconds = Gauge(
    "memory_oldest_writer_seconds",
    "How long the oldest transaction that writes has been open, or been seen: its rows are seen by nobody.",
    registry=REGISTRY,
)
queue_jobs = Gauge(
    "memory_queue_jobs", "Jobs in the ledger, by type and state.", ["job_type", "state"], registry=REGISTRY
)
queue_oldest_seconds = Gauge(
    "memory_queue_oldest_pending_seconds", "Age of the oldest job that is still to be done.", registry=REGISTRY
)
rate_limited = Counter(
    "memory_rate_limited", "Pieces of work put aside because of a rate limit, each time.", ["what"], registry=REGISTRY
)
jobs_in_work = Gauge("memory_jobs_in_work", "Jobs this worker is working on.", registry=REGISTRY)
store_up = Gauge("memory_store_up", "1 while a store answers the API.", ["store"], registry=REGISTRY)
audit_findings = Gauge("memory_audit_findings", "Findings of the audit that ended last.", registry=REGISTRY)
export_age_seconds = Gauge(
    "memory_export_age_seconds", "Age of the DuckDB file that is served; +Inf where there is none.", registry=REGISTRY
)
export_age_seconds.set(float("inf"))  # until this process has looked

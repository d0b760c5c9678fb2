"""Two tenants with something for every report, and an API that is asked for it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import redis

from memory_pipeline.model.window import DayWindow
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline_tests.api.stack import ApiStack
from memory_pipeline_tests.api.support import PREFIX, Json, Person
from memory_pipeline_tests.stores.export_sample import add_messages, message

REPORTS = f"{PREFIX}/analytics"
DAYS = DayWindow(date(2025, 3, 1), date(2025, 4, 1))
GLOBEX_DAY = "2025-03-07"
"""A day on which there is only something of globex."""
CANARY = "globex-canary"
ACME: dict[str, list[list[object]]] = {
    "daily_activity": [
        ["2025-03-12", 2, 2, 1, 1],
        ["2025-03-02", 1, 1, 1, 1],
        ["2025-03-01", 3, 3, 1, 1],
    ],
    "memory_growth": [
        ["2025-03-12", "episode", "pending_enrichment", 2, 6, 1.0],
        ["2025-03-02", "episode", "pending_enrichment", 1, 4, 1.0],
        ["2025-03-01", "episode", "pending_enrichment", 3, 3, 0.6],
        ["2025-03-01", "fact", "active", 2, 2, 0.4],
    ],
    # The 1st of March 2025 is a Saturday.
    "retention": [["2025-02-24", 0, 1, 1, 1.0], ["2025-02-24", 2, 1, 1, 1.0]],
    "fact_churn": [["2025-03-12", 0, 2, 0], ["2025-03-01", 2, 0, 2]],
    "pipeline_response": [["2025-03-12", "index", 3, 2, 1, 0, 1 / 3, 6, 3, 0.5, 2.5, 2.5]],
    "data_quality": [["2025-03-12", "chroma", "missing", 2, 1, 1]],
    "cost_daily": [["2025-03-12", "embedder:openai", "test-model", 2, 8, 180, "0.5000000000", 1, 0]],
    "recall_use": [["2025-03-12", 2, 1, 1, 1, 0.5, 0.5, 1, 0.5, 1, 0.5, 10.0, 20.0]],
    # Both users name the object; the predicate of each is their own.
    "weekly_topics": [["2025-02-24", "entity", 1, 1, "I moved", 2, 2]],
}
"""The rows of every report about acme."""
_FACT = """
INSERT INTO memories (tenant_id, memory_id, user_id, conversation_id, kind, status, content, content_hash, day,
                      source_message_ids, enricher, confidence, subject, predicate, object, valid_from, valid_to)
SELECT tenant_id, gen_random_uuid(), u.user_id, conversation_id, 'fact', 'active', %s, sha256(email::bytea),
       (sent_at AT TIME ZONE 'UTC')::date, ARRAY[message_id], 'test@1', 0.75, 'Ana', 'told ' || email, %s,
       sent_at, %s
FROM messages m JOIN users u USING (tenant_id)
WHERE tenant_id = %s AND source_message_id = 'm0'
"""
_SECOND_USER = """
INSERT INTO users (tenant_id, user_id, email, display_name)
SELECT %s, gen_random_uuid(), 'bo@' || slug || '.example', 'Bo'
FROM tenants WHERE tenant_id = %s
"""
_RECALLS = """
INSERT INTO memory_access_log (tenant_id, user_id, accessed_at, correlation_id, what, channel, query_hash, memory_ids,
                               turns, degraded_parts, from_cache, milliseconds)
SELECT m.tenant_id, m.user_id, %s, gen_random_uuid(), 'recall', 'api', sha256('q'), found, 2, degraded, cached, took
FROM memories m, LATERAL (VALUES (ARRAY[m.memory_id], '{}'::text[], true, 10.0), ('{}', '{chroma}', false, 20.0))
     AS answers (found, degraded, cached, took)
WHERE m.tenant_id = %s AND kind = 'fact' AND predicate LIKE '%%ana@%%'
"""
_COSTS = """
INSERT INTO llm_usage (tenant_id, used_at, correlation_id, plugin, model, what, requests, texts, prompt_tokens,
                       cost_usd)
SELECT %s, %s, gen_random_uuid(), 'embedder:openai', 'test-model', 'embedding', 1, 4, 90, cost
FROM (VALUES (0.5), (NULL)) AS calls (cost)
"""
_JOB = """
INSERT INTO memory_jobs (tenant_id, job_type, state, day, attempts, error_class, error_text, correlation_id, created_at,
                         finished_at)
SELECT %s, 'index', state, '2025-03-01', attempts, 'Test', 'failed', gen_random_uuid(), %s::timestamptz,
       %s::timestamptz + lag
FROM (VALUES ('completed', 1, interval '0.5 s'), ('completed', 2, interval '2.5 s'), ('dead', 3, interval '9 s'))
     AS jobs (state, attempts, lag)
"""
_FINDINGS = """
WITH run AS (INSERT INTO audit_runs (started_at) VALUES (%s) RETURNING audit_id)
INSERT INTO audit_findings (tenant_id, audit_id, store, problem, repaired)
SELECT %s, audit_id, %s, %s, repaired FROM run, (VALUES (true), (false)) AS found (repaired)
"""


def fill(stack: ApiStack) -> None:
    """Something for every report about two tenants, of which globex has more."""
    assert stack.settings.postgres_pipeline_url is not None
    for tenant, days, in_day in (("acme", ("01", "01", "01", "02", "12", "12"), "12"), ("globex", ("07",) * 77, "07")):
        moments = [datetime(2025, 3, int(day), n % 24, n // 24, tzinfo=UTC) for n, day in enumerate(days)]
        text = CANARY if tenant == "globex" else "I moved"
        add_messages(
            stack.settings.postgres_pipeline_url,
            tenant,
            [message(tenant, f"m{n}", moment, f"{text} {n}") for n, moment in enumerate(moments)],
        )
        ((tenant_id,),) = stack.rows("SELECT tenant_id FROM tenants WHERE slug = %s", tenant)
        day = f"2025-03-{in_day} 10:00+00"
        stack.execute(_SECOND_USER, tenant_id, tenant_id)
        stack.execute(_FACT, text, text, day, tenant_id)
        stack.execute(_RECALLS, day, tenant_id)
        stack.execute(_COSTS, tenant_id, day)
        stack.execute(_JOB, tenant_id, day, day)
        stack.execute(_FINDINGS, day, tenant_id, *((CANARY, CANARY) if tenant == "globex" else ("chroma", "missing")))


def export(stack: ApiStack, generations_kept: int = 3) -> Path:
    """Export all there is and return the file that is served."""
    assert stack.settings.postgres_pipeline_url is not None
    export_lake(stack.settings.postgres_pipeline_url, DAYS, stack.settings.data / "lake")
    return publish_duckdb(stack.settings.data / "lake", exports_of(stack), generations_kept).path


def exports_of(stack: ApiStack) -> Path:
    return stack.settings.data / "exports"


def ask(stack: ApiStack, person: Person, report: str = "daily_activity", **params: Any) -> Any:
    asked = {name.removesuffix("_"): str(value) for name, value in params.items()}
    return stack.client.get(f"{REPORTS}/{report}", params=asked, headers=person.headers)


def answered(stack: ApiStack, person: Person, report: str = "daily_activity", **params: Any) -> Json:
    answer = ask(stack, person, report, **params)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def cached_keys(stack: ApiStack) -> dict[str, bytes]:
    assert stack.settings.redis_url is not None
    with redis.Redis.from_url(stack.settings.redis_url) as client:
        names: Any = client.keys("analytics:*")
        return {name.decode(): client.get(name) for name in names}

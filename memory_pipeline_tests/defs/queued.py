"""Messages posted with jobs, and what the ledger says of them: what tests of the sensors share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID, uuid4

import dagster as dg
import psycopg

from memory_pipeline.definitions import defs
from memory_pipeline.model.records import Role
from memory_pipeline.model.validation import Limits
from memory_pipeline.serving.messages import MessageOwner, ingest_block_async
from memory_pipeline.serving.posted_messages import NewMessage, prepare
from memory_pipeline.settings import Settings
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.tenants import ensure_tenant, ensure_user
from memory_pipeline.stores.redis.conversations import ConversationCache
from memory_pipeline.stores.redis.manager import RedisManager

REPOSITORY = defs.get_repository_def()
DAY = date(2025, 3, 3)


def post(settings: Settings, texts: Sequence[str], *, day: date = DAY, tenant: str = "acme") -> UUID:
    """Post one message of each text as the API does, each with a job; return the tenant."""
    with Database(str(settings.postgres_pipeline_url)) as pipeline, pipeline.transaction() as connection:
        tenant_id = ensure_tenant(connection, tenant)
        user_id = ensure_user(connection, tenant_id, f"ana@{tenant}.example", "ana")
    moment = datetime.combine(day, time(9), tzinfo=UTC)
    limits = Limits.at(datetime.now(UTC), partition_start=settings.partition_start, max_message_bytes=1_000_000)
    new = [
        NewMessage(conversation_id="talk", role=Role.USER, content=text, sent_at=moment + timedelta(seconds=n))
        for n, text in enumerate(texts)
    ]
    with (
        Database(str(settings.postgres_app_url), role="memory_app") as app,
        RedisManager(str(settings.redis_url)) as redis,
    ):
        ingest_block_async(
            app,
            ConversationCache(redis),
            MessageOwner(tenant_id, user_id, "ana"),
            prepare(user_id, new, limits, moment),
            actor="test",
            correlation_id=uuid4(),
        )
    return tenant_id


def execute(settings: Settings, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Run a statement as memory_pipeline, which sees every tenant."""
    options = "-c search_path=memory,public -c timezone=UTC"
    with psycopg.connect(str(settings.postgres_pipeline_url), options=options) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


def age_jobs(settings: Settings, seconds: float) -> None:
    """So much time passes for the jobs that are due."""
    execute(settings, "UPDATE memory_jobs SET available_at = available_at - make_interval(secs => %s)", seconds)


def age_memories(settings: Settings, seconds: float) -> None:
    """So much time passes for all memories."""
    execute(settings, "UPDATE memories SET updated_at = updated_at - make_interval(secs => %s)", seconds)


def job_states(settings: Settings) -> dict[str, int]:
    return dict(Counter(state for (state,) in execute(settings, "SELECT state FROM memory_jobs")))


def tick(
    instance: dg.DagsterInstance, name: str, cursor: str | None = None
) -> tuple[list[dg.RunRequest], str, list[Any], str | None]:
    """Evaluate a sensor as the daemon does: run requests, the reason to skip, asset events, the new cursor."""
    with dg.build_sensor_context(instance=instance, cursor=cursor, repository_def=REPOSITORY) as context:
        data = REPOSITORY.get_sensor_def(name).evaluate_tick(context)
    return list(data.run_requests or []), data.skip_message or "", list(data.asset_events), data.cursor


def execute_request(instance: dg.DagsterInstance, request: dg.RunRequest, job: str) -> dg.ExecuteInProcessResult:
    """Execute what a sensor asked for, under its tags, on the given instance."""
    return REPOSITORY.get_job(job).execute_in_process(tags=dict(request.tags), instance=instance, raise_on_error=False)

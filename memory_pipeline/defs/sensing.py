"""What the sensors share: stores for one tick, which may be away, and the runs that were asked for before.

A tick has 60 seconds and runs beside others in the code server, so it opens what it needs with short time-outs and
answers what is away as the reason to skip. What a person must mend (a setting, another schema) fails the tick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps

import dagster as dg

from memory_pipeline.defs.ticks import UNFINISHED
from memory_pipeline.model.errors import BusyError, SettingsError, StoreUnavailableError
from memory_pipeline.settings import Settings
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.redis.manager import RedisManager

ASKED_BY_TAG = "memory_pipeline/asked_by"
"""Which sensor asked for a run."""

_CONNECT_SECONDS = 5.0
_STATEMENT_SECONDS = 10.0

Answer = dg.SensorResult | dg.SkipReason
Evaluate = Callable[[dg.SensorEvaluationContext], Answer]


def skipping_where_away(evaluate: Evaluate) -> Evaluate:
    """Have a tick say which store is away instead of failing."""

    @wraps(evaluate)
    def tick(context: dg.SensorEvaluationContext) -> Answer:
        try:
            return evaluate(context)
        except (StoreUnavailableError, BusyError) as error:
            return dg.SkipReason(f"Nothing could be looked at: {error}")

    return tick


@contextmanager
def opened_database(settings: Settings) -> Iterator[Database]:
    """Postgres as memory_pipeline, for one tick."""
    if settings.postgres_pipeline_url is None:
        raise SettingsError("MEMORY_POSTGRES_PIPELINE_URL is not set; the sensors ask Postgres what there is to do.")
    with Database(
        settings.postgres_pipeline_url,
        role="memory_pipeline",
        name="sensor",
        pool_size=1,
        wait_seconds=_CONNECT_SECONDS,
        statement_seconds=_STATEMENT_SECONDS,
    ) as database:
        yield database


@contextmanager
def opened_redis(settings: Settings) -> Iterator[RedisManager]:
    """Redis, for one tick or run."""
    if settings.redis_url is None:
        raise SettingsError("MEMORY_REDIS_URL is not set; a sensor asks Redis for buffered writes.")
    with RedisManager(settings.redis_url, cache_url=settings.redis_cache_url) as redis:
        yield redis


def present() -> datetime:
    """Return the time that ticks compare with the ends of runs."""
    return datetime.now(UTC)


def asked_before(context: dg.SensorEvaluationContext, sensor: str, limit: int) -> list[dg.RunRecord]:
    """Return the runs that a sensor asked for, the newest first."""
    return list(context.instance.get_run_records(dg.RunsFilter(tags={ASKED_BY_TAG: sensor}), limit=limit))


def is_unfinished(record: dg.RunRecord) -> bool:
    """Whether a run waits or works."""
    return record.dagster_run.status in UNFINISHED

"""`write_buffer_sensor`: buffered writes that no API process replays, though Postgres is there, go in by a run."""

import dagster as dg

from memory_pipeline.defs.common import OWNER_TAG, PipelineResource, metadata_of
from memory_pipeline.defs.sensing import (
    ASKED_BY_TAG,
    Answer,
    asked_before,
    is_unfinished,
    opened_database,
    opened_redis,
    skipping_where_away,
)
from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.model.records import BufferedWrite
from memory_pipeline.serving.buffering import replay
from memory_pipeline.serving.messages import write_buffered
from memory_pipeline.settings import Settings, load_settings
from memory_pipeline.stores.redis.buffer import WriteBuffer
from memory_pipeline.stores.redis.conversations import ConversationCache
from memory_pipeline.stores.redis.manager import RedisManager

NAME = "write_buffer_sensor"


@dg.op(
    description="Write the buffered requests into Postgres, in order; each API process does the same, one at a time."
)
def replay_writes(context: dg.OpExecutionContext, pipeline: PipelineResource) -> None:
    with opened_redis(pipeline.settings) as redis:
        cache = ConversationCache(redis)

        def write(entry: BufferedWrite) -> int:
            # With jobs: for a worker, or for the backlog's runs.
            return write_buffered(pipeline.app_database, cache, entry, with_jobs=True).inserted

        report = replay(_buffer(pipeline.settings, redis), pipeline.database, write)
    context.log.info(", ".join(f"{name} {value}" for name, value in metadata_of(report).items()))
    if report.stopped is not None:
        raise StoreUnavailableError(f"the replay ended before the buffer was empty: {report.stopped}")


@dg.job(description="Replay the write buffer.", tags=OWNER_TAG)
def replay_job() -> None:
    replay_writes()


@dg.sensor(
    name=NAME,
    job_name=replay_job.name,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Writes that have been in the buffer for long, though Postgres is there: no API process replays them.",
    tags=OWNER_TAG,
)
@skipping_where_away
def write_buffer_sensor(context: dg.SensorEvaluationContext) -> Answer:
    settings = load_settings()
    with opened_redis(settings) as redis:
        stats = _buffer(settings, redis).stats()
    if not stats.entries:
        return dg.SkipReason("The write buffer is empty.")
    waiting = f"{stats.writes:,} messages are buffered, the oldest for {stats.oldest_seconds:.0f} s"
    if stats.oldest_seconds < settings.buffer_sensor_seconds:
        return dg.SkipReason(
            f"{waiting}; an API process has until {settings.buffer_sensor_seconds:g} s to replay them."
        )
    last = next(iter(asked_before(context, NAME, 1)), None)
    if last is not None and is_unfinished(last):
        return dg.SkipReason(f"{waiting}; run {last.dagster_run.run_id} replays them.")
    with opened_database(settings) as database:
        database.ping()
    after = "none" if last is None else last.dagster_run.run_id
    # Until that run has been made it is asked for under one key, and after it, should it fail, under another.
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"replay after {after}", tags={ASKED_BY_TAG: NAME})])


def _buffer(settings: Settings, redis: RedisManager) -> WriteBuffer:
    return WriteBuffer(redis, settings.buffer_max_writes, settings.buffer_max_bytes, enabled=settings.buffer_enabled)

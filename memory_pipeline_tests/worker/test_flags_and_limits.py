"""Workers on real stores while flags are off, limits are reached, or the first failure is to be the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest
import redis

from memory_pipeline.model.flags import Flag
from memory_pipeline.model.jobs import JobType
from memory_pipeline.settings import Settings
from memory_pipeline.stages.flags import FeatureFlags
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.refresh import no_timings
from memory_pipeline.stores.postgres.feature_flags import bring_waiting_forward, set_override
from memory_pipeline.stores.postgres.jobs import NewJob, claim_next, enqueue
from memory_pipeline.stores.postgres.permissions import Author
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline.worker.handlers import Handlers, stage_handlers
from memory_pipeline.worker.outcomes import Done, Waits
from memory_pipeline.worker.process import Worker
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.stages.support import HashedEmbedder, ScriptedEnricher, World, draft

ME = Author("test:me", uuid4())
EMBEDDER, COSTS = "embedder:minilm", "embedder:openai"
REFRESHED: tuple[JobType, ...] = ("enrich_and_embed", "index")


@pytest.fixture
def world(database: Urls) -> Iterator[World]:
    opened = World(database.pipeline_url, database.admin_url)
    yield opened
    opened.close()


def prepare(pipeline: Pipeline) -> None:
    """Have a pipeline look at the flags every time, and work without models."""
    pipeline.flags = FeatureFlags(pipeline.database, pipeline.settings, seconds=0)
    pipeline.embedder = HashedEmbedder()
    pipeline.enricher = ScriptedEnricher({"I moved to Lisbon.": [draft("Lisbon")]})


def handlers(pipeline: Pipeline, redis_manager: RedisManager) -> Handlers:
    prepare(pipeline)
    return stage_handlers(pipeline, redis_manager, no_timings)


def speak(world: World, *contents: str, job_type: str = "enrich_and_embed") -> None:
    """Say these, with a job each."""
    for content in contents:
        world.say(content)
    spoken = [f"Ana: {content}" for content in contents]
    rows = world.execute("SELECT tenant_id, memory_id, user_id, day FROM memories WHERE content = ANY(%s)", spoken)
    jobs: list[Any] = [
        {"tenant_id": tenant_id, "subject_id": memory_id, "user_id": user_id, "day": day}
        for tenant_id, memory_id, user_id, day in rows
    ]
    with world.database.transaction() as connection:
        enqueue(connection, [NewJob(job_type=job_type, correlation_id=uuid4(), **job) for job in jobs])  # type: ignore[arg-type]


def switch(world: World, flag: Flag, *, enabled: bool) -> None:
    with world.database.transaction() as connection:
        set_override(connection, flag, ME, enabled=enabled)


def go_on(world: World) -> int:
    with world.database.transaction() as connection:
        return bring_waiting_forward(connection, REFRESHED, 0.0)


def jobs(world: World) -> list[tuple[str, int]]:
    """State and attempts of every job."""
    return world.execute("SELECT state, attempts FROM memory_jobs ORDER BY job_id")


def put_aside(world: World) -> int:
    """How many jobs were claimed and wait for later."""
    (found,) = world.execute(
        "SELECT count(*) FROM memory_jobs WHERE state = 'pending' AND claimed_by IS NOT NULL"
        " AND available_at > clock_timestamp() + interval '2 seconds'"
    )
    count: int = found[0]
    return count


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def all_done(world: World) -> bool:
    return {state for state, _ in jobs(world)} == {"completed"}


def test_jobs_wait_while_a_stage_is_off_and_are_done_when_it_is_on_again(world: World, settings: Settings) -> None:
    switch(world, Flag.ENRICHMENT, enabled=False)
    speak(world, "I moved to Lisbon.", "well")
    with Worker(settings, handlers):
        wait_until(lambda: put_aside(world) == 2)
        assert jobs(world) == [("pending", 0)] * 2
        assert set(world.statuses().values()) == {"pending_enrichment"}
        switch(world, Flag.ENRICHMENT, enabled=True)
        assert go_on(world) == 2
        wait_until(lambda: all_done(world))
    assert len(world.vectors()) == 3


def test_a_worker_takes_no_jobs_while_the_system_is_off(world: World, settings: Settings) -> None:
    switch(world, Flag.SYSTEM, enabled=False)
    speak(world, "well")
    with Worker(settings.model_copy(update={"worker_poll_interval_ms": 20}), handlers):
        wait_until(lambda: bool(world.execute("SELECT 1 FROM memory_jobs WHERE published_at IS NOT NULL")))
        time.sleep(0.3)
        assert world.execute("SELECT state, attempts, claimed_by FROM memory_jobs") == [("pending", 0, None)]
        switch(world, Flag.SYSTEM, enabled=True)
        wait_until(lambda: all_done(world))


def test_two_workers_share_one_limit_exactly_and_what_is_over_it_waits(world: World, settings: Settings) -> None:
    world.execute("UPDATE plugin_registry SET costs = true WHERE plugin = %s", EMBEDDER)
    limited = settings.model_copy(update={"embedding_rate_limit": 7, "worker_batch_jobs": 3})
    speak(world, *(f"said {number}" for number in range(20)))
    with ExitStack() as running:
        workers = [running.enter_context(Worker(limited, handlers)) for _ in range(2)]
        wait_until(lambda: put_aside(world) == 13 and [state for state, _ in jobs(world)].count("completed") == 7)
        assert sorted(jobs(world)) == [("completed", 1)] * 7 + [("pending", 0)] * 13
        assert len(world.vectors()) == 7
        for worker in workers:
            worker.require_running()
        with redis.Redis.from_url(str(settings.redis_url)) as client:

            def an_hour_later() -> bool:
                client.delete("limits:none", *client.scan_iter("limits:*"))
                go_on(world)
                return all_done(world)

            wait_until(an_hour_later)
    assert len(world.vectors()) == 20


def test_failing_fast_a_job_is_dead_at_once_and_its_neighbours_are_done(world: World, settings: Settings) -> None:
    speak(world, "well", "poison", "fine")
    with Worker(settings.model_copy(update={"fail_fast": True}), handlers):
        wait_until(lambda: {state for state, _ in jobs(world)} == {"completed", "dead"})
    assert sorted(jobs(world)) == [("completed", 1), ("completed", 1), ("dead", 1)]
    (row,) = world.execute("SELECT error_class, error_text FROM memory_jobs WHERE state = 'dead'")
    assert row[0] == "ProviderError"
    assert "I refuse" in row[1]
    assert "failed" not in world.statuses().values()


def test_detections_of_a_detector_that_costs_money_are_limited_for_each_user(world: World, settings: Settings) -> None:
    speak(world, *(f"said {number}" for number in range(7)), job_type="detect_relations")
    with Pipeline(settings) as pipeline, RedisManager(str(settings.redis_url)) as manager:
        prepare(pipeline)
        with pipeline.database.transaction() as connection:
            claims = claim_next(connection, "me", ["detect_relations"], 10, 20.0)
        detect = stage_handlers(pipeline, manager, no_timings, detector=COSTS).by_type["detect_relations"]
        outcomes = list(detect(claims))
        assert [type(outcome) for outcome in outcomes] == [Done] * 5 + [Waits] * 2
        # The ordering that is built in costs nothing.
        built_in = stage_handlers(pipeline, manager, no_timings).by_type["detect_relations"]
        assert [type(outcome) for outcome in built_in(claims)] == [Done] * 7
        switch(world, Flag.RELATIONS, enabled=False)
        (outcome,) = set(built_in(claims))
        assert isinstance(outcome, Waits)
        assert "MEMORY_RELATIONS_ENABLED" in outcome.reason

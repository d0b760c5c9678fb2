"""Rate limits on real Postgres and Redis: what is over one waits, what costs nothing asks nobody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis

from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.limits import LimitedWork, RateLimit, Requester
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.rate_limits import AWAY_SECONDS, RateLimits
from memory_pipeline.stages.refresh import RefreshState, refresh
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.permissions import Author
from memory_pipeline.stores.postgres.rate_limits import set_limit
from memory_pipeline.stores.redis.limits import HourlyWindows
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.stages.principals import events_of, make_principal
from memory_pipeline_tests.stages.support import MARCH, MODEL, HashedEmbedder, ScriptedEnricher, World, embed, enrich

ME = Author("test:me", uuid4())
COSTS, FREE = "embedder:openai", "embedder:minilm"


@pytest.fixture
def windows(redis_url: str) -> Iterator[HourlyWindows]:
    with RedisManager(redis_url) as manager:
        yield HourlyWindows(manager)


@pytest.fixture
def costly(speech: World) -> Iterator[None]:
    """The embedder of new tenants costs money."""
    speech.execute("UPDATE plugin_registry SET costs = true WHERE plugin = %s", FREE)
    yield
    speech.execute("UPDATE plugin_registry SET costs = false WHERE plugin = %s", FREE)


def user(world: World, tenant: str = "acme", name: str = "ana") -> Requester:
    principal = make_principal(world.database, tenant, f"{name}@{tenant}.test")
    return Requester(principal.tenant_id, principal.user_id)


def limit(
    world: World, tenant_id: UUID, per_hour: int, user_id: UUID | None = None, what: LimitedWork = "embedding"
) -> bool:
    with world.database.transaction() as connection:
        return set_limit(connection, what, RateLimit(tenant_id, user_id, per_hour), ME)


def admitted(
    world: World,
    limits: RateLimits,
    requesters: Sequence[Requester],
    plugin: str = COSTS,
    what: LimitedWork = "embedding",
) -> list[bool]:
    with world.database.transaction() as connection:
        return [seconds == 0.0 for seconds in limits.admit(connection, what, plugin, requesters)]


def let_time_pass(redis_url: str, tenant_id: UUID, seconds: float) -> None:
    """Make all that was counted for a tenant older."""
    key = f"limits:embedding:{tenant_id}"
    with redis.Redis.from_url(redis_url) as connection:
        client: Any = connection
        for place, counted_at in enumerate(client.lrange(key, 0, -1)):
            client.lset(key, place, repr(float(counted_at) - seconds))


def unasked() -> HourlyWindows:
    pytest.fail("Redis was asked")


def test_only_the_plugin_that_sends_text_elsewhere_costs_money_when_shipped(speech: World) -> None:
    assert speech.execute("SELECT plugin FROM plugin_registry WHERE costs") == [(COSTS,)]


def test_what_costs_nothing_or_has_no_limit_never_asks_redis(speech: World) -> None:
    ana, gil = user(speech), user(speech, "globex", "gil")
    limits = RateLimits(load_settings(), unasked)
    limit(speech, ana.tenant_id, 0)
    assert admitted(speech, limits, [ana, ana], plugin=FREE) == [True, True]
    assert admitted(speech, limits, [gil, gil], plugin=COSTS) == [True, True]
    assert admitted(speech, limits, [ana], plugin="embedder:nobody-knows") == [True]


def test_a_tenant_shares_its_limit_and_others_are_not_held_up(speech: World, windows: HourlyWindows) -> None:
    ana, bob, gil = user(speech), user(speech, name="bob"), user(speech, "globex", "gil")
    limits = RateLimits(load_settings(embedding_rate_limit=3), lambda: windows)
    assert admitted(speech, limits, [ana, bob, gil, ana, bob, ana]) == [True, True, True, True, False, False]
    assert admitted(speech, limits, [bob, gil, gil, gil]) == [False, True, True, False]


def test_a_user_has_a_limit_beside_that_of_the_tenant(speech: World, windows: HourlyWindows) -> None:
    ana, bob = user(speech), user(speech, name="bob")
    limits = RateLimits(load_settings(), lambda: windows)
    limit(speech, ana.tenant_id, 4)
    limit(speech, ana.tenant_id, 1, ana.user_id)
    # What ana may not do is not counted for the tenant, so that bob has the rest.
    assert admitted(speech, limits, [ana, ana, ana, bob, bob]) == [True, False, False, True, True]
    assert admitted(speech, limits, [ana, bob, bob]) == [False, True, False]


def test_detections_are_limited_for_each_user_by_default(speech: World, windows: HourlyWindows) -> None:
    ana, bob = user(speech), user(speech, name="bob")
    limits = RateLimits(load_settings(), lambda: windows)
    found = admitted(speech, limits, [ana] * 7 + [bob], what="relation_detection")
    assert found == [True] * 5 + [False] * 2 + [True]
    limit(speech, ana.tenant_id, 6, ana.user_id, "relation_detection")
    assert admitted(speech, limits, [ana] * 2, what="relation_detection") == [True, False]


def test_what_waits_is_told_when_its_turn_is(speech: World, windows: HourlyWindows, redis_url: str) -> None:
    ana = user(speech)
    limits = RateLimits(load_settings(embedding_rate_limit=60), lambda: windows)
    with speech.database.transaction() as connection:
        limits.admit(connection, "embedding", COSTS, [ana] * 60)
        # An hour passes but for a minute: room comes in a minute, and then once a minute.
        let_time_pass(redis_url, ana.tenant_id, 3540)
        answers = limits.admit(connection, "embedding", COSTS, [ana] * 3)
    assert [round(seconds / 60) for seconds in answers] == [1, 2, 3]


def test_limited_work_waits_while_redis_is_away_and_other_work_goes_on(
    speech: World, redis_server: RedisServer
) -> None:
    ana, gil = user(speech), user(speech, "globex", "gil")
    limit(speech, ana.tenant_id, 5)
    with RedisManager(redis_server.url()) as manager:
        limits = RateLimits(load_settings(), lambda: HourlyWindows(manager))
        redis_server.stop()
        with speech.database.transaction() as connection:
            assert limits.admit(connection, "embedding", COSTS, [ana, gil]) == [AWAY_SECONDS, 0.0]
        redis_server.start()
        assert admitted(speech, limits, [ana, gil]) == [True, True]


def test_a_new_limit_is_an_event_of_the_tenant_and_the_same_again_is_none(speech: World) -> None:
    ana = user(speech)
    assert limit(speech, ana.tenant_id, 5, ana.user_id)
    assert not limit(speech, ana.tenant_id, 5, ana.user_id)
    assert limit(speech, ana.tenant_id, 6)
    told = [event for event in events_of(speech.database, ana.tenant_id) if event.kind == "rate_limit_set"]
    assert [(event.actor, event.subject_id, event.detail) for event in told] == [
        (ME.actor, ana.user_id, {"what": "embedding", "per_hour": 5}),
        (ME.actor, None, {"what": "embedding", "per_hour": 6}),
    ]


def test_a_tenant_sees_its_own_limits_alone_and_sets_none(speech: World, stage_database: Urls) -> None:
    ana, gil = user(speech), user(speech, "globex", "gil")
    limit(speech, ana.tenant_id, 5)
    limit(speech, gil.tenant_id, 6)
    with Database(stage_database.app_url) as app:
        with app.tenant_transaction(gil.tenant_id) as connection:
            assert connection.execute("SELECT per_hour FROM memory_rate_limits").fetchall() == [(6,)]
        with app.transaction() as connection:
            assert connection.execute("SELECT per_hour FROM memory_rate_limits").fetchall() == []
        with pytest.raises(psycopg.errors.InsufficientPrivilege), app.tenant_transaction(gil.tenant_id) as connection:
            connection.execute("UPDATE memory_rate_limits SET per_hour = 1000")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction() as connection:
            connection.execute("SELECT * FROM feature_flags")


@pytest.mark.usefixtures("costly")
def test_memories_over_the_limit_are_embedded_once_there_is_room(
    speech: World, windows: HourlyWindows, redis_url: str
) -> None:
    for number in range(5):
        speech.say(f"something of {number}")
    enrich(speech.database, ScriptedEnricher({}), MARCH)
    embedder, limits = HashedEmbedder(), RateLimits(load_settings(embedding_rate_limit=3), lambda: windows)
    report = embed(speech.database, embedder, MARCH, limits=limits)
    assert (report.memories, report.limited, report.failed, len(embedder.asked)) == (3, 2, 0, 3)
    assert set(speech.statuses().values()) == {"active"}
    # What is there already costs nothing: it is neither counted again nor asked for.
    assert embed(speech.database, embedder, MARCH, limits=limits).memories == 0
    with RedisManager(redis_url) as manager:
        manager.queue(lambda client: client.flushdb())
    assert embed(speech.database, embedder, MARCH, limits=limits).memories == 2
    assert len(speech.vectors()) == len(embedder.asked) == 5


@pytest.mark.usefixtures("costly")
def test_copies_of_vectors_are_free(speech: World, windows: HourlyWindows) -> None:
    speech.say("the same")
    enrich(speech.database, ScriptedEnricher({}), MARCH)
    limits = RateLimits(load_settings(embedding_rate_limit=1), lambda: windows)
    assert embed(speech.database, HashedEmbedder(), MARCH, limits=limits).memories == 1
    for _ in range(3):
        speech.say("the same")
    enrich(speech.database, ScriptedEnricher({}), MARCH)
    report = embed(speech.database, HashedEmbedder(), MARCH, limits=limits)
    assert (report.memories, report.limited, report.texts_embedded) == (3, 0, 0)


@contextmanager
def limited_pipeline(urls: Urls, **changed: object) -> Iterator[Pipeline]:
    settings = load_settings(postgres_pipeline_url=urls.pipeline_url, **changed)
    with Pipeline(settings) as pipeline:
        pipeline.embedder = HashedEmbedder()
        pipeline.enricher = ScriptedEnricher({})
        yield pipeline


@pytest.mark.usefixtures("costly")
def test_a_named_memory_over_the_limit_is_told_apart_from_one_that_is_done(
    speech: World, stage_database: Urls, redis_url: str, chroma_url: str, chroma_database: str
) -> None:
    speech.say("first")
    speech.say("second")
    stores = {"redis_url": redis_url, "chroma_url": chroma_url, "chroma_database": chroma_database}
    with limited_pipeline(stage_database, embedding_rate_limit=1, **stores) as pipeline:
        found = {each.state: each.wait_seconds for each in refresh(pipeline, speech.named()).memories}
        assert set(found) == {RefreshState.DONE, RefreshState.LIMITED}
        assert 0 < found[RefreshState.LIMITED] <= 3000
    assert len(speech.vectors(MODEL)) == 1

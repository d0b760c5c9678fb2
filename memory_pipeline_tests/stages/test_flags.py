"""Feature flags on real Postgres: what is set there holds within seconds, and what is off leaves its work pending."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import uuid4

import pytest

from memory_pipeline.local.postgres import PostgresServer
from memory_pipeline.model.errors import ProviderError
from memory_pipeline.model.flags import Flag
from memory_pipeline.model.records import FactDraft, Turn
from memory_pipeline.settings import Settings, load_settings
from memory_pipeline.stages.flags import FeatureFlags
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.refresh import RefreshState, refresh
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.feature_flags import read_overrides, set_override, unset_override
from memory_pipeline.stores.postgres.migrate import migrate
from memory_pipeline.stores.postgres.permissions import Author
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.stages.support import (
    MARCH,
    HashedEmbedder,
    ScriptedEnricher,
    World,
    draft,
    embed,
    enrich,
)

ME = Author("test:me", uuid4())
MOVED = "I moved to Lisbon."


@pytest.fixture
def settings_of_stages(stage_database: Urls, chroma_url: str, chroma_database: str) -> Settings:
    return load_settings(
        postgres_pipeline_url=stage_database.pipeline_url, chroma_url=chroma_url, chroma_database=chroma_database
    )


@pytest.fixture
def world(speech: World) -> Iterator[World]:
    """The world, without any flag set before and after."""
    speech.execute("TRUNCATE feature_flags, auth_events")
    yield speech
    speech.execute("TRUNCATE feature_flags, auth_events")


@pytest.fixture
def pipeline(world: World, settings_of_stages: Settings) -> Iterator[Pipeline]:
    """A pipeline that looks at the flags every time."""
    assert world
    with Pipeline(settings_of_stages) as opened:
        opened.flags = FeatureFlags(opened.database, settings_of_stages, seconds=0)
        opened.embedder = HashedEmbedder()
        opened.enricher = ScriptedEnricher({MOVED: [draft("Lisbon")]})
        yield opened


def switch(world: World, flag: Flag, *, enabled: bool) -> bool:
    with world.database.transaction() as connection:
        return set_override(connection, flag, ME, enabled=enabled)


def release(world: World, flag: Flag) -> bool:
    with world.database.transaction() as connection:
        return unset_override(connection, flag, ME)


def states(pipeline: Pipeline, world: World) -> list[RefreshState]:
    return [each.state for each in refresh(pipeline, world.named()).memories]


def test_the_settings_hold_until_a_flag_is_set_and_again_once_it_is_not(
    world: World, settings_of_stages: Settings
) -> None:
    settings = settings_of_stages.model_copy(update={"embedding_enabled": False})
    flags = FeatureFlags(world.database, settings, seconds=0)
    assert flags.off(Flag.EMBEDDING, Flag.ENRICHMENT) == (Flag.EMBEDDING,)
    switch(world, Flag.EMBEDDING, enabled=True)
    switch(world, Flag.ENRICHMENT, enabled=False)
    assert flags.off(Flag.EMBEDDING, Flag.ENRICHMENT) == (Flag.ENRICHMENT,)
    release(world, Flag.EMBEDDING)
    release(world, Flag.ENRICHMENT)
    assert flags.off(Flag.EMBEDDING, Flag.ENRICHMENT) == (Flag.EMBEDDING,)


def test_with_the_system_off_every_stage_is_off(world: World, settings_of_stages: Settings) -> None:
    flags = FeatureFlags(world.database, settings_of_stages, seconds=0)
    switch(world, Flag.SYSTEM, enabled=False)
    assert flags.off() == flags.off(Flag.WEEKLY_SUMMARIES) == (Flag.SYSTEM,)


def test_flags_are_read_again_only_after_some_time(world: World, settings_of_stages: Settings) -> None:
    flags = FeatureFlags(world.database, settings_of_stages, seconds=1000)
    assert flags.off() == ()
    switch(world, Flag.SYSTEM, enabled=False)
    assert flags.off() == ()
    assert flags.enabled(Flag.SYSTEM)


def test_a_change_is_an_event_with_its_author_and_the_same_again_is_none(world: World) -> None:
    assert switch(world, Flag.RELATIONS, enabled=False)
    assert not switch(world, Flag.RELATIONS, enabled=False)
    assert switch(world, Flag.RELATIONS, enabled=True)
    assert release(world, Flag.RELATIONS)
    assert not release(world, Flag.RELATIONS)
    found = world.execute("SELECT kind, actor, correlation_id, detail FROM auth_events ORDER BY event_id")
    assert found == [
        ("flag_set", *ME, {"flag": "relations", "enabled": False}),
        ("flag_set", *ME, {"flag": "relations", "enabled": True}),
        ("flag_unset", *ME, {"flag": "relations", "enabled": True}),
    ]


def test_who_set_a_flag_and_when_can_be_read(world: World) -> None:
    switch(world, Flag.SYSTEM, enabled=True)
    with world.database.transaction() as connection:
        (row,) = read_overrides(connection)
    assert (row.flag, row.enabled, row.changed_by) == ("system", True, ME.actor)
    assert world.execute("SELECT %s <= now()", row.changed_at) == [(True,)]


def test_a_flag_of_another_release_is_left_alone(world: World, settings_of_stages: Settings) -> None:
    world.execute(
        "INSERT INTO feature_flags (flag, enabled, changed_by) VALUES ('telepathy', false, 'a newer release')"
    )
    assert FeatureFlags(world.database, settings_of_stages).off(*Flag) == ()


def test_while_postgres_is_away_the_flags_last_read_hold(postgres_server: PostgresServer) -> None:
    migrate(postgres_server.url())
    settings = load_settings(relations_enabled=False)
    with Database(postgres_server.url("memory_pipeline"), wait_seconds=0.2) as database:
        with database.transaction() as connection:
            set_override(connection, Flag.ENRICHMENT, ME, enabled=False)
        known, late = (FeatureFlags(database, settings, seconds=0) for _ in range(2))
        assert known.off(*Flag) == (Flag.ENRICHMENT, Flag.RELATIONS)
        postgres_server.stop()
        assert known.off(Flag.ENRICHMENT, Flag.RELATIONS) == (Flag.ENRICHMENT, Flag.RELATIONS)
        # Nothing was ever read here.
        assert late.off(Flag.ENRICHMENT, Flag.RELATIONS) == (Flag.RELATIONS,)
        postgres_server.start()
        deadline = time.monotonic() + 20
        while Flag.ENRICHMENT not in late.off(Flag.ENRICHMENT):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_memories_wait_unread_while_enrichment_is_off_and_are_done_when_it_is_on_again(
    world: World, pipeline: Pipeline
) -> None:
    world.say(MOVED)
    switch(world, Flag.ENRICHMENT, enabled=False)
    (waiting,) = refresh(pipeline, world.named()).memories
    assert (waiting.state, waiting.flags) == (RefreshState.OFF, (Flag.ENRICHMENT,))
    assert world.statuses() == {f"Ana: {MOVED}": "pending_enrichment"}
    switch(world, Flag.ENRICHMENT, enabled=True)
    assert states(pipeline, world) == [RefreshState.DONE]
    assert set(world.statuses().values()) == {"active"}


def test_facts_are_found_while_embedding_is_off_and_vectors_follow(world: World, pipeline: Pipeline) -> None:
    world.say(MOVED)
    switch(world, Flag.EMBEDDING, enabled=False)
    assert states(pipeline, world) == [RefreshState.OFF]
    assert len(world.statuses()) == 2
    assert world.vectors() == {}
    release(world, Flag.EMBEDDING)
    assert states(pipeline, world) == [RefreshState.DONE]
    assert len(world.vectors()) == 2


def test_the_index_lets_go_of_what_was_deleted_while_embedding_is_off(world: World, pipeline: Pipeline) -> None:
    world.say(MOVED)
    assert states(pipeline, world) == [RefreshState.DONE]
    named = world.named(*world.memories())
    switch(world, Flag.EMBEDDING, enabled=False)
    world.execute("DELETE FROM memories")
    assert refresh(pipeline, named).index.removed == 2


def test_nothing_is_done_while_the_system_is_off(world: World, pipeline: Pipeline) -> None:
    world.say(MOVED)
    switch(world, Flag.SYSTEM, enabled=False)
    report = refresh(pipeline, world.named())
    assert [each.flags for each in report.memories] == [(Flag.SYSTEM,)]
    assert world.statuses() == {f"Ana: {MOVED}": "pending_enrichment"}


# -- failing fast --


def choke(turn: Turn) -> list[FactDraft]:
    if "choke" in turn.content:
        raise ValueError("no idea what that means")
    return []


def test_failing_fast_a_message_that_the_enricher_fails_at_ends_the_run_and_is_no_dead_letter(world: World) -> None:
    world.say("well")
    world.say("choke on this")
    with pytest.raises(ValueError, match="no idea") as failure:
        enrich(world.database, ScriptedEnricher(choke), MARCH, fail_fast=True)
    (memory_id,) = world.execute("SELECT memory_id FROM memories WHERE content = 'Ana: choke on this'")[0]
    assert str(memory_id) in failure.value.__notes__[0]
    assert set(world.statuses().values()) == {"pending_enrichment"}
    assert enrich(world.database, ScriptedEnricher(choke), MARCH).failed == 1


def test_failing_fast_a_text_that_the_embedder_refuses_ends_the_run_and_is_no_dead_letter(world: World) -> None:
    world.say("well")
    world.say("poison")
    enrich(world.database, ScriptedEnricher({}), MARCH)
    with pytest.raises(ProviderError, match="I refuse") as failure:
        embed(world.database, HashedEmbedder(), MARCH, fail_fast=True)
    (memory_id,) = world.execute("SELECT memory_id FROM memories WHERE content = 'Ana: poison'")[0]
    assert str(memory_id) in str(failure.value)
    assert set(world.statuses().values()) == {"active"}
    assert embed(world.database, HashedEmbedder(), MARCH).failed == 1

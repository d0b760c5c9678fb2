"""Recall: what never shows, whatever the index suggests."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest

from memory_pipeline.model import ids
from memory_pipeline.model.errors import NotFoundError
from memory_pipeline_tests.serving.recall.support import World, texts


@pytest.mark.parametrize(("email", "tenant"), [("eve@other.test", "other"), ("bob@acme.test", "acme")])
def test_ids_of_others_that_the_index_suggests_show_nothing(world: World, email: str, tenant: str) -> None:
    world.say("I like tea.")
    world.say("I live in Lisbon.", email=email, tenant=tenant, conversation="c2", speaker="Eve")
    world.derive()
    with world.pipeline.transaction() as connection:
        theirs = connection.execute(
            "SELECT memory_id, kind, content FROM memories WHERE user_id = %s", [world.user(email).user_id]
        ).fetchall()
    assert {kind for _, kind, _ in theirs} == {"episode", "fact"}
    for memory_id, _, content in theirs:
        world.suggest(world.user(), memory_id, content)
    result = world.ask("Where does Eve live? Lisbon?", k=50)
    assert {memory.sources[0].source_message_id for memory in result.memories} == {"m1"}
    assert "Lisbon" not in str(result.memories)


def test_turns_of_another_user_in_a_shared_conversation_are_no_memories(world: World) -> None:
    world.say("What is the vault code?")
    world.say("The vault code is 4711.", email="bob@acme.test", speaker="Bob")
    world.derive()
    assert "4711" not in str(world.ask("vault code", k=50))


def test_a_deleted_memory_that_the_index_still_suggests_is_not_shown(world: World) -> None:
    (gone, _) = world.say("The vault code is 4711.", "The vault door is green.")
    world.derive()
    world.execute("UPDATE memory.memories SET status = 'deleted' WHERE memory_id = %s", world.episode(gone))
    assert texts(world.ask("vault code")) == ["Ana: The vault door is green."]


def test_an_id_that_is_nowhere_shows_nothing(world: World) -> None:
    world.say("I like tea.")
    world.derive()
    world.suggest(world.user(), uuid4(), "tea")
    assert {memory.sources[0].source_message_id for memory in world.ask("tea").memories} == {"m1"}


@pytest.mark.parametrize("with_index", [True, False])
def test_a_user_id_that_is_a_pattern_is_refused(world: World, with_index: bool) -> None:
    world.say("I like tea.")
    world.derive()
    if not with_index:
        world.chroma = None
    pattern = world.user()._replace(user_id="*")  # type: ignore[arg-type]  # what a careless caller may pass
    with pytest.raises((TypeError, psycopg.DataError)):
        world.ask("tea", user=pattern)


def test_another_tenants_user_id_finds_nothing(world: World) -> None:
    world.say("I like tea.")
    world.say("Coffee for me.", email="eve@other.test", tenant="other")
    world.derive()
    stranger = world.user("eve@other.test")
    mixed = world.user()._replace(tenant_id=stranger.tenant_id)
    assert world.ask("tea coffee", user=mixed, turns=5).memories == ()
    assert world.ask("tea coffee", user=mixed, turns=5).turns == ()


def test_another_users_conversation_is_not_found(world: World) -> None:
    world.say("I like tea.")
    world.say("Coffee for me.", email="bob@acme.test", conversation="c2")
    tenant_id = world.user().tenant_id
    theirs = ids.conversation_id(tenant_id, "test", "c2")
    with pytest.raises(NotFoundError, match=str(theirs)):
        world.ask("tea", turns=3, conversation_id=theirs)

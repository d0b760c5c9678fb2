"""The index stage: wherever it was killed, the next run leaves what it should."""

from __future__ import annotations

from uuid import UUID

import pytest

from memory_pipeline.model.ids import vector_id
from memory_pipeline.model.window import NamedMemories, NamedMemory
from memory_pipeline.stages import vector_writer
from memory_pipeline.stages.index import index_memories
from memory_pipeline.stores.chroma.store import ChromaStore
from memory_pipeline.stores.postgres.index import announce_entries
from memory_pipeline_tests.stages.index.support import DIMENSION, FIRST, MODEL, KilledError, World


def killed(*_arguments: object) -> None:
    raise KilledError


def test_death_between_write_and_mark_converges(world: World, acme: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    unchanged, changed, deleted = world.remember(acme, "one", "two", "three")
    with monkeypatch.context() as patch:
        patch.setattr(vector_writer, "mark_entries", killed)
        with pytest.raises(KilledError):
            world.index()
    assert set(world.indexed(acme)) == {unchanged, changed, deleted}  # Chroma has them, Postgres was not told
    world.change(acme, changed, "second")
    world.set_status(deleted, "deleted")
    world.index()
    assert world.indexed(acme)[changed].version == 2
    world.assert_agrees(acme)


def test_death_between_announcement_and_write_converges(
    world: World, acme: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.remember(acme, "one", "two")
    with monkeypatch.context() as patch:
        patch.setattr(ChromaStore, "add", killed)
        with pytest.raises(KilledError):
            world.index()
    assert world.index().added == 2
    world.assert_agrees(acme)


def test_death_between_removal_and_forgetting_converges(
    world: World, acme: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted, _kept = world.remember(acme, "one", "two")
    world.index()
    world.set_status(deleted, "deleted")
    with monkeypatch.context() as patch:
        patch.setattr(vector_writer, "forget_entries", killed)
        with pytest.raises(KilledError):
            world.index()
    assert world.index().removed == 1
    world.assert_agrees(acme)


def test_entries_lost_with_an_old_backup_do_not_keep_old_vectors_alive(world: World, acme: UUID) -> None:
    """Chroma ignores an `add` under an id it has, so what looks new may have to replace."""
    changed, _same = world.remember(acme, "one", "two")
    world.index()
    world.execute("DELETE FROM index_entries")
    world.change(acme, changed, "second")
    world.index()
    world.assert_agrees(acme)


def test_many_named_memories_of_which_chroma_has_an_old_vector_are_all_as_they_should_be(
    world: World, acme: UUID
) -> None:
    """What a restored backup of Postgres does not know of is replaced, though most of the batch is only added."""
    memories = world.remember(acme, *(f"text {number}" for number in range(40)))
    named = NamedMemories.of(NamedMemory(acme, memory_id, FIRST) for memory_id in memories)
    world.index()
    world.execute("DELETE FROM index_entries")
    world.change(acme, memories[7], "another text")
    live = world.live(acme)
    world.chroma.remove(live.collection_uuid, [vector_id(memory_id, 0) for memory_id in memories[20:]])
    report = index_memories(world.database, world.chroma, MODEL, DIMENSION, named)
    assert report.added == 40
    world.assert_agrees(acme)


def test_an_entry_announced_again_is_written_again(world: World, acme: UUID) -> None:
    [memory_id] = world.remember(acme, "one")
    world.index()
    live = world.live(acme)
    world.chroma.remove(live.collection_uuid, [vector_id(memory_id, 0)])
    assert world.index().added == 0
    with world.database.transaction() as connection:
        announce_entries(connection, live, [(memory_id, 0)])
    assert world.index().added == 1
    world.assert_agrees(acme)

"""The index stage: collections that were lost, and those that are built anew beside the live one."""

from __future__ import annotations

from uuid import UUID

import pytest

from memory_pipeline.local.chroma import ChromaServer
from memory_pipeline.model.errors import MemoryPipelineError, StoreUnavailableError
from memory_pipeline.model.ids import vector_id
from memory_pipeline.model.window import DayWindow, NamedMemories, NamedMemory
from memory_pipeline.stages import indexer
from memory_pipeline.stages.index import index_memories
from memory_pipeline.stages.vector_writer import TenantIndexReport
from memory_pipeline.stores.chroma.store import ChromaStore
from memory_pipeline_tests.stages.index.support import DIMENSION, FIRST, MARCH, MODEL, SECOND, KilledError, World


def test_a_lost_collection_is_rebuilt_with_every_day_and_without_embedding(world: World, acme: UUID) -> None:
    memories = world.remember(acme, "one", "two", day=FIRST) + world.remember(acme, "three", day=SECOND)
    world.index()
    embedded = world.execute("SELECT memory_id, embedding::text, created_at FROM memory_embeddings ORDER BY 1")
    lost = world.live(acme)
    world.chroma.delete_collection(lost.collection_uuid)

    report = world.index(DayWindow.of_day(SECOND))
    assert report.rebuilt == [acme]
    assert report.added == 3
    assert world.live(acme).collection_uuid != lost.collection_uuid
    assert set(world.indexed(acme)) == set(memories)
    assert world.execute("SELECT memory_id, embedding::text, created_at FROM memory_embeddings ORDER BY 1") == embedded
    world.assert_agrees(acme)


def test_a_lost_directory_is_rebuilt(world: World, acme: UUID, chroma_server: ChromaServer) -> None:
    world.remember(acme, "one", "two")
    with ChromaStore(chroma_server.url, "of_its_own") as chroma:
        world.chroma = chroma
        world.index()
        chroma_server.stop()
        for path in sorted(chroma_server.data_dir.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        with pytest.raises(StoreUnavailableError, match="can't be reached"):
            world.index()
        chroma_server.start()
        assert world.index().rebuilt == [acme]
        world.assert_agrees(acme)


def test_an_interrupted_recovery_goes_on_where_it_was(
    world: World, acme: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.remember(acme, *(f"text {number}" for number in range(10)))
    world.index()
    world.chroma.delete_collection(world.live(acme).collection_uuid)

    def kill_at_second_page(finished: int) -> None:
        written.append(finished)
        if len(written) == 2:
            raise KilledError

    written: list[int] = []
    with pytest.raises(KilledError):
        world.index(batch_rows=3, progress=kill_at_second_page)
    report = world.index(DayWindow.of_day(SECOND))
    assert report.rebuilt == [acme]
    assert 0 < report.added < 10
    world.assert_agrees(acme)
    assert len(list(world.chroma.collections())) == 1


def test_another_dimension_of_a_model_gets_a_new_collection(world: World, acme: UUID) -> None:
    [memory_id] = world.remember(acme, "one")
    world.index()
    world.embed(acme, memory_id, "one", dimension=4)
    report = index_memories(world.database, world.chroma, MODEL, 4, MARCH)
    assert report.rebuilt == [acme]
    assert world.live(acme).dimension == 4
    world.assert_agrees(acme)


def test_a_rebuild_switches_and_the_old_collection_is_gone(world: World, acme: UUID) -> None:
    world.remember(acme, "one", "two")
    other = world.tenant("other")
    world.remember(other, "three")
    world.index()
    before, of_other = world.live(acme), world.live(other)
    report = world.rebuild(acme)
    assert report == TenantIndexReport(added=2, rebuilt=True)
    after = world.live(acme)
    assert {one.uuid for one in world.chroma.collections()} == {after.collection_uuid, of_other.collection_uuid}
    assert before.collection_uuid != after.collection_uuid
    states = dict(world.execute("SELECT generation_id, state FROM index_generations WHERE tenant_id = %s", acme))
    assert states == {before.generation_id: "retired", after.generation_id: "live"}
    world.assert_agrees(acme)
    assert world.index().added == 0


def test_a_memory_deleted_during_a_rebuild_is_not_in_the_new_index(world: World, acme: UUID) -> None:
    first, second, third = world.remember(acme, "one", "two", "three")
    world.index()

    def delete(_finished: int) -> None:
        world.set_status(first, "deleted")
        world.execute("DELETE FROM memories WHERE memory_id = %s", second)

    world.rebuild(acme, progress=delete)
    assert set(world.indexed(acme)) == {third}
    world.assert_agrees(acme)


def test_the_live_index_is_served_and_indexed_while_a_rebuild_runs(world: World, acme: UUID) -> None:
    world.remember(acme, "one")
    world.index()
    live = world.live(acme)
    late: list[UUID] = []

    def go_on(_finished: int) -> None:
        if not late:
            late.extend(world.remember(acme, "late"))
            world.index()
            assert world.live(acme) == live
            assert late[0] in world.indexed(acme)

    world.rebuild(acme, progress=go_on)
    assert late[0] in world.indexed(acme)
    world.assert_agrees(acme)


def test_a_rebuild_that_does_not_hold_what_it_should_leaves_the_old_index_live(world: World, acme: UUID) -> None:
    memories = world.remember(acme, "one", "two")
    world.index()
    live = world.live(acme)

    def lose_a_vector(_finished: int) -> None:
        for collection in world.chroma.collections():
            if collection.uuid != live.collection_uuid:
                world.chroma.remove(collection.uuid, [vector_id(memories[0], 0)])

    with pytest.raises(MemoryPipelineError, match="holds 1 vectors after 2 were written; the old one stays live"):
        world.rebuild(acme, progress=lose_a_vector)
    assert world.live(acme) == live
    assert world.rebuild(acme).added == 2
    world.assert_agrees(acme)
    assert len(list(world.chroma.collections())) == 1


def test_batches_of_named_memories_build_a_lost_collection_again_in_parts(
    world: World, acme: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    globex = world.tenant("globex")
    for tenant_id in (acme, globex):
        world.remember(tenant_id, *(f"text {number}" for number in range(25)))
    world.index()
    for tenant_id in (acme, globex):
        world.chroma.delete_collection(world.live(tenant_id).collection_uuid)
    monkeypatch.setattr(indexer, "_RECOVERY_SECONDS", -1.0)
    named = NamedMemories.of(
        [NamedMemory(tenant_id, world.remember(tenant_id, "new")[0], FIRST) for tenant_id in (acme, globex)]
    )
    first = world.live(acme)
    turns = 0
    while report := index_memories(world.database, world.chroma, MODEL, DIMENSION, named, batch_rows=10):
        turns += 1
        if not report.held:
            break
        assert turns <= 10
    assert turns == 6, "each turn writes one page of one tenant, and 26 vectors are three pages"
    assert world.live(acme) != first
    for tenant_id in (acme, globex):
        world.assert_agrees(tenant_id)

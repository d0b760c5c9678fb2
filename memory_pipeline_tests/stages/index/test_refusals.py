"""The index stage: what Chroma refuses, or where it fails, keeps nothing else from being indexed."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.window import NamedMemories, NamedMemory
from memory_pipeline.stages.index import IndexFailedError, index_memories
from memory_pipeline.stores.chroma.connection import ChromaFailingError
from memory_pipeline.stores.chroma.store import ChromaStore
from memory_pipeline_tests.faults.chroma_proxy import ChromaProxy, failing_for, refusing
from memory_pipeline_tests.stages.index.support import DIMENSION, FIRST, MARCH, MODEL, World


@pytest.fixture
def proxy(world: World, chroma_url: str, chroma_database: str) -> Iterator[ChromaProxy]:
    """What `world` speaks to Chroma through."""
    with ChromaProxy(chroma_url) as proxy, ChromaStore(proxy.url, chroma_database) as through:
        world.chroma = through
        yield proxy


def test_a_memory_that_chroma_refuses_keeps_no_other_from_being_indexed(
    world: World, acme: UUID, proxy: ChromaProxy
) -> None:
    memories = world.remember(acme, *(f"text {number}" for number in range(50)), chunks=2)
    refused = {memories[3], memories[31]}
    proxy.script = refusing(refused)
    for _ in range(2):
        with pytest.raises(IndexFailedError, match=r"refused to .* no such vector") as raised:
            world.index(batch_rows=30)
        assert set(raised.value.report.refused) == {(acme, memory_id) for memory_id in refused}
        assert raised.value.failures == {}
        assert set(world.indexed(acme)) == set(memories) - refused
    proxy.script = None
    assert world.index().added == 4
    world.assert_agrees(acme)


def test_where_chroma_refuses_everything_it_is_not_asked_about_each_memory(
    world: World, acme: UUID, proxy: ChromaProxy
) -> None:
    memories = world.remember(acme, *(f"text {number}" for number in range(300)))
    globex = world.tenant("globex")
    world.remember(globex, "ok")
    proxy.script = refusing(memories)
    with pytest.raises(IndexFailedError) as raised:
        world.index()
    assert list(raised.value.failures) == [acme]
    assert proxy.scripted < 100
    world.assert_agrees(globex)


def test_a_lost_collection_is_rebuilt_without_what_chroma_refuses(world: World, acme: UUID, proxy: ChromaProxy) -> None:
    refused, *others = world.remember(acme, "one", "two", "three")
    world.index()
    world.chroma.delete_collection(world.live(acme).collection_uuid)
    proxy.script = refusing([refused])
    with pytest.raises(IndexFailedError) as raised:
        world.index()
    assert raised.value.report.rebuilt == [acme]
    assert set(raised.value.report.refused) == {(acme, refused)}
    assert set(world.indexed(acme)) == set(others)


def test_a_rebuild_that_chroma_refuses_a_memory_of_leaves_the_old_index_live(
    world: World, acme: UUID, proxy: ChromaProxy
) -> None:
    refused, *_others = world.remember(acme, "one", "two", "three")
    world.index()
    live = world.live(acme)
    proxy.script = refusing([refused])
    with pytest.raises(MemoryPipelineError, match="no such vector"):
        world.rebuild(acme)
    assert world.live(acme) == live
    assert refused in world.indexed(acme)


@pytest.mark.parametrize("named", [True, False])
def test_a_collection_that_fails_keeps_no_other_tenant_from_being_indexed(
    world: World, acme: UUID, proxy: ChromaProxy, named: bool
) -> None:
    globex = world.tenant("globex")
    for tenant_id in (acme, globex):
        world.remember(tenant_id, "one")
    world.index()
    new = [NamedMemory(tenant_id, world.remember(tenant_id, "two")[0], FIRST) for tenant_id in (acme, globex)]
    broken = max(acme, globex) if named else acme
    proxy.script = failing_for(world.live(broken).collection_uuid)
    selection = NamedMemories.of(new) if named else MARCH
    with pytest.raises(IndexFailedError, match="disk is full") as raised:
        index_memories(world.database, world.chroma, MODEL, DIMENSION, selection)
    [(tenant_id, error)] = raised.value.failures.items()
    assert (tenant_id, type(error)) == (broken, ChromaFailingError)
    [other] = {acme, globex} - {broken}
    world.assert_agrees(other)
    proxy.script = None
    world.index()
    world.assert_agrees(broken)

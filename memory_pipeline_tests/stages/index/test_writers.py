"""The index stage: one writer of a collection at a time, and how long others wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from uuid import UUID

import psycopg
import pytest

from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.model.window import NamedMemories, NamedMemory
from memory_pipeline.settings import Settings
from memory_pipeline.stages import indexer
from memory_pipeline.stages.index import index_memories
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.writer_lock import Purpose, WriterLock, writer_lock
from memory_pipeline_tests.stages.index.support import DIMENSION, FIRST, MARCH, MODEL, World


def test_two_indexers_at_once_end_in_the_same_index(world: World, acme: UUID, settings: Settings) -> None:
    memories = world.remember(acme, *(f"text {number}" for number in range(200)))
    assert settings.postgres_pipeline_url
    with Database(settings.postgres_pipeline_url) as other, ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(index_memories, database, world.chroma, MODEL, DIMENSION, MARCH, batch_rows=7)
            for database in (world.database, other)
        ]
        for memory_id in memories[::10]:
            world.change(acme, memory_id, f"changed {memory_id}")
        reports = [run.result() for run in runs]
    assert sum(report.added for report in reports) == 200
    world.index()
    world.assert_agrees(acme)
    assert len(list(world.chroma.collections())) == 1


def test_an_indexer_waits_for_the_writer_lock_no_longer_than_it_may(world: World, acme: UUID) -> None:
    with (
        writer_lock(world.database, acme, MODEL),
        pytest.raises(StoreUnavailableError, match=f"{MODEL} index of tenant {acme}"),
        writer_lock(world.database, acme, MODEL, wait_seconds=0.05),
    ):
        pytest.fail("two writers of one collection")


def test_a_lock_lost_with_its_connection_stops_the_writer(world: World, acme: UUID) -> None:
    world.remember(acme, "one", "two")

    def kill_lock_holder(_finished: int) -> None:
        world.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database d ON d.oid = database"
            " WHERE locktype = 'advisory' AND datname = current_database()"
        )

    with pytest.raises((StoreUnavailableError, psycopg.OperationalError)) as raised:
        world.index(batch_rows=1, progress=kill_lock_holder)
    assert "lock" in str(raised.value) or isinstance(raised.value, psycopg.OperationalError)
    assert len(world.indexed(acme)) == 1  # the second page was not written without the lock
    world.index()
    world.assert_agrees(acme)


def test_named_memories_do_not_wait_while_their_lost_collection_is_built_again(
    world: World, acme: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.remember(acme, "one")
    world.index()
    world.chroma.delete_collection(world.live(acme).collection_uuid)
    [memory_id] = world.remember(acme, "two")
    waits = waits_for_locks(monkeypatch)
    named = NamedMemories.of([NamedMemory(acme, memory_id, FIRST)])
    with writer_lock(world.database, acme, MODEL, "rebuild"):
        report = index_memories(world.database, world.chroma, MODEL, DIMENSION, named)
    assert report.held == [acme]
    assert waits == [("index", indexer._NAMED_WAIT_SECONDS), ("rebuild", 0.0)]
    assert index_memories(world.database, world.chroma, MODEL, DIMENSION, named).rebuilt == [acme]


def test_a_batch_waits_once_for_all_indexes_that_others_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "_NAMED_WAIT_SECONDS", 0.1)
    waits = waits_for_locks(monkeypatch)
    tenants = [world.tenant(f"tenant-{number}") for number in range(2)]
    named = NamedMemories.of(
        [NamedMemory(tenant_id, world.remember(tenant_id, "one")[0], FIRST) for tenant_id in tenants]
    )
    with ExitStack() as held:
        for tenant_id in tenants:
            held.enter_context(writer_lock(world.database, tenant_id, MODEL))
        report = index_memories(world.database, world.chroma, MODEL, DIMENSION, named)
    assert set(report.held) == set(tenants)
    assert waits == [("index", 0.1), ("index", 0.0)]


def waits_for_locks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """What the indexer takes from now on: which lock, and how long it would wait for it."""
    waits: list[tuple[str, float]] = []

    @contextmanager
    def lock(
        database: Database, tenant_id: UUID, model: str, purpose: Purpose = "index", *, wait_seconds: float
    ) -> Iterator[WriterLock]:
        waits.append((purpose, wait_seconds))
        with writer_lock(database, tenant_id, model, purpose, wait_seconds=wait_seconds) as found:
            yield found

    monkeypatch.setattr(indexer, "writer_lock", lock)
    return waits

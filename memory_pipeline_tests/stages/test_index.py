"""The index stage on real Postgres and Chroma: what Chroma ends up holding, whatever happened on the way."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import numpy as np
import psycopg
import pytest
from pgvector.psycopg import register_vector
from typer.main import get_command

from memory_pipeline.cli import app
from memory_pipeline.local.chroma import ChromaServer
from memory_pipeline.model.errors import MemoryPipelineError, StoreUnavailableError
from memory_pipeline.model.ids import bucket_of, derive_hex, milliseconds, vector_id
from memory_pipeline.model.window import DayWindow, NamedMemories, NamedMemory
from memory_pipeline.settings import Settings
from memory_pipeline.stages import indexer, vector_reader, vector_writer
from memory_pipeline.stages.index import IndexFailedError, IndexReport, index_memories, rebuild_index
from memory_pipeline.stages.vector_writer import TenantIndexReport
from memory_pipeline.stores.chroma.connection import ChromaFailingError
from memory_pipeline.stores.chroma.store import ChromaStore, VectorEntry
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.index import announce_entries
from memory_pipeline.stores.postgres.index_generations import Generation, live_generation
from memory_pipeline.stores.postgres.tenants import ensure_tenant, ensure_user
from memory_pipeline.stores.postgres.writer_lock import Purpose, WriterLock, writer_lock
from memory_pipeline_tests.faults.chroma_proxy import ChromaProxy, failing_for, refusing

Stored = Callable[[UUID], dict[str, Any]]

MODEL = "random-8"
DIMENSION = 8
FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)
MARCH = DayWindow(FIRST, date(2026, 4, 1))


class World:
    """Memories with vectors in Postgres, and the stage on top of them."""

    def __init__(self, database: Database, admin_url: str, chroma: ChromaStore) -> None:
        self.database = database
        self.chroma = chroma
        self._admin = psycopg.connect(admin_url, autocommit=True, options="-c search_path=memory,public")
        register_vector(self._admin)
        self._users: dict[UUID, UUID] = {}
        self._random = np.random.default_rng(7)

    def close(self) -> None:
        self._admin.close()

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self._admin.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def tenant(self, slug: str) -> UUID:
        with self.database.transaction() as connection:
            tenant_id = ensure_tenant(connection, slug)
            self._users[tenant_id] = ensure_user(connection, tenant_id, f"ada@{slug}.test", "Ada")
        return tenant_id

    def remember(self, tenant_id: UUID, *texts: str, day: date = FIRST, chunks: int = 1) -> list[UUID]:
        memories = []
        sent_at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        for text in texts:
            memory_id = UUID(derive_hex(b"episode", milliseconds(sent_at), tenant_id.hex, uuid4().hex))
            self.execute(
                "INSERT INTO memories (tenant_id, memory_id, user_id, kind, status, content, content_hash, day,"
                " source_message_ids) VALUES (%s, %s, %s, 'episode', 'active', %s, %s, %s, %s)",
                *(tenant_id, memory_id, self._users[tenant_id], text, sha256(text), day, [uuid4()]),
            )
            self.embed(tenant_id, memory_id, text, chunks)
            memories.append(memory_id)
        return memories

    def embed(self, tenant_id: UUID, memory_id: UUID, text: str, chunks: int = 1, dimension: int = DIMENSION) -> None:
        self.execute("DELETE FROM memory_embeddings WHERE memory_id = %s", memory_id)
        for chunk in range(chunks):
            vector = self._random.standard_normal(dimension).astype(np.float32)
            self.execute(
                "INSERT INTO memory_embeddings (tenant_id, memory_id, model, chunk, chunks, dimension, embedding,"
                " content_hash) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                *(tenant_id, memory_id, MODEL, chunk, chunks, dimension, vector, sha256(text)),
            )

    def change(self, tenant_id: UUID, memory_id: UUID, text: str, chunks: int = 1) -> None:
        self.execute(
            "UPDATE memories SET content = %s, content_hash = %s, version = version + 1 WHERE memory_id = %s",
            *(text, sha256(text), memory_id),
        )
        self.embed(tenant_id, memory_id, text, chunks)

    def set_status(self, memory_id: UUID, status: str) -> None:
        self.execute("UPDATE memories SET status = %s, version = version + 1 WHERE memory_id = %s", status, memory_id)

    def vector_of(self, memory_id: UUID, chunk: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
        [(vector,)] = self.execute(
            "SELECT embedding FROM memory_embeddings WHERE memory_id = %s AND chunk = %s", memory_id, chunk
        )
        found: np.ndarray[Any, np.dtype[np.float32]] = vector.to_numpy()
        return found

    def index(self, window: DayWindow = MARCH, **options: Any) -> IndexReport:
        return index_memories(self.database, self.chroma, MODEL, DIMENSION, window, **options)

    def rebuild(self, tenant_id: UUID, **options: Any) -> TenantIndexReport:
        return rebuild_index(self.database, self.chroma, MODEL, DIMENSION, tenant_id, **options)

    def live(self, tenant_id: UUID) -> Generation:
        with self.database.transaction() as connection:
            generation = live_generation(connection, tenant_id, MODEL)
        assert generation is not None
        return generation

    def indexed(self, tenant_id: UUID) -> dict[UUID, VectorEntry]:
        """First chunks in the live collection by memory."""
        entries = self.chroma.entries(self.live(tenant_id).collection_uuid)
        return {entry.memory_id: entry for entry in entries if entry.chunk == 0}

    def chunks(self, tenant_id: UUID, memory_id: UUID) -> list[int]:
        entries = self.chroma.entries(self.live(tenant_id).collection_uuid)
        return sorted(entry.chunk for entry in entries if entry.memory_id == memory_id)

    def assert_agrees(self, tenant_id: UUID) -> None:
        """Chroma holds exactly the indexable vectors of Postgres in their versions; index_entries says the same."""
        wanted = {
            VectorEntry(memory_id, chunk, version, content_hash)
            for memory_id, chunk, version, content_hash in self.execute(
                "SELECT m.memory_id, e.chunk, m.version, m.content_hash FROM memories m"
                " JOIN memory_embeddings e USING (tenant_id, memory_id)"
                " WHERE m.tenant_id = %s AND m.status IN ('active', 'superseded')"
                " AND e.content_hash = m.content_hash",
                tenant_id,
            )
        }
        live = self.live(tenant_id)
        held = list(self.chroma.entries(live.collection_uuid))
        assert len(held) == len(set(held))
        assert set(held) == wanted
        recorded = self.execute(
            "SELECT memory_id, chunk, version, content_hash FROM index_entries WHERE tenant_id = %s", tenant_id
        )
        assert {VectorEntry(*row) for row in recorded} == wanted


def sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    assert settings.postgres_pipeline_url
    assert settings.postgres_admin_url
    assert settings.chroma_url
    with (
        Database(settings.postgres_pipeline_url) as database,
        ChromaStore(settings.chroma_url, settings.chroma_database) as chroma,
    ):
        world = World(database, settings.postgres_admin_url, chroma)
        yield world
        world.close()


@pytest.fixture
def acme(world: World) -> UUID:
    return world.tenant("acme")


@pytest.fixture
def stored(settings: Settings, world: World) -> Callable[[UUID], dict[str, Any]]:
    """Returns everything in a tenant's live collection, over Chroma's HTTP, without any code of ours."""

    def fetch(tenant_id: UUID) -> dict[str, Any]:
        databases = f"{settings.chroma_url}/api/v2/tenants/default_tenant/databases/{settings.chroma_database}"
        answer = httpx.post(
            f"{databases}/collections/{world.live(tenant_id).collection_uuid}/get",
            json={"include": ["metadatas", "documents", "embeddings"]},
        )
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    return fetch


# -- what is written --


def test_indexing_twice_adds_nothing(world: World, acme: UUID) -> None:
    world.remember(acme, "one", "two", "three")
    first, second = world.index(), world.index()
    assert (first.added, first.updated, first.removed) == (3, 0, 0)
    assert (second.added, second.updated, second.removed) == (0, 0, 0)
    world.assert_agrees(acme)


def test_a_vector_is_stored_with_the_whole_key_set_and_the_memory_as_json(
    world: World, acme: UUID, stored: Stored
) -> None:
    [memory_id] = world.remember(acme, "Ada likes tea \u0007 “très” 🫖")
    world.index()
    row = stored(acme)
    assert row["ids"] == [vector_id(memory_id, 0)]
    [(user_id, sources)] = world.execute("SELECT user_id, source_message_ids FROM memories")
    content_hash = sha256("Ada likes tea \u0007 “très” 🫖").hex()
    assert row["metadatas"] == [
        {
            "user_id": str(user_id),
            "conversation_id": "",
            "project": "",
            "kind": "episode",
            "day": 20260301,
            "version": 1,
            "bucket": bucket_of(memory_id),
            "content_hash": content_hash,
            "chunk": 0,
        }
    ]
    document = json.loads(row["documents"][0])
    assert document["content"] == "Ada likes tea \u0007 “très” 🫖"
    assert document["memory_id"] == str(memory_id)
    assert document["tenant_id"] == str(acme)
    assert document["source_message_ids"] == [str(source) for source in sources[0:1]]
    assert document["content_hash"] == content_hash
    np.testing.assert_allclose(row["embeddings"][0], world.vector_of(memory_id), rtol=1e-6)


def test_without_documents_no_text_reaches_chroma_and_an_old_text_goes(
    world: World, acme: UUID, stored: Stored
) -> None:
    kept, changed = world.remember(acme, "kept", "the first text")
    world.index()
    [fresh] = world.remember(acme, "fresh")
    world.change(acme, changed, "the second text")
    world.index(documents="none")
    row = stored(acme)
    documents = dict(zip(row["ids"], row["documents"], strict=True))
    assert documents[vector_id(fresh, 0)] is None
    assert documents[vector_id(changed, 0)] == ""
    assert "kept" in documents[vector_id(kept, 0)]  # as written; a rebuild drops it
    world.rebuild(acme, documents="none")
    assert stored(acme)["documents"] == [None] * 3


def test_every_chunk_has_a_vector_and_only_the_first_the_text(world: World, acme: UUID, stored: Stored) -> None:
    [memory_id] = world.remember(acme, "a long story", chunks=3)
    assert world.index().added == 3
    row = stored(acme)
    by_id = dict(zip(row["ids"], row["documents"], strict=True))
    assert set(by_id) == {vector_id(memory_id, chunk) for chunk in range(3)}
    assert json.loads(by_id[vector_id(memory_id, 2)]) == {"memory_id": str(memory_id), "chunk": 2}
    hits = world.chroma.query(world.live(acme).collection_uuid, world.vector_of(memory_id, 2), 1)
    assert [(hit.memory_id, hit.chunk) for hit in hits] == [(memory_id, 2)]


def test_small_batches_and_small_requests_end_in_the_same_index(
    world: World, acme: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.remember(acme, *(f"text {number}" for number in range(23)), chunks=2)
    monkeypatch.setattr(vector_reader, "_KEYS", 15)
    reported: list[int] = []
    assert world.index(batch_rows=5, progress=reported.append).added == 46
    assert reported == [5] * 9 + [1]
    world.assert_agrees(acme)

    monkeypatch.setattr(vector_reader, "_PAGE_BYTES", 3_000)  # two rows
    other = world.tenant("other")
    world.remember(other, "x" * 10_000, *(f"text {number}" for number in range(5)))
    reported.clear()
    world.index(progress=reported.append)
    assert max(reported) == 2
    assert sum(reported) == 6
    world.assert_agrees(other)


def test_more_vectors_than_chroma_takes_at_once(world: World, acme: UUID) -> None:
    rows = world.chroma.max_batch_rows + 100
    world.execute(
        "INSERT INTO memories (tenant_id, memory_id, user_id, kind, status, content, content_hash, day,"
        " source_message_ids) SELECT u.tenant_id, uuidv7(), u.user_id, 'episode', 'active', n::text,"
        " sha256(n::text::bytea), %s, ARRAY[uuidv7()] FROM users u, generate_series(1, %s) n",
        *(FIRST, rows),
    )
    world.execute(
        "INSERT INTO memory_embeddings (tenant_id, memory_id, model, chunk, chunks, dimension, embedding,"
        " content_hash) SELECT tenant_id, memory_id, %s, 0, 1, 8,"
        " (SELECT array_agg(random() - 0.5) FROM generate_series(1, 8) WHERE m.memory_id IS NOT NULL)::vector,"
        " content_hash FROM memories m",
        MODEL,
    )
    assert world.index(batch_rows=1_000_000).added == rows
    world.assert_agrees(acme)


# -- changes --


def test_changed_content_replaces_the_vector(world: World, acme: UUID) -> None:
    changed, same = world.remember(acme, "lives in Oslo", "likes tea")
    world.index()
    world.change(acme, changed, "lives in Rome")
    report = world.index()
    assert (report.added, report.updated) == (0, 1)
    world.assert_agrees(acme)
    hits = world.chroma.query(world.live(acme).collection_uuid, world.vector_of(changed), 2)
    assert [hit.memory_id for hit in hits] == [changed, same]
    assert hits[0].distance == pytest.approx(0, abs=1e-5)


def test_a_vector_of_an_older_content_is_not_written(world: World, acme: UUID) -> None:
    [memory_id] = world.remember(acme, "old")
    world.execute("UPDATE memories SET content = 'new', content_hash = %s, version = 2", sha256("new"))
    assert world.index().added == 0
    world.embed(acme, memory_id, "new")
    assert world.index().added == 1
    assert world.indexed(acme)[memory_id].version == 2


@pytest.mark.parametrize("status", ["deleted", "failed"])
def test_a_withdrawn_memory_leaves_the_index(world: World, acme: UUID, status: str) -> None:
    withdrawn, kept = world.remember(acme, "one", "two", chunks=2)
    world.index()
    if status == "failed":
        world.execute("UPDATE memories SET failure_text = 'why' WHERE memory_id = %s", withdrawn)
    world.set_status(withdrawn, status)
    assert world.index().removed == 2
    assert set(world.indexed(acme)) == {kept}
    world.assert_agrees(acme)


def test_a_memory_that_is_gone_leaves_the_index_whatever_the_window(world: World, acme: UUID) -> None:
    gone, kept = world.remember(acme, "one", "two")
    world.index()
    world.execute("DELETE FROM memories WHERE memory_id = %s", gone)
    assert world.index(DayWindow.of_day(SECOND)).removed == 1
    assert set(world.indexed(acme)) == {kept}


def test_a_superseded_memory_stays(world: World, acme: UUID) -> None:
    [memory_id] = world.remember(acme, "lives in Oslo")
    world.index()
    world.set_status(memory_id, "superseded")
    report = world.index()
    assert (report.updated, report.removed) == (1, 0)
    assert world.indexed(acme)[memory_id].version == 2


def test_a_shorter_content_loses_its_last_chunks(world: World, acme: UUID) -> None:
    [memory_id] = world.remember(acme, "a long story", chunks=4)
    world.index()
    world.change(acme, memory_id, "a short one", chunks=2)
    report = world.index()
    assert (report.updated, report.removed) == (2, 2)
    assert world.chunks(acme, memory_id) == [0, 1]
    world.assert_agrees(acme)


def test_a_window_adds_only_its_days_and_follows_changes_of_what_is_indexed_on_any_day(
    world: World, acme: UUID
) -> None:
    [first] = world.remember(acme, "one", day=FIRST)
    second, third = world.remember(acme, "two", "three", day=SECOND)
    assert world.index(DayWindow.of_day(SECOND)).added == 2
    assert set(world.indexed(acme)) == {second, third}
    world.set_status(second, "deleted")
    world.set_status(third, "superseded")
    report = world.index(DayWindow.of_day(FIRST))
    assert (report.added, report.updated, report.removed) == (1, 1, 1)
    world.assert_agrees(acme)
    assert set(world.indexed(acme)) == {first, third}


# -- tenants --


def test_one_look_for_what_must_go_serves_all_days(world: World, acme: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    days = [date(2026, 3, day) for day in range(2, 7)]
    longer = [memory_id for day in days for memory_id in world.remember(acme, "long", day=day, chunks=3)]
    withdrawn, gone, kept = world.remember(acme, "withdrawn", "gone", "kept", day=days[0])
    world.index()
    for memory_id in longer:
        world.change(acme, memory_id, "short")
    world.set_status(withdrawn, "deleted")
    world.execute("DELETE FROM memories WHERE memory_id = %s", gone)
    looks: list[str] = []
    for name in ("gone_entries", "surplus_entries"):
        find = getattr(vector_writer, name)

        def look(*arguments: Any, _name: str = name, _find: Any = find, **options: Any) -> Any:
            looks.append(_name)
            return _find(*arguments, **options)

        monkeypatch.setattr(vector_writer, name, look)
    report = world.index(DayWindow.of_day(FIRST))
    assert looks == ["gone_entries", "surplus_entries"]
    assert (report.added, report.updated, report.removed) == (0, 5, 12)
    assert set(world.indexed(acme)) == {*longer, kept}
    world.assert_agrees(acme)


def test_two_tenants_never_share_a_collection(world: World, acme: UUID) -> None:
    other = world.tenant("other")
    ours, theirs = world.remember(acme, "ours"), world.remember(other, "theirs")
    report = world.index()
    assert {tenant: one.added for tenant, one in report.tenants.items()} == {acme: 1, other: 1}
    assert world.live(acme).collection_uuid != world.live(other).collection_uuid
    assert set(world.indexed(acme)) == set(ours)
    assert set(world.indexed(other)) == set(theirs)


def test_a_run_may_be_narrowed_to_tenants(world: World, acme: UUID) -> None:
    other = world.tenant("other")
    world.remember(acme, "ours")
    world.remember(other, "theirs")
    assert set(world.index(tenants=[other]).tenants) == {other}
    assert set(world.index().tenants) == {acme, other}


def test_a_tenant_without_vectors_gets_no_collection(world: World, acme: UUID) -> None:
    assert world.index().tenants == {}
    assert list(world.chroma.collections()) == []


def test_a_vector_of_another_dimension_is_named_and_other_tenants_are_indexed(world: World, acme: UUID) -> None:
    other = world.tenant("other")
    [odd] = world.remember(acme, "odd")
    world.embed(acme, odd, "odd", dimension=4)
    world.remember(other, "even")
    with pytest.raises(MemoryPipelineError, match=rf"memory {odd} has a vector of 4 dimensions.*should have 8"):
        world.index()
    world.assert_agrees(other)


def test_the_remedy_for_another_dimension_names_commands_that_exist(world: World, acme: UUID) -> None:
    [odd] = world.remember(acme, "odd")
    world.embed(acme, odd, "odd", dimension=4)
    with pytest.raises(MemoryPipelineError) as raised:
        world.index()
    named = set(re.findall(r"`memory-pipeline ([a-z-]+)", str(raised.value)))
    assert named
    assert named <= set(get_command(app).commands)  # type: ignore[attr-defined]


# -- interruptions --


class KilledError(Exception):
    """Stands for the process ending here."""


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


# -- lost collections and rebuilding --


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


# -- what Chroma refuses, and where it fails --


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

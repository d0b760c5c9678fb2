"""The Chroma store: what it asks of the server, and what it says when the server is away, silent or emptied."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from uuid import UUID, uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_pipeline.local.chroma import ChromaServer
from memory_pipeline.model.errors import MemoryPipelineError, SettingsError, StoreUnavailableError
from memory_pipeline.model.ids import parse_vector_id, vector_id
from memory_pipeline.stores.chroma.connection import ChromaFailingError, ChromaRefusedError, CollectionLostError
from memory_pipeline.stores.chroma.store import ChromaStore, VectorBatch, VectorEntry, VectorMetadata
from memory_pipeline_tests.faults.chroma_proxy import Answer, ChromaProxy

ADA, BOB = uuid4(), uuid4()
TALK = uuid4()


@pytest.fixture
def store(chroma_url: str, chroma_database: str) -> Iterator[ChromaStore]:
    with ChromaStore(chroma_url, chroma_database) as store:
        yield store


@pytest.fixture
def collection(store: ChromaStore) -> UUID:
    return store.create_collection(f"t_{uuid4().hex}_{uuid4().hex}", {"model": "axes"})


def metadata(user_id: UUID = ADA, conversation_id: UUID | str = "", version: int = 1) -> VectorMetadata:
    return {
        "user_id": str(user_id),
        "conversation_id": str(conversation_id),
        "project": "",
        "kind": "episode",
        "day": 20260301,
        "version": version,
        "bucket": 7,
        "content_hash": "ab" * 32,
        "chunk": 0,
    }


def batch(*rows: tuple[UUID, list[float], VectorMetadata], documents: list[str] | None = None) -> VectorBatch:
    return VectorBatch(
        [vector_id(memory_id, 0) for memory_id, _vector, _metadata in rows],
        np.array([vector for _memory, vector, _metadata in rows], np.float32),
        [data for _memory, _vector, data in rows],
        documents,
    )


def axis(x: float, y: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array([x, y], np.float32)


@given(st.uuids(), st.integers(0, 1 << 31))
def test_a_vector_id_is_read_back(memory_id: UUID, chunk: int) -> None:
    assert parse_vector_id(vector_id(memory_id, chunk)) == (memory_id, chunk)


@pytest.mark.parametrize("suffix", [":0", ":", ":01", ":x", " ", ":-1:"])
def test_what_is_no_vector_id_is_refused(suffix: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # from UUID, int or the comparison
        parse_vector_id(f"memory_{ADA}{suffix}")
    with pytest.raises(ValueError, match="is not the id of a vector"):
        parse_vector_id(str(ADA))


def test_neighbours_come_nearest_first_with_their_cosine_distance(store: ChromaStore, collection: UUID) -> None:
    near, across, far = uuid4(), uuid4(), uuid4()
    rows = [(far, [-1.0, 0.0], metadata()), (near, [9.0, 0.0], metadata()), (across, [0.0, 2.0], metadata())]
    store.add(collection, batch(*rows))
    hits = store.query(collection, axis(1, 0), 10)
    assert [hit.memory_id for hit in hits] == [near, across, far]
    assert [hit.distance for hit in hits] == pytest.approx([0, 1, 2], abs=1e-6)
    assert [hit.memory_id for hit in store.query(collection, axis(1, 0), 1)] == [near]


def test_an_empty_collection_has_no_neighbours(store: ChromaStore, collection: UUID) -> None:
    assert store.query(collection, axis(1, 0), 3) == []
    assert list(store.entries(collection)) == []
    assert store.count(collection) == 0


def test_a_filter_keeps_one_user_and_conversation(store: ChromaStore, collection: UUID) -> None:
    adas, adas_talk, bobs_talk = uuid4(), uuid4(), uuid4()
    store.add(
        collection,
        batch(
            (adas, [1, 0], metadata(ADA)),
            (adas_talk, [1, 0.1], metadata(ADA, TALK)),
            (bobs_talk, [1, 0.2], metadata(BOB, TALK)),
        ),
    )

    def found(**where: UUID) -> set[UUID]:
        return {hit.memory_id for hit in store.query(collection, axis(1, 0), 10, where)}

    assert found() == {adas, adas_talk, bobs_talk}
    assert found(user_id=ADA) == {adas, adas_talk}
    assert found(user_id=ADA, conversation_id=TALK) == {adas_talk}
    assert found(user_id=uuid4()) == set()


@pytest.mark.parametrize(
    "where", [{"user_id": "*"}, {"user_id": {"$ne": ""}}, {"$or": ADA}, {"kind": ADA}, {"user_id": str(ADA)}]
)
def test_a_filter_takes_nothing_but_uuids(store: ChromaStore, collection: UUID, where: dict[str, UUID]) -> None:
    with pytest.raises(TypeError, match="a filter is one of"):
        store.query(collection, axis(1, 0), 3, where)


def test_entries_come_in_pages_and_each_once(store: ChromaStore, collection: UUID) -> None:
    memories = [uuid4() for _ in range(25)]
    store.add(collection, batch(*((memory, [1.0, i], metadata(version=i)) for i, memory in enumerate(memories))))
    for page_rows in (4, 5, 25, 100):
        entries = list(store.entries(collection, page_rows))
        assert len(entries) == 25
        assert set(entries) == {VectorEntry(memory, 0, i, b"\xab" * 32) for i, memory in enumerate(memories)}


def test_upsert_replaces_and_add_does_not(store: ChromaStore, collection: UUID) -> None:
    memory = uuid4()
    store.add(collection, batch((memory, [1, 0], metadata(version=1))))
    store.add(collection, batch((memory, [0, 1], metadata(version=2))))
    assert [entry.version for entry in store.entries(collection)] == [1]
    store.upsert(collection, batch((memory, [0, 1], metadata(version=2))))
    assert [entry.version for entry in store.entries(collection)] == [2]
    [hit] = store.query(collection, axis(0, 1), 5)
    assert hit.distance == pytest.approx(0, abs=1e-6)


def test_removed_vectors_are_gone_and_removing_again_is_no_error(store: ChromaStore, collection: UUID) -> None:
    one, two = uuid4(), uuid4()
    store.add(collection, batch((one, [1, 0], metadata()), (two, [0, 1], metadata())))
    for _ in range(2):
        store.remove(collection, [vector_id(one, 0)])
        assert [entry.memory_id for entry in store.entries(collection)] == [two]
    assert store.count(collection) == 1


def test_collections_are_listed_by_prefix_and_deleted_once(store: ChromaStore) -> None:
    ours = store.create_collection("t_ours_1", {"model": "axes"})
    store.create_collection("t_theirs_1", {"model": "axes"})
    [found] = store.collections("t_ours_")
    assert found == (ours, "t_ours_1", {"model": "axes"})
    assert store.has_collection(ours)
    assert store.delete_collection(ours)
    assert not store.delete_collection(ours)
    assert not store.has_collection(ours)
    assert [one.name for one in store.collections()] == ["t_theirs_1"]


def test_a_collection_deleted_by_another_process_is_reported_as_lost(
    store: ChromaStore, collection: UUID, chroma_url: str, chroma_database: str
) -> None:
    store.add(collection, batch((ADA, [1, 0], metadata())))
    with ChromaStore(chroma_url, chroma_database) as other:
        other.delete_collection(collection)
    with pytest.raises(CollectionLostError, match=rf"collection {collection}: not there.*rebuild-index"):
        store.query(collection, axis(1, 0), 1)
    with pytest.raises(CollectionLostError):
        store.count(collection)


def test_a_refusal_names_the_server_and_the_reason(store: ChromaStore, collection: UUID, chroma_url: str) -> None:
    store.add(collection, batch((ADA, [1, 0], metadata())))
    three = batch((BOB, [1, 0, 0], metadata()))
    with pytest.raises(MemoryPipelineError, match=f"{chroma_url}.*dimension of 2, got 3"):
        store.add(collection, three)


def test_a_request_too_large_is_an_error_and_not_a_loss(store: ChromaStore, collection: UUID) -> None:
    with pytest.raises(ChromaRefusedError, match=r"(?i)payload too large"):
        store.add(collection, batch((ADA, [1, 0], metadata()), documents=["x" * 45_000_000]))
    assert store.count(collection) == 0


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b'{"error": "InternalError", "message": "database or disk is full"}'),
        (500, b"<html>out of order"),
        (503, b'{"error": "ChromaError", "message": "in a moment"}'),
        (429, b'{"error": "ChromaError", "message": "too much"}'),
        (403, b""),
        (404, b"<html>nothing here"),
        (302, b""),
    ],
)
def test_a_server_that_answers_that_it_cannot_is_failing_and_refuses_nothing(
    store: ChromaStore, collection: UUID, chroma_database: str, status: int, body: bytes
) -> None:
    with ChromaProxy(store.url) as proxy, ChromaStore(proxy.url, chroma_database) as through:
        through.add(collection, batch((ADA, [1, 0], metadata())))
        proxy.script = lambda _request: Answer(status, body)
        for ask in (
            lambda: through.upsert(collection, batch((ADA, [0, 1], metadata()))),
            lambda: through.query(collection, axis(1, 0), 1),
            lambda: through.create_collection("t_1", {"model": "axes"}),
            through.heartbeat,
        ):
            with pytest.raises(ChromaFailingError, match=f"answered {status}"):
                ask()
        with ChromaStore(proxy.url, chroma_database) as another, pytest.raises(StoreUnavailableError):
            another.heartbeat()
        proxy.script = None
        assert through.count(collection) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, b'{"error": "InvalidArgumentError", "message": "no"}'), (400, b"no"), (422, b"no"), (413, b"no")],
)
def test_a_request_that_is_refused_is_no_failure_of_the_server(
    store: ChromaStore, collection: UUID, chroma_database: str, status: int, body: bytes
) -> None:
    with ChromaProxy(store.url) as proxy, ChromaStore(proxy.url, chroma_database) as through:
        through.add(collection, batch((ADA, [1, 0], metadata())))
        proxy.script = lambda _request: Answer(status, body)
        with pytest.raises(ChromaRefusedError, match=r"refused to upsert 1 vectors.*no"):
            through.upsert(collection, batch((ADA, [0, 1], metadata())))


def test_a_database_that_is_missing_is_made(chroma_server: ChromaServer) -> None:
    with ChromaStore(chroma_server.url, "made_when_needed") as store:
        store.create_collection("t_1", {"model": "axes"})
    with ChromaStore(chroma_server.url, "made_when_needed") as store:
        assert [one.name for one in store.collections()] == ["t_1"]


def test_a_server_that_is_away_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with ChromaStore(url) as store, pytest.raises(StoreUnavailableError, match=f"{url} .*MEMORY_CHROMA_URL"):
        store.heartbeat()


def test_a_suspended_server_is_not_waited_for_beyond_the_timeout(chroma_server: ChromaServer) -> None:
    with (
        ChromaStore(chroma_server.url, timeout_seconds=0.5) as connected,
        ChromaStore(chroma_server.url, timeout_seconds=0.5) as unconnected,
    ):
        collection = connected.create_collection("t_1", {"model": "axes"})
        child = chroma_server.running()
        child.suspend()
        try:
            for ask in (connected.heartbeat, unconnected.heartbeat, lambda: connected.count(collection)):
                with pytest.raises(StoreUnavailableError, match=r"did not answer within 0\.5 s"):
                    ask()
        finally:
            child.resume()
        connected.heartbeat()
        unconnected.heartbeat()


def test_a_restarted_server_is_found_again(chroma_server: ChromaServer) -> None:
    with ChromaStore(chroma_server.url) as store:
        collection = store.create_collection("t_1", {"model": "axes"})
        store.add(collection, batch((ADA, [1, 0], metadata())))
        chroma_server.stop()
        with pytest.raises(StoreUnavailableError):
            store.count(collection)
        chroma_server.start()
        assert store.count(collection) == 1


@pytest.mark.parametrize("url", ["", "127.0.0.1:8001", "ftp://chroma:1", "http://"])
def test_an_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="MEMORY_CHROMA_URL"):
        ChromaStore(url)


def test_the_client_is_imported_only_when_it_is_used() -> None:
    program = "import sys, memory_pipeline.stages.index; sys.exit('chromadb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

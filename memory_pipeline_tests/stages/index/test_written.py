"""The index stage on real Postgres and Chroma: what Chroma holds of a memory."""

from __future__ import annotations

import json
from uuid import UUID

import numpy as np
import pytest

from memory_pipeline.model.ids import bucket_of, vector_id
from memory_pipeline.stages import vector_reader
from memory_pipeline_tests.stages.index.support import FIRST, MODEL, Stored, World, sha256


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


@pytest.mark.nightly
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

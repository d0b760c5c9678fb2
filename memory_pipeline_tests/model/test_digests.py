"""Digests: two sets differ exactly in the buckets where they differ."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_pipeline.model.digests import BUCKETS, BucketDigest, IndexedVector
from memory_pipeline.model.ids import bucket_of, sha256

VECTOR = IndexedVector(UUID("01980000-0000-8000-8000-000000000abc"), 0, 1, sha256("text"))

vectors = st.lists(
    st.builds(
        IndexedVector,
        memory_id=st.uuids(),
        chunk=st.integers(0, 3),
        version=st.integers(1, 5),
        content_hash=st.sampled_from([sha256("a"), sha256("b")]),
    ),
    max_size=20,
    unique_by=lambda vector: (vector.memory_id, vector.chunk),
)


@given(vectors, st.randoms())
def test_the_order_of_rows_does_not_matter(rows: list[IndexedVector], random: object) -> None:
    shuffled = rows.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types its Random as object
    assert BucketDigest.of(rows).differing(BucketDigest.of(shuffled)) == frozenset()


@given(vectors, vectors)
def test_exactly_the_buckets_of_differing_rows_differ(one: list[IndexedVector], other: list[IndexedVector]) -> None:
    expected = {bucket_of(vector.memory_id) for vector in {*one} ^ {*other}}
    assert BucketDigest.of(one).differing(BucketDigest.of(other)) == expected
    assert BucketDigest.of(other).differing(BucketDigest.of(one)) == expected


@pytest.mark.parametrize(
    "changed",
    [
        msgspec.structs.replace(VECTOR, chunk=1),
        msgspec.structs.replace(VECTOR, version=2),
        msgspec.structs.replace(VECTOR, content_hash=sha256("other")),
        msgspec.structs.replace(VECTOR, memory_id=UUID(int=VECTOR.memory_id.int + BUCKETS)),
    ],
    ids=["chunk", "version", "content", "id in the same bucket"],
)
def test_every_part_of_a_row_counts(changed: IndexedVector) -> None:
    assert BucketDigest.of([VECTOR]).differing(BucketDigest.of([changed])) == {0xABC}


def test_a_row_that_is_there_twice_is_seen() -> None:
    """Sums, unlike XOR, do not cancel pairs."""
    assert BucketDigest.of([VECTOR] * 2).differing(BucketDigest()) == {0xABC}
    assert BucketDigest.of([VECTOR] * 3).differing(BucketDigest.of([VECTOR])) == {0xABC}


def test_rows_that_changed_places_within_a_bucket_are_seen() -> None:
    other_id = UUID(int=VECTOR.memory_id.int + BUCKETS)
    second = IndexedVector(other_id, 0, 1, sha256("other"))
    swapped = [
        msgspec.structs.replace(VECTOR, content_hash=second.content_hash),
        msgspec.structs.replace(second, content_hash=VECTOR.content_hash),
    ]
    assert BucketDigest.of([VECTOR, second]).differing(BucketDigest.of(swapped)) == {0xABC}


@given(vectors)
def test_rows_are_counted(rows: list[IndexedVector]) -> None:
    assert BucketDigest.of(rows).rows == len(rows)

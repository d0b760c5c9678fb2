"""Comparing two large sets without holding either: a count and a sum of hashes per bucket of ids.

Where a bucket's count or sum differs, the sets differ in it, and only its rows need a closer look. A sum rather than
XOR: XOR cancels a row that is there twice. (Merkle-style anti-entropy with one level, as in Dynamo, SOSP 2007 §4.7.)
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from uuid import UUID

import msgspec

from memory_pipeline.model.ids import bucket_of

BUCKETS = 4096
_MODULUS = 1 << 64


class IndexedVector(msgspec.Struct, frozen=True, order=True):
    """What must agree between Postgres and the index about one vector."""

    memory_id: UUID
    chunk: int
    version: int
    content_hash: bytes

    def hash64(self) -> int:
        text = self.memory_id.bytes + self.chunk.to_bytes(4) + self.version.to_bytes(8) + self.content_hash
        return int.from_bytes(blake2b(text, digest_size=8).digest())


class BucketDigest:
    """Counts and sums of one set, filled row by row in constant memory."""

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self._sums = [0] * BUCKETS

    @classmethod
    def of(cls, vectors: Iterable[IndexedVector]) -> BucketDigest:
        digest = cls()
        for vector in vectors:
            digest.add(vector)
        return digest

    def add(self, vector: IndexedVector) -> None:
        bucket = bucket_of(vector.memory_id, BUCKETS)
        self._counts[bucket] += 1
        self._sums[bucket] = (self._sums[bucket] + vector.hash64()) % _MODULUS

    @property
    def rows(self) -> int:
        return sum(self._counts)

    def differing(self, other: BucketDigest) -> frozenset[int]:
        """Return the buckets in which the two sets differ."""
        return frozenset(
            bucket
            for bucket in range(BUCKETS)
            if (self._counts[bucket], self._sums[bucket]) != (other._counts[bucket], other._sums[bucket])
        )

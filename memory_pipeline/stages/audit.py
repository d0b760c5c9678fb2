"""The consistency audit: whether every store agrees with Postgres, row by row, and a record of where it does not.

Three looks: within Postgres (every message has its episode, every memory its source and its vector, every hash its
text); Postgres against Chroma (digests per bucket of ids, then the rows of the buckets that differ); and Chroma against
itself (sampled vectors are asked for themselves, because metadata can agree while a vector is lost).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any, Literal, get_args
from uuid import UUID

import msgspec
import numpy as np

from memory_pipeline.model.digests import BUCKETS, BucketDigest, IndexedVector
from memory_pipeline.model.ids import bucket_of
from memory_pipeline.model.window import Progress, no_progress
from memory_pipeline.stores.chroma.connection import CollectionLostError
from memory_pipeline.stores.chroma.store import ChromaStore
from memory_pipeline.stores.postgres.audits import (
    GAPS,
    Finding,
    audit_time,
    expected_vectors,
    gaps,
    record_audit,
    sampled_vectors,
    unembedded_of,
)
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.index_generations import Generation, live_generation
from memory_pipeline.stores.postgres.planner import inform_planner
from memory_pipeline.stores.postgres.tenants import all_tenants
from memory_pipeline.stores.postgres.writer_lock import writer_lock

LISTED_FINDINGS = 100
"""Findings listed per problem and tenant; all are counted."""

_IndexProblem = Literal[
    "collection_lost", "index_missing", "vector_missing", "vector_not_found", "vector_stale", "vector_surplus"
]
LOOKED_FOR = (
    *(f"chroma: {problem}" for problem in get_args(_IndexProblem)),
    *(f"postgres: {problem}" for problem in GAPS),
)
"""What every audit looks for, in every tenant."""

_SAMPLED_VECTORS = 20
_NEIGHBOURS = 10
"""Texts said often have many equal vectors; among that many it can't be told whether one of them is lost."""
_SAME_VECTOR = 1e-3


class AuditReport(msgspec.Struct):
    """What an audit looked at and what it found."""

    audit_id: UUID | None = None
    tenants: int = 0
    vectors: int = 0
    findings: int = 0
    listed: list[Finding] = msgspec.field(default_factory=list)
    seconds: float = 0.0


def audit(
    database: Database,
    chroma: ChromaStore,
    model: str,
    *,
    seed: int,
    progress: Progress = no_progress,
) -> AuditReport:
    """Compare every store with Postgres, record the outcome and return it. `seed` chooses the sampled vectors.

    Raises StoreUnavailableError where a store can't be asked: an audit that saw half is not an audit.
    """
    report = AuditReport()
    started = time.monotonic()
    inform_planner(database)
    with database.transaction() as connection:
        started_at = audit_time(connection)
        tenants = all_tenants(connection)
        for gap in gaps(connection, model, LISTED_FINDINGS):
            report.listed.append(Finding(gap.tenant_id, "postgres", gap.problem, gap.subject_id, {"in_all": gap.total}))
        report.findings = sum({(f.tenant_id, f.problem): f.detail["in_all"] for f in report.listed}.values())
    for tenant_id in tenants:
        found, vectors = _audit_index(database, chroma, tenant_id, model, seed)
        report.vectors += vectors
        report.findings += len(found)
        report.listed.extend(_first_of_each_problem(found))
        progress(vectors)
    report.tenants = len(tenants)
    report.seconds = time.monotonic() - started
    with database.transaction() as connection:
        checked = {
            "tenants": report.tenants,
            "vectors": report.vectors,
            "model": model,
            "looked_for": list(LOOKED_FOR),
        }
        report.audit_id = record_audit(connection, started_at, checked, report.listed, report.findings)
    return report


def _audit_index(
    database: Database, chroma: ChromaStore, tenant_id: UUID, model: str, seed: int
) -> tuple[list[Finding], int]:
    """Compare one tenant's collection with Postgres, with the writer's lock held so that both stand still."""
    with writer_lock(database, tenant_id, model):
        with database.transaction() as connection:
            generation = live_generation(connection, tenant_id, model)
            expected = BucketDigest.of(expected_vectors(connection, tenant_id, model))
        if generation is None:
            if expected.rows == 0:
                return [], 0
            return [_of_index(tenant_id, "index_missing", None, {"vectors": expected.rows})], 0
        try:
            found = BucketDigest.of(_indexed(chroma, generation))
            findings = _differences(database, chroma, generation, expected.differing(found))
            findings += _lost_vectors(database, chroma, generation, seed, {finding.subject_id for finding in findings})
        except CollectionLostError as error:
            return [_of_index(tenant_id, "collection_lost", None, {"error": str(error)})], 0
    return findings, found.rows


def _of_index(tenant_id: UUID, problem: _IndexProblem, subject_id: UUID | None, detail: dict[str, Any]) -> Finding:
    """Return a finding in Chroma: of a problem that audits are known to look for."""
    return Finding(tenant_id, "chroma", problem, subject_id, detail)


def _first_of_each_problem(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Yield what is listed of one tenant's findings; each says how many of its problem there are `in_all`."""
    in_all = Counter(finding.problem for finding in findings)
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.problem] += 1
        if seen[finding.problem] <= LISTED_FINDINGS:
            yield msgspec.structs.replace(finding, detail=finding.detail | {"in_all": in_all[finding.problem]})


def _indexed(chroma: ChromaStore, generation: Generation) -> Iterator[IndexedVector]:
    for entry in chroma.entries(generation.collection_uuid):
        yield IndexedVector(entry.memory_id, entry.chunk, entry.version, entry.content_hash)


def _differences(
    database: Database, chroma: ChromaStore, generation: Generation, buckets: frozenset[int]
) -> list[Finding]:
    if not buckets:
        return []
    with database.transaction() as connection:
        rows = expected_vectors(connection, generation.tenant_id, generation.model)
        expected = _in_buckets(rows, buckets)
    found = _in_buckets(_indexed(chroma, generation), buckets)
    findings = compare(generation.tenant_id, expected, found)
    surplus = {f.subject_id for f in findings if f.problem == "vector_surplus" and f.subject_id is not None}
    with database.transaction() as connection:
        # Postgres lacks these, which is a finding already; the index is not to blame for having them.
        unembedded = unembedded_of(connection, generation.tenant_id, generation.model, sorted(surplus))
    return [f for f in findings if not (f.problem == "vector_surplus" and f.subject_id in unembedded)]


def _in_buckets(vectors: Iterable[IndexedVector], buckets: frozenset[int]) -> dict[tuple[UUID, int], IndexedVector]:
    return {
        (vector.memory_id, vector.chunk): vector
        for vector in vectors
        if bucket_of(vector.memory_id, BUCKETS) in buckets
    }


def compare(
    tenant_id: UUID,
    expected: dict[tuple[UUID, int], IndexedVector],
    found: dict[tuple[UUID, int], IndexedVector],
) -> list[Finding]:
    """Return what the index lacks, has too much, or has in another version; sorted, so that audits can be compared."""
    findings = []
    for key in sorted(expected.keys() | found.keys()):
        wanted, there = expected.get(key), found.get(key)
        if wanted == there:
            continue
        problem: _IndexProblem
        problem = "vector_missing" if there is None else "vector_surplus" if wanted is None else "vector_stale"
        detail = {
            "chunk": key[1],
            "expected_version": wanted.version if wanted else None,
            "found_version": there.version if there else None,
        }
        findings.append(_of_index(tenant_id, problem, key[0], detail))
    return findings


def _lost_vectors(
    database: Database, chroma: ChromaStore, generation: Generation, seed: int, known: Set[UUID | None]
) -> list[Finding]:
    """Ask sampled vectors for themselves: a stored vector finds itself at distance zero, or as many equal ones.

    Memories in `known` have a finding already.
    """
    with database.transaction() as connection:
        sample = sampled_vectors(connection, generation.tenant_id, generation.model, _SAMPLED_VECTORS, seed)
    findings = []
    for vector in sample:
        if vector.memory_id in known:
            continue
        hits = chroma.query(
            generation.collection_uuid, np.asarray(vector.embedding.to_numpy(), np.float32), _NEIGHBOURS
        )
        same = {(hit.memory_id, hit.chunk) for hit in hits if hit.distance <= _SAME_VECTOR}
        if (vector.memory_id, vector.chunk) not in same and len(same) < _NEIGHBOURS:
            detail = {"chunk": vector.chunk, "nearest_distance": hits[0].distance if hits else None}
            findings.append(_of_index(generation.tenant_id, "vector_not_found", vector.memory_id, detail))
    return findings

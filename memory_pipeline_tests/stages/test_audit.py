"""The audit on real Postgres and Chroma: nothing to say of healthy stores, and of each damage exactly what it is."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from chromadb.api import ClientAPI

from memory_pipeline.model.digests import IndexedVector
from memory_pipeline.model.errors import MemoryPipelineError, StoreUnavailableError
from memory_pipeline.model.ids import vector_id
from memory_pipeline.stages import audit as audit_stage
from memory_pipeline.stages.audit import AuditReport, audit, compare
from memory_pipeline.stages.index import index_memories
from memory_pipeline.stores.chroma.store import ChromaStore
from memory_pipeline.stores.postgres.audits import GAPS
from memory_pipeline.stores.postgres.index_generations import Generation, live_generation
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql
from memory_pipeline_tests.stages.support import (
    DIMENSION,
    MARCH,
    MODEL,
    HashedEmbedder,
    ScriptedEnricher,
    World,
    at,
    draft,
    embed,
    enrich,
    vector_of,
)

MESSAGES = 12


class Audited:
    """A tenant with messages, facts, vectors and an index, and ways to damage them."""

    def __init__(self, speech: World, chroma: ChromaStore) -> None:
        self.speech = speech
        self.chroma = chroma

    def fill(self, tenant: str = "acme", messages: int = MESSAGES) -> None:
        for number in range(messages):
            self.speech.say(f"{tenant} message {number}", at(2 + number % 5, 12, number), tenant=tenant)
        facts = [draft("Lisbon", statement=f"{tenant} fact", slot=None)]
        enrich(self.speech.database, ScriptedEnricher({f"{tenant} message 0": facts}), MARCH)
        self.refresh()

    def refresh(self) -> None:
        embed(self.speech.database, HashedEmbedder(), MARCH)
        index_memories(self.speech.database, self.chroma, MODEL, DIMENSION, MARCH)

    def audit(self, seed: int = 1) -> AuditReport:
        return audit(self.speech.database, self.chroma, MODEL, seed=seed)

    def live(self, tenant: str = "acme") -> Generation:
        with self.speech.database.transaction() as connection:
            generation = live_generation(connection, self.speech.tenant(tenant), MODEL)
        assert generation is not None
        return generation

    def memory(self, content: str) -> UUID:
        memory_id: UUID = self.speech.memories()[content]["memory_id"]
        return memory_id


def found(report: AuditReport) -> list[tuple[str, str, UUID | None]]:
    assert report.findings == len(report.listed)
    return sorted(((f.store, f.problem, f.subject_id) for f in report.listed), key=str)


@pytest.fixture
def audited(speech: World, chroma_url: str, chroma_database: str) -> Iterator[Audited]:
    with ChromaStore(chroma_url, chroma_database) as chroma:
        yield Audited(speech, chroma)


@pytest.fixture
def acme(audited: Audited) -> Audited:
    audited.fill()
    return audited


@pytest.fixture
def client(chroma_url: str, chroma_database: str) -> Iterator[ClientAPI]:
    """Chroma, past our own store."""
    import chromadb

    host, _, port = chroma_url.removeprefix("http://").partition(":")
    client = chromadb.HttpClient(host, int(port), database=chroma_database)
    yield client
    client._server._session.close()  # type: ignore[attr-defined]  # nothing else closes it
    client._admin_client._server._session.close()  # type: ignore[attr-defined]


# -- healthy --


def test_healthy_stores_give_no_finding_and_a_record_of_the_audit(acme: Audited) -> None:
    acme.fill("globex")
    report = acme.audit()
    assert (report.tenants, report.vectors, report.findings, report.listed) == (2, 2 * (MESSAGES + 1), 0, [])
    [(audit_id, findings, checked, finished)] = acme.speech.execute(
        "SELECT audit_id, findings, checked, finished_at >= started_at FROM audit_runs"
    )
    assert (audit_id, findings, finished) == (report.audit_id, 0, True)
    assert checked == {
        "tenants": 2,
        "vectors": 2 * (MESSAGES + 1),
        "model": MODEL,
        "looked_for": list(audit_stage.LOOKED_FOR),
    }
    assert acme.speech.execute("SELECT count(*) FROM audit_findings") == [(0,)]


def test_an_audit_says_that_it_looks_for_all_that_it_can_find() -> None:
    named = set(
        re.findall(r"^    SELECT (?:DISTINCT )?\w\.tenant_id, '(\w+)'", sql(PACKAGE, "audit_gaps"), re.MULTILINE)
    )
    assert named == set(GAPS)
    assert [kind for kind in audit_stage.LOOKED_FOR if kind.startswith("postgres: ")] == [
        f"postgres: {gap}" for gap in GAPS
    ]


def test_an_audit_began_before_a_tenant_that_came_while_it_ran(acme: Audited) -> None:
    def another_comes(vectors: int) -> None:
        acme.speech.tenant("late")

    audit(acme.speech.database, acme.chroma, MODEL, seed=1, progress=another_comes)
    there = "SELECT slug FROM tenants, audit_runs WHERE created_at <= started_at"
    assert acme.speech.execute(there) == [("acme",)]
    assert acme.speech.execute("SELECT count(*) FROM tenants") == [(2,)]


def test_no_tenant_at_all_is_healthy(audited: Audited) -> None:
    assert audited.audit().findings == 0


def test_memories_that_wait_or_failed_lack_no_vector(acme: Audited) -> None:
    acme.speech.say("not enriched yet", at(9))
    acme.speech.say("poison", at(9, 13))
    acme.speech.say("bad", at(9, 14))

    acme.speech.execute("UPDATE memories SET status = 'failed', failure_text = 'x' WHERE content = 'Ana: bad'")
    acme.speech.execute("UPDATE memories SET status = 'active' WHERE content = 'Ana: poison'")
    acme.refresh()
    assert acme.speech.statuses()["Ana: poison"] == "failed"
    assert acme.speech.statuses()["Ana: not enriched yet"] == "pending_enrichment"
    assert acme.audit().findings == 0


def test_system_messages_need_no_episode(acme: Audited) -> None:
    acme.speech.execute("UPDATE messages SET role = 'system', content_hash = message_hash('system', speaker, content)")
    assert acme.audit().findings == 0


# -- damage within Postgres --


def test_a_deleted_episode_is_missed_by_its_message_and_left_over_in_the_index(acme: Audited) -> None:
    memory_id = acme.memory("Ana: acme message 3")
    [(message_id,)] = acme.speech.execute("SELECT message_id FROM messages WHERE content = 'acme message 3'")
    acme.speech.execute("DELETE FROM memories WHERE memory_id = %s", memory_id)
    assert found(acme.audit()) == [
        ("chroma", "vector_surplus", memory_id),
        ("postgres", "message_without_episode", message_id),
    ]


def test_a_deleted_message_is_missed_by_what_rests_on_it(acme: Audited) -> None:
    acme.speech.execute("DELETE FROM messages WHERE content = 'acme message 0'")
    expected = {acme.memory("Ana: acme message 0"), acme.memory("acme fact")}
    report = acme.audit()
    assert {(problem, subject) for _, problem, subject in found(report)} == {
        ("memory_without_source", memory_id) for memory_id in expected
    }


def test_one_missing_source_among_several_is_found(acme: Audited) -> None:
    acme.speech.execute(
        "UPDATE memories SET source_message_ids = source_message_ids || %s WHERE kind = 'fact'", uuid4()
    )
    assert found(acme.audit()) == [("postgres", "memory_without_source", acme.memory("acme fact"))]


@pytest.mark.parametrize("whole", [True, False])
def test_a_deleted_embedding_is_one_finding_and_mended_by_the_stages(acme: Audited, whole: bool) -> None:
    acme.speech.say("long " * 50, at(9))
    enrich(acme.speech.database, ScriptedEnricher({}), MARCH)
    acme.refresh()
    memory_id = acme.memory("Ana: " + "long " * 50)
    acme.speech.execute("DELETE FROM memory_embeddings WHERE memory_id = %s AND (chunk = 1 OR %s)", memory_id, whole)
    assert found(acme.audit()) == [("postgres", "memory_without_vector", memory_id)]
    acme.refresh()
    assert acme.audit().findings == 0


def test_altered_texts_are_found_by_their_hashes(acme: Audited) -> None:
    memory_id = acme.memory("Ana: acme message 3")
    acme.speech.execute("UPDATE memories SET content = 'forged' WHERE memory_id = %s", memory_id)
    [(message_id,)] = acme.speech.execute(
        "UPDATE messages SET content = 'forged' WHERE content = 'acme message 4' RETURNING message_id"
    )
    assert found(acme.audit()) == [
        ("postgres", "memory_content_altered", memory_id),
        ("postgres", "message_content_altered", message_id),
    ]


def test_an_altered_text_with_a_hash_to_match_lacks_its_vector(acme: Audited) -> None:
    memory_id = acme.memory("Ana: acme message 3")
    acme.speech.execute(
        "UPDATE memories SET content = 'forged', content_hash = sha256('forged') WHERE memory_id = %s", memory_id
    )
    assert found(acme.audit()) == [("postgres", "memory_without_vector", memory_id)]


# -- damage in Chroma --


def test_a_vector_deleted_in_chroma_is_missing(acme: Audited) -> None:
    memory_id = acme.memory("Ana: acme message 3")
    acme.chroma.remove(acme.live().collection_uuid, [vector_id(memory_id, 0)])
    assert found(acme.audit()) == [("chroma", "vector_missing", memory_id)]


def test_a_vector_added_in_chroma_is_surplus(acme: Audited, client: ClientAPI) -> None:
    memory_id = uuid4()
    client.get_collection(acme.live().collection_name).add(
        [vector_id(memory_id, 0)], embeddings=vector_of("x"), metadatas={"version": 1, "content_hash": "00" * 32}
    )
    assert found(acme.audit()) == [("chroma", "vector_surplus", memory_id)]


def test_a_version_changed_in_chroma_is_stale(acme: Audited, client: ClientAPI) -> None:
    memory_id = acme.memory("Ana: acme message 3")
    client.get_collection(acme.live().collection_name).update([vector_id(memory_id, 0)], metadatas={"version": 7})
    report = acme.audit()
    assert found(report) == [("chroma", "vector_stale", memory_id)]
    assert report.listed[0].detail == {"chunk": 0, "expected_version": 1, "found_version": 7, "in_all": 1}


def test_a_dropped_collection_is_lost(acme: Audited, client: ClientAPI) -> None:
    assert acme.audit().findings == 0  # which leaves the collection in the store's cache
    client.delete_collection(acme.live().collection_name)
    assert found(acme.audit()) == [("chroma", "collection_lost", None)]


def test_a_tenant_with_vectors_and_no_index_lacks_it(acme: Audited) -> None:
    acme.speech.execute("DELETE FROM index_generations")
    assert found(acme.audit()) == [("chroma", "index_missing", None)]


def test_another_vector_under_the_same_metadata_is_not_found(acme: Audited, client: ClientAPI) -> None:
    memory_id = acme.memory("Ana: acme message 3")
    client.get_collection(acme.live().collection_name).update([vector_id(memory_id, 0)], embeddings=vector_of("other"))
    assert found(acme.audit()) == [("chroma", "vector_not_found", memory_id)]


def test_a_replaced_vector_does_not_hide_behind_an_equal_one(acme: Audited, client: ClientAPI) -> None:
    acme.speech.say("acme message 3", at(9), name="the same again")
    enrich(acme.speech.database, ScriptedEnricher({}), MARCH)
    acme.refresh()
    [(memory_id,), _] = acme.speech.execute(
        "SELECT memory_id FROM memories WHERE content = 'Ana: acme message 3' ORDER BY memory_id"
    )
    assert acme.audit().findings == 0
    client.get_collection(acme.live().collection_name).update([vector_id(memory_id, 0)], embeddings=vector_of("other"))
    assert found(acme.audit()) == [("chroma", "vector_not_found", memory_id)]


def test_texts_that_are_said_often_raise_no_alarm(acme: Audited) -> None:
    for number in range(15):
        acme.speech.say("ok", at(9, 12, number))
    enrich(acme.speech.database, ScriptedEnricher({}), MARCH)
    acme.refresh()
    assert all(acme.audit(seed).findings == 0 for seed in range(5))


def test_an_entry_that_is_none_of_ours_is_named_with_what_to_do(acme: Audited, client: ClientAPI) -> None:
    client.get_collection(acme.live().collection_name).add(
        ["somebody's"], embeddings=vector_of("x"), metadatas={"version": 1}
    )
    with pytest.raises(MemoryPipelineError, match=r"somebody's.*rebuild-index"):
        acme.audit()


def test_one_tenants_damage_is_told_of_that_tenant(acme: Audited) -> None:
    acme.fill("globex")
    memory_id = acme.memory("Ana: globex message 3")
    acme.chroma.remove(acme.live("globex").collection_uuid, [vector_id(memory_id, 0)])
    report = acme.audit()
    assert [finding.tenant_id for finding in report.listed] == [acme.speech.tenant("globex")]
    assert found(report) == [("chroma", "vector_missing", memory_id)]


# -- many findings, none, and no answer --


def test_all_findings_are_counted_and_the_first_of_each_problem_listed(
    acme: Audited, client: ClientAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_stage, "LISTED_FINDINGS", 3)
    acme.fill("globex")
    collection = client.get_collection(acme.live().collection_name)
    entries = sorted(vector_id(acme.memory(f"Ana: acme message {number}"), 0) for number in range(MESSAGES))
    collection.delete(entries[:5])
    collection.update(entries[5:9], metadatas=[{"version": 7}] * 4)
    acme.speech.execute("UPDATE messages SET content = 'forged'")
    report = acme.audit()
    assert report.findings == 5 + 4 + 2 * MESSAGES
    assert Counter(finding.problem for finding in report.listed) == {
        "vector_missing": 3,
        "vector_stale": 3,
        "message_content_altered": 6,
    }
    assert {(finding.problem, finding.detail["in_all"]) for finding in report.listed} == {
        ("vector_missing", 5),
        ("vector_stale", 4),
        ("message_content_altered", MESSAGES),
    }
    assert acme.speech.execute("SELECT findings FROM audit_runs") == [(report.findings,)]
    assert acme.speech.execute("SELECT count(*) FROM audit_findings") == [(len(report.listed),)]


def test_an_audit_that_can_not_ask_chroma_is_none(acme: Audited) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with (
            ChromaStore(f"http://127.0.0.1:{nobody.getsockname()[1]}") as away,
            pytest.raises(StoreUnavailableError, match="can't be reached"),
        ):
            audit(acme.speech.database, away, MODEL, seed=1)
    assert acme.speech.execute("SELECT count(*) FROM audit_runs") == [(0,)]


def test_two_equal_sets_differ_in_nothing_and_each_difference_has_a_name() -> None:
    tenant, (one, two, three) = uuid4(), sorted(uuid4() for _ in range(3))

    def held(memory_id: UUID, version: int = 1, chunk: int = 0) -> dict[tuple[UUID, int], IndexedVector]:
        return {(memory_id, chunk): IndexedVector(memory_id, chunk, version, b"x" * 32)}

    assert compare(tenant, held(one), held(one)) == []
    findings = compare(
        tenant, held(one) | held(two) | held(two, chunk=1), held(two, 2) | held(two, chunk=1) | held(three)
    )
    assert [(finding.problem, finding.subject_id) for finding in findings] == [
        ("vector_missing", one),
        ("vector_stale", two),
        ("vector_surplus", three),
    ]
    assert {finding.tenant_id for finding in findings} == {tenant}

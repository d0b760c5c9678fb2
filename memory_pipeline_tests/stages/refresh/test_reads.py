"""Named memories are found by their keys, however many others there are."""

from __future__ import annotations

import pytest

from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.refresh import refresh
from memory_pipeline_tests.stages.refresh.support import DONE, states
from memory_pipeline_tests.stages.support import MODEL, World, at


@pytest.mark.parametrize("crowded", ["acme", "globex"])
def test_a_refresh_finds_rows_by_their_keys_alone_and_analyzes_nothing(
    speech: World, pipeline: Pipeline, crowded: str
) -> None:
    crowd(speech, "acme", 3_000)
    speech.execute("ANALYZE memories, memory_embeddings, index_entries, messages")
    if crowded != "acme":  # one that the planner has never heard of
        crowd(speech, crowded, 3_000)
    speech.say("I moved to Oslo.", tenant=crowded)
    refresh(pipeline, speech.named("Ana: I moved to Oslo."))  # what a first message needs is made
    for number in range(3):
        speech.say(f"I moved to City{number}.", tenant=crowded)
    named = speech.named("Ana: I moved to City0.", "Ana: I moved to City1.", "Ana: I moved to City2.")
    before = reading(speech, pipeline)
    report = refresh(pipeline, named)
    assert states(report) == [DONE] * 3
    assert report.index.added == 6
    after = reading(speech, pipeline)
    assert after["whole"] == before["whole"]
    assert after["analyzed"] == before["analyzed"]
    assert after["by index"] - before["by index"] < 1_000


def crowd(speech: World, tenant: str, memories: int) -> None:
    """Store many memories of one user and day, half of one text, each read, embedded, and in an index of before."""
    speech.say("crowd", at(1), tenant=tenant)
    tenant_id = speech.tenant(tenant)
    speech.execute(
        "INSERT INTO memories (tenant_id, memory_id, user_id, kind, status, content, content_hash, day,"
        " source_message_ids, enricher)"
        " SELECT tenant_id, gen_random_uuid(), user_id, 'episode', 'active', said, sha256(said::bytea), day,"
        " ARRAY[gen_random_uuid()], 'local@1' FROM memories, generate_series(1, %s) n,"
        " LATERAL (SELECT CASE n %% 2 WHEN 0 THEN 'ok' ELSE n::text END AS said) _ WHERE tenant_id = %s",
        *(memories, tenant_id),
    )
    speech.execute(
        "INSERT INTO memory_embeddings (tenant_id, memory_id, model, chunk, chunks, dimension, embedding, content_hash)"
        " SELECT tenant_id, memory_id, %s, 0, 1, 3, '[1,2,3]', content_hash FROM memories"
        " WHERE tenant_id = %s AND enricher IS NOT NULL",
        *(MODEL, tenant_id),
    )
    speech.execute(
        "INSERT INTO index_generations (tenant_id, model, dimension, collection_name, collection_uuid, state)"
        " VALUES (%s, %s, 3, %s, gen_random_uuid(), 'retired')",
        *(tenant_id, MODEL, f"before {tenant}"),
    )
    speech.execute(
        "INSERT INTO index_entries (tenant_id, generation_id, memory_id, chunk, version, content_hash)"
        " SELECT tenant_id, generation_id, memory_id, 0, 1, content_hash"
        " FROM index_generations JOIN memory_embeddings USING (tenant_id) WHERE tenant_id = %s",
        tenant_id,
    )


def reading(speech: World, pipeline: Pipeline) -> dict[str, int]:
    """Rows read from the large tables, and how often they were analyzed, once the sessions have told."""
    pipeline.database.close()
    vars(pipeline).pop("database")
    speech.execute("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
    [(whole, by_index, analyzed)] = speech.execute(
        "SELECT sum(t.seq_tup_read)::bigint, sum(i.idx_tup_read)::bigint, sum(t.analyze_count)::bigint"
        " FROM pg_stat_user_tables t"
        " CROSS JOIN LATERAL (SELECT sum(idx_tup_read) AS idx_tup_read FROM pg_stat_user_indexes i"
        " WHERE i.relid = t.relid) i"
        " WHERE t.relname IN ('memories', 'memory_embeddings', 'index_entries')"
    )
    return {"whole": whole, "by index": by_index, "analyzed": analyzed}

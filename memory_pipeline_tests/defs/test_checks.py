"""Every check passes on sound stores and says what is wrong with damaged ones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import duckdb
import psycopg
import pytest
from dagster._core.storage.tags import PARTITION_NAME_TAG

from memory_pipeline.definitions import defs
from memory_pipeline.model.ids import vector_id
from memory_pipeline.providers.registry import plugin_names
from memory_pipeline.stages.audit import audit
from memory_pipeline.stages.embed import embed
from memory_pipeline.stages.enrich import enrich
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stages.index import index_memories
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.relate import relate
from memory_pipeline.stages.summarize import summarize
from memory_pipeline.stores.duckdb.publish import current_export, publish_duckdb
from memory_pipeline.stores.postgres.index_generations import live_generation
from memory_pipeline.stores.postgres.tenants import tenant_id_of
from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.defs.conftest import Deployment
from memory_pipeline_tests.defs.sample import FACTS, MESSAGES, TENANTS, WINDOW, add_sample
from memory_pipeline_tests.stores.export_sample import add_messages, message

MEMORIES = MESSAGES + len(TENANTS) * (len(FACTS) + 1)
"""Messages, facts, and a summary of each user's week."""
NUMBERS = 10
"""Numbers of the marts that the sample has; jobs, findings and recalls are none."""
ALL_CHECKS = dg.Definitions.merge(
    defs,
    dg.Definitions(jobs=[dg.define_asset_job("all_checks", selection=dg.AssetSelection.all_asset_checks())]),
).resolve_job_def("all_checks")
DEAD_LETTER = (
    "UPDATE memories SET status = 'failed', failure_class = 'ProviderError', failure_text = %s, updated_at = %s"
    " WHERE kind = 'episode' AND day = %s"
)


@pytest.fixture
def pipeline(deployment: Deployment) -> Iterator[Pipeline]:
    """Sound stores, filled by the stages themselves."""
    add_sample(deployment.settings)
    with Pipeline(deployment.settings) as opened:
        embedder = opened.embedder
        plugins = plugin_names(opened.settings)
        enrich(opened.database, opened.enricher, WINDOW, plugin=plugins.enricher)
        relate(opened.database, WINDOW)
        summarize(opened.database, opened.summarizer, WINDOW, plugin=plugins.summarizer)
        embed(opened.database, embedder, WINDOW, plugin=plugins.embedder)
        index_memories(opened.database, opened.chroma, embedder.model, embedder.dimension, WINDOW)
        assert audit(opened.database, opened.chroma, embedder.model, seed=1).findings == 0
        export_lake(opened.database.url, WINDOW, opened.lake_root)
        publish_duckdb(opened.lake_root, opened.exports_root, 3)
        yield opened


def evaluate(**tags: str) -> dict[str, dg.AssetCheckEvaluation]:
    """Run every check by itself, as its button in the UI does, and return what each says, by `asset: check`."""
    result = ALL_CHECKS.execute_in_process(tags=tags)
    assert result.success
    return {f"{one.asset_key.to_user_string()}: {one.check_name}": one for one in result.get_asset_check_evaluations()}


def failed(evaluations: dict[str, dg.AssetCheckEvaluation]) -> dict[str, str | None]:
    return {name: one.description for name, one in evaluations.items() if not one.passed}


def numbers(evaluation: dg.AssetCheckEvaluation) -> dict[str, object]:
    """The counts that an evaluation tells."""
    return {name: value.value for name, value in evaluation.metadata.items() if isinstance(value.value, int)}


def damage(database: Database, statement: str, *values: object) -> int:
    """Change rows past every role; return how many."""
    with psycopg.connect(database.admin_url, options="-c search_path=memory,public") as connection:
        return connection.execute(statement.encode(), values).rowcount


def test_sound_stores_pass_and_every_check_counts_what_it_saw(pipeline: Pipeline, database: Database) -> None:
    evaluations = evaluate()
    assert failed(evaluations) == {}
    assert {name: numbers(one) for name, one in evaluations.items()} == {
        "facts: no_dead_letters": {"dead_letters": 0},
        "facts: facts_cite_messages": {
            "facts": len(TENANTS) * len(FACTS),
            "without_message": 0,
            "without_confidence": 0,
        },
        "memory_embeddings: no_dead_letters": {"dead_letters": 0},
        "memory_embeddings: memories_have_vectors": {"memories": MEMORIES, "incomplete": 0},
        "memory_embeddings: vectors_fit_the_model": {"vectors": MEMORIES, "of_other_dimension": 0, "not_unit": 0},
        "chroma_index: entries_match_vectors": {"expected": MEMORIES, "lacking": 0, "surplus": 0},
        "chroma_index: chroma_holds_entries": {"collections": len(TENANTS), "wrong": 0},
        "chroma_index: no_dead_jobs": {"dead_jobs": 0},
        "duckdb_analytics: rows_match_postgres": {},
        "duckdb_analytics: keys_are_unique": {},
        "duckdb_analytics: numbers_match_postgres": {"compared": NUMBERS * len(TENANTS)},
        "weekly_summaries: summaries_name_sources": {"summaries": len(TENANTS), "without_source": 0},
        "consistency_audit: no_findings": {"findings": 0},
    }
    damage(database, "DELETE FROM audit_runs")
    assert failed(evaluate()) == {"consistency_audit: no_findings": "no audit has finished yet"}


def test_damaged_rows_are_told_by_the_check_of_their_product(pipeline: Pipeline, database: Database) -> None:
    days = [day.isoformat() for day in WINDOW.days()]
    changed = [
        # One episode of each tenant and day, one fact of each tenant, the summary of one tenant.
        damage(database, DEAD_LETTER, "refused: too long", datetime(2030, 1, 2, tzinfo=UTC), days[0]),
        damage(database, DEAD_LETTER, "refused: no words", datetime(2030, 1, 1, tzinfo=UTC), days[1]),
        damage(
            database,
            "UPDATE memories SET source_message_ids = ARRAY[gen_random_uuid()] WHERE kind = 'fact' AND object = %s",
            "Porto",
        ),
        damage(
            database,
            "DELETE FROM memory_embeddings e USING memories m"
            " WHERE m.memory_id = e.memory_id AND m.kind = 'episode' AND m.day = %s",
            days[2],
        ),
        damage(
            database,
            "UPDATE memory_embeddings e SET embedding = '[2,0,0,0,0,0,0,0]' FROM memories m"
            " WHERE m.memory_id = e.memory_id AND m.kind = 'episode' AND m.day = %s",
            days[3],
        ),
        damage(
            database,
            "UPDATE memory_embeddings e SET embedding = '[0,1]', dimension = 2 FROM memories m"
            " WHERE m.memory_id = e.memory_id AND m.kind = 'summary'",
        ),
        damage(
            database,
            "UPDATE memories m SET source_message_ids = ARRAY(SELECT message_id FROM messages s WHERE s.tenant_id <>"
            " m.tenant_id) WHERE kind = 'summary' AND tenant_id = (SELECT tenant_id FROM tenants WHERE slug = %s)",
            TENANTS[0],
        ),
    ]
    damage(
        database,
        "INSERT INTO memory_jobs (tenant_id, job_type, state, day, finished_at, error_class, error_text,"
        " correlation_id) SELECT tenant_id, 'index', 'dead', %s, now(), 'TestError', 'no luck', gen_random_uuid()"
        " FROM tenants",
        days[0],
    )
    assert changed == [2, 2, 2, 2, 2, 2, 1]
    evaluations = evaluate()
    told = "4 memories could not be processed; the newest: refused: too long"
    assert failed(evaluations) == {
        "facts: no_dead_letters": told,
        "facts: facts_cite_messages": "2 facts cite no message, 0 have no confidence",
        "memory_embeddings: no_dead_letters": told,
        "memory_embeddings: memories_have_vectors": f"2 of {MEMORIES - 4} memories lack a vector",
        "memory_embeddings: vectors_fit_the_model": "4 vectors are of another dimension or not of length 1",
        # The entries of the dead letters, and of the vectors that are gone.
        "chroma_index: entries_match_vectors": "0 vectors are not indexed as they are now, 6 should not be there",
        "chroma_index: no_dead_jobs": "2 jobs are dead; the newest: no luck",
        # Which the file does not have.
        "duckdb_analytics: rows_match_postgres": "the file differs from Postgres in jobs",
        "weekly_summaries: summaries_name_sources": "1 summaries rest on nothing",
        "duckdb_analytics: numbers_match_postgres": "the marts differ from Postgres in active memories",
    }
    assert {name for name in failed(evaluations) if evaluations[name].severity == dg.AssetCheckSeverity.WARN} == {
        "facts: no_dead_letters",
        "memory_embeddings: no_dead_letters",
        "memory_embeddings: memories_have_vectors",
        "chroma_index: entries_match_vectors",
        "chroma_index: no_dead_jobs",
        "duckdb_analytics: numbers_match_postgres",
        "duckdb_analytics: rows_match_postgres",
    }
    assert numbers(evaluations["memory_embeddings: vectors_fit_the_model"]) == {
        "vectors": MEMORIES - 4 - 2,
        "of_other_dimension": 2,
        "not_unit": 2,
    }
    shown = str(evaluations["facts: no_dead_letters"].metadata["newest"].value)
    assert (shown.count("| ProviderError | refused: "), shown.count("refused: no words")) == (4, 2)

    # A run over one day looks at that day.
    of_one_day = evaluate(**{PARTITION_NAME_TAG: days[3]})
    assert numbers(of_one_day["facts: no_dead_letters"]) == {"dead_letters": 0}
    assert numbers(of_one_day["chroma_index: no_dead_jobs"]) == {"dead_jobs": 0}
    assert numbers(of_one_day["memory_embeddings: vectors_fit_the_model"])["not_unit"] == 2
    assert numbers(of_one_day["memory_embeddings: memories_have_vectors"])["incomplete"] == 0


def test_an_index_that_is_behind_or_lacks_vectors_is_told(pipeline: Pipeline, database: Database) -> None:
    damage(database, "UPDATE memories SET version = version + 1 WHERE kind = 'summary'")
    with pipeline.database.transaction() as connection:
        tenant = tenant_id_of(connection, TENANTS[0])
        live = live_generation(connection, tenant, pipeline.embedder.model)
        (memory_id,) = connection.execute(
            "SELECT memory_id FROM memories WHERE tenant_id = %s ORDER BY memory_id LIMIT 1", [tenant]
        ).fetchall()[0]
    assert live is not None
    pipeline.chroma.remove(live.collection_uuid, [vector_id(memory_id, 0)])
    audit(pipeline.database, pipeline.chroma, pipeline.embedder.model, seed=1)
    evaluations = evaluate()
    # One tenant's summary (the first of its memories) is gone, the other's is of an older version.
    problems = "chroma: vector_missing; chroma: vector_stale"
    assert failed(evaluations) == {
        "chroma_index: entries_match_vectors": "2 vectors are not indexed as they are now, 0 should not be there",
        "chroma_index: chroma_holds_entries": "1 of 2 collections hold another number of vectors",
        "consistency_audit: no_findings": f"2 findings ({problems})",
        "duckdb_analytics: rows_match_postgres": "the file differs from Postgres in audit_findings",
        "duckdb_analytics: numbers_match_postgres": "the marts differ from Postgres in findings",
    }
    assert evaluations["consistency_audit: no_findings"].severity == dg.AssetCheckSeverity.ERROR
    pipeline.chroma.delete_collection(live.collection_uuid)
    lost = evaluate()["chroma_index: chroma_holds_entries"]
    assert lost.description == "1 of 2 collections hold another number of vectors"
    assert f"| {tenant} | {MEMORIES // 2} | lost |" in str(lost.metadata["tenants"].value)


def test_a_published_file_that_is_behind_or_repeats_keys_is_told(pipeline: Pipeline) -> None:
    late = message(TENANTS[0], "late", datetime(2025, 3, 4, 12, tzinfo=UTC))
    add_messages(pipeline.database.url, TENANTS[0], [late])
    evaluations = evaluate()
    behind = "duckdb_analytics: rows_match_postgres"
    assert failed(evaluations) == {
        behind: "the file differs from Postgres in messages, memories, events",
        "duckdb_analytics: numbers_match_postgres": "the marts differ from Postgres in messages, messages of users",
    }
    assert evaluations[behind].severity == dg.AssetCheckSeverity.WARN
    # Nothing is published with a key that comes twice; files can still be altered afterwards.
    served = current_export(pipeline.exports_root)
    served.chmod(0o644)
    with duckdb.connect(str(served)) as connection:
        connection.execute("INSERT INTO facts FROM facts LIMIT 1")
    evaluations = evaluate()
    told = failed(evaluations)
    assert told["duckdb_analytics: keys_are_unique"] == "keys are missing or repeated in facts"
    assert evaluations["duckdb_analytics: keys_are_unique"].severity == dg.AssetCheckSeverity.ERROR

"""Jobs whose work a run over days has done are ended; all others are left to whoever does them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import msgspec
import pytest

from memory_pipeline.model.jobs import MEMORY_TYPES
from memory_pipeline.model.window import DayWindow
from memory_pipeline.providers.registry import plugin_names
from memory_pipeline.stages.audit import audit
from memory_pipeline.stages.embed import embed
from memory_pipeline.stages.enrich import enrich
from memory_pipeline.stages.index import index_memories
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.relate import relate
from memory_pipeline.stores.postgres.conversations import delete_conversation
from memory_pipeline.stores.postgres.job_completions import completed_by_workers, settled_until
from memory_pipeline.stores.postgres.job_settling import (
    Settled,
    complete_open_jobs,
    open_jobs,
    settle_done_jobs,
)
from memory_pipeline.stores.postgres.jobs import claim_next, finish
from memory_pipeline.worker.process import Worker
from memory_pipeline_tests.defs.conftest import Deployment
from memory_pipeline_tests.defs.queued import DAY, execute, job_states, post

WEEK = DayWindow(DAY, DAY + timedelta(days=7))


@pytest.fixture
def pipeline(deployment: Deployment) -> Iterator[Pipeline]:
    with Pipeline(deployment.settings) as opened:
        yield opened


def enricher_of(pipeline: Pipeline) -> str:
    return f"{pipeline.enricher.name}@{pipeline.enricher.version}"


def settle(pipeline: Pipeline, window: DayWindow = WEEK) -> Settled:
    settled = settle_done_jobs(pipeline.database, window, enricher_of(pipeline), pipeline.embedder.model)
    return msgspec.structs.replace(settled, correlation_ids=[])


def enrich_week(pipeline: Pipeline) -> None:
    enrich(pipeline.database, pipeline.enricher, WEEK, plugin=plugin_names(pipeline.settings).enricher)
    relate(pipeline.database, WEEK)


def embed_week(pipeline: Pipeline) -> None:
    embed(pipeline.database, pipeline.embedder, WEEK, plugin=plugin_names(pipeline.settings).embedder)


def index_week(pipeline: Pipeline) -> None:
    embedder = pipeline.embedder
    index_memories(pipeline.database, pipeline.chroma, embedder.model, embedder.dimension, WEEK)


def run_week(pipeline: Pipeline) -> None:
    """What a run over the week does."""
    enrich_week(pipeline)
    embed_week(pipeline)
    index_week(pipeline)


def test_jobs_are_completed_once_their_memories_and_facts_are_indexed_and_not_before(
    deployment: Deployment, pipeline: Pipeline
) -> None:
    post(deployment.settings, ["I live in Porto.", "Hello."])
    assert settle(pipeline) == Settled(left=2)
    for stage in (enrich_week, embed_week):
        stage(pipeline)
        assert settle(pipeline) == Settled(left=2)
    index_week(pipeline)
    assert settle(pipeline, DayWindow(DAY + timedelta(days=1), WEEK.end)) == Settled()
    assert settle(pipeline) == Settled(completed=2)
    assert settle(pipeline) == Settled()
    assert job_states(deployment.settings) == {"completed": 2}


def test_under_another_enricher_or_model_nothing_is_done(deployment: Deployment, pipeline: Pipeline) -> None:
    post(deployment.settings, ["I live in Porto."])
    run_week(pipeline)
    model = pipeline.embedder.model
    assert settle_done_jobs(pipeline.database, WEEK, "local@other", model) == Settled(left=1)
    assert settle_done_jobs(pipeline.database, WEEK, enricher_of(pipeline), "other") == Settled(left=1)


def test_a_fact_that_lacks_its_index_entry_keeps_the_job_of_its_message_open(
    deployment: Deployment, pipeline: Pipeline
) -> None:
    post(deployment.settings, ["I live in Porto."])
    run_week(pipeline)
    execute(
        deployment.settings,
        "UPDATE index_entries i SET version = i.version - 1 FROM memories m"
        " WHERE m.memory_id = i.memory_id AND m.kind = 'fact'",
    )
    assert settle(pipeline) == Settled(left=1)


def test_the_job_of_a_memory_among_the_dead_letters_is_dead_with_its_reason(
    deployment: Deployment, pipeline: Pipeline
) -> None:
    deployment.embeddings.refused_text = "green"
    post(deployment.settings, ["My favourite colour is green.", "Hello."])
    run_week(pipeline)
    assert settle(pipeline) == Settled(completed=1, dead=1)
    ((error_class, error_text, published_at),) = execute(
        deployment.settings,
        "SELECT error_class, error_text, finished_at FROM memory_jobs WHERE state = 'dead'",
    )
    assert error_class == "ProviderError"
    assert "green" not in error_text
    assert published_at is not None


def test_jobs_that_a_worker_holds_are_left_to_it_until_its_lease_ends(
    deployment: Deployment, pipeline: Pipeline
) -> None:
    post(deployment.settings, ["one", "two", "three"])
    run_week(pipeline)
    with pipeline.database.transaction() as connection:
        claims = claim_next(connection, "host:1:a:0", MEMORY_TYPES, 2, 20.0)
    assert settle(pipeline) == Settled(completed=1)
    with pipeline.database.transaction() as connection:
        assert len(finish(connection, claims[:1])) == 1
    execute(
        deployment.settings, "UPDATE memory_jobs SET lease_until = now() - interval '1 s' WHERE state = 'processing'"
    )
    assert settle(pipeline) == Settled(completed=1)
    with pipeline.database.transaction() as connection:
        assert finish(connection, claims[1:]) == set()
    assert job_states(deployment.settings) == {"completed": 3}


def test_a_job_that_somebody_has_locked_is_left(deployment: Deployment, pipeline: Pipeline) -> None:
    post(deployment.settings, ["one", "two"])
    run_week(pipeline)
    with pipeline.database.transaction() as connection:
        connection.execute("SELECT FROM memory_jobs LIMIT 1 FOR UPDATE")
        assert settle(pipeline) == Settled(completed=1, left=1)


def test_the_requests_whose_jobs_ended_are_named_once_each(deployment: Deployment, pipeline: Pipeline) -> None:
    post(deployment.settings, ["I live in Porto.", "I live in Lisbon."])
    run_week(pipeline)
    settled = settle_done_jobs(pipeline.database, WEEK, enricher_of(pipeline), pipeline.embedder.model)
    assert settled.completed == 2
    asked = execute(deployment.settings, "SELECT DISTINCT correlation_id FROM memory_jobs")
    assert sorted(settled.correlation_ids) == sorted(correlation_id for (correlation_id,) in asked)


def test_the_jobs_of_a_deleted_conversation_end_when_the_index_has_let_go(
    deployment: Deployment, pipeline: Pipeline
) -> None:
    tenant_id = post(deployment.settings, ["I live in Porto."])
    run_week(pipeline)
    assert settle(pipeline) == Settled(completed=1)
    ((conversation_id, user_id),) = execute(deployment.settings, "SELECT conversation_id, user_id FROM conversations")
    with pipeline.app_database.tenant_transaction(tenant_id) as connection:
        deleted = delete_conversation(
            connection, tenant_id, user_id, conversation_id, actor="test", correlation_id=uuid4()
        )
    assert deleted is not None
    assert settle(pipeline) == Settled(left=2)
    index_week(pipeline)
    assert settle(pipeline) == Settled(completed=2)


def test_relation_jobs_named_before_the_relations_are_completed_after_them(
    deployment: Deployment, pipeline: Pipeline
) -> None:
    tenant_id = post(deployment.settings, ["I live in Porto."])
    execute(deployment.settings, "UPDATE memory_jobs SET job_type = 'detect_relations'")
    with pipeline.database.transaction() as connection:
        asked = open_jobs(connection, WEEK, ("detect_relations",))
    assert [key.tenant_id for key in asked] == [tenant_id]
    assert settle(pipeline) == Settled()
    with pipeline.database.transaction() as connection:
        assert complete_open_jobs(connection, asked) == 1
        assert complete_open_jobs(connection, asked) == 0
    assert job_states(deployment.settings) == {"completed": 1}


def test_what_workers_complete_is_read_once_and_a_late_commit_is_not_skipped(
    deployment: Deployment, pipeline: Pipeline
) -> None:
    post(deployment.settings, ["one", "two", "three", "four"])
    database = pipeline.database

    def moment() -> object:
        with database.transaction() as connection:
            return settled_until(connection)

    def read(after: object, until: object) -> list[tuple[object, int]]:
        with database.transaction() as connection:
            rows = completed_by_workers(connection, after, until, MEMORY_TYPES)  # type: ignore[arg-type]
        return [(row.day, row.jobs) for row in rows]

    begin = moment()
    with database.transaction() as connection:
        claims = claim_next(connection, "host:1:a:0", MEMORY_TYPES, 3, 20.0)
    with database.transaction() as late:
        finish(late, claims[:1])
        with database.transaction() as connection:
            finish(connection, claims[1:])
        first = moment()
        early = read(begin, first)
    second = moment()
    run_week(pipeline)
    assert settle(pipeline) == Settled(completed=1)
    assert early == []
    assert read(first, second) == [(DAY, 3)]
    assert read(second, moment()) == []  # what the run settled, the run tells itself


def test_beside_a_live_worker_nothing_is_done_twice_and_nothing_is_lost(
    deployment: Deployment, pipeline: Pipeline
) -> None:
    texts = [f"I live in town number {n}." for n in range(40)]
    settings = deployment.settings
    posted = threading.Event()

    def keep_posting() -> None:
        for start in range(0, len(texts), 10):
            post(settings, texts[start : start + 10], day=DAY + timedelta(days=start // 20))
        posted.set()

    poster = threading.Thread(target=keep_posting)
    with Worker(settings):
        poster.start()
        rounds = 0
        while not posted.is_set() or set(job_states(settings)) != {"completed"}:
            run_week(pipeline)
            settle(pipeline)
            rounds += 1
            assert rounds < 500, job_states(settings)
        poster.join()
    states = execute(settings, "SELECT state, count(*) FROM memory_jobs WHERE job_type = 'enrich_and_embed' GROUP BY 1")
    assert states == [("completed", len(texts))]
    assert set(job_states(settings)) == {"completed"}, "so are the jobs that changed facts asked for"
    kinds = dict(execute(settings, "SELECT kind, count(*) FROM memories WHERE status <> 'failed' GROUP BY kind"))
    assert kinds == {"episode": len(texts), "fact": len(texts)}
    assert execute(settings, "SELECT count(*) FROM memory_embeddings") == [(2 * len(texts),)]
    report = audit(pipeline.database, pipeline.chroma, pipeline.embedder.model, seed=1)
    assert (report.findings, report.vectors) == (0, 2 * len(texts))

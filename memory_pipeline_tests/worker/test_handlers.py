"""Workers that run the stages on real Postgres and Chroma: messages become memories, and what can't is told apart."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from structlog.testing import capture_logs

from memory_pipeline.model.errors import ProviderUnavailableError
from memory_pipeline.model.jobs import HANDLED_TYPES, JobKey, JobType
from memory_pipeline.model.records import FactDraft, Turn
from memory_pipeline.providers.base import Vectors
from memory_pipeline.providers.local_enricher.enricher import LocalEnricher
from memory_pipeline.stages.audit import audit
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.jobs import NewJob, enqueue
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline.worker import handlers, waiting
from memory_pipeline.worker.handlers import Handlers, no_op_handlers, stage_handlers
from memory_pipeline.worker.process import Worker
from memory_pipeline_tests.faults.proxy import TcpProxy
from memory_pipeline_tests.local.inspect import until
from memory_pipeline_tests.stages.support import MARCH, MODEL, HashedEmbedder, World, embed, enrich
from memory_pipeline_tests.stores.postgres.ledger import DAY
from memory_pipeline_tests.worker.support import MAX_ATTEMPTS, Bench, count_of


class Desk:
    """Messages, jobs on them, and workers with small plugins."""

    def __init__(self, bench: Bench, speech: World, settings: dict[str, Any]) -> None:
        self.bench = bench
        self.speech = speech
        self._settings = settings
        self.embedder: HashedEmbedder = HashedEmbedder()
        self.steps: set[str] = set()

    def worker(self, **changes: Any) -> Worker:
        return Worker(self.bench.settings.model_copy(update=self._settings | changes), self._handlers)

    def jobs(self, job_type: JobType = "enrich_and_embed") -> list[JobKey]:
        """A job for each episode there is."""
        with self.speech.database.transaction() as connection:
            return enqueue(
                connection,
                [
                    NewJob(tenant_id=tenant_id, job_type=job_type, day=day, correlation_id=uuid4(), subject_id=memory)
                    for tenant_id, memory, day in self.speech.named().memories
                ],
            )

    def all_jobs(self) -> list[JobKey]:
        """Those that the work asked for too."""
        return [JobKey(*row) for row in self.speech.execute("SELECT tenant_id, job_id FROM memory_jobs")]

    def job(self, tenant_id: UUID, subject_id: UUID | None) -> JobKey:
        new = NewJob(
            tenant_id=tenant_id, job_type="enrich_and_embed", day=DAY, correlation_id=uuid4(), subject_id=subject_id
        )
        with self.speech.database.transaction() as connection:
            return enqueue(connection, [new])[0]

    def findings(self) -> list[str]:
        """What the audit finds wrong."""
        with Pipeline(self.bench.settings.model_copy(update=self._settings)) as pipeline:
            return [finding.problem for finding in audit(pipeline.database, pipeline.chroma, MODEL, seed=1).listed]

    def _handlers(self, pipeline: Pipeline, redis: RedisManager) -> Handlers:
        pipeline.embedder, pipeline.enricher = self.embedder, LocalEnricher()
        return stage_handlers(pipeline, redis, lambda step, _seconds: self.steps.add(step))


@pytest.fixture
def desk(bench: Bench, chroma_url: str, chroma_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(waiting, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(handlers, "REFUSED_SECONDS", 0.1)
    urls = bench.ledger.urls
    speech = World(urls.pipeline_url, urls.admin_url)
    speech.empty()
    yield Desk(bench, speech, {"chroma_url": chroma_url, "chroma_database": chroma_database})
    speech.close()


def attempts(desk: Desk, keys: Sequence[JobKey]) -> set[int]:
    return {desk.bench.row(key).attempts for key in keys}


def test_messages_become_memories_that_are_indexed(desk: Desk) -> None:
    for tenant in ("acme", "globex"):
        desk.speech.say("I live in Lisbon.", tenant=tenant)
        desk.speech.say("I like coffee.", tenant=tenant)
    keys = desk.jobs()
    with desk.worker():
        desk.bench.check(keys)
    found = dict(desk.speech.execute("SELECT kind, count(*) FROM memories WHERE status = 'active' GROUP BY kind"))
    assert found["episode"] == 4
    assert found["fact"] >= 2
    assert desk.findings() == []
    assert desk.steps == {"enrich", "embed", "index", "report"}


def test_a_memory_that_no_embedder_takes_is_dead_at_once_and_alone(desk: Desk) -> None:
    for text in ("I live in Lisbon.", "poison", "I like coffee."):
        desk.speech.say(text)
    keys = desk.jobs()
    [poison] = [
        key
        for key in keys
        if desk.bench.row(key).subject_id == desk.speech.memories("episode")["Ana: poison"]["memory_id"]
    ]
    with desk.worker():
        desk.bench.check(keys, dead=[poison])
    assert (desk.bench.row(poison).attempts, desk.bench.row(poison).error_class) == (1, "ProviderError")
    assert desk.speech.statuses("episode")["Ana: I live in Lisbon."] == "active"


@pytest.mark.parametrize("plugin", ["enricher:local", "embedder:minilm"])
def test_the_line_of_a_dead_job_names_its_memory_and_plugin_and_not_the_text(
    desk: Desk, plugin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_enricher: LocalEnricher, turn: Turn) -> list[FactDraft]:
        raise ValueError(turn.content)

    if plugin == "enricher:local":
        monkeypatch.setattr(LocalEnricher, "enrich", refuse)
    desk.speech.say("poison in Lisbon")
    [dead] = desk.jobs()
    with capture_logs() as lines, desk.worker():
        desk.bench.check([dead], dead=[dead])
    row = desk.bench.row(dead)
    [line] = [line for line in lines if line["event"] == "job_dead"]
    assert (line["job_id"], line["memory_id"]) == (str(dead.job_id), str(row.subject_id))
    assert (line["tenant_id"], line["correlation_id"]) == (str(dead.tenant_id), str(row.correlation_id))
    assert (line["plugin"], line["error"]) == (plugin, row.error_class)
    assert "poison" not in repr(lines)


def test_jobs_of_a_tenant_that_has_not_installed_a_plugin_wait_until_it_has(desk: Desk) -> None:
    desk.speech.say("I live in Lisbon.")
    desk.speech.say("I live in Porto.", tenant="globex")
    desk.speech.uninstall("enricher:local", "globex")
    keys = desk.jobs()
    waited = count_of("memory_jobs_ended_total", job_type="enrich_and_embed", outcome="waits")
    with desk.worker():
        until(
            lambda: count_of("memory_jobs_ended_total", job_type="enrich_and_embed", outcome="waits") > waited + 1,
            "the job of globex waits and is tried again",
        )
        until(lambda: sorted(desk.bench.states().values())[0] == "completed", "the job of acme is done")
        [open_row] = [row for row in desk.bench.ledger.rows().values() if row.state != "completed"]
        assert open_row.tenant_id == desk.speech.tenant("globex")
        desk.speech.install("enricher:local", "globex")
        desk.bench.check(keys)
    assert attempts(desk, keys) == {1}


def test_a_memory_that_another_run_holds_is_waited_for(desk: Desk) -> None:
    desk.speech.say("I live in Lisbon.")
    desk.speech.say("I like coffee.")
    keys = desk.jobs()
    waited = count_of("memory_jobs_ended_total", job_type="enrich_and_embed", outcome="waits")
    with desk.worker():
        with desk.speech.database.transaction() as connection:
            connection.execute("SELECT FROM memories WHERE content = 'Ana: I like coffee.' FOR NO KEY UPDATE")
            until(
                lambda: count_of("memory_jobs_ended_total", job_type="enrich_and_embed", outcome="waits") > waited,
                "the job waits",
            )
        desk.bench.check(keys)
    assert attempts(desk, keys) == {1}


def test_jobs_of_memories_that_are_gone_are_done_and_those_of_none_are_dead(desk: Desk) -> None:
    desk.speech.say("I live in Lisbon.")
    tenant_id = desk.speech.tenant()
    deleted = desk.jobs()
    desk.speech.execute("UPDATE memories SET status = 'deleted', version = version + 1")
    unknown, of_nothing = desk.job(tenant_id, uuid4()), desk.job(tenant_id, None)
    with desk.worker():
        desk.bench.check([*deleted, unknown, of_nothing], dead=[of_nothing])
    assert desk.bench.row(of_nothing).error_class == "NoSubject"
    assert desk.findings() == []


def test_jobs_wait_for_an_embedder_that_is_away_and_lose_no_attempt(desk: Desk) -> None:
    class Away(HashedEmbedder):
        tries = 0

        def embed(self, texts: Sequence[str]) -> Vectors:
            self.tries += 1
            if self.tries <= MAX_ATTEMPTS + 1:
                raise ProviderUnavailableError("the endpoint is away")
            return super().embed(texts)

    desk.embedder = Away()
    desk.speech.say("I live in Lisbon.")
    keys = desk.jobs()
    with desk.worker():
        desk.bench.check(keys)
    assert attempts(desk, keys) == {1}


def test_a_message_that_no_embedder_answers_is_dead_in_the_end_though_it_comes_alone(desk: Desk) -> None:
    class TimesOut(HashedEmbedder):
        def embed(self, texts: Sequence[str]) -> Vectors:
            if any("Lisbon" in text for text in texts):
                raise ProviderUnavailableError("it did not answer in time.")
            return super().embed(texts)

    desk.embedder = TimesOut()
    desk.speech.say("I live in Lisbon.")
    keys = desk.jobs()
    with desk.worker():
        desk.bench.check(keys, dead=keys)
    row = desk.bench.row(keys[0])
    assert (row.attempts, row.error_class) == (MAX_ATTEMPTS, "ProviderUnavailableError")
    assert row.error_text == "it did not answer in time."


def test_jobs_wait_for_chroma_and_lose_no_attempt(desk: Desk, chroma_url: str) -> None:
    with TcpProxy(chroma_url) as proxy, desk.worker(chroma_url=proxy.url):
        desk.speech.say("I live in Lisbon.")
        first = desk.jobs()
        desk.bench.check(first)
        proxy.refuse()
        proxy.cut()
        desk.speech.say("I like coffee.")
        waited = count_of("memory_jobs_ended_total", job_type="enrich_and_embed", outcome="waits")
        second = desk.jobs()
        until(
            lambda: count_of("memory_jobs_ended_total", job_type="enrich_and_embed", outcome="waits") > waited,
            "jobs wait",
        )
        proxy.forward()
        desk.bench.check(first + second)
    assert attempts(desk, second) == {1}
    assert desk.findings() == []


def test_an_index_that_cannot_be_written_is_tried_again_and_then_dead(desk: Desk) -> None:
    desk.speech.say("I live in Lisbon.")
    desk.speech.say("I live in Porto.", tenant="globex")
    globex = desk.speech.tenant("globex")
    enrich(desk.speech.database, LocalEnricher(), MARCH)
    embed(desk.speech.database, desk.embedder, MARCH)
    desk.speech.execute(
        "UPDATE memory_embeddings SET embedding = %s::real[]::vector, dimension = 3 WHERE tenant_id = %s",
        *(np.ones(3).tolist(), globex),
    )
    keys = desk.jobs()
    bad = [key for key in keys if key.tenant_id == globex]
    with desk.worker():
        desk.bench.check(keys, dead=bad)
    assert attempts(desk, bad) == {MAX_ATTEMPTS}
    assert "dimension" in str(desk.bench.row(bad[0]).error_text)


def test_relations_are_detected_for_what_a_job_names(desk: Desk) -> None:
    desk.speech.say("I live in Lisbon.")
    desk.speech.say("I moved to Berlin.")
    enrich(desk.speech.database, LocalEnricher(), MARCH)
    assert desk.speech.relations() == set()
    desk.jobs("detect_relations")
    with desk.worker():
        desk.bench.rest()
        desk.bench.check(desk.all_jobs())
    assert desk.speech.relations() == {("Ana moved to Berlin.", "supersedes", "Ana lives in Lisbon.")}


def test_a_later_message_ends_an_earlier_fact_and_the_index_says_so_without_any_run(desk: Desk) -> None:
    desk.speech.say("I live in Lisbon.")
    desk.jobs()
    with desk.worker():
        desk.bench.rest()
        desk.speech.say("I moved to Berlin.")
        desk.jobs()
        desk.bench.rest()
        desk.bench.check(desk.all_jobs())
    assert desk.speech.relations() == {("Ana moved to Berlin.", "supersedes", "Ana lives in Lisbon.")}
    ended = desk.speech.execute("SELECT memory_id FROM memories WHERE status = 'superseded'")
    asked = desk.speech.execute("SELECT subject_id FROM memory_jobs WHERE job_type = 'index'")
    assert set(ended) <= set(asked)
    assert desk.findings() == []


def test_slots_that_write_many_indexes_at_once_never_wait_for_each_others_connections(desk: Desk) -> None:
    slots = 6
    together = threading.Barrier(slots, timeout=20)

    class Meeting(HashedEmbedder):
        def embed(self, texts: Sequence[str]) -> Vectors:
            together.wait()
            return super().embed(texts)

    desk.embedder = Meeting()
    for number in range(slots):
        desk.speech.say("ok", tenant=f"tenant-{number}")
    waited = count_of("memory_jobs_ended_total", job_type="enrich_and_embed", outcome="waits")
    keys = desk.jobs()
    with desk.worker(worker_max_concurrent_jobs=slots, worker_batch_jobs=1):
        desk.bench.check(keys)
    assert count_of("memory_jobs_ended_total", job_type="enrich_and_embed", outcome="waits") == waited


def test_the_handlers_that_do_nothing_answer_for_every_type_of_the_stages(bench: Bench) -> None:
    with Pipeline(bench.settings) as pipeline, RedisManager(str(bench.settings.redis_url)) as redis:
        types = set(stage_handlers(pipeline, redis, lambda *_: None).job_types)
    assert types == set(HANDLED_TYPES), "no other type is taken on"
    assert set(no_op_handlers().job_types) == types - {"replay_write"}
    keys = bench.ledger.add(5, job_type="index") + bench.ledger.add(5, job_type="enrich_and_embed")
    with Worker(bench.settings, lambda _pipeline, _redis: no_op_handlers()):
        bench.check(keys)

"""The record of recalls: what it says, what it never says, and that an answer does not depend on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql as composed
from structlog.testing import capture_logs

from memory_pipeline import metrics
from memory_pipeline.commands.recalling import recall_for
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline.model.usage import UsageMeter
from memory_pipeline.providers.base import Vectors
from memory_pipeline.serving.access_log import QueryEmbedding, log_recall, query_hash
from memory_pipeline.serving.evaluation import recall_through_stores
from memory_pipeline.serving.ingest import UserDirectory, ingest
from memory_pipeline.serving.recall import recall
from memory_pipeline.settings import Settings
from memory_pipeline.stages.index import index_memories
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.tenants import User, ensure_tenant, find_user
from memory_pipeline_tests.serving.recall.support import ALL_DAYS, START, WordEmbedder
from memory_pipeline_tests.stages.support import ScriptedEnricher, embed, enrich
from memory_pipeline_tests.stages.test_export import sql_for_erasing

QUERY = "Where did the xylophonist keep her Peruvian marmalade?"
OPENAI = "embedder:openai"


class World:
    """Two users of two tenants who said a little, and a look at what is written down."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._admin_url = str(settings.postgres_admin_url)
        self.pipeline = pipeline
        for tenant in ("acme", "globex"):
            with pipeline.database.transaction() as connection:
                tenant_id = ensure_tenant(connection, tenant)
            message = IncomingMessage(
                source="test",
                source_message_id="m1",
                source_conversation_id="c1",
                role=Role.USER,
                content=f"The marmalade of {tenant} is in the cellar.",
                sent_at=START,
                position=0,
                user_email=f"ana@{tenant}.test",
            )
            users = UserDirectory(pipeline.database, tenant_id, None)
            ingest(
                pipeline.database, tenant_id, users, [message], actor="test", on_reject=lambda r: pytest.fail(str(r))
            )
        enrich(pipeline.database, ScriptedEnricher({}), ALL_DAYS)
        embed(pipeline.database, WordEmbedder(), ALL_DAYS)

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._admin_url, options="-c search_path=memory,public") as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def rows(self, table: str) -> str:
        """Everything in a table, as text."""
        query = composed.SQL("SELECT to_jsonb(t)::text FROM memory.{} t").format(composed.Identifier(table))
        with psycopg.connect(self._admin_url) as connection:
            return "\n".join(row for (row,) in connection.execute(query))

    def user(self, tenant: str = "acme") -> User:
        with self.pipeline.database.transaction() as connection:
            return find_user(connection, f"ana@{tenant}.test", None)

    def ask_and_log(self, query: str = QUERY, *, tenant: str = "acme", **more: Any) -> bool:
        """Recall without an index (an answer that is degraded), and write it down."""
        user = self.user(tenant)
        result = recall(self.pipeline.app_database, None, WordEmbedder(), user, query, k=5, turns=2)
        defaults: dict[str, Any] = {"channel": "api", "correlation_id": uuid4(), "seconds": 0.0125}
        return log_recall(self.pipeline.app_database, user, result, None, **defaults | more)

    def logged(self) -> list[dict[str, Any]]:
        return [row for (row,) in self.execute("SELECT to_jsonb(a) FROM memory_access_log a ORDER BY access_id")]


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    with Pipeline(settings) as pipeline:
        pipeline.embedder = WordEmbedder()
        yield World(settings, pipeline)


def test_an_answer_is_one_row_of_counts_ids_and_times(world: World) -> None:
    correlation = uuid4()
    assert world.ask_and_log(correlation_id=correlation, from_cache=True)
    (row,) = world.logged()
    ((episode,),) = world.execute(
        "SELECT memory_id FROM memories WHERE tenant_id = %s AND kind = 'episode'", world.user().tenant_id
    )
    shown = {key: row[key] for key in row if key not in ("access_id", "accessed_at", "query_hash")}
    assert shown == {
        "tenant_id": str(world.user().tenant_id),
        "user_id": str(world.user().user_id),
        "correlation_id": str(correlation),
        "what": "recall",
        "channel": "api",
        "memory_ids": [],  # its only turn is shown as such
        "memories": 0,
        "turns": 1,
        "degraded": True,
        "degraded_parts": ["chroma"],
        "from_cache": True,
        "milliseconds": 12.5,
    }
    user = world.user()
    result = recall(world.pipeline.app_database, None, WordEmbedder(), user, "marmalade cellar", k=5)
    log_recall(world.pipeline.app_database, user, result, None, channel="cli", correlation_id=uuid4(), seconds=0)
    assert world.logged()[1]["memory_ids"] == [str(episode)]
    assert (world.logged()[1]["memories"], UUID(world.logged()[1]["access_id"]).version) == (1, 7)


def test_nothing_of_the_question_is_stored_anywhere(world: World) -> None:
    world.ask_and_log()
    tables = [name for (name,) in world.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'memory'")]
    rows = {table: world.rows(table) for table in tables}
    assert "marmalade of acme" in rows["messages"]
    for table, text in rows.items():
        assert "xylophon" not in text.lower(), table
        assert "peruvian" not in text.lower(), table


def test_a_question_asked_again_by_the_same_user_has_the_same_hash_and_no_other_has(world: World) -> None:
    world.ask_and_log("Where is the marmalade?")
    world.ask_and_log("  where IS the\nmarmalade? ")
    world.ask_and_log("Where is the jam?")
    world.ask_and_log("Where is the marmalade?", tenant="globex")
    hashes = [row["query_hash"] for row in world.logged()]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


@pytest.mark.parametrize("query", ["", " ", "🦊" * 4000, "\x00", "a'; DROP TABLE users --"])
def test_whatever_is_asked_has_a_hash(query: str) -> None:
    assert len(query_hash(uuid4(), query)) == 32


def test_embedding_a_question_is_charged_to_the_tenant_that_asked(world: World) -> None:
    user, correlation = world.user(), uuid4()
    result = recall(world.pipeline.app_database, None, WordEmbedder(), user, QUERY, k=5)
    meter = UsageMeter()
    meter.add(9)
    embedding = QueryEmbedding(OPENAI, "test-model", meter, Decimal("0.02"))
    assert log_recall(
        world.pipeline.app_database, user, result, embedding, channel="api", correlation_id=correlation, seconds=0.1
    )
    assert world.execute(
        "SELECT tenant_id, correlation_id, plugin, model, what, requests, texts, prompt_tokens, cost_usd FROM llm_usage"
    ) == [
        (user.tenant_id, correlation, OPENAI, "test-model", "query_embedding", 1, 1, 9, Decimal("0.00000018")),
    ]


def unlogged() -> float:
    return metrics.REGISTRY.get_sample_value("memory_accesses_unlogged_total") or 0.0


def assert_told(world: World, **more: Any) -> None:
    """The answer is given; that it was not written down is counted and logged, without the question."""
    before = unlogged()
    with capture_logs() as lines:
        assert not world.ask_and_log(**more)
    assert unlogged() == before + 1
    (line,) = [line for line in lines if line["event"] == "recall_not_logged"]
    assert (line["log_level"], line["tenant_id"]) == ("warning", str(world.user().tenant_id))
    assert "xylophon" not in str(line)


def test_a_refused_record_does_not_fail_the_answer(world: World) -> None:
    assert_told(world, channel="Not A Channel")
    world.execute("ALTER TABLE memory_access_log ADD CONSTRAINT full_up CHECK (turns < 0)")
    assert_told(world)
    assert world.logged() == []


def test_a_user_who_was_erased_meanwhile_does_not_fail_the_answer_and_leaves_no_row(world: World) -> None:
    user = world.user()
    result = recall(world.pipeline.app_database, None, WordEmbedder(), user, QUERY, k=5)
    world.ask_and_log()
    assert len(world.logged()) == 1
    for table in ("memories", "messages", "conversations", "users"):
        world.execute(sql_for_erasing(table), user.user_id)
    assert world.logged() == []
    assert not log_recall(
        world.pipeline.app_database, user, result, None, channel="cli", correlation_id=uuid4(), seconds=0
    )
    assert world.logged() == []


def test_a_database_that_is_away_does_not_fail_the_answer(world: World, settings: Settings) -> None:
    user = world.user()
    result = recall(world.pipeline.app_database, None, WordEmbedder(), user, QUERY, k=5)
    name = str(settings.postgres_admin_url).partition("?")[0].rpartition("/")[2]
    server = str(settings.postgres_admin_url).replace(f"/{name}", "/postgres", 1)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            before = unlogged()
            assert not log_recall(
                world.pipeline.app_database, user, result, None, channel="cli", correlation_id=uuid4(), seconds=0
            )
            assert unlogged() == before + 1
        finally:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())


def test_the_command_writes_down_what_it_answers_unless_told_not_to(world: World) -> None:
    result = recall_for(world.pipeline, QUERY, "ana@acme.test", k=3)
    (row,) = world.logged()
    assert (row["channel"], row["memory_ids"]) == ("cli", [str(memory.memory_id) for memory in result.memories])
    assert row["milliseconds"] > 0
    recall_for(world.pipeline, QUERY, "ana@acme.test", k=3, record=False)
    assert len(world.logged()) == 1


def test_measuring_recall_writes_nothing_down(world: World) -> None:
    model = WordEmbedder()
    index_memories(world.pipeline.database, world.pipeline.chroma, model.model, model.dimension, ALL_DAYS)
    ask = recall_through_stores(world.pipeline.app_database, world.pipeline.chroma, model, {"s": world.user()})
    assert ask("s", QUERY, 5) == ["m1"]
    assert world.logged() == []


class ChargingEmbedder(WordEmbedder):
    """Charges nine tokens for every question."""

    def embed_metered(self, texts: Sequence[str], meter: UsageMeter) -> Vectors:
        meter.add(9)
        return self.embed(texts)


CHARGED = "SELECT tenant_id, what, requests, texts, prompt_tokens FROM llm_usage"


def test_a_question_that_was_embedded_is_charged_though_its_answer_failed(world: World) -> None:
    world.pipeline.embedder = ChargingEmbedder()
    world.execute("UPDATE plugin_registry SET costs = true")
    world.execute("REVOKE SELECT ON memories FROM memory_app")
    with pytest.raises(psycopg.Error, match="permission denied"):
        recall_for(world.pipeline, QUERY, "ana@acme.test", k=3)
    assert world.execute(CHARGED) == [(world.user().tenant_id, "query_embedding", 1, 1, 9)]
    assert world.logged() == []
    with pytest.raises(MemoryPipelineError, match="negative"):
        recall_for(world.pipeline, QUERY, "ana@acme.test", k=-1)
    assert len(world.execute(CHARGED)) == 1, "nothing was embedded"


def test_a_question_is_charged_once_where_its_answer_cannot_be_written_down(world: World) -> None:
    world.pipeline.embedder = ChargingEmbedder()
    world.execute("UPDATE plugin_registry SET costs = true")
    recall_for(world.pipeline, QUERY, "ana@acme.test", k=3)
    assert len(world.execute(CHARGED)) == 1
    world.execute("ALTER TABLE memory_access_log ADD CONSTRAINT full_up CHECK (turns < 0) NOT VALID")
    with capture_logs() as lines:
        recall_for(world.pipeline, QUERY, "ana@acme.test", k=3)
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["recall_not_logged"]
    assert world.execute(CHARGED) == [(world.user().tenant_id, "query_embedding", 1, 1, 9)] * 2

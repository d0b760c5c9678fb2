"""Recall on real Postgres and Chroma: what is found, what never shows, what is said when a part is away."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import numpy as np
import psycopg
import pytest

from memory_pipeline.model import ids
from memory_pipeline.model.errors import MemoryPipelineError, NotFoundError, ProviderUnavailableError
from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline.model.window import DayWindow
from memory_pipeline.providers.base import Vectors
from memory_pipeline.providers.local_enricher import LocalEnricher
from memory_pipeline.serving.evaluation import source_turns
from memory_pipeline.serving.ingest import UserDirectory, ingest
from memory_pipeline.serving.recall import RecallResult, estimate_tokens, recall
from memory_pipeline.settings import Settings
from memory_pipeline.stages.index import index_memories
from memory_pipeline.stores.chroma.store import ChromaStore, VectorBatch, VectorMetadata
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.index_generations import live_generation
from memory_pipeline.stores.postgres.search import Scope, find_hits, turn_signals
from memory_pipeline.stores.postgres.tenants import User, ensure_tenant, find_user
from memory_pipeline_tests.stages.support import embed, enrich

START = datetime(2026, 3, 1, 9, tzinfo=UTC)
ALL_DAYS = DayWindow(date(2026, 1, 1), date(2027, 1, 1))


class WordEmbedder:
    """A model of its own: each word is a fixed direction, a text the sum of its words."""

    model = "words-64"
    dimension = 64

    def chunk(self, text: str) -> list[str]:
        return [text]

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()) or ["nothing"]:
                vectors[row] += np.random.default_rng(zlib.crc32(word.encode())).standard_normal(self.dimension)
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


class AbsentEmbedder(WordEmbedder):
    """A provider that is down."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        raise ProviderUnavailableError("the embedding service refuses connections.")


class World:
    """Users with memories in every store, and recall on top of them."""

    def __init__(self, settings: Settings, pipeline: Database, app: Database, chroma: ChromaStore) -> None:
        assert settings.postgres_admin_url is not None
        self.admin_url = settings.postgres_admin_url
        self.pipeline = pipeline
        self.app = app
        self.chroma: ChromaStore | None = chroma
        self.index = chroma
        self.embedder = WordEmbedder()
        self._said = 0

    def execute(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.admin_url, options="-c search_path=memory,public") as connection:
            connection.execute(statement.encode(), values)

    def say(
        self,
        *texts: str,
        email: str = "ana@acme.test",
        tenant: str = "acme",
        conversation: str = "c1",
        speaker: str = "Ana",
        project: str | None = None,
        day: int = 0,
    ) -> list[str]:
        """Ingest turns, a second after one another; return their source message ids."""
        with self.pipeline.transaction() as connection:
            tenant_id = ensure_tenant(connection, tenant)
        messages = []
        for text in texts:
            self._said += 1
            messages.append(
                IncomingMessage(
                    source="test",
                    source_message_id=f"m{self._said}",
                    source_conversation_id=conversation,
                    role=Role.USER,
                    content=text,
                    sent_at=START + timedelta(days=day, seconds=self._said),
                    position=self._said,
                    speaker=speaker,
                    user_email=email,
                    project=project,
                )
            )
        directory = UserDirectory(self.pipeline, tenant_id, None)
        ingest(self.pipeline, tenant_id, directory, messages, actor="test", on_reject=lambda r: pytest.fail(r.reason))
        return [message.source_message_id for message in messages]

    def derive(self) -> None:
        """Run the stages up to the index."""
        enrich(self.pipeline, LocalEnricher(), ALL_DAYS)
        embed(self.pipeline, self.embedder, ALL_DAYS)
        index_memories(self.pipeline, self.index, self.embedder.model, self.embedder.dimension, ALL_DAYS)

    def user(self, email: str = "ana@acme.test", tenant: str | None = None) -> User:
        with self.pipeline.transaction() as connection:
            return find_user(connection, email, tenant)

    def ask(
        self,
        query: str,
        *,
        k: int = 10,
        turns: int = 0,
        budget: int | None = None,
        user: User | None = None,
        project: str | None = None,
        conversation_id: UUID | None = None,
    ) -> RecallResult:
        return recall(
            self.app,
            self.chroma,
            self.embedder,
            user or self.user(),
            query,
            k=k,
            turns=turns,
            budget=budget,
            project=project,
            conversation_id=conversation_id,
        )

    def episode(self, source_message_id: str) -> UUID:
        with self.pipeline.transaction() as connection:
            row = connection.execute(
                "SELECT message_id FROM messages WHERE source_message_id = %s", [source_message_id]
            ).fetchone()
        assert row is not None
        return UUID(ids.episode_hex(row[0].hex))

    def suggest(self, user: User, memory_id: UUID, text: str) -> None:
        """Make the index of this user's tenant claim that a memory is this user's."""
        with self.pipeline.transaction() as connection:
            generation = live_generation(connection, user.tenant_id, self.embedder.model)
        assert generation is not None
        metadata = VectorMetadata(
            user_id=str(user.user_id),
            conversation_id="",
            project="",
            kind="episode",
            day=20260301,
            version=1,
            bucket=0,
            content_hash="00" * 32,
            chunk=0,
        )
        batch = VectorBatch([ids.vector_id(memory_id, 0)], self.embedder.embed([text]), [metadata], None)
        self.index.upsert(generation.collection_uuid, batch)


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    assert settings.postgres_pipeline_url is not None
    assert settings.postgres_app_url is not None
    assert settings.chroma_url is not None
    with (
        Database(settings.postgres_pipeline_url) as pipeline,
        Database(settings.postgres_app_url) as app,
        ChromaStore(settings.chroma_url, settings.chroma_database) as chroma,
    ):
        yield World(settings, pipeline, app, chroma)


def _texts(result: RecallResult) -> list[str]:
    return [memory.content for memory in result.memories]


# -- what is found, and how it is shown --


def test_the_memory_that_answers_comes_first_with_where_it_comes_from(world: World) -> None:
    (_, painted, _) = world.say("I slept badly again.", "The violin teacher praised my bowing.", "It rains outside.")
    world.derive()
    result = world.ask("what did the violin teacher say", k=1)
    (memory,) = result.memories
    assert memory.content == "Ana: The violin teacher praised my bowing."
    assert memory.kind == "episode"
    (source,) = memory.sources
    assert (source.source, source.source_message_id, source.speaker) == ("test", painted, "Ana")
    assert source.said_at == START + timedelta(seconds=2)
    assert result.degraded == ()
    assert msgspec.json.decode(msgspec.json.encode(result), type=RecallResult) == result


def test_a_fact_names_the_turn_and_the_time_it_comes_from(world: World) -> None:
    (said,) = world.say("I live in Lisbon.")
    world.derive()
    facts = [memory for memory in world.ask("Where does Ana live? Lisbon?").memories if memory.kind == "fact"]
    assert facts
    assert all([source.source_message_id for source in fact.sources] == [said] for fact in facts)
    assert all(fact.confidence and fact.valid_from for fact in facts)


def test_what_a_newer_fact_supersedes_is_not_shown(world: World) -> None:
    world.say("I live in Lisbon.")
    world.derive()
    world.execute("UPDATE memory.memories SET status = 'superseded' WHERE kind = 'fact'")
    assert {memory.kind for memory in world.ask("Lisbon").memories} == {"episode"}


@pytest.mark.parametrize("with_index", [True, False])
def test_an_answer_is_found_by_its_question(world: World, with_index: bool) -> None:
    world.say("Weather is fine.", "Which instrument does your brother play?", "The oboe!", "Trains were late.", "Hm.")
    world.say(*[f"Filler number {number} about nothing." for number in range(12)], conversation="c2", day=1)
    world.derive()
    if not with_index:
        world.chroma = None  # so that no word and no vector leads to the answer, its place alone
    assert "Ana: The oboe!" in _texts(world.ask("instrument brother play", k=3))


def test_a_window_ends_with_the_day(world: World) -> None:
    (asked, answered), (late,) = world.say("Which instrument?", "The oboe!"), world.say("The oboe again!", day=1)
    world.derive()
    user, question = world.user(), world.embedder.embed(["Ana: Which instrument?"])[0]
    episodes = {said: world.episode(said) for said in (asked, answered, late)}
    with world.app.tenant_transaction(user.tenant_id) as connection:
        rows = connection.execute("SELECT source_message_id, message_id FROM messages").fetchall()
        turns = [(message_id, episodes[said]) for said, message_id in rows]
        scope = Scope(user.tenant_id, user.user_id, None)
        signals = {
            signal.memory_id: signal
            for signal in turn_signals(connection, scope, turns, world.embedder.model, question)
        }
    vectors = world.embedder.embed(["Ana: Which instrument?", "Ana: The oboe!", "Ana: The oboe again!"])
    both = vectors[0] + vectors[1]
    together, alone = signals[episodes[answered]], signals[episodes[late]]
    assert together.window_similarity == pytest.approx(question @ both / np.linalg.norm(both), abs=1e-5)
    assert together.answered_id == episodes[asked]
    assert alone.window_similarity == alone.lead_in_similarity == pytest.approx(question @ vectors[2], abs=1e-5)
    assert alone.answered_id is None


def test_only_the_named_project_is_searched(world: World) -> None:
    world.say("The harbour opens at six.", project="ships", conversation="c1")
    world.say("The harbour closes at nine.", project="night", conversation="c2")
    world.derive()
    assert _texts(world.ask("harbour", project="ships")) == ["Ana: The harbour opens at six."]
    assert _texts(world.ask("harbour", project="*")) == []
    assert len(world.ask("harbour").memories) == 2


# -- what never shows --


@pytest.mark.parametrize(("email", "tenant"), [("eve@other.test", "other"), ("bob@acme.test", "acme")])
def test_ids_of_others_that_the_index_suggests_show_nothing(world: World, email: str, tenant: str) -> None:
    world.say("I like tea.")
    world.say("I live in Lisbon.", email=email, tenant=tenant, conversation="c2", speaker="Eve")
    world.derive()
    with world.pipeline.transaction() as connection:
        theirs = connection.execute(
            "SELECT memory_id, kind, content FROM memories WHERE user_id = %s", [world.user(email).user_id]
        ).fetchall()
    assert {kind for _, kind, _ in theirs} == {"episode", "fact"}
    for memory_id, _, content in theirs:
        world.suggest(world.user(), memory_id, content)
    result = world.ask("Where does Eve live? Lisbon?", k=50)
    assert {memory.sources[0].source_message_id for memory in result.memories} == {"m1"}
    assert "Lisbon" not in str(result.memories)


def test_turns_of_another_user_in_a_shared_conversation_are_no_memories(world: World) -> None:
    world.say("What is the vault code?")
    world.say("The vault code is 4711.", email="bob@acme.test", speaker="Bob")
    world.derive()
    assert "4711" not in str(world.ask("vault code", k=50))


def test_a_deleted_memory_that_the_index_still_suggests_is_not_shown(world: World) -> None:
    (gone, _) = world.say("The vault code is 4711.", "The vault door is green.")
    world.derive()
    world.execute("UPDATE memory.memories SET status = 'deleted' WHERE memory_id = %s", world.episode(gone))
    assert _texts(world.ask("vault code")) == ["Ana: The vault door is green."]


def test_an_id_that_is_nowhere_shows_nothing(world: World) -> None:
    world.say("I like tea.")
    world.derive()
    world.suggest(world.user(), uuid4(), "tea")
    assert {memory.sources[0].source_message_id for memory in world.ask("tea").memories} == {"m1"}


@pytest.mark.parametrize("with_index", [True, False])
def test_a_user_id_that_is_a_pattern_is_refused(world: World, with_index: bool) -> None:
    world.say("I like tea.")
    world.derive()
    if not with_index:
        world.chroma = None
    pattern = world.user()._replace(user_id="*")  # type: ignore[arg-type]  # what a careless caller may pass
    with pytest.raises((TypeError, psycopg.DataError)):
        world.ask("tea", user=pattern)


def test_another_tenants_user_id_finds_nothing(world: World) -> None:
    world.say("I like tea.")
    world.say("Coffee for me.", email="eve@other.test", tenant="other")
    world.derive()
    stranger = world.user("eve@other.test")
    mixed = world.user()._replace(tenant_id=stranger.tenant_id)
    assert world.ask("tea coffee", user=mixed, turns=5).memories == ()
    assert world.ask("tea coffee", user=mixed, turns=5).turns == ()


def test_another_users_conversation_is_not_found(world: World) -> None:
    world.say("I like tea.")
    world.say("Coffee for me.", email="bob@acme.test", conversation="c2")
    tenant_id = world.user().tenant_id
    theirs = ids.conversation_id(tenant_id, "test", "c2")
    with pytest.raises(NotFoundError, match=str(theirs)):
        world.ask("tea", turns=3, conversation_id=theirs)


# -- a part is away --


def test_without_chroma_full_text_answers_and_says_so(world: World) -> None:
    world.say("I like tea.", "The harbour opens at six.")
    world.derive()
    world.chroma = ChromaStore("http://127.0.0.1:9")
    result = world.ask("harbour", k=1)
    assert _texts(result) == ["Ana: The harbour opens at six."]
    (reason,) = result.degraded
    assert reason.startswith("chroma: ")
    assert "127.0.0.1:9" in reason


def test_an_index_that_is_lost_or_was_never_built_is_said(world: World) -> None:
    world.say("The harbour opens at six.")
    enrich(world.pipeline, LocalEnricher(), ALL_DAYS)
    assert world.ask("harbour").degraded[0].startswith("chroma: there is no live words-64 index")
    world.derive()
    with world.pipeline.transaction() as connection:
        generation = live_generation(connection, world.user().tenant_id, world.embedder.model)
    assert generation is not None
    world.index.delete_collection(generation.collection_uuid)
    result = world.ask("harbour")
    assert result.degraded[0].startswith("chroma: ")
    assert result.memories


def test_without_the_embedder_full_text_answers_and_says_so(world: World) -> None:
    world.say("I like tea.", "The harbour opens at six.")
    world.derive()
    world.embedder = AbsentEmbedder()
    result = world.ask("harbour", k=1)
    assert _texts(result) == ["Ana: The harbour opens at six."]
    assert result.degraded == ("embedder: the embedding service refuses connections.",)


# -- how much --


def test_k_bounds_the_memories(world: World) -> None:
    world.say(*[f"Harbour note number {number}." for number in range(8)])
    world.derive()
    assert [len(world.ask("harbour", k=k).memories) for k in (0, 1, 5, 50)] == [0, 1, 5, 8]


def test_the_last_turns_are_the_newest_of_the_newest_conversation_in_order(world: World) -> None:
    world.say("One.", "Two.", conversation="old")
    world.say("Three.", "Four.", "Five.", conversation="new")
    result = world.ask("", turns=2)
    assert [turn.content for turn in result.turns] == ["Four.", "Five."]
    named = ids.conversation_id(world.user().tenant_id, "test", "old")
    assert result.conversation_id != named
    assert [turn.content for turn in world.ask("", turns=9, conversation_id=named).turns] == ["One.", "Two."]


def test_a_turn_that_is_shown_is_not_shown_again_as_a_memory(world: World) -> None:
    world.say("The harbour opens at six.", "The harbour closes at nine.")
    world.derive()
    result = world.ask("harbour", turns=1)
    assert [turn.content for turn in result.turns] == ["The harbour closes at nine."]
    assert _texts(result) == ["Ana: The harbour opens at six."]


@pytest.mark.parametrize("budget", [0, 1, 9, 20, 40, 100, 10_000])
def test_the_answer_stays_within_the_budget_and_says_what_it_left_out(world: World, budget: int) -> None:
    world.say(*[f"Harbour note number {number}{' and more' * number}." for number in range(8)])
    world.derive()
    whole, cut = world.ask("harbour", turns=3), world.ask("harbour", turns=3, budget=budget)
    assert cut.tokens <= budget
    assert cut.tokens == sum(turn.tokens for turn in cut.turns) + sum(memory.tokens for memory in cut.memories)
    assert sum(turn.tokens for turn in cut.turns) <= budget // 2
    assert [turn for turn in whole.turns if turn in cut.turns] == list(whole.turns)[len(whole.turns) - len(cut.turns) :]
    assert cut.omitted >= len(whole.turns) - len(cut.turns)
    assert (cut.omitted == 0) == (budget == 10_000)


def test_an_item_without_room_is_passed_over_for_a_shorter_one(world: World) -> None:
    world.say("The harbour harbour harbour opens " + "very " * 200 + "early.", "Harbour shut.")
    world.derive()
    result = world.ask("harbour", budget=10)
    assert _texts(result) == ["Ana: Harbour shut."]
    assert result.omitted == 1


def test_negative_numbers_are_refused(world: World) -> None:
    world.say("I like tea.")
    with pytest.raises(MemoryPipelineError, match="negative"):
        world.ask("tea", k=-1)


def test_estimated_tokens_are_a_quarter_of_the_characters_rounded_up() -> None:
    assert [estimate_tokens(text) for text in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]


# -- odd queries --


@pytest.mark.parametrize("query", ["", "   \n", "the of and", "???", "\0"])
def test_a_query_without_words_is_no_error(world: World, query: str) -> None:
    world.say("I like tea.")
    world.derive()
    result = world.ask(query, turns=1)
    assert len(result.turns) == 1
    if not query.strip():
        assert result.memories == ()


def test_a_user_without_memories_gets_an_empty_answer(world: World) -> None:
    world.say("Hello.")
    world.execute("DELETE FROM memory.memories")
    result = world.ask("tea", turns=3)
    assert (result.memories, result.turns, result.conversation_id) == ((), (), None)


@pytest.mark.parametrize(
    "query",
    [
        "' | 'tea",
        "tea & ! harbour:*",
        "\\'); DROP TABLE memory.memories; --",
        "%s %(query)s {} $1",
        "tea' OR ''='",
        "http://example.com/it's",
        "http://a.b/c?d='e'\\ x@y.z a\\'b ''' \\\\ 'don''t'",
        "\0tea\0",
        "🫖 ть चाय 茶",
    ],
)
def test_quotes_operators_and_injections_are_text(world: World, query: str) -> None:
    world.say("I like tea.", f"I wrote {query.replace(chr(0), ' ')} once.")
    world.derive()
    assert f"Ana: I wrote {query.replace(chr(0), ' ')} once." in _texts(world.ask(query, k=2))
    assert len(world.ask("tea", k=50).memories) >= 1


def test_a_query_with_half_a_surrogate_pair_is_refused(world: World) -> None:
    world.say("I like tea.")
    with pytest.raises(MemoryPipelineError, match="character 5"):
        world.ask("tea \ud800")


def test_equal_memories_keep_one_order(world: World) -> None:
    world.say(*["Same words here."] * 12)
    world.derive()
    first = [memory.memory_id for memory in world.ask("same words", k=6).memories]
    assert all([memory.memory_id for memory in world.ask("same words", k=6).memories] == first for _ in range(3))


# -- BM25 --


def test_full_text_scores_are_bm25(world: World) -> None:
    """Against a direct computation: N=3, 'tea' in two memories (twice in one), 'harbour' in one."""
    texts = ["tea tea leaves", "tea cups", "harbour walls crumble slowly"]
    for number, text in enumerate(texts):
        world.say(text, conversation=f"c{number}", speaker="The")  # a stop word: adds no lexeme
    world.derive()
    user = world.user()
    with world.app.tenant_transaction(user.tenant_id) as connection:
        hits = find_hits(connection, Scope(user.tenant_id, user.user_id, None), "tea harbour", [], limit=10)
    lengths, mean = [2, 2, 4], 8 / 3

    def bm25(frequency: int, memories: int, length: int) -> float:
        idf = np.log(1 + (3 - memories + 0.5) / (memories + 0.5))
        return float(idf * frequency * 1.9 / (frequency + 0.9 * (1 - 0.4 + 0.4 * length / mean)))

    expected = [bm25(2, 2, lengths[0]), bm25(1, 2, lengths[1]), bm25(1, 1, lengths[2])]
    assert sorted(hit.text_score for hit in hits) == pytest.approx(sorted(expected))
    # one memory a session: the same passages, so the same scores
    assert [hit.session_text_score for hit in hits] == pytest.approx([hit.text_score for hit in hits])


def test_a_session_is_scored_as_one_text(world: World) -> None:
    world.say("Tea is hot.", "Cups are cold.", conversation="c1")
    world.say("Harbours are wide.", conversation="c2")
    world.derive()
    user = world.user()
    with world.app.tenant_transaction(user.tenant_id) as connection:
        hits = find_hits(
            connection,
            Scope(user.tenant_id, user.user_id, None),
            "tea",
            [world.episode("m2"), world.episode("m3")],
            limit=9,
        )
    by_id = {hit.memory_id: hit for hit in hits}
    beside, elsewhere = by_id[world.episode("m2")], by_id[world.episode("m3")]
    assert beside.text_score == 0
    assert beside.session_text_score == by_id[world.episode("m1")].session_text_score > 0
    assert elsewhere.session_text_score == 0


def test_source_turns_are_each_named_once(world: World) -> None:
    (said,) = world.say("I live in Lisbon.")
    world.derive()
    result = world.ask("Lisbon")
    assert len(result.memories) > 1
    assert source_turns(result) == [said]

"""The embed stage on real Postgres: what gets a vector, what is spared, and what a failing model leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import numpy as np
import pytest

from memory_pipeline.model.errors import ProviderError, ProviderUnavailableError
from memory_pipeline.model.window import DayWindow
from memory_pipeline.providers.base import Vectors
from memory_pipeline.stages.embed import EmbedReport
from memory_pipeline_tests.stages.support import (
    DIMENSION,
    MARCH,
    HashedEmbedder,
    World,
    at,
    day_window,
    embed,
    vector_of,
)


def remember(speech: World, *texts: str, day: int = 2, tenant: str = "acme", kind: str = "episode") -> None:
    """Store memories of these contents, as if enriched."""
    tenant_id = speech.tenant(tenant)
    speech.execute(
        "INSERT INTO users (tenant_id, email, display_name) VALUES (%s, 'ana@test', 'Ana') ON CONFLICT DO NOTHING",
        tenant_id,
    )
    for text in texts:
        speech.execute(
            "INSERT INTO memories (tenant_id, memory_id, user_id, kind, status, content, content_hash, day,"
            " source_message_ids) SELECT tenant_id, gen_random_uuid(), user_id, %s, 'active', %s,"
            " sha256(convert_to(%s, 'UTF8')), %s, ARRAY[gen_random_uuid()] FROM users WHERE tenant_id = %s",
            *(kind, text, text, at(day).date(), tenant_id),
        )


def change(speech: World, old: str, new: str) -> None:
    speech.execute(
        "UPDATE memories SET content = %s, content_hash = sha256(convert_to(%s, 'UTF8')), version = version + 1"
        " WHERE content = %s",
        *(new, new, old),
    )


def outcome(report: EmbedReport) -> tuple[int, int, int, int]:
    return report.memories, report.texts_embedded, report.reused, report.failed


def test_every_active_memory_of_the_window_gets_the_vector_of_its_text(speech: World) -> None:
    remember(speech, "one", "two")
    remember(speech, "outside", day=9)
    remember(speech, "pending", "failed", "deleted")
    for status in ("pending_enrichment", "failed", "deleted"):
        speech.execute(
            "UPDATE memories SET status = %s, failure_text = 'x' WHERE content = %s", status, status.partition("_")[0]
        )
    report = embed(speech.database, HashedEmbedder(), day_window(2))
    assert outcome(report) == (2, 2, 0, 0)
    assert speech.vectors() == {"one": [(0, 1)], "two": [(0, 1)]}
    [(stored, dimension)] = speech.execute(
        "SELECT embedding::real[], dimension FROM memory_embeddings JOIN memories USING (tenant_id, memory_id)"
        " WHERE content = 'one'"
    )
    assert dimension == DIMENSION
    np.testing.assert_allclose(stored, vector_of("one"), atol=1e-6)


def test_unchanged_content_is_never_embedded_twice(speech: World) -> None:
    remember(speech, "one", "two")
    embedder = HashedEmbedder()
    embed(speech.database, embedder, MARCH)
    calls = embedder.calls
    speech.execute("UPDATE memories SET status = 'superseded', version = version + 1")
    assert outcome(embed(speech.database, embedder, MARCH)) == (0, 0, 0, 0)
    assert embedder.calls == calls
    assert sorted(embedder.asked) == ["one", "two"]


def test_equal_texts_are_embedded_once_within_a_tenant_and_apart_between_tenants(speech: World) -> None:
    remember(speech, "good morning", "good morning", "good morning")
    remember(speech, "good morning", "good morning", tenant="globex")
    embedder = HashedEmbedder()
    assert outcome(embed(speech.database, embedder, MARCH)) == (5, 2, 3, 0)
    assert embedder.asked == ["good morning", "good morning"]
    remember(speech, "good morning", day=20)
    remember(speech, "good morning", day=20, tenant="initech")
    assert outcome(embed(speech.database, embedder, MARCH)) == (2, 1, 1, 0)
    assert len(embedder.asked) == 3
    assert speech.execute("SELECT count(*) FROM memory_embeddings") == [(7,)]


def test_changed_content_is_embedded_again_and_surplus_chunks_go(speech: World) -> None:
    long, short = "word " * 50, "now short"
    remember(speech, long)
    embed(speech.database, HashedEmbedder(), MARCH)
    assert speech.vectors() == {long: [(0, 3), (1, 3), (2, 3)]}
    change(speech, long, short)
    assert outcome(embed(speech.database, HashedEmbedder(), MARCH)) == (1, 1, 0, 0)
    assert speech.vectors() == {short: [(0, 1)]}
    assert speech.execute("SELECT count(*) FROM memory_embeddings") == [(1,)]


def test_surplus_chunks_go_as_well_where_the_new_text_was_embedded_before(speech: World) -> None:
    long, known = "word " * 50, "known"
    remember(speech, long, known)
    embedder = HashedEmbedder()
    embed(speech.database, embedder, MARCH)
    change(speech, long, known)
    asked = len(embedder.asked)
    assert outcome(embed(speech.database, embedder, MARCH)) == (1, 0, 1, 0)
    assert len(embedder.asked) == asked
    assert speech.execute("SELECT count(*) FROM memory_embeddings") == [(2,)]


def test_a_long_text_is_embedded_in_chunks_that_are_numbered_in_order(speech: World) -> None:
    text = "".join(f"{number:09d} " for number in range(25))
    remember(speech, text, "short")
    assert outcome(embed(speech.database, HashedEmbedder(), MARCH)) == (2, 4, 0, 0)
    stored = speech.execute(
        "SELECT embedding::real[] FROM memory_embeddings WHERE chunks = 3 ORDER BY chunk",
    )
    for (vector,), chunk in zip(stored, HashedEmbedder().chunk(text), strict=True):
        np.testing.assert_allclose(vector, vector_of(chunk), atol=1e-6)


def test_a_missing_chunk_makes_the_memory_due_again(speech: World) -> None:
    text = "word " * 50
    remember(speech, text)
    embed(speech.database, HashedEmbedder(), MARCH)
    speech.execute("DELETE FROM memory_embeddings WHERE chunk = 1")
    assert outcome(embed(speech.database, HashedEmbedder(), MARCH)) == (1, 3, 0, 0)
    assert speech.vectors() == {text: [(0, 3), (1, 3), (2, 3)]}


def test_another_model_gets_rows_of_its_own(speech: World) -> None:
    remember(speech, "one")
    embed(speech.database, HashedEmbedder(), MARCH)
    other = HashedEmbedder("hashed-16", 16)
    assert outcome(embed(speech.database, other, MARCH)) == (1, 1, 0, 0)
    assert speech.execute("SELECT model, dimension FROM memory_embeddings ORDER BY model") == [
        ("hashed-16", 16),
        ("hashed-8", 8),
    ]


def test_a_summary_is_embedded_with_any_day_of_its_week(speech: World) -> None:
    remember(speech, "a summary of Monday, 9 March", day=9, kind="summary")
    remember(speech, "said on Monday", day=9)
    assert embed(speech.database, HashedEmbedder(), day_window(8)).memories == 0
    assert embed(speech.database, HashedEmbedder(), day_window(16)).memories == 0
    assert embed(speech.database, HashedEmbedder(), day_window(15)).memories == 1
    assert speech.vectors() == {"a summary of Monday, 9 March": [(0, 1)]}


def test_all_of_time_is_a_window_too(speech: World) -> None:
    remember(speech, "one")
    assert embed(speech.database, HashedEmbedder(), DayWindow(date.min, date.max)).memories == 1


# -- models that fail --


def test_texts_that_the_model_refuses_fail_alone(speech: World) -> None:
    texts = [f"text {number}" for number in range(20)]
    remember(speech, *texts, "poison one", "poison two")
    embedder = HashedEmbedder()
    assert outcome(embed(speech.database, embedder, MARCH)) == (20, 20, 0, 2)
    assert set(speech.vectors()) == set(texts)
    failed = {content: row for content, row in speech.memories().items() if row["status"] == "failed"}
    assert {content: row["failure_text"] for content, row in failed.items()} == {
        "poison one": "I refuse 'poison one'",
        "poison two": "I refuse 'poison two'",
    }
    assert all(embedder.asked.count(text) == 1 for text in texts)
    assert outcome(embed(speech.database, embedder, MARCH)) == (0, 0, 0, 0)


def test_one_refused_chunk_fails_the_whole_memory(speech: World) -> None:
    remember(speech, "word " * 40 + "poison", "fine")
    assert outcome(embed(speech.database, HashedEmbedder(), MARCH)) == (1, 1, 0, 1)
    assert set(speech.vectors()) == {"fine"}
    assert speech.execute("SELECT count(*) FROM memory_embeddings") == [(1,)]


class _Away(HashedEmbedder):
    """Goes away when it is given "last"."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        if "last" in texts:
            raise ProviderUnavailableError("the endpoint is away")
        return super().embed(texts)


def test_an_unavailable_model_leaves_nothing_half_and_keeps_the_batches_before(speech: World) -> None:
    remember(speech, "one", "two", day=2)
    remember(speech, "three", "last", day=3)
    with pytest.raises(ProviderUnavailableError, match="the endpoint is away"):
        embed(speech.database, _Away(), MARCH, batch_texts=2)
    assert speech.vectors() == {"one": [(0, 1)], "two": [(0, 1)]}
    assert set(speech.statuses().values()) == {"active"}
    assert outcome(embed(speech.database, HashedEmbedder(), MARCH)) == (2, 2, 0, 0)


class _NoPieces(HashedEmbedder):
    def chunk(self, text: str) -> list[str]:
        return [] if text.startswith("hollow") else super().chunk(text)


def test_a_text_that_is_split_into_no_pieces_fails_alone_instead_of_coming_up_for_ever(speech: World) -> None:
    remember(speech, "hollow", "full")
    assert outcome(embed(speech.database, _NoPieces(), MARCH)) == (1, 1, 0, 1)
    assert "no pieces" in speech.memories()["hollow"]["failure_text"]
    assert outcome(embed(speech.database, _NoPieces(), MARCH)) == (0, 0, 0, 0)


def test_a_model_that_splits_every_text_into_no_pieces_is_to_blame_itself(speech: World) -> None:
    remember(speech, *(f"hollow {number}" for number in range(8)))
    with pytest.raises(ProviderUnavailableError, match="refused all 8 texts"):
        embed(speech.database, _NoPieces(), MARCH)
    assert set(speech.statuses().values()) == {"active"}


class _Chooser(HashedEmbedder):
    def chunk(self, text: str) -> list[str]:
        if text.startswith("odd"):
            raise ProviderError("I don't split that")
        return super().chunk(text)


def test_a_text_that_can_not_be_split_fails_alone(speech: World) -> None:
    remember(speech, "odd", "even")
    assert outcome(embed(speech.database, _Chooser(), MARCH)) == (1, 1, 0, 1)
    assert speech.memories()["odd"]["failure_text"] == "I don't split that"


class _Broken(HashedEmbedder):
    """Answers as told, without looking; `only` limits that to texts that begin with it."""

    def __init__(self, answer: str, only: str = "") -> None:
        super().__init__()
        self._answer = answer
        self._only = only

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = super().embed(texts)
        wrong = [number for number, text in enumerate(texts) if text.startswith(self._only)]
        if wrong and self._answer == "dimension":
            return vectors[:, 1:]
        if wrong and self._answer == "fewer":
            return vectors[1:]
        if self._answer == "nan":
            vectors[wrong] = np.nan
        if self._answer == "zero":
            vectors[wrong] = 0
        return vectors


@pytest.mark.parametrize("answer", ["dimension", "fewer", "nan", "zero"])
@pytest.mark.parametrize("texts", [1, 30])
def test_a_model_that_answers_every_text_wrongly_sends_nothing_to_the_dead_letters(
    speech: World, answer: str, texts: int
) -> None:
    remember(speech, *(f"text {number}" for number in range(texts)))
    embedder = _Broken(answer)
    with pytest.raises(ProviderUnavailableError, match="the model or its settings"):
        embed(speech.database, embedder, MARCH)
    assert set(speech.statuses().values()) == {"active"}
    assert speech.vectors() == {}
    assert embedder.calls == 2  # the batch, and a plain sentence: not every text by itself
    assert embed(speech.database, HashedEmbedder(), MARCH).memories == texts


@pytest.mark.parametrize("answer", ["dimension", "fewer", "nan", "zero"])
def test_a_text_that_is_answered_wrongly_fails_alone_and_no_other_gets_its_vector(speech: World, answer: str) -> None:
    remember(speech, *(f"text {number}" for number in range(9)), "bad")
    assert outcome(embed(speech.database, _Broken(answer, "bad"), MARCH)) == (9, 9, 0, 1)
    assert speech.statuses()["bad"] == "failed"
    for content, vector in speech.execute(
        "SELECT content, embedding::real[] FROM memory_embeddings JOIN memories USING (tenant_id, memory_id)"
    ):
        np.testing.assert_allclose(vector, vector_of(content), atol=1e-6)


def test_eight_texts_refused_and_none_taken_are_the_models_fault_even_if_a_plain_sentence_goes(speech: World) -> None:
    remember(speech, *(f"poison {number}" for number in range(8)))
    with pytest.raises(ProviderUnavailableError, match=r"refused all 8 texts .* I refuse 'poison"):
        embed(speech.database, HashedEmbedder(), MARCH)
    assert set(speech.statuses().values()) == {"active"}


def test_a_few_refused_texts_are_to_blame_themselves(speech: World) -> None:
    remember(speech, *(f"poison {number}" for number in range(7)))
    assert outcome(embed(speech.database, HashedEmbedder(), MARCH)) == (0, 0, 0, 7)


# -- at once --


def test_embedders_at_once_embed_each_text_once(speech: World) -> None:
    texts = [f"text {number}" for number in range(120)]
    remember(speech, *texts)
    embedder = HashedEmbedder()
    together = threading.Barrier(3)

    def run() -> int:
        together.wait()
        return embed(speech.database, embedder, MARCH, batch_texts=8).memories

    with ThreadPoolExecutor(3) as threads:
        assert sum(run.result() for run in [threads.submit(run) for _ in range(3)]) == 120
    assert sorted(embedder.asked) == sorted(texts)
    assert speech.vectors() == {text: [(0, 1)] for text in texts}


# -- plugins --

OPENAI = "embedder:openai"


def test_memories_of_a_tenant_that_does_not_permit_the_embedder_stay_without_a_vector_until_it_does(
    speech: World,
) -> None:
    remember(speech, "mine")
    remember(speech, "theirs", "of another day", tenant="globex")
    remember(speech, "their week", day=3, tenant="globex", kind="summary")
    globex = speech.tenant("globex")
    speech.install(OPENAI)
    embedder = HashedEmbedder()
    report = embed(speech.database, embedder, MARCH, plugin=OPENAI)
    assert (outcome(report), report.refused_tenants) == ((1, 1, 0, 0), [globex])
    assert embedder.asked == ["mine"]
    assert set(speech.statuses().values()) == {"active"}
    assert speech.refusals() == [(globex, "stage:embed", OPENAI)]
    # The summary of the week is asked for by each of its days, and by no other.
    assert embed(speech.database, embedder, day_window(5), plugin=OPENAI).refused_tenants == [globex]
    assert embed(speech.database, embedder, day_window(12), plugin=OPENAI).refused_tenants == []
    speech.install(OPENAI, "globex")
    report = embed(speech.database, embedder, MARCH, plugin=OPENAI)
    assert (outcome(report), report.refused_tenants) == ((3, 3, 0, 0), [])
    speech.uninstall(OPENAI, "globex")
    assert embed(speech.database, embedder, MARCH, plugin=OPENAI).refused_tenants == []


def test_a_permission_that_ends_during_a_run_ends_the_embedding(speech: World) -> None:
    class Uninstalling(HashedEmbedder):
        def embed(self, texts: Sequence[str]) -> Vectors:
            speech.uninstall("embedder:minilm")
            return super().embed(texts)

    remember(speech, "one", "two", "three")
    embedder = Uninstalling()
    assert outcome(embed(speech.database, embedder, MARCH, batch_texts=1)) == (1, 1, 0, 0)
    assert len(embedder.asked) == 1

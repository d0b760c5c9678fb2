"""The local embedder: tokenises, sorts by length, runs batches of bounded size, and restores the order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from memory_pipeline.model.errors import ProviderError, ProviderUnavailableError
from memory_pipeline.providers.base import Vectors
from memory_pipeline.providers.chunking import split_by_cost
from memory_pipeline.providers.minilm.graph import WIDTH, cached_graph
from memory_pipeline.providers.minilm.weights import model_folder
from memory_pipeline.providers.vectors import require_encodable, unit_vectors

MAX_TOKENS = 256
"""The model's window, [CLS] and [SEP] included: the length it was trained for."""

_TEXT_TOKENS = MAX_TOKENS - 2

Tokens = npt.NDArray[np.int32]


class MiniLMEmbedder:
    """all-MiniLM-L6-v2, 384 dimensions, fp32 on the CPU. Loads on first use; safe to use from several threads.

    `batch_tokens` bounds a batch's size in padded tokens, `threads` the cores one batch may use (default: all this
    process may run on). The session belongs to the process that loaded it: after a fork the child loads its own.
    """

    model = "all-minilm-l6-v2"
    dimension = WIDTH

    def __init__(self, cache_folder: Path, batch_tokens: int = 512, threads: int | None = None) -> None:
        self._cache_folder = cache_folder
        self._batch_tokens = batch_tokens
        self._threads = threads if threads is not None else _cores()
        self._lock = Lock()
        self._loaded: tuple[int, Any, Any] | None = None
        self._inherited: tuple[int, Any, Any] | None = None

    def chunk(self, text: str) -> list[str]:
        """Split `text` into pieces of at most 254 tokens, at sentence ends, else white space, else between words.

        Joined, the pieces are `text`. A run of more than 100 letters without a break is one unknown word to this model,
        hence one token. Raises ProviderError for a text that has no UTF-8 form.
        """
        if len(text) <= _TEXT_TOKENS and text.isascii():
            return [text]  # no ASCII character makes more than one token
        require_encodable([text], self.model)
        encoding = self._tokenizer().encode(text, add_special_tokens=False)
        if len(encoding.ids) <= _TEXT_TOKENS:
            return [text]
        # Only the first token of a word may open a piece: a word cut in two would be other tokens, and maybe more.
        words = np.array(encoding.word_ids, dtype=np.int64)
        first = np.flatnonzero(np.diff(words)) + 1
        starts = np.array(encoding.offsets, dtype=np.int64)[first, 0]
        cuts = np.concatenate(([0], starts, [len(text)]))
        cost_before = np.concatenate(([0], first, [len(words)]))
        return split_by_cost(text, cuts, cost_before, _TEXT_TOKENS)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, shape (texts, 384). A text that comes twice is run once.

        Raises ProviderError for a text longer than the window (`chunk` it first; nothing is cut off silently), one
        that has no UTF-8 form, or where the model answers with NaN; ProviderUnavailableError where the model can't be
        loaded at all.
        """
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        require_encodable(texts, self.model)
        distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        encodings = self._tokenizer().encode_batch_fast(list(distinct))
        tokens = [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]
        places = [distinct[text] for text in texts]
        for position, place in enumerate(places):
            if len(tokens[place]) > MAX_TOKENS:
                raise ProviderError(
                    f"Text {position} of {len(texts)} has {len(tokens[place])} tokens; {self.model} takes "
                    f"{MAX_TOKENS}. Split it with chunk() and embed the pieces."
                )
        pooled = np.empty((len(tokens), self.dimension), dtype=np.float32)
        session = self._session()
        for batch in batches_by_length([len(ids) for ids in tokens], self._batch_tokens):
            pooled[batch] = session.run(["pooled"], _padded([tokens[place] for place in batch]))[0]
        return unit_vectors(pooled[places], len(texts), self.dimension, self.model)

    def _tokenizer(self) -> Any:
        return self._load()[1]

    def _session(self) -> Any:
        return self._load()[2]

    def _load(self) -> tuple[int, Any, Any]:
        with self._lock:
            if self._loaded is None or self._loaded[0] != os.getpid():
                folder = model_folder()
                tokenizer = _load_tokenizer(folder / "tokenizer.json")
                session = _load_session(folder / "model.safetensors", self._cache_folder, self._threads)
                # A parent's session is kept, unused: closing it waits for threads that a fork did not copy.
                self._inherited = self._loaded
                self._loaded = (os.getpid(), tokenizer, session)
            return self._loaded


def batches_by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Return the indexes of `lengths` in batches of like length, shortest first, each index once.

    A batch padded to its longest has at most `budget` tokens, unless it is a single text that alone has more.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not batches or (len(batches[-1]) + 1) * lengths[place] > budget:
            batches.append([])
        batches[-1].append(place)
    return batches


def _padded(batch: Sequence[Tokens]) -> dict[str, Tokens]:
    lengths = np.array([len(ids) for ids in batch])
    mask = np.arange(lengths.max()) < lengths[:, np.newaxis]
    token_ids = np.zeros(mask.shape, dtype=np.int32)
    token_ids[mask] = np.concatenate(batch)
    return {"token_ids": token_ids, "attention_mask": mask.astype(np.int32)}


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _load_tokenizer(path: Path) -> Any:
    # Tokenising takes about 1 % of the time, so threads gain nothing, and without them a later fork is safe.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # A user who writes "[SEP]" means five characters, not the end of the text.
    tokenizer.encode_special_tokens = True
    return tokenizer


def _load_session(weights_path: Path, cache_folder: Path, threads: int) -> Any:
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Waiting threads that spin save 0.7 ms of a query but take the cores from the databases beside us.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = ["CPUExecutionProvider"]
    path = cached_graph(weights_path, cache_folder)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except (Fail, InvalidGraph, InvalidProtobuf):
        # The cached file is damaged. It is derived, so it is built again; a second failure is for people.
        path = cached_graph(weights_path, cache_folder, rebuild=True)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except (Fail, InvalidGraph, InvalidProtobuf) as error:
        raise ProviderUnavailableError(
            f"onnxruntime can't load {path}, built from the installed weights: {error}"
        ) from error

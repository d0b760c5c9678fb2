"""The three plugin interfaces. Providers are named and versioned; a version answers the same input alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from memory_pipeline.model.records import FactDraft, Turn
from memory_pipeline.model.usage import UsageMeter

Vectors = npt.NDArray[np.float32]
"""Shape (texts, dimension), rows of unit length."""


class Enricher(Protocol):
    """Finds facts in messages."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """Changes whenever the same message may give other facts; a change makes messages due for enrichment again."""
        ...

    def enrich(self, turn: Turn) -> list[FactDraft]:
        """Return the facts of one message, none twice. Raises ProviderError where it can't be done."""
        ...


class Embedder(Protocol):
    """Turns texts into vectors of one model."""

    @property
    def model(self) -> str:
        """Name under which vectors are stored, such as `all-minilm-l6-v2`; vectors of two models never mix."""
        ...

    @property
    def dimension(self) -> int: ...

    def chunk(self, text: str) -> list[str]:
        """Split `text` into pieces that each fit the model's window, in order; one piece where it fits whole."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, in order. Raises ProviderError on NaN, wrong dimension or refusal."""
        ...


@runtime_checkable
class MeteredEmbedder(Embedder, Protocol):
    """An embedder whose calls are charged by the token."""

    def embed_metered(self, texts: Sequence[str], meter: UsageMeter) -> Vectors:
        """As `embed`; every request that is answered counts on `meter`, also where this raises afterwards."""
        ...


def embed_texts(embedder: Embedder, texts: Sequence[str], meter: UsageMeter) -> Vectors:
    """Embed, and count on `meter` what is charged for it, if anything is. Raises as `Embedder.embed`."""
    if isinstance(embedder, MeteredEmbedder):
        return embedder.embed_metered(texts, meter)
    return embedder.embed(texts)


class Summarizer(Protocol):
    """Makes a short digest of a user's week."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def summarize(self, turns: Sequence[Turn], facts: Sequence[str]) -> tuple[str, list[int]]:
        """Return the summary and the indexes of the turns it rests on."""
        ...

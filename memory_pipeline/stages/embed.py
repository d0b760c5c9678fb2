"""Embedding: every memory's present content gets a vector under the chosen model, and none is made twice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import UUID

import msgspec
import numpy as np

from memory_pipeline.model.errors import ProviderError, ProviderUnavailableError
from memory_pipeline.model.window import DayWindow, Progress, no_progress
from memory_pipeline.providers.base import Embedder, Vectors
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.embeddings import (
    MadeEmbedding,
    Unembedded,
    reuse_embeddings,
    take_unembedded,
    write_embeddings,
)
from memory_pipeline.stores.postgres.enrichment import Failure, mark_failed

BATCH_TEXTS = 1_024


class EmbedReport(msgspec.Struct):
    """What one embedding of a window did."""

    memories: int = 0
    texts_embedded: int = 0
    """Chunks that went through the model."""
    reused: int = 0
    """Vectors copied because the same text was embedded before."""
    failed: int = 0
    seconds: float = 0.0


def embed(
    database: Database,
    embedder: Embedder,
    window: DayWindow,
    *,
    progress: Progress = no_progress,
    batch_texts: int = BATCH_TEXTS,
) -> EmbedReport:
    """Give every memory of the window a vector. One transaction a batch, so that what is made is kept."""
    report = EmbedReport()
    started = time.monotonic()
    with database.transaction() as connection:
        report.reused = reuse_embeddings(connection, window, embedder.model)
    while True:
        with database.transaction() as connection:
            due = take_unembedded(connection, window, embedder.model, batch_texts)
            if not due:
                break
            made, failures, embedded = _embed_batch(embedder, due)
            write_embeddings(connection, embedder.model, made)
            if failures:
                mark_failed(connection, failures)
        report.memories += len(due) - len(failures)
        report.texts_embedded += embedded
        report.reused += len(made) - embedded
        report.failed += len(failures)
        progress(len(due))
    report.seconds = time.monotonic() - started
    return report


def _embed_batch(embedder: Embedder, due: Sequence[Unembedded]) -> tuple[list[MadeEmbedding], list[Failure], int]:
    """Embed each distinct text of a tenant once; a text that the model can't take fails alone."""
    by_text: dict[tuple[UUID, bytes], list[Unembedded]] = {}
    for memory in due:
        by_text.setdefault((memory.tenant_id, memory.content_hash), []).append(memory)
    chunks = [embedder.chunk(memories[0].content) for memories in by_text.values()]
    flat = [chunk for pieces in chunks for chunk in pieces]
    vectors = _embed_or_isolate(embedder, flat)

    made: list[MadeEmbedding] = []
    failures: list[Failure] = []
    position = 0
    for pieces, memories in zip(chunks, by_text.values(), strict=True):
        rows = vectors[position : position + len(pieces)]
        position += len(pieces)
        refused = [row for row in rows if isinstance(row, ProviderError)]
        for memory in memories:
            if refused:
                failures.append(Failure(memory.tenant_id, memory.memory_id, "ProviderError", str(refused[0])))
                continue
            made.extend(
                MadeEmbedding(memory.tenant_id, memory.memory_id, number, len(pieces), row, memory.content_hash)
                for number, row in enumerate(rows)
            )
    return made, failures, sum(not isinstance(row, ProviderError) for row in vectors)


def _embed_or_isolate(embedder: Embedder, texts: Sequence[str]) -> list[np.ndarray | ProviderError]:
    """Embed texts; where the model refuses a batch, halve it until the texts to blame stand alone."""
    try:
        vectors: Vectors = embedder.embed(texts)
        return list(vectors)
    except ProviderUnavailableError:
        raise
    except ProviderError as error:
        if len(texts) == 1:
            return [error]
    middle = len(texts) // 2
    return _embed_or_isolate(embedder, texts[:middle]) + _embed_or_isolate(embedder, texts[middle:])

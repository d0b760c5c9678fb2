"""Embedding: every memory's present content gets a vector under the chosen model, and none is made twice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID, uuid4

import msgspec
import numpy as np

from memory_pipeline.model.errors import ProviderError, ProviderUnavailableError
from memory_pipeline.model.limits import Requester
from memory_pipeline.model.usage import SentTexts, UsageMeter, share_usage
from memory_pipeline.model.window import DayWindow, NamedMemories, Progress, Selection, no_progress
from memory_pipeline.providers.base import Embedder, Vectors, embed_texts
from memory_pipeline.providers.vectors import unit_vectors
from memory_pipeline.stages.rate_limits import RateLimits
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.due import DueMemory, due_batches
from memory_pipeline.stores.postgres.embeddings import (
    MadeEmbedding,
    Unembedded,
    due_embeddings,
    refused_embeddings,
    reuse_embeddings,
    take_unembedded,
    write_embeddings,
)
from memory_pipeline.stores.postgres.enrichment import Failure, mark_failed
from memory_pipeline.stores.postgres.plugins import refuse_tenants
from memory_pipeline.stores.postgres.usage import ModelCall, write_usage

BATCH_TEXTS = 1_024

_TOO_MANY_TO_BLAME = 8
_PLAIN_TEXT = "The weather is fine today."

Row = np.ndarray
"""One vector of float32."""


class EmbedReport(msgspec.Struct):
    """What one embedding did."""

    memories: int = 0
    texts_embedded: int = 0
    """Chunks that went through the model."""
    reused: int = 0
    """Vectors copied because the same text was embedded before."""
    failed: int = 0
    limited: int = 0
    """Memories left for later because their tenant or user is over a rate limit."""
    waits: dict[tuple[UUID, UUID], float] = msgspec.field(default_factory=dict)
    """Of named memories and their facts, by tenant and memory: how many seconds until it is their turn."""
    refused_tenants: list[UUID] = msgspec.field(default_factory=list)
    """Tenants with memories to embed who do not permit the embedder."""
    seconds: float = 0.0


def embed(
    database: Database,
    embedder: Embedder,
    selection: Selection,
    *,
    plugin: str,
    limits: RateLimits | None = None,
    price_per_million_tokens: Decimal | None = None,
    progress: Progress = no_progress,
    batch_texts: int = BATCH_TEXTS,
    fail_fast: bool = False,
) -> EmbedReport:
    """Give every memory of the window, and every summary of its weeks, a vector. One transaction a batch.

    Of named memories: each of them, and every fact found in them. Memories of tenants for whom `plugin` (the embedder's
    name in the plugin registry) may not run stay without, and so do those over a rate limit (`limits` None: there is
    none) where `plugin` costs money; copies of vectors that are there already cost nothing.

    What the embedder says it is charged for becomes a row of `llm_usage` for each batch and tenant, in the transaction
    of the batch; of a batch that fails, in one of its own. Dollars where there is a price.

    Raises ProviderUnavailableError where the model can't be used, or refuses whatever it is given; batches made before
    are kept. With `fail_fast` a text that can't be embedded raises its ProviderError, and nothing goes to the dead
    letters.
    """
    report = EmbedReport()
    call = ModelCall(uuid4(), plugin, embedder.model, "embedding")
    started = time.monotonic()

    def find_refused(connection: Connection, barred: list[UUID]) -> list[UUID]:
        return refused_embeddings(connection, selection, embedder.model, plugin, barred)

    def read_page(connection: Connection, after: DueMemory, limit: int) -> list[DueMemory]:
        return due_embeddings(connection, selection, embedder.model, plugin, after, limit)

    report.refused_tenants = refuse_tenants(database, "embed", plugin, selection, find_refused)
    listed = selection.whole_weeks() if isinstance(selection, DayWindow) else selection
    for batch in due_batches(database, read_page, listed, batch_texts):
        bill = _Bill(call, price_per_million_tokens)
        try:
            with database.transaction() as connection:
                due = take_unembedded(connection, embedder.model, plugin, batch)
                if not due:  # another run has done them, or holds them
                    continue
                copied = reuse_embeddings(connection, embedder.model, due)
                known = set(copied)
                new = [memory for memory in due if (memory.tenant_id, memory.memory_id) not in known]
                if limits is not None:
                    new, waiting = _admitted(limits, connection, plugin, new)
                    report.limited += len(waiting)
                    if isinstance(selection, NamedMemories):
                        report.waits |= waiting
                made, failures, embedded = _embed_batch(embedder, new, bill)
                if failures and fail_fast:
                    raise _first(failures)
                write_embeddings(connection, embedder.model, made)
                if failures:
                    mark_failed(connection, failures)
                bill.write(connection)
        except ProviderError:
            if bill.charged:  # the batch is undone, what it cost is not
                with database.transaction() as connection:
                    bill.write(connection)
            raise
        report.memories += len(known) + len(new) - len(failures)
        report.texts_embedded += embedded
        report.reused += len(copied) + len(made) - embedded
        report.failed += len(failures)
        progress(len(due))
    report.seconds = time.monotonic() - started
    return report


class _Bill:
    """What a batch is charged, counted while it is made."""

    def __init__(self, call: ModelCall, price_per_million_tokens: Decimal | None) -> None:
        self.meter = UsageMeter()
        self._call = call
        self._price = price_per_million_tokens
        self._sent: dict[UUID, SentTexts] = {}

    def send(self, tenant_id: UUID, texts: Sequence[str]) -> None:
        """Note that these texts of a tenant go to the model."""
        before = self._sent.get(tenant_id, SentTexts(0, 0))
        size = sum(len(text.encode(errors="surrogatepass")) for text in texts)
        self._sent[tenant_id] = SentTexts(before.texts + len(texts), before.bytes + size)

    @property
    def charged(self) -> bool:
        return self.meter.requests > 0

    def write(self, connection: Connection) -> None:
        """Store it, tenant by tenant."""
        write_usage(connection, self._call, share_usage(self.meter, self._sent, self._price))


def _admitted(
    limits: RateLimits, connection: Connection, plugin: str, memories: Sequence[Unembedded]
) -> tuple[list[Unembedded], dict[tuple[UUID, UUID], float]]:
    """Return those that may be embedded now, and of the others, by tenant and memory, how many seconds they wait."""
    requesters = [Requester(memory.tenant_id, memory.user_id) for memory in memories]
    answers = list(zip(memories, limits.admit(connection, "embedding", plugin, requesters), strict=True))
    waiting = {(memory.tenant_id, memory.memory_id): seconds for memory, seconds in answers if seconds}
    return [memory for memory, seconds in answers if not seconds], waiting


def _first(failures: Sequence[Failure]) -> ProviderError:
    """Return the error of the first failure, which names its memory."""
    first = failures[0]
    return ProviderError(
        f"memory {first.memory_id} of tenant {first.tenant_id} can't be embedded ({first.failure_class}): "
        f"{first.failure_text} The run ends because MEMORY_FAIL_FAST is set."
    )


def _embed_batch(
    embedder: Embedder, due: Sequence[Unembedded], bill: _Bill
) -> tuple[list[MadeEmbedding], list[Failure], int]:
    """Embed each distinct text of a tenant once; a text that the model can't take fails alone.

    Returns what was made, what failed, and how many of the vectors made come from the model (the others are copies).
    """
    by_text: dict[tuple[UUID, bytes], list[Unembedded]] = {}
    for memory in due:
        by_text.setdefault((memory.tenant_id, memory.content_hash), []).append(memory)
    chunks = [_chunks(embedder, memories[0].content) for memories in by_text.values()]
    sent = [[piece for piece in pieces if isinstance(piece, str)] for pieces in chunks]
    for (tenant_id, _), texts in zip(by_text, sent, strict=True):
        if texts:
            bill.send(tenant_id, texts)
    vectors = iter(_embed_texts(embedder, [text for texts in sent for text in texts], bill.meter))

    made: list[MadeEmbedding] = []
    failures: list[Failure] = []
    embedded = refused_texts = 0
    for pieces, memories in zip(chunks, by_text.values(), strict=True):
        rows = [next(vectors) if isinstance(piece, str) else piece for piece in pieces]
        refused = next((row for row in rows if isinstance(row, ProviderError)), None)
        if refused is not None:
            refused_texts += 1
            failures.extend(Failure.of(memory.tenant_id, memory.memory_id, refused) for memory in memories)
            continue
        embedded += len(rows)
        made.extend(
            MadeEmbedding(memory.tenant_id, memory.memory_id, number, len(rows), row, memory.content_hash)
            for memory in memories
            for number, row in enumerate(rows)
        )
    if refused_texts == len(by_text) >= _TOO_MANY_TO_BLAME:
        raise ProviderUnavailableError(
            f"Embedding model {embedder.model} refused all {refused_texts} texts of a batch, so the model or its "
            "settings are to blame rather than the texts; none was marked as failed. "
            f"The last refusal: {failures[-1].failure_text}"
        )
    return made, failures, embedded


def _chunks(embedder: Embedder, text: str) -> Sequence[str | ProviderError]:
    """Split a text into the pieces to embed, at least one, or return the reason why that can't be done."""
    try:
        return embedder.chunk(text) or [
            ProviderError(
                f"Embedding model {embedder.model} split the text into no pieces, so nothing can be embedded."
            )
        ]
    except ProviderUnavailableError:
        raise
    except ProviderError as error:
        return [error]


def _embed_texts(embedder: Embedder, texts: Sequence[str], meter: UsageMeter) -> list[Row | ProviderError]:
    """Embed texts, each to its vector or to the reason why it has none.

    Raises ProviderUnavailableError where the model refuses even a plain sentence: then no text is to blame, and asking
    for each by itself would only cost.
    """
    if not texts:
        return []
    try:
        return list(_vectors(embedder, texts, meter))
    except ProviderUnavailableError:
        raise
    except ProviderError as error:
        try:
            _vectors(embedder, [_PLAIN_TEXT], meter)
        except ProviderUnavailableError:
            raise
        except ProviderError as plain_error:
            raise ProviderUnavailableError(
                f"Embedding model {embedder.model} refuses even a plain sentence, so the model or its settings are to "
                f"blame; no text was marked as failed. It said: {plain_error}"
            ) from error
        return _isolate(embedder, texts, error, meter)


def _isolate(
    embedder: Embedder, texts: Sequence[str], error: ProviderError, meter: UsageMeter
) -> list[Row | ProviderError]:
    """Halve texts that the model refuses together until those to blame stand alone."""
    if len(texts) == 1:
        return [error]
    rows: list[Row | ProviderError] = []
    middle = len(texts) // 2
    for half in (texts[:middle], texts[middle:]):
        try:
            rows.extend(_vectors(embedder, half, meter))
        except ProviderUnavailableError:
            raise
        except ProviderError as refusal:
            rows.extend(_isolate(embedder, half, refusal, meter))
    return rows


def _vectors(embedder: Embedder, texts: Sequence[str], meter: UsageMeter) -> Vectors:
    """Embed texts and check what any embedder has to keep to: one finite vector each, of the dimension."""
    return unit_vectors(embed_texts(embedder, texts, meter), len(texts), embedder.dimension, embedder.model)

"""Measuring recall on LoCoMo (Maharana et al., ACL 2024): how much of the evidence is among the k best turns.

The metric is the authors': the mean over questions of |evidence ∩ retrieved| / |evidence|. A question without evidence
counts 1. Evidence that names no turn (the data hold a few, such as "D8:6; D9:17") is never found and stays in the
denominator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.providers.base import Embedder
from memory_pipeline.serving.recall import RecallResult, recall
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.tenants import User

if TYPE_CHECKING:
    from memory_pipeline.stores.chroma.store import ChromaStore

CUTOFFS = (5, 10, 25, 50)
CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}

# Facts and turns lead to the same source turns, so some more memories than turns are asked for.
_MEMORIES_PER_TURN = 3

RecallTurns = Callable[[str, str, int], Sequence[str]]
"""(sample id, question, k) to at most k source message ids ("sample_id:dia_id"), best first."""


class LocomoQuestion(msgspec.Struct, frozen=True):
    """One question of a sample; further fields of the data are passed over."""

    question: str
    category: int
    evidence: list[str] = []


class LocomoSample(msgspec.Struct, frozen=True):
    """One conversation's questions. The conversation itself goes in through the importer."""

    sample_id: str
    qa: list[LocomoQuestion]


class EvidenceRecall(msgspec.Struct, frozen=True, kw_only=True):
    """Mean evidence recall over some questions, 0 to 100."""

    questions: int
    recall: dict[str, float]
    """By cut-off: "recall@5", "recall@10", …"""


class LocomoReport(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence recall on a LoCoMo file. `msgspec.json.encode` makes JSON of it, `str` a table."""

    samples: int
    overall: EvidenceRecall
    by_category: dict[str, EvidenceRecall]

    def __str__(self) -> str:
        names = [f"recall@{k}" for k in CUTOFFS]
        rows = [("all", self.overall), *self.by_category.items()]
        lines = [f"{'':<12}{'questions':>10}" + "".join(f"{name:>11}" for name in names)]
        for label, measured in rows:
            lines.append(
                f"{label:<12}{measured.questions:>10}" + "".join(f"{measured.recall[name]:>11.1f}" for name in names)
            )
        return "\n".join(lines)


def read_questions(path: Path) -> list[LocomoSample]:
    """Return the samples of a LoCoMo file. Raises MemoryPipelineError where it can't be read or asks nothing."""
    try:
        samples = msgspec.json.decode(path.read_bytes(), type=list[LocomoSample])
    except OSError as error:
        raise MemoryPipelineError(f"{path} can't be read: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MemoryPipelineError(f"{path} is not LoCoMo data: {error}. Compare it with the published file.") from error
    if not any(sample.qa for sample in samples):
        raise MemoryPipelineError(f"{path} holds no questions, so there is nothing to measure.")
    return samples


def evaluate_locomo(
    path: Path, recall_turns: RecallTurns, *, on_question: Callable[[], None] | None = None
) -> LocomoReport:
    """Ask every question of a LoCoMo file once and report the evidence recall; `on_question` is told of progress."""
    samples = read_questions(path)
    outcomes: list[tuple[int, list[float]]] = []
    for sample in samples:
        for question in sample.qa:
            retrieved = recall_turns(sample.sample_id, question.question, max(CUTOFFS))
            evidence = [f"{sample.sample_id}:{turn}" for turn in question.evidence]
            outcomes.append((question.category, [evidence_recall(evidence, retrieved[:k]) for k in CUTOFFS]))
            if on_question is not None:
                on_question()
    categories = sorted({category for category, _ in outcomes})
    return LocomoReport(
        samples=len(samples),
        overall=_mean([recalls for _, recalls in outcomes]),
        by_category={
            CATEGORIES.get(category, f"category {category}"): _mean([r for c, r in outcomes if c == category])
            for category in categories
        },
    )


def evidence_recall(evidence: Sequence[str], retrieved: Iterable[str]) -> float:
    """Return the share of `evidence` that is among `retrieved`; 1 where there is no evidence."""
    if not evidence:
        return 1.0
    found = set(retrieved)
    return sum(turn in found for turn in evidence) / len(evidence)


def recall_through_stores(
    database: Database, chroma: ChromaStore | None, embedder: Embedder, users: Mapping[str, User]
) -> RecallTurns:
    """Return the real recall path as `evaluate_locomo` calls it; `users` are by sample id, one per sample.

    It raises MemoryPipelineError on a degraded answer: that would measure something else.
    """

    def recall_turns(sample_id: str, question: str, k: int) -> list[str]:
        user = users.get(sample_id)
        if user is None:
            raise MemoryPipelineError(f"sample {sample_id!r} was not imported, so its questions can't be asked.")
        result = recall(database, chroma, embedder, user, question, k=k * _MEMORIES_PER_TURN)
        if result.degraded:
            raise MemoryPipelineError(f"recall is degraded, so nothing was measured: {'; '.join(result.degraded)}")
        return source_turns(result)[:k]

    return recall_turns


def source_turns(result: RecallResult) -> list[str]:
    """Return the source message ids that the memories of an answer rest on, best first, each once.

    A fact counts for the turn it was drawn from. Digests (summaries, profiles) rest on many turns and name none.
    """
    turns = (
        source.source_message_id
        for memory in result.memories
        if memory.kind in {"episode", "fact"}
        for source in memory.sources
    )
    return list(dict.fromkeys(turns))


def _mean(recalls: Sequence[Sequence[float]]) -> EvidenceRecall:
    return EvidenceRecall(
        questions=len(recalls),
        recall={
            f"recall@{k}": 100 * sum(column) / len(recalls)
            for k, column in zip(CUTOFFS, zip(*recalls, strict=True), strict=True)
        },
    )

"""Fusing what speaks for a memory into one score. Pure arithmetic over candidates; no store, no clock.

Each signal is z-normalised over the candidates of one query (so that cosines and BM25 can be added), then the weighted
signals are summed. How the weights were found, and what each is worth: docs/decisions/recall.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from uuid import UUID

import msgspec
import numpy as np
import numpy.typing as npt


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """How much one standard deviation of a signal adds to a score (`speaker`, `answers`: what one unit adds)."""

    window_similarity: float = 0.6
    """Cosine with the turn and its two neighbours: chat turns are short and lean on each other."""
    lead_in_similarity: float = 0.4
    """Cosine with the turn and the two before it: an answer stands in the light of its question."""
    text: float = 0.4
    """BM25 of the memory."""
    session_text: float = 0.6
    """BM25 of the session: a talk about the subject is the place to look."""
    length: float = 0.3
    """Logarithm of the length: "Wow, great!" tells nothing."""
    speaker: float = 0.5
    """+1 where the query names exactly the one who spoke, -1 where it names another."""
    answers: float = 0.4
    """BM25 (z, where above the mean) of the question that this turn follows."""


WEIGHTS = Weights()


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A memory with its signals. None means the signal does not apply and counts as the candidates' mean."""

    memory_id: UUID
    window_similarity: float | None = None
    lead_in_similarity: float | None = None
    text: float = 0.0
    session_text: float | None = None
    characters: int | None = None
    speaker: str | None = None
    answers: UUID | None = None
    """The question that this turn follows."""


def fuse(query: str, candidates: Sequence[Candidate], weights: Weights = WEIGHTS) -> list[tuple[UUID, float]]:
    """Return (memory id, score) of every candidate, best first; equal scores in the order of ids.

    The outcome does not depend on the order of `candidates`, whose ids must be distinct.
    """
    if not candidates:
        return []
    candidates = sorted(candidates, key=lambda candidate: candidate.memory_id)
    text = standardised([candidate.text for candidate in candidates])
    text_of = {candidate.memory_id: max(0.0, float(z)) for candidate, z in zip(candidates, text, strict=True)}
    scores = (
        weights.window_similarity * standardised([c.window_similarity for c in candidates])
        + weights.lead_in_similarity * standardised([c.lead_in_similarity for c in candidates])
        + weights.text * text
        + weights.session_text * standardised([c.session_text for c in candidates])
        + weights.length * standardised([None if c.characters is None else np.log1p(c.characters) for c in candidates])
        + weights.speaker * _speaker_match(query, candidates)
        + weights.answers * np.array([text_of.get(c.answers, 0.0) if c.answers else 0.0 for c in candidates])
    )
    # Rounded, so that ties are ties on every machine.
    ranked = [
        (candidate.memory_id, round(float(score), 6)) for candidate, score in zip(candidates, scores, strict=True)
    ]
    return sorted(ranked, key=lambda item: (-item[1], item[0]))


def standardised(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    """Return z-scores of the values that are there, 0 for those that are not; all 0 where the values do not differ."""
    present = np.array([value is not None for value in values], dtype=bool)
    numbers = np.array([0.0 if value is None else value for value in values], dtype=np.float64)
    scores = np.zeros(len(values))
    if not present.any():
        return scores
    known = numbers[present]
    deviation = known.std()
    # Rounding alone can make equal values differ in their last digits.
    if deviation > 1e-12 * max(1.0, float(np.abs(known).max())):
        scores[present] = (known - known.mean()) / deviation
    return scores


def named_speakers(query: str, speakers: Sequence[str]) -> frozenset[str]:
    """Return the speakers that the query names by their whole name or their first, in any case, as words."""
    return frozenset(speaker for speaker in speakers if _names(query, speaker))


def _names(query: str, speaker: str) -> bool:
    words = speaker.split()
    return any(
        re.search(rf"(?<!\w){re.escape(name)}(?!\w)", query, re.IGNORECASE)
        for name in {speaker.strip(), *words[:1]}
        if name
    )


def _speaker_match(query: str, candidates: Sequence[Candidate]) -> npt.NDArray[np.float64]:
    speakers = sorted({candidate.speaker for candidate in candidates if candidate.speaker})
    named = named_speakers(query, speakers)
    if len(named) != 1:
        return np.zeros(len(candidates))
    return np.array([0.0 if not c.speaker else 1.0 if c.speaker in named else -1.0 for c in candidates])

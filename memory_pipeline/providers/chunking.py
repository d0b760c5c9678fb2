"""Splits a long text into pieces that fit a model's window, at sentence ends where it can, else at white space.

Pieces follow each other without gap or overlap: joined they are the text again, so no character is ever lost. There is
no overlap because recall shows the whole memory, never the piece.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

# A line break ends a sentence; so do stops before white space, and the full-width stops, which need none.
_SENTENCE_END = re.compile(r"\n\s*|(?<=[.!?…])[\"'”’)\]]?\s+|(?<=[。！？])\s*")
_SPACE_END = re.compile(r"\s+")


def split_by_cost(text: str, cuts: Positions, cost_before: Positions, budget: int) -> list[str]:
    """Return consecutive pieces of `text`, each of cost at most `budget` where the cuts allow it.

    `cuts` are the ascending character offsets at which `text` may be cut, from 0 to len(text), both included;
    `cost_before[i]` is the cost of text[:cuts[i]]. Within the second half of a full piece the last sentence end wins,
    else the last white space, else the last cut. Takes time linear in the text (times the logarithm of the cuts).
    """
    last = len(cuts) - 1
    if cost_before[last] <= budget:
        return [text]
    preferences = [_ends(_SENTENCE_END, text, cuts), _ends(_SPACE_END, text, cuts)]
    pieces: list[str] = []
    begin = 0
    while begin < last:
        # Cuts of equal cost (white space between them is free) belong to the piece before: hence "right".
        furthest = int(np.searchsorted(cost_before, cost_before[begin] + budget, side="right")) - 1
        end = max(furthest, begin + 1)
        if end < last:
            middle = int(np.searchsorted(cost_before, cost_before[begin] + budget // 2, side="right"))
            end = _preferred(preferences, middle, end)
        pieces.append(text[int(cuts[begin]) : int(cuts[end])])
        begin = end
    return pieces


def split_by_bytes(text: str, budget: int) -> list[str]:
    """Return consecutive pieces of `text` of at most `budget` (at least 4) bytes of UTF-8 each."""
    if len(text) * 4 <= budget:
        return [text]
    code_points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    widths = 1 + (code_points > 0x7F).astype(np.int64) + (code_points > 0x7FF) + (code_points > 0xFFFF)
    cost_before = np.concatenate(([0], np.cumsum(widths)))
    return split_by_cost(text, np.arange(len(text) + 1), cost_before, budget)


def _ends(pattern: re.Pattern[str], text: str, cuts: Positions) -> Positions:
    """Return the indexes into `cuts` of those at which a match of `pattern` ends."""
    ends = np.fromiter((match.end() for match in pattern.finditer(text)), dtype=np.int64)
    places = np.searchsorted(cuts, ends)
    return np.unique(places[cuts[places] == ends])


def _preferred(preferences: list[Positions], middle: int, end: int) -> int:
    for candidates in preferences:
        place = int(np.searchsorted(candidates, end, side="right")) - 1
        if place >= 0 and candidates[place] >= middle:
            return int(candidates[place])
    return end

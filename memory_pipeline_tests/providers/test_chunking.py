"""Splitting by cost: nothing lost, nothing over budget, sentences whole where they can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_pipeline.providers.chunking import split_by_bytes, split_by_cost

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(ANY_TEXT, st.integers(1, 30), st.integers(4, 100))
def test_pieces_join_to_the_text_within_the_budget(text: str, repeat: int, budget: int) -> None:
    pieces = split_by_bytes(text * repeat, budget)
    assert "".join(pieces) == text * repeat
    assert all(len(piece.encode()) <= budget for piece in pieces)
    assert all(pieces) or pieces == [""]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One two. Three four five.", ["One two. ", "Three four ", "five."]),
        ("one two three four", ["one two ", "three four"]),
        ("line one\nline two", ["line one\n", "line two"]),
        ("He said “no.” Then he left", ["He said ", "“no.” ", "Then he left"]),
        ("一二。三四。五六", ["一二。", "三四。", "五六"]),
        ("v1.2.3.4.5.6.7.8", ["v1.2.3.4.5.6", ".7.8"]),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaa", ["aaaaaaaaaaaa", "aaaaaaaaaaaa", "aaaaa"]),
    ],
    ids=["sentence", "space", "line", "quote", "full-width", "no sentence in a number", "letters"],
)
def test_cuts_prefer_sentences_then_spaces(text: str, expected: list[str]) -> None:
    assert split_by_bytes(text, 12) == expected


def test_sentence_end_in_the_first_half_does_not_make_a_short_piece() -> None:
    assert split_by_bytes("Hi. aaaaaaa bbbbbbbbbb", 16) == ["Hi. aaaaaaa ", "bbbbbbbbbb"]


def test_unit_that_alone_exceeds_the_budget_is_a_piece_of_its_own() -> None:
    cuts, cost_before = np.array([0, 1, 2, 3]), np.array([0, 1, 9, 10])
    assert split_by_cost("abc", cuts, cost_before, 4) == ["a", "b", "c"]

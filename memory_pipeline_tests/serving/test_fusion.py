"""Properties of the fused score, whatever the signals."""

from __future__ import annotations

from uuid import UUID

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_pipeline.serving.fusion import Candidate, fuse, named_speakers, standardised

numbers = st.floats(-1e6, 1e6)
maybe_numbers = st.none() | numbers
candidates = st.lists(
    st.builds(
        Candidate,
        memory_id=st.uuids(),
        window_similarity=maybe_numbers,
        lead_in_similarity=maybe_numbers,
        text=st.floats(0, 100),
        session_text=maybe_numbers,
        characters=st.none() | st.integers(0, 10**6),
        speaker=st.none() | st.sampled_from(["Ana", "Ben", "C++ (bot)", ""]),
        answers=st.none() | st.uuids(),
    ),
    unique_by=lambda candidate: candidate.memory_id,
    max_size=12,
)


def _id(number: int) -> UUID:
    return UUID(int=number)


def _order(query: str, competing: list[Candidate]) -> list[int]:
    return [memory_id.int for memory_id, _ in fuse(query, competing)]


@given(st.text(), candidates)
def test_every_candidate_gets_one_finite_score_best_first(query: str, competing: list[Candidate]) -> None:
    ranked = fuse(query, competing)
    assert {memory_id for memory_id, _ in ranked} == {candidate.memory_id for candidate in competing}
    scores = [score for _, score in ranked]
    assert np.isfinite(scores).all()
    assert scores == sorted(scores, reverse=True)


@given(candidates, st.randoms(use_true_random=False))
def test_order_of_candidates_does_not_matter(competing: list[Candidate], random: object) -> None:
    shuffled = list(competing)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fuse("What did Ana say?", shuffled) == fuse("What did Ana say?", competing)


@given(candidates.filter(bool), st.data())
def test_more_text_score_never_lowers_a_candidate(competing: list[Candidate], data: st.DataObject) -> None:
    chosen = data.draw(st.sampled_from(competing))
    raised = [
        msgspec.structs.replace(candidate, text=candidate.text + 50, answers=None)
        if candidate is chosen
        else msgspec.structs.replace(candidate, answers=None)
        for candidate in competing
    ]
    before = _order("q", [msgspec.structs.replace(candidate, answers=None) for candidate in competing])
    assert _order("q", raised).index(chosen.memory_id.int) <= before.index(chosen.memory_id.int)


@given(st.lists(maybe_numbers))
def test_standardised_values_have_mean_0_and_deviation_1_and_what_is_missing_is_0(values: list[float | None]) -> None:
    scores = standardised(values)
    assert np.isfinite(scores).all()
    assert all(score == 0 for score, value in zip(scores, values, strict=True) if value is None)
    present = np.array([score for score, value in zip(scores, values, strict=True) if value is not None])
    if np.any(present):
        assert present.mean() == pytest.approx(0, abs=1e-6)
        assert present.std() == pytest.approx(1, abs=1e-6)


def test_equal_scores_come_in_the_order_of_ids() -> None:
    assert _order("q", [Candidate(memory_id=_id(number)) for number in (3, 1, 2)]) == [1, 2, 3]


def test_the_speaker_that_the_query_names_is_preferred() -> None:
    competing = [Candidate(memory_id=_id(1), speaker="Ben"), Candidate(memory_id=_id(2), speaker="Ana Silva")]
    assert _order("what does ana paint?", competing) == [2, 1]
    assert _order("what do Ana and Ben paint?", competing) == [1, 2]
    assert _order("who likes bananas?", competing) == [1, 2]


def test_an_answer_to_a_question_that_matches_is_preferred() -> None:
    question = Candidate(memory_id=_id(3), text=9)
    assert _order(
        "q", [question, Candidate(memory_id=_id(1)), Candidate(memory_id=_id(2), answers=question.memory_id)]
    ) == [3, 2, 1]


@pytest.mark.parametrize(
    ("query", "named"),
    [("Did ANA call?", {"Ana"}), ("banana", set()), ("c++ (bot) said", {"C++ (bot)"}), ("(", set()), ("", set())],
)
def test_speakers_are_named_by_whole_words(query: str, named: set[str]) -> None:
    assert named_speakers(query, ["Ana", "C++ (bot)", "", " "]) == named

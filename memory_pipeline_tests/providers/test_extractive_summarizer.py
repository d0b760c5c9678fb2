"""The local summarizer: what it quotes, what it says it rests on, and that odd weeks do not upset it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_pipeline.model.records import Role, Turn
from memory_pipeline.providers.extractive_summarizer import MAX_WORDS, ExtractiveSummarizer

MONDAY = datetime(2024, 3, 4, 9, tzinfo=UTC)
SUMMARIZER = ExtractiveSummarizer()


def turn(content: str, day: int = 0, role: Role = Role.USER, speaker: str = "Ana") -> Turn:
    return Turn(
        message_id=UUID(int=day),
        conversation_id=UUID(int=1),
        role=role,
        speaker=speaker,
        content=content,
        sent_at=MONDAY + timedelta(days=day),
    )


WEEK = [
    turn("Hi!", 0),
    turn("I signed the lease for the flat in Porto today. Can you help me plan the move?", 0),
    turn("Congratulations on the lease in Porto! I packed a checklist for the flat.", 0, Role.ASSISTANT, "Assistant"),
    turn("ok", 1),
    turn("My piano teacher says I am ready for the Chopin recital.", 2),
    turn("I signed the lease for the flat in Porto today.", 3),
]


def test_sentences_are_quoted_from_user_turns_in_time_order_with_sources() -> None:
    text, sources = SUMMARIZER.summarize(WEEK, [])
    assert text.splitlines() == [
        "Ana on 2024-03-04: I signed the lease for the flat in Porto today. Can you help me plan the move?",
        "Ana on 2024-03-06: My piano teacher says I am ready for the Chopin recital.",
    ]
    assert sources == [1, 4]


def test_facts_come_first_once_and_point_to_the_turns_they_share_words_with() -> None:
    text, sources = SUMMARIZER.summarize(WEEK[3:5], ["Ana prepares a Chopin recital", "ana prepares a chopin recital"])
    assert text.splitlines()[0] == "Ana prepares a Chopin recital."
    assert 1 in sources
    assert 0 not in sources


def test_facts_keep_the_order_they_were_given_in() -> None:
    facts = ["Ana moved to Porto.", "Ana adopted a grey cat.", "Ana plays the piano."]
    text, _ = SUMMARIZER.summarize([], facts)
    assert text == " ".join(facts)


def test_facts_leave_room_for_the_users_own_words() -> None:
    facts = [
        f"Ana visited the museum of {name} number {number}." for number, name in enumerate(["clocks", "maps"] * 40)
    ]
    text, _ = SUMMARIZER.summarize([turn("I finished my marathon training plan yesterday.")], facts)
    assert "marathon" in text
    assert len(text.split()) <= MAX_WORDS


def test_the_same_thing_said_otherwise_gives_way_to_something_new() -> None:
    week = [turn(f"I walked my dog along the river path at {n}.", n) for n in range(6)]
    week.append(turn("I passed the driving exam on the second attempt.", 6))
    week += [turn(f"Again I walked my dog along the river path, {n} times.", n) for n in range(6)]
    text, sources = SUMMARIZER.summarize(week, [])
    assert text.count("dog") == 1
    assert "driving exam" in text
    assert len(sources) == 2
    assert 6 in sources


@pytest.mark.parametrize(
    "turns",
    [[], [turn("")], [turn(" \n\t ")], [turn("?!...")], [turn("Here is a plan for you.", role=Role.ASSISTANT)]],
    ids=["no turns", "empty", "blank", "no words", "assistant only"],
)
def test_week_without_user_words_or_facts_has_no_summary(turns: list[Turn]) -> None:
    assert SUMMARIZER.summarize(turns, []) == ("", [])
    assert SUMMARIZER.summarize(turns, ["", "  "]) == ("", [])


def test_short_answers_are_quoted_where_there_is_nothing_else() -> None:
    assert SUMMARIZER.summarize([turn("Lisbon")], []) == ("Ana on 2024-03-04: Lisbon", [0])


def test_week_of_unbroken_text_is_quoted_within_bounds() -> None:
    text, sources = SUMMARIZER.summarize([turn("a" * 200_000), turn("漢字" * 50_000, 1)], [])
    assert len(text) < MAX_WORDS * 8
    assert sources == [0, 1]


WILD_TURN = st.builds(
    turn,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.sampled_from([t.content for t in WEEK]),
    st.integers(0, 6),
    st.sampled_from(Role),
    st.text(min_size=1, max_size=20),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(WILD_TURN, max_size=12), st.lists(st.text(max_size=80), max_size=6))
def test_any_week_gives_a_bounded_summary_with_true_sources_and_the_same_one_again(
    turns: list[Turn], facts: list[str]
) -> None:
    text, sources = SUMMARIZER.summarize(turns, facts)
    assert len(text.split()) <= MAX_WORDS
    assert sources == sorted(set(sources))
    assert all(turns[index].role is Role.USER for index in sources)
    assert SUMMARIZER.summarize(turns, facts) == (text, sources)
    if not text:
        assert sources == []

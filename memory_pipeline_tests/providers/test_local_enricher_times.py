"""Relative dates: each expression against a known day, in the tense in which it was said."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_pipeline.providers.local_enricher.periods import Tense
from memory_pipeline.providers.local_enricher.times import find_times

THURSDAY = date(2024, 5, 16)
SUNDAY = date(2024, 5, 19)
PAST, FUTURE, PERFECT = Tense.PAST, Tense.FUTURE, Tense.PERFECT

CASES = [
    ("today", THURSDAY, PAST, "on 16 May 2024"),
    ("the day before yesterday", THURSDAY, PAST, "on 14 May 2024"),
    ("last night", THURSDAY, PAST, "on the night of 15 May 2024"),
    ("tonight", THURSDAY, FUTURE, "on the evening of 16 May 2024"),
    ("tomorrow morning", THURSDAY, FUTURE, "on the morning of 17 May 2024"),
    ("last Thursday", THURSDAY, PAST, "on 9 May 2024"),
    ("last Fri", THURSDAY, PAST, "on 10 May 2024"),
    ("on Tuesday", THURSDAY, PAST, "on 14 May 2024"),
    ("on Tuesday", THURSDAY, FUTURE, "on 21 May 2024"),
    ("this Saturday", THURSDAY, FUTURE, "on 18 May 2024"),
    ("next Friday", THURSDAY, FUTURE, "on 24 May 2024"),
    ("last week", THURSDAY, PAST, "in the week of 6 May 2024"),
    ("next week", SUNDAY, FUTURE, "in the week of 20 May 2024"),
    ("last weekend", THURSDAY, PAST, "on the weekend of 11 May 2024"),
    ("last weekend", SUNDAY, PAST, "on the weekend of 11 May 2024"),
    ("this weekend", THURSDAY, PAST, "on the weekend of 11 May 2024"),
    ("this weekend", THURSDAY, FUTURE, "on the weekend of 18 May 2024"),
    ("this weekend", SUNDAY, PAST, "on the weekend of 18 May 2024"),
    ("next month", date(2024, 12, 31), FUTURE, "in January 2025"),
    ("last month", date(2024, 3, 31), PAST, "in February 2024"),
    ("last year", THURSDAY, PAST, "in 2023"),
    ("last quarter", THURSDAY, PAST, "in the first quarter of 2024"),
    ("two days ago", THURSDAY, PAST, "on 14 May 2024"),
    ("about two weeks ago", THURSDAY, PAST, "in the week of 29 April 2024"),
    ("a couple of months ago", THURSDAY, PAST, "in March 2024"),
    ("three years ago", THURSDAY, PAST, "in 2021"),
    ("a few weeks ago", THURSDAY, PAST, "a few weeks before 16 May 2024"),
    ("in three days", THURSDAY, FUTURE, "on 19 May 2024"),
    ("in two months", THURSDAY, FUTURE, "in July 2024"),
    ("for three years", THURSDAY, PERFECT, "since 2021"),
    ("in May", THURSDAY, PAST, "in May 2024"),
    ("in June", THURSDAY, PAST, "in June 2023"),
    ("in April", THURSDAY, FUTURE, "in April 2025"),
    ("last May", THURSDAY, PAST, "in May 2023"),
    ("in May 2019", THURSDAY, PAST, "in May 2019"),
    ("on 12 March", THURSDAY, PAST, "on 12 March 2024"),
    ("on December 24th", THURSDAY, PAST, "on 24 December 2023"),
    ("on the 1st of June", THURSDAY, FUTURE, "on 1 June 2024"),
    ("on 2023-11-05", THURSDAY, PAST, "on 5 November 2023"),
    ("since 2016", THURSDAY, PERFECT, "since 2016"),
    ("since last year", THURSDAY, PERFECT, "since 2023"),
    ("in 2016", THURSDAY, PAST, "in 2016"),
    ("last summer", THURSDAY, PAST, "in summer 2023"),
    ("this summer", THURSDAY, FUTURE, "in summer 2024"),
    ("last winter", THURSDAY, PAST, "in winter 2023/24"),
    ("recently", THURSDAY, PAST, "not long before 16 May 2024"),
]


@pytest.mark.parametrize(("text", "today", "tense", "phrase"), CASES)
def test_an_expression_is_put_in_absolute_words(text: str, today: date, tense: Tense, phrase: str) -> None:
    assert [mention.phrase for mention in find_times(f"went {text}", today, tense)] == [phrase]


@pytest.mark.parametrize(
    "text",
    [
        "every Saturday",
        "on Saturdays",
        "may I",
        "march on",
        "32 may be",
        "on 31 February",
        "for two weeks",
        "spring cleaning",
    ],
)
def test_what_names_no_time_of_its_own_is_left_alone(text: str) -> None:
    assert find_times(f"went {text}", THURSDAY, PAST) == []


@given(
    today=st.dates(),
    tense=st.sampled_from(Tense),
    text=st.one_of(
        st.sampled_from([case[0] for case in CASES]), st.text(), st.from_regex(r"(in|for) \d{1,3} years( ago)?")
    ),
)
def test_every_day_of_the_calendar_is_borne(today: date, tense: Tense, text: str) -> None:
    for mention in find_times(text, today, tense):
        start, end = mention.span
        assert 0 <= start < end <= len(text)
        assert (mention.start is None) == (mention.end is None)
        assert mention.start is None or mention.end is None or mention.start <= mention.end

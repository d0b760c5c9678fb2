"""Windows of UTC days."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_pipeline.model.window import DayWindow, NamedMemories, NamedMemory

days = st.dates(date(1970, 1, 1), date(2100, 1, 1))


@given(days, st.integers(0, 500))
def test_a_window_holds_each_of_its_days_once_in_order(start: date, length: int) -> None:
    window = DayWindow(start, start + timedelta(days=length))
    listed = list(window.days())
    assert len(listed) == length
    assert listed == sorted(set(listed))
    assert all(window.start <= day < window.end for day in listed)


@given(days)
def test_the_window_of_a_day_holds_it_from_midnight_to_midnight_utc(day: date) -> None:
    window = DayWindow.of_day(day)
    assert list(window.days()) == [day]
    assert window.start_time == datetime(day.year, day.month, day.day, tzinfo=UTC)
    assert window.end_time - window.start_time == timedelta(days=1)
    assert DayWindow.of_day(window.end).start_time == window.end_time


def test_a_window_of_a_leap_day() -> None:
    window = DayWindow(date(2024, 2, 28), date(2024, 3, 1))
    assert list(window.days()) == [date(2024, 2, 28), date(2024, 2, 29)]


def test_a_window_may_be_empty_but_not_end_before_it_starts() -> None:
    assert list(DayWindow(date(2025, 1, 1), date(2025, 1, 1)).days()) == []
    with pytest.raises(ValueError, match=r"can't end \(2025-01-01\) before it starts \(2025-01-02\)"):
        DayWindow(date(2025, 1, 2), date(2025, 1, 1))


def test_memories_are_named_once_each_by_tenant_and_id() -> None:
    acme, globex = UUID(int=1), UUID(int=2)
    first, second = UUID(int=10), UUID(int=11)
    day = date(2025, 1, 1)
    names = [(globex, first), (acme, second), (globex, first), (acme, first)]
    named = NamedMemories.of(NamedMemory(*name, day) for name in names)
    assert [memory[:2] for memory in named.memories] == [(acme, first), (acme, second), (globex, first)]

"""When an export may begin, by what has changed, what the backlog's runs are at, and what was asked for before."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_pipeline.model.pacing import Backlog, Pace, Waiting, seconds_since, why_later

NOW = 1_000_000.0
PACE = Pace(interval=600.0, quiet=60.0)
IDLE = Backlog(None, None)
_AGES = st.floats(0, 10_000)


def later(
    first: float, newest: float, backlog: Backlog = IDLE, *, asked: float | None = None, in_vain: int = 0
) -> str | None:
    """Why an export may not begin, where the changes, and the last export, are so many seconds old."""
    waiting = Waiting(2, NOW - first, NOW - newest)
    return why_later(PACE, waiting, backlog, NOW, asked=None if asked is None else NOW - asked, in_vain=in_vain)


@pytest.mark.parametrize(("newest", "begins"), [(59, False), (60, True)])
def test_quiet_counts_from_the_newest_change(newest: float, begins: bool) -> None:
    assert (later(500, newest) is None) == begins


@pytest.mark.parametrize(("ended", "begins"), [(59, False), (60, True)])
def test_quiet_counts_from_the_end_of_the_last_run_of_the_backlog(ended: float, begins: bool) -> None:
    assert (later(500, 400, Backlog(None, NOW - ended)) is None) == begins


@pytest.mark.parametrize(("first", "begins"), [(599, False), (600, True)])
def test_a_run_of_the_backlog_is_waited_for_no_longer_than_the_interval(first: float, begins: bool) -> None:
    assert (later(first, 300, Backlog("r", None)) is None) == begins


@pytest.mark.parametrize(
    ("in_vain", "pause"), [(0, 600), (1, 600), (2, 1200), (3, 2400), (4, 3600), (5, 3600), (5000, 3600)]
)
def test_the_pause_after_exports_in_vain_doubles_up_to_an_hour(in_vain: int, pause: float) -> None:
    assert later(9000, 9000, asked=pause - 1, in_vain=in_vain) is not None
    assert later(9000, 9000, asked=pause, in_vain=in_vain) is None


def test_an_interval_longer_than_the_longest_pause_is_kept() -> None:
    assert Pace(interval=7200.0, quiet=60.0).pause(9) == 7200.0


def test_without_an_interval_nothing_waits() -> None:
    assert (
        why_later(Pace(interval=0.0, quiet=60.0), Waiting(1, NOW, NOW), Backlog("r", NOW), NOW, asked=NOW, in_vain=9)
        is None
    )


def test_the_reason_says_for_what_and_how_long() -> None:
    assert later(100, 20) == (
        "2 materializations wait 40 s more: until nothing has changed for 60 s, and for no longer than 500 s."
    )
    assert later(590, 20) == (
        "2 materializations wait 10 s more: until nothing has changed for 60 s, and for no longer than 10 s."
    )
    assert later(100, 20, Backlog("r", None)) == (
        "2 materializations wait for run r, which makes messages searchable, and for no longer than 500 s."
    )
    assert later(100, 20, asked=200, in_vain=2) == (
        "2 materializations wait 1000 s more: at most one export in 1200 s, after 2 in vain."
    )


@given(_AGES, _AGES, st.none() | _AGES, st.booleans())
def test_a_change_waits_no_longer_than_the_interval_whatever_else_happens(
    first: float, newest: float, ended: float | None, working: bool
) -> None:
    backlog = Backlog("r" if working else None, None if ended is None else NOW - ended)
    reason = later(first, min(first, newest), backlog, asked=PACE.interval + first)
    assert reason is None or NOW - (NOW - first) < PACE.interval


@pytest.mark.parametrize(("moment", "seconds"), [(-90, 90), (0, 0), (60, 0), (61, math.inf)])
def test_a_moment_far_ahead_was_told_by_a_clock_that_was_set_back_and_is_long_ago(
    moment: float, seconds: float
) -> None:
    assert seconds_since(NOW + moment, NOW) == seconds

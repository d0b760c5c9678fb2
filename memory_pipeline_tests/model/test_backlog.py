"""Which days runs should drain, and when they are asked for again."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from memory_pipeline.model.backlog import (
    BacklogLimits,
    DueDay,
    EarlierRun,
    RunState,
    Unseen,
    day_ranges,
    left_by_failures,
    look_for_workers,
    merged,
    plan_runs,
    split_report,
    workers_get_on,
)
from memory_pipeline.model.window import DayWindow

DAY = date(2025, 3, 1)
LIMITS = BacklogLimits(jobs=100, seconds=5.0, worker_seconds=60.0, days=10)
NOON = datetime(2025, 3, 20, 12, tzinfo=UTC)


def day(number: int) -> date:
    return DAY + timedelta(days=number)


def window(first: int, last: int) -> DayWindow:
    """Both days included."""
    return DayWindow(day(first), day(last + 1))


def due(number: int, items: int = 1, oldest: float = 10.0, minute: int = 0) -> DueDay:
    return DueDay(day(number), items, oldest, NOON + timedelta(minutes=minute))


def run(name: str, days: DayWindow, state: RunState, seconds: float = 1000.0, minute: int | None = 0) -> EarlierRun:
    return EarlierRun(name, days, None if minute is None else NOON + timedelta(minutes=minute), state, seconds)


numbers = st.integers(min_value=0, max_value=400)
windows = st.tuples(numbers, st.integers(min_value=0, max_value=30)).map(lambda pair: window(pair[0], sum(pair)))
earlier_runs = st.lists(
    st.builds(
        EarlierRun,
        st.uuids().map(str),
        windows,
        st.none() | st.integers(0, 60).map(lambda minute: NOON + timedelta(minutes=minute)),
        st.sampled_from(["under_way", "succeeded", "partial", "failed", "cancelled"]),
        st.floats(min_value=0, max_value=10_000),
    ),
    max_size=8,
)
due_days = st.lists(
    st.builds(due, numbers, st.integers(1, 200), st.floats(0, 1000), st.integers(0, 60)), max_size=60
).map(merged)


# -- looks for workers --


def look(before: Unseen | None, workers: int, second: float) -> Unseen | None:
    return look_for_workers(before, workers, NOON + timedelta(seconds=second), 18.0)


def test_looks_near_each_other_add_up_until_a_worker_is_seen() -> None:
    first = look(None, 0, 0)
    second = look(first, 0, 18)
    third = look(second, 0, 30)
    assert [unseen and unseen.seconds for unseen in (first, second, third)] == [0, 18, 30]
    assert look(third, 1, 35) is None


def test_a_look_long_after_the_last_one_or_before_it_begins_anew() -> None:
    long_unseen = Unseen(NOON - timedelta(hours=1), NOON)
    for second in (18.1, 7200, -0.1):
        anew = look(long_unseen, 0, second)
        assert anew is not None
        assert anew.seconds == 0


# -- ranges --


def test_days_near_each_other_are_one_range_and_a_long_stretch_is_several() -> None:
    assert list(day_ranges([day(0), day(1), day(9), day(10), day(40)], [], 10)) == [
        window(0, 9),
        window(10, 10),
        window(40, 40),
    ]


def test_a_range_does_not_reach_over_days_that_another_run_is_at() -> None:
    assert list(day_ranges([day(0), day(2), day(6)], [window(3, 4)], 10)) == [window(0, 2), window(6, 6)]


@given(days=st.sets(numbers, max_size=80), busy=st.lists(windows, max_size=4), longest=st.integers(1, 120))
def test_ranges_hold_every_day_once_are_bounded_and_keep_off_busy_days(
    days: set[int], busy: list[DayWindow], longest: int
) -> None:
    wanted = {day(n) for n in days} - {day for one in busy for day in one.days()}
    ranges = list(day_ranges(wanted, busy, longest))
    covered = [day for one in ranges for day in one.days()]
    assert len(covered) == len(set(covered))
    assert covered == sorted(covered)
    assert wanted <= set(covered)
    assert not set(covered) & {day for one in busy for day in one.days()}
    for one in ranges:
        assert 1 <= (one.end - one.start).days <= longest
        assert {one.start, one.end - timedelta(days=1)} <= wanted


# -- plans --


def test_little_and_young_work_waits_much_or_old_work_is_asked_for() -> None:
    young = [due(0, 99, 4.9)]
    assert plan_runs(young, [], LIMITS).asks == []
    assert plan_runs(young, [], LIMITS).reasons == ["99 due, the oldest for 5 s: not enough yet"]
    for enough in ([due(0, 50, 1.0), due(1, 50, 1.0)], [due(0, 1, 5.0)]):
        assert len(plan_runs(enough, [], LIMITS).asks) == 1


def test_what_waits_longest_goes_first_and_no_more_runs_than_allowed_are_under_way() -> None:
    work = [due(0, oldest=10.0), due(100, oldest=30.0), due(200, oldest=20.0)]
    plan = plan_runs(work, [], LIMITS)
    assert [ask.window.start for ask in plan.asks] == [day(100), day(200)]
    assert plan.reasons == ["1 ranges of days wait for their turn"]
    one_more = plan_runs(work, [run("a", window(300, 300), "under_way")], LIMITS)
    assert [ask.window.start for ask in one_more.asks] == [day(100)]


def test_no_second_run_over_days_that_one_is_at_unless_it_is_lost() -> None:
    assert plan_runs([due(3)], [run("a", window(0, 5), "under_way", 7199.0)], LIMITS).asks == []
    (ask,) = plan_runs([due(3)], [run("a", window(0, 5), "under_way", 7200.0)], LIMITS).asks
    assert ask.window == window(3, 3)


def test_the_key_stays_until_new_work_comes_or_a_run_was_made() -> None:
    (first,) = plan_runs([due(0, items=5)], [], LIMITS).asks
    assert plan_runs([due(0, items=5, oldest=11.0)], [], LIMITS).asks[0].run_key == first.run_key
    assert plan_runs([due(0, items=6, minute=1)], [], LIMITS).asks[0].run_key != first.run_key
    after = plan_runs([due(0, items=5)], [run("a", window(0, 0), "failed")], LIMITS)
    assert after.asks[0].run_key != first.run_key
    elsewhere = plan_runs([due(0, items=5)], [run("a", window(1, 1), "succeeded")], LIMITS)
    assert elsewhere.asks[0].run_key == first.run_key


def test_days_of_a_failed_run_are_asked_for_again_though_nothing_is_due_there() -> None:
    (ask,) = plan_runs([], [run("a", window(0, 1), "failed")], LIMITS).asks
    assert (ask.window, ask.items, ask.in_vain) == (window(0, 1), 0, 1)
    for later in ("succeeded", "cancelled"):
        assert plan_runs([], [run("b", window(0, 1), later), run("a", window(0, 1), "failed")], LIMITS).asks == []
    (rest,) = plan_runs([], [run("b", window(0, 0), "succeeded"), run("a", window(0, 1), "failed")], LIMITS).asks
    assert rest.window == window(1, 1)


def test_days_of_a_partial_run_are_asked_for_again_at_once_because_it_was_not_in_vain() -> None:
    partial = [run(str(n), window(0, 1), "partial", 1.0 + n) for n in range(9)]
    (ask,) = plan_runs([due(0)], partial, LIMITS).asks
    assert (ask.window, ask.in_vain) == (window(0, 1), 0)
    assert plan_runs([], [run("b", window(0, 1), "succeeded"), *partial], LIMITS).asks == []


def test_runs_in_vain_are_followed_by_a_growing_pause() -> None:
    failed = [run(str(n), window(0, 0), "failed", 100.0 + n) for n in range(3)]
    assert [plan_runs([due(0)], failed[:n], LIMITS).asks != [] for n in range(4)] == [True, True, False, False]
    assert plan_runs([due(0)], failed, LIMITS).reasons == [
        "2025-03-01..2025-03-01 waits 140 s more after 3 runs in vain"
    ]
    many = [run(str(n), window(0, 0), "failed", 900.0 + n) for n in range(90)]
    assert len(plan_runs([due(0)], many, LIMITS).asks) == 1


def test_a_run_that_left_the_same_work_is_in_vain_and_one_that_left_newer_work_is_not() -> None:
    succeeded = [run("a", window(0, 0), "succeeded", 1.0, minute=5)]
    assert plan_runs([due(0, minute=5)], succeeded, LIMITS).asks == []
    (ask,) = plan_runs([due(0, minute=6)], succeeded, LIMITS).asks
    assert ask.in_vain == 0


@given(work=due_days, runs=earlier_runs)
def test_a_plan_never_doubles_a_day_and_leaves_none_without_a_reason(
    work: list[DueDay], runs: list[EarlierRun]
) -> None:
    plan = plan_runs(work, runs, LIMITS)
    under_way = [one for one in runs if one.state == "under_way" and one.seconds < LIMITS.run_seconds]
    assert len(plan.asks) <= max(0, LIMITS.runs - len(under_way))
    asked = [day for ask in plan.asks for day in ask.window.days()]
    assert len(asked) == len(set(asked))
    assert not set(asked) & {day for one in under_way for day in one.window.days()}
    assert len({ask.run_key for ask in plan.asks}) == len(plan.asks)
    if {one.day for one in work} | left_by_failures(runs) and not plan.asks:
        assert plan.reasons


@given(work=due_days)
def test_with_no_run_before_and_room_for_all_every_due_day_is_asked_for(work: list[DueDay]) -> None:
    eager = BacklogLimits(jobs=1, seconds=0.0, worker_seconds=1.0, days=10, runs=1000)
    asks = plan_runs(work, [], eager).asks
    assert {one.day for one in work} <= {day for ask in asks for day in ask.window.days()}
    assert sum(ask.items for ask in asks) == sum(one.items for one in work)


# -- workers --


def test_workers_are_trusted_while_the_oldest_job_is_young_and_not_where_there_are_none() -> None:
    assert workers_get_on(1, 59.9, LIMITS)
    assert not workers_get_on(5, 60.0, LIMITS)
    assert not workers_get_on(0, 0.0, LIMITS)


# -- reports --

counts = st.dictionaries(numbers.map(day), st.integers(1, 1000), max_size=40)


@given(waiting=counts, found=counts, most=st.integers(0, 50))
def test_what_was_done_is_reported_once_or_waits(waiting: dict[date, int], found: dict[date, int], most: int) -> None:
    now, later = split_report(waiting, found, most)
    assert len(now) <= most
    assert not {each.day for each in now} & set(later)
    total = {each.day: each.items for each in now} | later
    assert total == {day: waiting.get(day, 0) + found.get(day, 0) for day in {*waiting, *found}}


@given(rounds=st.lists(counts, min_size=1, max_size=6), most=st.integers(2, 6))
def test_no_day_waits_for_ever_and_the_newest_never_waits(rounds: list[dict[date, int]], most: int) -> None:
    first, *following = rounds
    _now, waiting = split_report({}, first, most)
    behind = list(waiting)
    for found in [*following, *[{day(401 + n): 1 for n in range(50)}] * 40]:
        newest = max([*waiting, *found], default=None)
        now, waiting = split_report(waiting, found, most)
        reported = [each.day for each in now]
        assert reported[:1] == ([] if newest is None else [newest])
        assert set(behind[: most - 1]) <= set(reported)
        behind = [day for day in behind if day not in reported]
    assert behind == []

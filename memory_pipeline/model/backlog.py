"""Which days runs should drain: what is due by day, bounded ranges of days, what earlier runs make of asking again.

Plain arithmetic on what the ledger and the runs say: no clock and no store in here. Times come as seconds since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Literal, NamedTuple

import msgspec

from memory_pipeline.model.window import DayWindow

RunState = Literal["under_way", "succeeded", "partial", "failed", "cancelled"]
"""`partial`: it did all that it was asked for, which was not all that its days will need."""

_DAY = timedelta(days=1)


class DueDay(NamedTuple):
    """What is due of one day."""

    day: date
    items: int
    """Jobs, and memories that no job speaks for."""
    oldest_seconds: float
    """How long the oldest has been due."""
    newest: datetime
    """When the newest became due."""


class EarlierRun(NamedTuple):
    """A run that was asked for before."""

    run_id: str
    window: DayWindow
    newest: datetime | None
    """Of the work it was asked for; None where that is not known."""
    state: RunState
    seconds: float
    """Since it ended; since it was asked for, where it is under way."""


class BacklogLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When to ask for runs, and for how large ones. Times in seconds."""

    jobs: int
    """So much due work is enough, however young."""
    seconds: float
    """Work so old is enough, however little."""
    worker_seconds: float
    """A worker that leaves work for so long does not get on."""
    days: int
    """Longest range of a run."""
    runs: int = 2
    """Most runs under way at once."""
    run_seconds: float = 7200.0
    """A run under way for longer is not waited for: its process may be gone, and two runs never harm each other."""
    pause: float = 60.0
    """Wait after a run that was in vain; doubles with each."""
    longest_pause: float = 900.0


class Ask(NamedTuple):
    """A run to ask for."""

    window: DayWindow
    items: int
    oldest_seconds: float
    newest: datetime | None
    """Of the due work; None where a failed run alone is the reason."""
    in_vain: int
    """How many runs over these days have just been in vain."""
    run_key: str
    """The same as long as nothing new is due and no run over these days has been made since."""


class Plan(NamedTuple):
    """What to ask for, and in words why not for more."""

    asks: list[Ask]
    reasons: list[str]


def workers_get_on(workers: int, oldest_seconds: float, limits: BacklogLimits) -> bool:
    """Whether due jobs can be left to the workers there are."""
    return workers > 0 and oldest_seconds < limits.worker_seconds


class Unseen(NamedTuple):
    """That no worker is seen."""

    since: datetime
    looked_at: datetime
    """The last look; those between this and `since` all found none."""

    @property
    def seconds(self) -> float:
        """How long that has been so."""
        return (self.looked_at - self.since).total_seconds()


def look_for_workers(before: Unseen | None, workers: int, now: datetime, longest_gap: float) -> Unseen | None:
    """Return what a look at `now` makes of the one before; None where a worker is seen.

    Looks more than `longest_gap` seconds apart do not count together: workers may have come in between.
    """
    if workers:
        return None
    if before is None or not 0.0 <= (now - before.looked_at).total_seconds() <= longest_gap:
        return Unseen(now, now)
    return Unseen(before.since, now)


def merged(days: Iterable[DueDay]) -> list[DueDay]:
    """Return one entry per day, by day."""
    by_day: dict[date, DueDay] = {}
    for due in days:
        other = by_day.get(due.day)
        by_day[due.day] = due if other is None else _together(due.day, [other, due])
    return [by_day[day] for day in sorted(by_day)]


def plan_runs(due: Sequence[DueDay], runs: Sequence[EarlierRun], limits: BacklogLimits) -> Plan:
    """Return the runs to ask for now. `due`: one entry per day; `runs`: the newest first.

    Due work is asked for once there is enough of it, or some is old enough; the days of a failed or partial run are
    asked for again until a run over them succeeds, whatever is due there. No day is asked for while a run over it is
    under way. After runs that were in vain (failed, or ended with the same work still due) there is a growing pause.
    """
    under_way = [run for run in runs if run.state == "under_way" and run.seconds < limits.run_seconds]
    free = limits.runs - len(under_way)
    busy = [run.window for run in under_way]
    waiting = [day for day in due if not any(_holds(window, day.day) for window in busy)]
    reasons = [f"run {run.run_id} over {_named(run.window)} is under way" for run in under_way]
    items, oldest = _amount(waiting)
    if items < limits.jobs and oldest < limits.seconds:
        if items:
            reasons.append(f"{items:,} due, the oldest for {oldest:.0f} s: not enough yet")
        waiting = []
    left = [day for day in left_by_failures(runs) if not any(_holds(window, day) for window in busy)]
    asks = []
    for window in day_ranges({day.day for day in waiting} | set(left), busy, limits.days):
        ask, pause = _ask(window, waiting, runs, limits)
        if pause > 0:
            reasons.append(f"{_named(window)} waits {pause:.0f} s more after {ask.in_vain} runs in vain")
        else:
            asks.append(ask)
    asks.sort(key=lambda ask: (-ask.oldest_seconds, ask.window.start))
    if len(asks) > free:
        reasons.append(f"{len(asks) - max(free, 0)} ranges of days wait for their turn")
    return Plan(asks[: max(free, 0)], reasons)


def day_ranges(days: Iterable[date], busy: Sequence[DayWindow], longest: int) -> Iterator[DayWindow]:
    """Yield ranges of at most `longest` days that hold all of `days` between them, by day, and none of a `busy` window.

    Each begins and ends with one of `days`; what lies between is covered too, because a run takes a whole range.
    """
    first: date | None = None
    last = date.min
    for day in sorted(set(days)):
        if first is not None and (
            (day - first).days >= longest or any(_overlap(window, DayWindow(last, day + _DAY)) for window in busy)
        ):
            yield DayWindow(first, last + _DAY)
            first = None
        first = day if first is None else first
        last = day
    if first is not None:
        yield DayWindow(first, last + _DAY)


def left_by_failures(runs: Sequence[EarlierRun]) -> set[date]:
    """Return the days of failed or partial runs that no later run has succeeded on, and nobody has cancelled one.

    `runs`: the newest first.
    """
    settled: list[DayWindow] = []
    left: set[date] = set()
    for run in runs:
        if run.state in ("failed", "partial"):
            left.update(day for day in run.window.days() if not any(_holds(window, day) for window in settled))
        elif run.state != "under_way":
            settled.append(run.window)
    return left


def _ask(
    window: DayWindow, due: Sequence[DueDay], runs: Sequence[EarlierRun], limits: BacklogLimits
) -> tuple[Ask, float]:
    """Return what to ask for, and how many seconds there still are to wait."""
    within = [day for day in due if _holds(window, day.day)]
    newest = max((day.newest for day in within), default=None)
    earlier = [run for run in runs if _overlap(run.window, window)]
    in_vain = 0
    for run in earlier:
        if run.state in ("under_way", "partial"):
            continue
        nothing_new = newest is not None and run.newest is not None and newest <= run.newest
        if run.state == "succeeded" and not nothing_new:
            break
        in_vain += 1
    pause = 0.0
    if in_vain:
        ended = min(run.seconds for run in earlier if run.state != "under_way")
        pause = min(limits.longest_pause, limits.pause * 2.0 ** min(in_vain - 1, 60)) - ended
    items, oldest = _amount(within)
    key = (
        f"{_named(window)} {newest.isoformat() if newest else 'again'} after {earlier[0].run_id if earlier else 'none'}"
    )
    return Ask(window, items, oldest, newest, in_vain, key), pause


def _amount(days: Sequence[DueDay]) -> tuple[int, float]:
    return sum(day.items for day in days), max((day.oldest_seconds for day in days), default=0.0)


def _together(day: date, parts: Sequence[DueDay]) -> DueDay:
    items, oldest = _amount(parts)
    return DueDay(day, items, oldest, max(part.newest for part in parts))


def _holds(window: DayWindow, day: date) -> bool:
    return window.start <= day < window.end


def _overlap(one: DayWindow, other: DayWindow) -> bool:
    return one.start < other.end and other.start < one.end


def _named(window: DayWindow) -> str:
    return f"{window.start}..{window.end - _DAY}"


class Reported(NamedTuple):
    """How much of a day was done."""

    day: date
    items: int


def split_report(waiting: dict[date, int], found: dict[date, int], most: int) -> tuple[list[Reported], dict[date, int]]:
    """Return the days to report now, at most `most`, and what waits for the next time; no item is in both or neither.

    First the newest day, then what has waited longest, in the order of `waiting`, so with two or more none waits for
    ever; then the other days, newest first.
    """
    newest = max({*waiting, *found}, default=None)
    order = [*waiting, *sorted(found.keys() - waiting.keys(), reverse=True)]
    order.sort(key=lambda day: day != newest)  # a stable sort: the others stay as they are
    total = {day: waiting.get(day, 0) + found.get(day, 0) for day in order}
    return [Reported(day, total[day]) for day in order[:most]], {day: total[day] for day in order[most:]}

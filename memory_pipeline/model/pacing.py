"""When an export that follows changes may begin: once things are quiet, or the first change has waited long enough.

Plain arithmetic: no clock and no store in here. Moments are seconds since 1970.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

CLOCK_STEP_SECONDS = 60.0
"""A moment further ahead than this was told by a clock that has been set back since."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How often to export. Times in seconds."""

    interval: float
    """Least time between two exports, and the longest that a change waits for things to become quiet."""
    quiet: float
    """For so long nothing changed, and no run of the backlog was at work: then things are quiet."""
    longest_pause: float = 3600.0
    """Between two exports in vain."""

    def pause(self, in_vain: int) -> float:
        """Return the least time between two exports after so many in vain: it doubles with each after the first."""
        return min(self.interval * 2.0 ** min(max(in_vain - 1, 0), 60), max(self.interval, self.longest_pause))


class Waiting(NamedTuple):
    """Changes that no export has read."""

    changes: int
    first: float
    """When the first of them was told."""
    newest: float


class Backlog(NamedTuple):
    """What the backlog's runs are at: they make messages searchable, and an export beside them slows them."""

    under_way: str | None
    """A run that waits or works."""
    ended: float | None
    """When the last one did."""


def seconds_since(moment: float, now: float) -> float:
    """Return how long ago a moment was; infinity where a clock was set back since, so that nothing waits for it."""
    ahead = moment - now
    return math.inf if ahead > CLOCK_STEP_SECONDS else max(0.0, -ahead)


def waited_longest(pace: Pace, waiting: Waiting, now: float) -> bool:
    """Whether the first change has waited for as long as any may."""
    return seconds_since(waiting.first, now) >= pace.interval


def why_later(
    pace: Pace, waiting: Waiting, backlog: Backlog, now: float, *, asked: float | None, in_vain: int
) -> str | None:
    """Return in words why an export may not begin now; None where it may.

    `asked`: when one was last asked for; `in_vain`: how many in a row did not export the newest of these changes.
    """
    pause = pace.pause(in_vain)
    left = pause - seconds_since(asked, now) if asked is not None else 0.0
    if left > 0:
        again = f", after {in_vain} in vain" if in_vain else ""
        return f"{_counted(waiting)} {left:.0f} s more: at most one export in {pause:g} s{again}."
    if waited_longest(pace, waiting, now):
        return None
    latest = pace.interval - seconds_since(waiting.first, now)
    if backlog.under_way is not None:
        return (
            f"{_counted(waiting)} for run {backlog.under_way}, which makes messages searchable, "
            f"and for no longer than {latest:.0f} s."
        )
    stirred = max(waiting.newest, backlog.ended or 0.0)
    left = pace.quiet - seconds_since(stirred, now)
    if left > 0:
        return (
            f"{_counted(waiting)} {min(left, latest):.0f} s more: until nothing has changed for {pace.quiet:g} s, "
            f"and for no longer than {latest:.0f} s."
        )
    return None


def _counted(waiting: Waiting) -> str:
    return f"{waiting.changes:,} materializations wait" if waiting.changes != 1 else "1 materialization waits"

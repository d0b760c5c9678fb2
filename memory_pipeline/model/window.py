"""A range of UTC days: what one materialization covers, be it one partition or a backfill over years."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta

import msgspec

Progress = Callable[[int], None]
"""Called with how many items were finished since the last call."""


def no_progress(_finished: int) -> None:
    """Ignore progress."""


class DayWindow(msgspec.Struct, frozen=True):
    """The days from `start` up to, but not including, `end`."""

    start: date
    end: date

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError(f"a window can't end ({self.end}) before it starts ({self.start})")

    @classmethod
    def of_day(cls, day: date) -> DayWindow:
        return cls(day, day + timedelta(days=1))

    @property
    def start_time(self) -> datetime:
        return datetime.combine(self.start, time(), tzinfo=UTC)

    @property
    def end_time(self) -> datetime:
        return datetime.combine(self.end, time(), tzinfo=UTC)

    def whole_weeks(self) -> DayWindow:
        """Return the weeks (Monday to Monday) that the window touches."""
        if self.start == self.end:
            return self
        end = self.end.toordinal() + -self.end.weekday() % 7
        return DayWindow(
            self.start - timedelta(days=self.start.weekday()),
            date.fromordinal(min(end, date.max.toordinal())),
        )

    def days(self) -> Iterator[date]:
        day = self.start
        while day < self.end:
            yield day
            day += timedelta(days=1)

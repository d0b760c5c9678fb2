"""What one run of a stage covers: a range of UTC days (one partition or a backfill over years), or named memories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from uuid import UUID

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


class NamedMemory(NamedTuple):
    """One memory by its id; `day` is its UTC day, for whoever counts by day. No statement trusts it."""

    tenant_id: UUID
    memory_id: UUID
    day: date


class NamedMemories(msgspec.Struct, frozen=True):
    """A handful of memories (one to some hundred) of any tenants; stages include the facts found in those named.

    Those that do not exist, or belong to another tenant than was said, are ignored.
    """

    memories: tuple[NamedMemory, ...]
    """By tenant and id, each once."""

    @classmethod
    def of(cls, memories: Iterable[NamedMemory]) -> NamedMemories:
        """Name these; one that is named twice counts once."""
        by_key = {(memory.tenant_id, memory.memory_id): memory for memory in memories}
        return cls(tuple(by_key[key] for key in sorted(by_key)))


Selection = DayWindow | NamedMemories
"""What a stage is asked to do."""

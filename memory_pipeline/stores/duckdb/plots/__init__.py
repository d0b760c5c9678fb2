"""The numbers that plots of a published file show: counts and times, never a name of a user or a text.

Apart from the SQL that a file is built with, whose every change makes a new generation. Every statement looks at the
last 90 days, or weeks, that there is something of: a plot has no room for more.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from memory_pipeline.stores.duckdb.query import query
from memory_pipeline.stores.sqlfiles import sql


class DayCount(NamedTuple):
    """How many of a series there were on a day. Days without any may be left out."""

    series: str
    day: date
    number: int


class DayFindings(NamedTuple):
    """What audits of a day found in one store."""

    series: str
    day: date
    findings: int
    repaired: int


class DayLag(NamedTuple):
    """How long completed work of a type took, in seconds, by the day it was asked for."""

    job_type: str
    day: date
    p50: float
    p95: float


class DayChurn(NamedTuple):
    """Facts that began and ended on a day, and those that held at its end."""

    day: date
    began: int
    ended: int
    holding: int


class DayTokens(NamedTuple):
    """What calls of one model sent and answered on a day, and their price; None where none of them has one."""

    series: str
    day: date
    tokens: int
    cost_usd: float | None


class DayRecalls(NamedTuple):
    """Recalls of a day: with memories, without any, and those of both that had to do without something."""

    day: date
    answered: int
    unanswered: int
    degraded: int


class TenantFacts(NamedTuple):
    """Facts of a tenant whose validity is open, and those that have ended."""

    series: str
    holding: int
    ended: int


class WeekDays(NamedTuple):
    """Days of a week (named by its Monday) with messages and without."""

    week: date
    with_messages: int
    without: int


class Cohort(NamedTuple):
    """Part of the users who first wrote in a week that wrote again so many weeks later, 0 to 1."""

    week: date
    users: int
    weeks_later: int
    retention: float


def activity(path: Path) -> list[DayCount]:
    """Messages by tenant: the eight with most of them, then the others as one. Raises MemoryPipelineError."""
    return [DayCount(*row) for row in _rows(path, "activity")]


def growth(path: Path) -> list[DayCount]:
    """Memories up to the end of each day, by kind."""
    return [DayCount(*row) for row in _rows(path, "growth")]


def retention(path: Path) -> list[Cohort]:
    """The last twelve weeks in which users first wrote, each with the (at most twelve) weeks after it so far."""
    return [Cohort(*row) for row in _rows(path, "retention")]


def response(path: Path) -> list[DayLag]:
    """Percentiles over the jobs of all tenants; those of single tenants could not be put together."""
    return [DayLag(*row) for row in _rows(path, "response")]


def churn(path: Path) -> list[DayChurn]:
    """Every day up to the last with messages: facts may begin or end long after."""
    return [DayChurn(*row) for row in _rows(path, "churn")]


def quality(path: Path) -> list[DayFindings]:
    """Findings by store and problem: the eight most frequent, then the others as one.

    The last day of each series is that of the newest audit or entry of the log: nothing found since must show too.
    """
    return [DayFindings(*row) for row in _rows(path, "quality")]


def cost(path: Path) -> list[DayTokens]:
    """Tokens by model: the eight with most of them, then the others as one."""
    return [DayTokens(*row) for row in _rows(path, "cost")]


def recall(path: Path) -> list[DayRecalls]:
    """Recalls of all tenants."""
    return [DayRecalls(*row) for row in _rows(path, "recall")]


def catalogue(path: Path) -> list[TenantFacts]:
    """Facts by tenant: the eight with most of them, then the others as one."""
    return [TenantFacts(*row) for row in _rows(path, "catalogue")]


def users(path: Path) -> list[DayCount]:
    """Users of a day by how many messages their conversations had; never which users."""
    return [DayCount(*row) for row in _rows(path, "users")]


def hours(path: Path) -> list[DayCount]:
    """Messages of a day by the quarter of it (UTC) in which they were sent."""
    return [DayCount(*row) for row in _rows(path, "hours")]


def topics(path: Path) -> list[DayCount]:
    """How often facts of a week (named by its Monday) name one of its top entities, or topics; never which."""
    return [DayCount(*row) for row in _rows(path, "topics")]


def calendar(path: Path) -> list[WeekDays]:
    """Every week from the first to the last message."""
    return [WeekDays(*row) for row in _rows(path, "calendar")]


def _rows(path: Path, name: str) -> list[tuple[Any, ...]]:
    return query(path, sql(__name__, name), max_rows=None).rows

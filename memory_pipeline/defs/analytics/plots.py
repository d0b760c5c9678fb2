"""Which plot each exported table has in Dagster: of counts and times alone, because its history outlives an erasure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from memory_pipeline.defs.analytics import charts
from memory_pipeline.stores.duckdb import plots
from memory_pipeline.stores.duckdb.marts import marts
from memory_pipeline.stores.lake import DIMENSIONS
from memory_pipeline.stores.lake.manifest import LakeManifest
from memory_pipeline.stores.lake.tables import day_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAKE_DAYS = 90
"""Days that a plot of a lake table shows."""


def mart_plot(path: Path, mart: str) -> dg.MarkdownMetadataValue:
    """Return the plot of a mart of the published file; every mart has one. Raises MemoryPipelineError."""
    return _metadata(_FIGURES[mart](path), mart)


def lake_plot(manifest: LakeManifest, table: str) -> dg.MarkdownMetadataValue:
    """Return the plot of a daily table of the lake: rows of each of the last days that there are any of."""
    return _metadata(lake_figure(manifest, table), f"lake_{table}")


def overview_plot(rows: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """Return the plot of a published file: the rows of every table and mart."""
    return _metadata(overview_figure(rows), "rows per table")


def tables_plot(title: str, rows: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """Return the plot of a whole lake, here or at its URL: the rows of every table."""
    return _metadata(tables_figure(title, rows), "rows per table")


def activity_figure(path: Path) -> Figure:
    """Messages by day, a colour per tenant."""
    return _stacked(
        "Messages by tenant", "messages per day", plots.activity(path), "No messages have been exported yet."
    )


def growth_figure(path: Path) -> Figure:
    """All memories up to each day, a colour per kind."""
    return _stacked(
        "Memories by kind, all up to each day", "memories", plots.growth(path), "No memories have been exported yet."
    )


def retention_figure(path: Path) -> Figure:
    """A row per week of new users, a column per week after."""
    title, found = "Users who wrote again, by the week in which they first wrote", plots.retention(path)
    if not found:
        return charts.nothing_yet(title, "No user has written yet.")
    rows: dict[str, list[float]] = {}
    for cohort in found:
        plural = "" if cohort.users == 1 else "s"
        rows.setdefault(f"{cohort.week} ({cohort.users:,} user{plural})", []).append(cohort.retention)
    return charts.heat_map(title, "weeks later (in % of the week's new users)", "first week", rows)


def response_figure(path: Path) -> Figure:
    """Median and 95th percentile by day, a colour per type of job."""
    title, found = "From request to completion, by the day of the request", plots.response(path)
    if not found:
        return charts.nothing_yet(title, "No job has been completed yet.")
    series: dict[str, tuple[dict[date, float], dict[date, float]]] = {}
    for lag in found:
        p50, p95 = series.setdefault(lag.job_type, ({}, {}))
        p50[lag.day], p95[lag.day] = lag.p50, lag.p95
    return charts.percentile_days(title, series, ("half done within", "95 % done within"))


def churn_figure(path: Path) -> Figure:
    """Facts that began and ended by day, and those that hold."""
    title, found = "Facts that began and ended to hold", plots.churn(path)
    if not found:
        return charts.nothing_yet(title, "No facts have been exported yet.")
    return charts.up_and_down_days(
        title,
        "facts per day",
        ("began", {one.day: one.began for one in found}),
        ("ended", {one.day: one.ended for one in found}),
        ("facts that hold", {one.day: one.holding for one in found}),
    )


def quality_figure(path: Path) -> Figure:
    """Findings of audits by day, a colour per store and problem."""
    title, found = "What audits found wrong", plots.quality(path)
    if not found:
        return charts.nothing_yet(title, "No audit of the last 90 days found anything wrong.")
    repaired: dict[date, float] = {}
    for one in found:
        repaired[one.day] = repaired.get(one.day, 0) + one.repaired
    counts = [plots.DayCount(one.series, one.day, one.findings) for one in found]
    return charts.stacked_days(title, "findings per day", _series(counts), ("repaired", repaired))


def cost_figure(path: Path) -> Figure:
    """Tokens by day, a colour per model, and dollars where any call has a price."""
    title, found = "Tokens by model, and what they cost", plots.cost(path)
    if not found:
        return charts.nothing_yet(title, "No call of a model was counted yet; local models are not.")
    dollars: dict[date, float] = {}
    for one in found:
        if one.cost_usd is not None:
            dollars[one.day] = dollars.get(one.day, 0) + one.cost_usd
    counts = [plots.DayCount(one.series, one.day, one.tokens) for one in found]
    return charts.stacked_days(
        title, "tokens per day", _series(counts), level=("US dollars", dollars) if dollars else None
    )


def recall_figure(path: Path) -> Figure:
    """Recalls by day, with and without an answer."""
    title, found = "How recall answered", plots.recall(path)
    if not found:
        return charts.nothing_yet(title, "No question has been asked yet.")
    series = {
        "with memories": {one.day: one.answered for one in found},
        "without any": {one.day: one.unanswered for one in found},
    }
    return charts.stacked_days(title, "recalls per day", series, ("degraded", {one.day: one.degraded for one in found}))


def catalogue_figure(path: Path) -> Figure:
    """Facts that hold on the left, that have ended on the right, a bar per tenant."""
    title, found = "Facts by tenant", plots.catalogue(path)
    if not found:
        return charts.nothing_yet(title, "No facts have been exported yet.")
    panels = {
        "valid without end": {one.series: one.holding for one in found},
        "no longer valid": {one.series: one.ended for one in found},
    }
    return charts.bar_panels(title, "facts", panels)


def users_figure(path: Path) -> Figure:
    """Users by day, a colour per number of messages."""
    return _stacked(
        "Users by how many messages their conversations had",
        "users per day",
        plots.users(path),
        "No user has written yet.",
    )


def hours_figure(path: Path) -> Figure:
    """Messages by day, a colour per quarter of the day."""
    return _stacked(
        "Messages by the hour (UTC) at which they were sent",
        "messages per day",
        plots.hours(path),
        "No messages have been exported yet.",
    )


def topics_figure(path: Path) -> Figure:
    """How often facts named the top entities and topics, by week."""
    return _stacked(
        "How often facts named the top entities and topics",
        "facts per week",
        plots.topics(path),
        "No facts have been exported yet.",
        bar_days=7,
    )


def calendar_figure(path: Path) -> Figure:
    """Days with and without messages, by week."""
    title, found = "Days with messages, by week", plots.calendar(path)
    if not found:
        return charts.nothing_yet(title, "No messages have been exported yet.")
    series = {
        "with messages": {one.week: one.with_messages for one in found},
        "without": {one.week: one.without for one in found},
    }
    return charts.stacked_days(title, "days per week", series, bar_days=7)


def lake_figure(manifest: LakeManifest, table: str) -> Figure:
    """Rows by day of a table of the lake."""
    days = {
        day: file.rows
        for name, file in (manifest.tables[table].files if table in manifest.tables else {}).items()
        if (day := day_of(name)) is not None
    }
    title = f"{table}: rows per day in the lake"
    if not days:
        return charts.nothing_yet(title, "No day with rows has been exported yet.")
    shown = {day: rows for day, rows in days.items() if day > max(days) - timedelta(days=LAKE_DAYS)}
    return charts.stacked_days(title, "rows per day", {table: shown})


def overview_figure(rows: Mapping[str, int]) -> Figure:
    """Rows of tables on the left, of marts on the right."""
    made = {mart.name for mart in marts()}
    panels = {
        "tables": {name: count for name, count in sorted(rows.items()) if name not in made},
        "marts": {name: count for name, count in sorted(rows.items()) if name in made},
    }
    return charts.bar_panels("Rows of the published file", "rows", panels)


def tables_figure(title: str, rows: Mapping[str, int]) -> Figure:
    """Rows of dimensions on the left, of daily tables on the right."""
    panels = {
        "dimensions": {name: count for name, count in sorted(rows.items()) if name in DIMENSIONS},
        "daily tables": {name: count for name, count in sorted(rows.items()) if name not in DIMENSIONS},
    }
    return charts.bar_panels(title, "rows", {name: panel for name, panel in panels.items() if panel})


_FIGURES: dict[str, Callable[[Path], Figure]] = {
    "mart_daily_activity": activity_figure,
    "mart_memory_growth": growth_figure,
    "mart_retention": retention_figure,
    "mart_pipeline_response": response_figure,
    "mart_fact_churn": churn_figure,
    "mart_data_quality": quality_figure,
    "mart_cost_daily": cost_figure,
    "mart_recall_use": recall_figure,
    "mart_fact_catalogue": catalogue_figure,
    "mart_user_daily": users_figure,
    "mart_weekly_topics": topics_figure,
    "mart_hourly_activity": hours_figure,
    "dim_days": calendar_figure,
}


def _stacked(title: str, unit: str, found: Sequence[plots.DayCount], nothing_yet: str, *, bar_days: int = 1) -> Figure:
    """Return counts by day, a colour per series; or the sentence where there are none."""
    if not found:
        return charts.nothing_yet(title, nothing_yet)
    return charts.stacked_days(title, unit, _series(found), bar_days=bar_days)


def _metadata(figure: Figure, name: str) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(charts.markdown_of(charts.png_of(figure), name))


def _series(counts: Iterable[plots.DayCount]) -> dict[str, dict[date, float]]:
    series: dict[str, dict[date, float]] = {}
    for one in counts:
        series.setdefault(one.series, {})[one.day] = one.number
    return series

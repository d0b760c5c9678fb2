"""How time is cut: UTC days for what follows messages, weeks (Monday) for summaries. Never by message, user, tenant.

Dagster needs the first day when the code location loads, so this module reads MEMORY_PARTITION_START at import.
"""

from __future__ import annotations

from datetime import date, timedelta

import dagster as dg

from memory_pipeline.model.window import DayWindow
from memory_pipeline.settings import load_settings

PARTITION_START: date = load_settings().partition_start
FIRST_MONDAY: date = PARTITION_START - timedelta(days=PARTITION_START.weekday())

# end_offset=1: today and the current week can be materialized while they last.
daily = dg.DailyPartitionsDefinition(start_date=PARTITION_START.isoformat(), end_offset=1)
weekly = dg.WeeklyPartitionsDefinition(start_date=FIRST_MONDAY.isoformat(), day_offset=1, end_offset=1)

EVERY_DAY = DayWindow(date.min, date.max)


def window_of(context: dg.AssetExecutionContext) -> DayWindow:
    """Return the days that this run covers: one partition, or a contiguous range as one."""
    window = context.partition_time_window
    return DayWindow(window.start.date(), window.end.date())


def checked_window(
    context: dg.AssetCheckExecutionContext, partitions: dg.TimeWindowPartitionsDefinition = daily
) -> DayWindow:
    """Return the days that a check looks at: those of its run, or every day where it is run by itself.

    Checks are not partitioned, though their assets are: of a partitioned check Dagster 1.13 announces one evaluation
    per day and, in a run over a range, stores only one, under no day at all.
    """
    if not (context.has_partition_key or context.has_partition_key_range):
        return EVERY_DAY
    keys = context.partition_key_range
    first = partitions.time_window_for_partition_key(keys.start)
    last = partitions.time_window_for_partition_key(keys.end)
    return DayWindow(first.start.date(), last.end.date())

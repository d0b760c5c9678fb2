"""Puts the definitions together. A test can swap the stores: `build_definitions(resource_overrides=…)`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_shared.utils.warnings import BetaWarning

# What we use on purpose although Dagster 1.13 calls it beta: one run for a range of days, owners of schedules, and
# an asset that is observed. Only these warnings, only while the definitions load; any other is still shown.
_ACCEPTED_BETA = (
    "Parameter `backfill_policy` of function `asset`",
    "Parameter `backfill_policy` of function `multi_asset`",
    "Parameter `owners` of function `schedule`",
    "Parameter `owners` of initializer `ScheduleDefinition.__init__`",
    "Function `multi_observable_source_asset`",
)
with warnings.catch_warnings():
    for subject in _ACCEPTED_BETA:
        warnings.filterwarnings("ignore", f"{re.escape(subject)} is currently in beta", BetaWarning)
    from memory_pipeline.defs.analytics import assets as analytics
    from memory_pipeline.defs.analytics import checks as analytics_checks
    from memory_pipeline.defs.analytics import schedule as analytics_schedule
    from memory_pipeline.defs.analytics import sensor as analytics_sensor
    from memory_pipeline.defs.audit import assets as audit
    from memory_pipeline.defs.audit import checks as audit_checks
    from memory_pipeline.defs.audit import schedule as audit_schedule
    from memory_pipeline.defs.common import pipeline_resource
    from memory_pipeline.defs.embedding import assets as embedding
    from memory_pipeline.defs.embedding import checks as embedding_checks
    from memory_pipeline.defs.enrichment import assets as enrichment
    from memory_pipeline.defs.enrichment import checks as enrichment_checks
    from memory_pipeline.defs.failures import run_failure_sensor
    from memory_pipeline.defs.index import assets as index
    from memory_pipeline.defs.index import checks as index_checks
    from memory_pipeline.defs.queue import backlog, dead_letters, worker_reports, write_buffer
    from memory_pipeline.defs.source import assets as source
    from memory_pipeline.defs.source import schedule as source_schedule
    from memory_pipeline.defs.source import sensor as source_sensor
    from memory_pipeline.defs.summaries import assets as summaries
    from memory_pipeline.defs.summaries import checks as summaries_checks
    from memory_pipeline.defs.summaries import schedule as summaries_schedule

_ASSETS = [source, enrichment, embedding, index, analytics, summaries, audit]
_CHECKS = [enrichment_checks, embedding_checks, index_checks, analytics_checks, summaries_checks, audit_checks]
_SCHEDULES = [
    source_schedule.hourly_observation_schedule,
    analytics_schedule.hourly_export_schedule,
    summaries_schedule.weekly_summaries_schedule,
    audit_schedule.daily_audit_schedule,
]
_SENSORS = [
    backlog.queue_backlog_sensor,
    dead_letters.dead_letter_sensor,
    write_buffer.write_buffer_sensor,
    worker_reports.worker_reports_sensor,
    source_sensor.new_tenants_sensor,
    run_failure_sensor,
    analytics_sensor.after_facts_sensor,
]


def build_definitions(resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Return the code location."""
    return dg.Definitions(
        assets=dg.load_assets_from_modules(_ASSETS),
        asset_checks=dg.load_asset_checks_from_modules(_CHECKS),
        schedules=_SCHEDULES,
        sensors=_SENSORS,
        jobs=[write_buffer.replay_job],
        resources={"pipeline": pipeline_resource(), **(resource_overrides or {})},
        # A step is milliseconds to minutes of work on shared servers: a process for each costs more than it gives.
        executor=dg.in_process_executor,
    )

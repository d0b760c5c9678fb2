"""Plots that Dagster shows: they say what the published file does, and name no user and no text."""

from __future__ import annotations

import base64
import io
import math
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import msgspec
import numpy as np
import psycopg
import pytest
from PIL import Image

from memory_pipeline.defs.analytics import charts
from memory_pipeline.definitions import defs
from memory_pipeline.defs.analytics.plots import (
    PLOTTED,
    activity_figure,
    churn_figure,
    growth_figure,
    lake_figure,
    mart_plot,
    overview_figure,
    overview_plot,
    quality_figure,
    response_figure,
    retention_figure,
)
from memory_pipeline.model.records import IncomingMessage
from memory_pipeline.model.window import DayWindow
from memory_pipeline.providers.local_enricher import LocalEnricher
from memory_pipeline.stages.enrich import enrich
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stages.relate import relate
from memory_pipeline.stores.duckdb import plots
from memory_pipeline.stores.duckdb.marts import marts
from memory_pipeline.stores.duckdb.publish import ExportReport, publish_duckdb
from memory_pipeline.stores.lake.manifest import read_manifest
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.defs.conftest import Deployment
from memory_pipeline_tests.defs.sample import TEXTS, WINDOW, add_sample
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.stores.export_sample import add_messages, message

FIRST_DAY = date(2025, 1, 6)
"""A Monday."""
DAYS = 70
MANY = DayWindow(FIRST_DAY, FIRST_DAY + timedelta(days=DAYS))
BUSY_TENANTS = len(charts.COLOURS) + 2
SAYINGS = ("I live in Porto.", "I moved to Lisbon.", "I love hiking.", "My favourite colour is green.", "Hello there.")
_JOBS = """
INSERT INTO memory_jobs (tenant_id, job_type, state, day, created_at, finished_at, attempts, correlation_id)
SELECT tenant_id, type, 'completed', day::date, day, day + make_interval(secs => seconds * (1 + n * n / 40.0)), 1,
       gen_random_uuid()
FROM tenants, generate_series(%(first)s::timestamptz, %(last)s::timestamptz, '1 day') day, generate_series(1, 7) n,
     (VALUES ('enrich_and_embed', 2.5), ('index', 0.2), ('summarize', 40)) types (type, seconds)
"""
_FINDINGS = """
WITH audits AS (
    INSERT INTO audit_runs (started_at, finished_at, findings)
    SELECT clock_timestamp() - n * interval '3 days', clock_timestamp(), 0 FROM generate_series(0, 9) n
    RETURNING audit_id, started_at
)
INSERT INTO audit_findings (tenant_id, audit_id, store, problem, repaired)
SELECT tenant_id, audit_id, store, problem, problem = 'vector_missing'
FROM tenants, audits, (VALUES ('chroma', 'vector_missing'), ('chroma', 'vector_stale'), ('postgres', 'no_source')) p
     (store, problem)
WHERE hashtext(slug || problem || started_at::date) % 3 = 0
"""


@pytest.fixture(scope="module")
def busy(servers: Servers, migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published file of ten tenants over ten weeks, of whom the first says most, with jobs and findings."""
    root = tmp_path_factory.mktemp("busy")
    with fresh_database(servers, migrated_template) as fresh:
        for number in range(BUSY_TENANTS):
            add_messages(fresh.pipeline_url, f"tenant-{number}", _talk(number))
        with Database(fresh.pipeline_url) as database:
            enrich(database, LocalEnricher(), MANY, plugin="enricher:local")
            relate(database, MANY)
        with psycopg.connect(fresh.admin_url, options="-c search_path=memory,public") as connection:
            moments = {"first": datetime(2025, 1, 6, 9, tzinfo=UTC), "last": datetime(2025, 3, 16, 9, tzinfo=UTC)}
            connection.execute(_JOBS, moments)
            connection.execute(_FINDINGS)
        export_lake(fresh.pipeline_url, MANY, root / "lake")
    return publish_duckdb(root / "lake", root / "exports", 3).path


def _talk(tenant: int) -> list[IncomingMessage]:
    """A new user every week, who comes back in every second week, or third, …; fewer messages the later the tenant."""
    talk = []
    for day in range(DAYS):
        moment = datetime.combine(FIRST_DAY + timedelta(days=day), time(9), tzinfo=UTC)
        for number in range(1 + 2 * (BUSY_TENANTS - tenant) // (2 + day % 3)):
            user = (day // 7) - (number * (1 + tenant % 3)) % (day // 7 + 1)
            said = message("t", f"{day}-{number}", moment + timedelta(minutes=number), SAYINGS[(day + number) % 5])
            talk.append(msgspec.structs.replace(said, user_email=f"user{user}@t{tenant}.example"))
    return talk

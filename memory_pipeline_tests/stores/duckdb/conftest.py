"""The sample conversations, enriched, summarized, exported and published: what an analyst opens after `demo`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest

from memory_pipeline.model.jobs import RetryPolicy
from memory_pipeline.model.window import DayWindow
from memory_pipeline.providers.registry import make_enricher, make_summarizer, plugin_names
from memory_pipeline.serving.ingest import UserDirectory, ingest
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.audit import LOOKED_FOR
from memory_pipeline.stages.enrich import enrich
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stages.relate import relate
from memory_pipeline.stages.summarize import summarize
from memory_pipeline.stores.duckdb.publish import Scope, publish_duckdb
from memory_pipeline.stores.postgres import jobs
from memory_pipeline.stores.postgres.audits import Finding, audit_time, gaps, record_audit
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.tenants import all_tenants, ensure_tenant
from memory_pipeline.synthetic import sample_messages
from memory_pipeline_tests.conftest import Database as DatabaseUrls
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.local.host import Servers

SUMMER = DayWindow(date(2026, 6, 1), date(2026, 8, 31))
"""The days of the sample."""
MASKED = "masked"
"""The consumer of the sample's export who gets no texts and pseudonyms."""


class SampleExport(NamedTuple):
    """What was published, and the Postgres it was exported from."""

    data: Path
    """Folder with `lake` and `exports`."""
    path: Path
    """The file of all tenants."""
    masked: Path
    database: DatabaseUrls


@pytest.fixture(scope="session")
def sample_export(
    servers: Servers, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SampleExport]:
    """The sample in a published file. Without vectors, which no file has; shared, so tests only read."""
    data = tmp_path_factory.mktemp("sample-export")
    with fresh_database(servers, migrated_template) as urls:
        with Database(urls.pipeline_url) as database:
            fill(database)
        export_lake(urls.pipeline_url, SUMMER, data / "lake")
        scope = Scope(mask_key=b"a key for these tests alone")
        report = publish_duckdb(data / "lake", data / "exports", 3, {MASKED: scope})
        yield SampleExport(data, report.path, report.consumers[MASKED].path, urls)


def fill(database: Database) -> None:
    """The sample through every stage that brings rows into the file, some jobs, and an audit that found something."""
    settings = load_settings()
    by_tenant = sorted(sample_messages(), key=lambda generated: generated.tenant_slug)
    for slug, generated in groupby(by_tenant, key=lambda generated: generated.tenant_slug):
        with database.transaction() as connection:
            tenant_id = ensure_tenant(connection, slug)
        users = UserDirectory(database, tenant_id, None)
        ingest(database, tenant_id, users, (one.message for one in generated), actor="import", on_reject=_refuse)
    plugins = plugin_names(settings)
    enrich(database, make_enricher(settings), SUMMER, plugin=plugins.enricher)
    relate(database, SUMMER)
    summarize(database, make_summarizer(settings), SUMMER, plugin=plugins.summarizer)
    _work(database)
    # No memory of the sample is embedded here, and an audit says so.
    with database.transaction() as connection:
        found = [
            Finding(gap.tenant_id, "postgres", gap.problem, gap.subject_id, {}) for gap in gaps(connection, "x", 5)
        ]
        looked_for = [kind for kind in LOOKED_FOR if kind.startswith("postgres: ")]
        record_audit(connection, audit_time(connection), {"looked_for": looked_for}, found, len(found))


def _work(database: Database) -> None:
    """Five jobs of each tenant: three done, one dead, one that waits."""
    with database.transaction() as connection:
        for tenant_id in all_tenants(connection):
            new = jobs.NewJob(
                tenant_id=tenant_id, job_type="enrich_and_embed", day=SUMMER.start, correlation_id=uuid4()
            )
            claims = jobs.claim_keys(connection, "worker", jobs.enqueue(connection, [new] * 5)[:4], 60)
            jobs.finish(connection, claims[:3])
            failure = jobs.Failure(claim=claims[3], error_class="ProviderError", error_text="no answer", retry=False)
            jobs.fail(connection, [failure], RetryPolicy(max_attempts=3, backoff_seconds=1))


def _refuse(rejection: object) -> None:
    pytest.fail(f"a sample message was rejected: {rejection}")

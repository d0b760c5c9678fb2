"""Findings of audits in the published file: all that were counted, though only some are listed."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores.duckdb import checks
from memory_pipeline.stores.duckdb.publish import Scope, publish_duckdb
from memory_pipeline.stores.duckdb.query import query
from memory_pipeline.stores.postgres.audits import Finding, record_audit
from memory_pipeline.stores.postgres.checks import mart_numbers
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.tenants import ensure_tenant
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.stores.export_sample import WINDOW, fill

_MART = "SELECT tenant, store, problem, findings, repaired, audits FROM mart_data_quality ORDER BY ALL"


def found(tenant_id: UUID, problem: str, listed: int, **detail: int) -> list[Finding]:
    return [Finding(tenant_id, "chroma", problem, None, detail)] * listed


def test_the_mart_counts_what_was_found_and_not_only_what_is_listed(database: Urls, tmp_path: Path) -> None:
    fill(database.pipeline_url)
    with Database(database.pipeline_url) as opened:
        with opened.transaction() as connection:
            acme, globex = (ensure_tenant(connection, slug) for slug in ("acme", "globex"))

            record_audit(
                connection,
                {},
                [
                    *found(acme, "vector_missing", 3, in_all=250),
                    *found(acme, "vector_stale", 2, in_all=2),
                    *found(globex, "vector_missing", 3, in_all=4),
                ],
                256,
            )
            record_audit(connection, {}, found(acme, "vector_missing", 3, in_all=40), 40)
            record_audit(connection, {}, found(globex, "vector_missing", 5), 5)  # as audits recorded it before
        with opened.transaction() as connection:
            numbers = mart_numbers(connection)
    export_lake(database.pipeline_url, WINDOW, tmp_path / "lake")
    masked = {"lab": Scope(mask_key=b"a key for this test alone")}
    report = publish_duckdb(tmp_path / "lake", tmp_path / "exports", 1, masked)
    for path in (report.path, report.consumers["lab"].path):
        counts = [row[2:] for row in query(path, _MART).rows]
        assert sorted(counts) == [
            ("vector_missing", 9, 0, 2),
            ("vector_missing", 290, 0, 2),
            ("vector_stale", 2, 0, 1),
        ]
    shown = checks.mart_numbers(report.path)
    assert {tenant: value for (name, tenant), value in numbers.items() if name == "findings"} == {acme: 292, globex: 9}
    assert {key: shown[key] for key in numbers if key[0] == "findings"} == {
        key: value for key, value in numbers.items() if key[0] == "findings"
    }

"""Audits in the published file: all findings that were counted, and zeros where an audit looked and found nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pyarrow.parquet as pq
import pytest

from memory_pipeline.model.errors import ExportError
from memory_pipeline.stages.audit import LOOKED_FOR
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores.duckdb import checks
from memory_pipeline.stores.duckdb.publish import ExportReport, Scope, publish_duckdb
from memory_pipeline.stores.duckdb.query import query
from memory_pipeline.stores.duckdb.traces import pseudonym
from memory_pipeline.stores.postgres.audits import Finding, audit_time, record_audit
from memory_pipeline.stores.postgres.checks import mart_numbers
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.tenants import ensure_tenant
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.stores.export_sample import WINDOW, fill, rewrite

KEY = b"a key for these tests alone"
_MART = "SELECT tenant, store, problem, findings, repaired, audits FROM mart_data_quality ORDER BY ALL"


def found(tenant_id: UUID, problem: str, listed: int, **detail: int) -> list[Finding]:
    return [Finding(tenant_id, "chroma", problem, None, detail)] * listed


def test_the_mart_counts_what_was_found_and_not_only_what_is_listed(database: Urls, tmp_path: Path) -> None:
    fill(database.pipeline_url)
    with Database(database.pipeline_url) as opened:
        with opened.transaction() as connection:
            acme, globex = (ensure_tenant(connection, slug) for slug in ("acme", "globex"))

            now = audit_time(connection)
            record_audit(
                connection,
                now,
                {},
                [
                    *found(acme, "vector_missing", 3, in_all=250),
                    *found(acme, "vector_stale", 2, in_all=2),
                    *found(globex, "vector_missing", 3, in_all=4),
                ],
                256,
            )
            record_audit(connection, now, {}, found(acme, "vector_missing", 3, in_all=40), 40)
            record_audit(connection, now, {}, found(globex, "vector_missing", 5), 5)  # as audits recorded it before
        with opened.transaction() as connection:
            numbers = mart_numbers(connection)
    export_lake(database.pipeline_url, WINDOW, tmp_path / "lake")
    masked = {"lab": Scope(mask_key=KEY)}
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


class Audits:
    """Acme and globex of the sample, and audits of theirs on days of March 2025; initech comes on the 6th."""

    def __init__(self, urls: Urls) -> None:
        self._urls = urls
        fill(urls.pipeline_url)
        with Database(urls.pipeline_url) as opened, opened.transaction() as connection:
            self.acme, self.globex, self.initech = (
                ensure_tenant(connection, slug) for slug in ("acme", "globex", "initech")
            )
        for tenant, day in ((self.acme, 1), (self.globex, 1), (self.initech, 6)):
            self.execute("UPDATE tenants SET created_at = %s WHERE tenant_id = %s", moment(day), tenant)

    def execute(self, statement: LiteralString, *parameters: object) -> None:
        with psycopg.connect(self._urls.admin_url, options="-c search_path=memory,public") as connection:
            connection.execute(statement, parameters)

    def audit(self, day: int, findings: Sequence[Finding] = (), looked_for: Sequence[str] = LOOKED_FOR) -> UUID:
        checked = {"tenants": 77_003, "vectors": 77_003, "model": "test-model", "looked_for": list(looked_for)}
        with Database(self._urls.pipeline_url) as opened, opened.transaction() as connection:
            return record_audit(connection, moment(day, 3), checked, findings, len(findings))

    def publish(self, root: Path, consumers: Mapping[str, Scope] | None = None) -> ExportReport:
        export_lake(self._urls.pipeline_url, WINDOW, root / "lake")
        return publish_duckdb(root / "lake", root / "exports", 1, consumers)


@pytest.fixture
def audits(database: Urls) -> Audits:
    return Audits(database)


def moment(day: int, hour: int = 0) -> datetime:
    return datetime(2025, 3, day, hour, tzinfo=UTC)


def rows(path: Path, statement: str) -> list[tuple[Any, ...]]:
    return query(path, statement).rows


def test_an_audit_that_found_nothing_shows_as_zeros(audits: Audits, tmp_path: Path) -> None:
    audits.audit(4)
    report = audits.publish(tmp_path)
    assert sorted(rows(report.path, "SELECT * EXCLUDE (tenant_id) FROM mart_data_quality")) == sorted(
        (date(2025, 3, 4), tenant, *kind.split(": "), 0, 0, 1) for tenant in ("acme", "globex") for kind in LOOKED_FOR
    )
    # The next day's audit is added to the file, and its findings beside what it did not find.
    audits.audit(5, found(audits.acme, "vector_missing", 2))
    audits.audit(5)
    report = audits.publish(tmp_path)
    assert report.whole_because is None
    newest = "SELECT tenant, store || ': ' || problem, findings, audits FROM mart_data_quality WHERE day = '2025-03-05'"
    assert sorted(rows(report.path, newest)) == sorted(
        (tenant, kind, 2 * ((tenant, kind) == ("acme", "chroma: vector_missing")), 2)
        for tenant in ("acme", "globex")
        for kind in LOOKED_FOR
    )
    assert sum(findings for _, _, findings, _ in rows(report.path, newest)) == 2


def test_an_audit_has_a_row_for_each_tenant_that_was_there_when_it_began(audits: Audits, tmp_path: Path) -> None:
    audits.audit(4, found(audits.globex, "vector_stale", 3, in_all=8))
    audits.audit(7)
    runs = "SELECT slug, r.day, model, len(looked_for), findings FROM audit_runs r JOIN tenants USING (tenant_id)"
    assert sorted(rows(audits.publish(tmp_path).path, runs)) == sorted(
        (tenant, date(2025, 3, day), "test-model", len(LOOKED_FOR), 8 * ((tenant, day) == ("globex", 4)))
        for tenant, day in (("acme", 4), ("globex", 4), ("acme", 7), ("globex", 7), ("initech", 7))
    )


def test_what_an_audit_did_not_look_for_or_did_not_finish_is_no_zero(audits: Audits, tmp_path: Path) -> None:
    mart = "SELECT tenant, problem, findings, audits FROM mart_data_quality ORDER BY ALL"
    audits.execute(
        "INSERT INTO audit_runs (started_at, checked) VALUES (%s, jsonb_build_object('looked_for', ARRAY['x: y']))",
        moment(3),
    )
    audits.audit(4, found(audits.acme, "vector_stale", 1), looked_for=[])  # as audits were recorded before
    report = audits.publish(tmp_path)
    assert rows(report.path, mart) == [("acme", "vector_stale", 1, 1)]
    assert rows(report.path, "SELECT count(*), count(finished_at) FROM audit_runs") == [(4, 2)]
    audits.audit(5, looked_for=["chroma: vector_missing"])
    assert rows(audits.publish(tmp_path).path, mart) == [
        ("acme", "vector_missing", 0, 1),
        ("acme", "vector_stale", 1, 1),
        ("globex", "vector_missing", 0, 1),
    ]


def test_an_index_that_is_gone_is_not_counted_as_agreeing(audits: Audits, tmp_path: Path) -> None:
    audits.audit(4, found(audits.acme, "collection_lost", 1))
    of_chroma = "SELECT tenant, problem, findings FROM mart_data_quality WHERE store = 'chroma'"
    expected = [("globex", kind.removeprefix("chroma: "), 0) for kind in LOOKED_FOR if kind.startswith("chroma: ")]
    assert sorted(rows(audits.publish(tmp_path).path, of_chroma)) == [("acme", "collection_lost", 1), *sorted(expected)]


def test_a_tenants_file_says_of_an_audit_what_it_found_there_and_nothing_of_the_others(
    audits: Audits, tmp_path: Path
) -> None:
    audits.audit(4, found(audits.globex, "vector_stale", 3, in_all=7919))
    report = audits.publish(tmp_path, {"acme": Scope(tenant="acme"), "acme-lab": Scope(tenant="acme", mask_key=KEY)})
    assert rows(report.path, "SELECT max(findings) FROM audit_runs") == [(7919,)]
    for name in ("acme", "acme-lab"):
        path = report.consumers[name].path
        assert rows(path, "SELECT tenant_id, findings FROM audit_runs") == [(str(audits.acme), 0)]
        ((told,),) = rows(path, "SELECT string_agg(r::VARCHAR) FROM audit_runs r")
        assert "77003" not in told  # of all tenants
        assert rows(path, "SELECT count(*), sum(findings) FROM mart_data_quality") == [(len(LOOKED_FOR), 0)]
    # What happens in another tenant gives it no new file; an audit of its own does.
    audits.execute("UPDATE audit_findings SET repaired = true")
    consumers = {"acme": Scope(tenant="acme")}
    again = audits.publish(tmp_path, consumers)
    assert (again.published, again.consumers["acme"].published) == (True, False)
    audits.audit(5)
    assert audits.publish(tmp_path, consumers).consumers["acme"].published


def test_a_masked_file_has_pseudonyms_of_audits_that_lead_from_findings_to_runs(audits: Audits, tmp_path: Path) -> None:
    audit_id = audits.audit(4, found(audits.acme, "vector_stale", 3))
    path = audits.publish(tmp_path, {"lab": Scope(mask_key=KEY)}).consumers["lab"].path
    assert rows(path, "SELECT DISTINCT audit_id FROM audit_runs") == [(str(pseudonym(KEY, audit_id)),)]
    joined = "SELECT count(*) FROM audit_findings f JOIN audit_runs r USING (tenant_id, audit_id, day)"
    assert rows(path, joined) == [(3,)]


def test_findings_without_their_audit_refuse_the_file(audits: Audits, tmp_path: Path) -> None:
    audits.audit(4, found(audits.acme, "vector_stale", 1))
    audits.publish(tmp_path)
    runs = pq.read_table(tmp_path / "lake/audit_runs/day=2025-03-04/part-0.parquet")
    rewrite(tmp_path / "lake", "audit_runs", date(2025, 3, 4), runs.slice(0, 0))
    with pytest.raises(ExportError, match=r"1 rows of audit_findings\.audit_id name no row of audit_runs"):
        publish_duckdb(tmp_path / "lake", tmp_path / "exports", 1)


def test_an_export_after_an_audit_reads_its_day_alone(audits: Audits, database: Urls, tmp_path: Path) -> None:
    audits.audit(4)
    audits.publish(tmp_path)

    def stale() -> int:
        reports = export_lake(database.pipeline_url, WINDOW, tmp_path / "lake")
        return next(report.stale for report in reports if report.table == "audit_runs")

    assert stale() == 0
    audits.audit(5)
    assert stale() == 1
    # Findings that go, or come later, are counted again.
    audits.execute(
        "INSERT INTO audit_findings (audit_id, tenant_id, store, problem)"
        " SELECT audit_id, %s, 'chroma', 'vector_stale' FROM audit_runs",
        audits.initech,
    )
    assert stale() == 2
    assert stale() == 0
    path = audits.publish(tmp_path).path
    assert rows(path, "SELECT count(*), sum(findings) FROM audit_runs") == [(6, 2)]

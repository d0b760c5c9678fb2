"""Reports over HTTP: what is answered where there is no file, a broken one or a slow one."""

from __future__ import annotations

import gc
import os
import shutil
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest

from memory_pipeline.serving import analytics
from memory_pipeline.serving.analytics import AT_ONCE, Analytics
from memory_pipeline.stores.duckdb.generations import current_export, manifest_path
from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline.stores.duckdb.query import QueryResult
from memory_pipeline.stores.duckdb.reports import reports, run_report
from memory_pipeline_tests.api.analytics.support import ACME, REPORTS, answered, ask, export, exports_of, refusal
from memory_pipeline_tests.api.stack import ApiStack, running
from memory_pipeline_tests.api.support import PREFIX, Person


def test_before_the_first_export_there_is_nothing_to_tell(stack: ApiStack, ana: Person) -> None:
    answered(stack, ana)
    shutil.rmtree(exports_of(stack))
    answer = ask(stack, ana)
    assert refusal(answer) == (404, "no_export")
    assert "memory-pipeline materialize" in answer.json()["error"]["message"]
    assert str(stack.settings.home) not in answer.text
    exports_of(stack).mkdir()
    assert refusal(ask(stack, ana)) == (404, "no_export")


def test_an_export_without_rows_has_none(stack: ApiStack, ana: Person, tmp_path: Path) -> None:
    shutil.rmtree(exports_of(stack))
    publish_duckdb(tmp_path / "lake", exports_of(stack), 1)
    for name in reports():
        answer = answered(stack, ana, name)
        assert (answer["rows"], answer["as_of"]) == ([], None)


def _names_nothing(path: Path) -> None:
    (path.parent / "CURRENT").write_text("memory-000077-0123456789.duckdb\n")


def _current_is_a_folder(path: Path) -> None:
    (path.parent / "CURRENT").unlink()
    (path.parent / "CURRENT").mkdir()


def _no_manifest(path: Path) -> None:
    manifest_path(path).unlink()


def _torn_manifest(path: Path) -> None:
    os.truncate(_writable(manifest_path(path)), 100)


def _emptied(path: Path) -> None:
    os.truncate(_writable(path), 0)


def _torn(path: Path) -> None:
    os.truncate(_writable(path), path.stat().st_size // 3)


def _overwritten(path: Path) -> None:
    size = path.stat().st_size
    _writable(path).write_bytes(os.urandom(size))


def _without_marts(path: Path) -> None:
    path.unlink()
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE messages (day DATE)")


def _writable(path: Path) -> Path:
    path.chmod(0o644)
    return path


@pytest.mark.parametrize(
    "breaking",
    [_names_nothing, _current_is_a_folder, _no_manifest, _torn_manifest, _emptied, _torn, _overwritten, _without_marts],
)
def test_a_file_that_can_not_be_read_is_a_503_that_names_no_path(
    stack: ApiStack, ana: Person, breaking: Callable[[Path], None]
) -> None:
    path = current_export(exports_of(stack))
    breaking(path)
    answer = ask(stack, ana)
    assert refusal(answer) == (503, "store_unavailable")
    assert answer.headers["retry-after"]
    assert str(stack.settings.home) not in answer.text
    assert path.name not in answer.text


def test_a_file_that_is_replaced_and_removed_before_it_is_opened_is_not_missed(
    stack: ApiStack, ana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = current_export(exports_of(stack))

    def replaced_meanwhile(path: Path, *asked: Any, **bounds: Any) -> QueryResult:
        if path == first:
            shutil.rmtree(exports_of(stack) / "consumers", ignore_errors=True)
            stack.execute("UPDATE tenants SET name = 'Another' WHERE slug = 'acme'")
            assert export(stack, generations_kept=1) != first
            assert not first.exists()
        return run_report(path, *asked, **bounds)

    monkeypatch.setattr(analytics, "run_report", replaced_meanwhile)
    answer = answered(stack, ana)
    assert answer["rows"] == ACME["daily_activity"]
    assert answer["generation"] == current_export(exports_of(stack)).name != first.name


def test_slow_reports_are_stopped_and_never_more_than_two_at_once_and_others_are_answered_meanwhile(
    stack: ApiStack, ana: Person
) -> None:
    path = current_export(exports_of(stack))
    path.unlink()
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE VIEW mart_daily_activity AS SELECT DATE '2025-03-01' AS day, uuid() AS tenant_id, 1 AS messages,"
            " 1 AS user_messages, 1 AS users, 1 AS conversations FROM range(10000000) a, range(10000000) b"
        )
    services = stack.services
    services.analytics = Analytics(exports_of(stack), services.redis, services.require, query_seconds=1.5)
    with ThreadPoolExecutor(AT_ONCE + 2) as people:
        asking = [people.submit(ask, stack, ana, limit=limit) for limit in range(1, AT_ONCE + 3)]
        conversations = stack.client.get(f"{PREFIX}/conversations", headers=ana.headers)
        assert conversations.status_code == 200
        assert not all(each.done() for each in asking)
        answers = [each.result() for each in asking]
    assert [refusal(answer) for answer in answers] == [(503, "busy")] * len(answers)
    said = [answer.json()["error"]["message"] for answer in answers]
    assert sum("took longer than 1.5 s" in message for message in said) == AT_ONCE
    assert sum("are being worked out" in message for message in said) == 2


def test_a_dashboard_may_ask_for_all_reports_at_once(stack: ApiStack, ana: Person) -> None:
    with ThreadPoolExecutor(len(ACME)) as panels:
        answers = list(panels.map(lambda name: answered(stack, ana, name), ACME))
    assert [answer["rows"] for answer in answers] == list(ACME.values())


def test_requests_are_counted_by_route_and_cache(stack: ApiStack, ana: Person) -> None:
    answered(stack, ana)
    answered(stack, ana)
    told = stack.client.get("/metrics").text
    assert f'memory_api_requests_total{{method="GET",route="{REPORTS}/{{report}}",status="200"}}' in told
    assert 'memory_cache_reads_total{cache="analytics",result="hit"}' in told


def test_an_api_that_was_closed_is_not_kept_by_the_reports_it_told(stack: ApiStack, ana: Person) -> None:
    with running(stack.settings, stack.issuer) as other:
        assert other.client.get(REPORTS, headers=ana.headers).status_code == 200
        closed = weakref.ref(other.services)
    del other
    gc.collect()
    assert closed() is None

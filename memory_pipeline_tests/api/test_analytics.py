"""Reports over HTTP: whose numbers they are, when they are new, and what is answered where there are none."""

from __future__ import annotations

import gc
import os
import shutil
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pytest
import redis

from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.window import DayWindow
from memory_pipeline.serving import analytics
from memory_pipeline.serving.analytics import AT_ONCE, Analytics
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores.duckdb.generations import current_export, manifest_of, manifest_path
from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline.stores.duckdb.query import QueryResult, query
from memory_pipeline.stores.duckdb.reports import reports, run_report
from memory_pipeline.stores.redis import keys
from memory_pipeline_tests.api.stack import ApiStack, api_stack, running
from memory_pipeline_tests.api.support import PREFIX, Json, Person
from memory_pipeline_tests.api.test_outage import give_redis_time
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.stores.export_sample import add_messages, message

REPORTS = f"{PREFIX}/analytics"
DAYS = DayWindow(date(2025, 3, 1), date(2025, 4, 1))
GLOBEX_DAY = "2025-03-07"
"""A day on which there is only something of globex."""
CANARY = "globex-canary"

ACME: dict[str, list[list[object]]] = {
    "daily_activity": [
        ["2025-03-12", 2, 2, 1, 1],
        ["2025-03-02", 1, 1, 1, 1],
        ["2025-03-01", 3, 3, 1, 1],
    ],
    "memory_growth": [
        ["2025-03-12", "episode", "pending_enrichment", 2, 6, 1.0],
        ["2025-03-02", "episode", "pending_enrichment", 1, 4, 1.0],
        ["2025-03-01", "episode", "pending_enrichment", 3, 3, 0.6],
        ["2025-03-01", "fact", "active", 2, 2, 0.4],
    ],
    # The 1st of March 2025 is a Saturday.
    "retention": [["2025-02-24", 0, 1, 1, 1.0], ["2025-02-24", 2, 1, 1, 1.0]],
    "fact_churn": [["2025-03-12", 0, 2, 0], ["2025-03-01", 2, 0, 2]],
    "pipeline_response": [["2025-03-12", "index", 3, 2, 1, 0, 1 / 3, 6, 3, 0.5, 2.5, 2.5]],
    "data_quality": [["2025-03-12", "chroma", "missing", 2, 1, 1]],
    "cost_daily": [["2025-03-12", "embedder:openai", "test-model", 2, 8, 180, "0.5000000000", 1, 0]],
    "recall_use": [["2025-03-12", 2, 1, 1, 1, 0.5, 0.5, 1, 0.5, 1, 0.5, 10.0, 20.0]],
    # Both users name the object; the predicate of each is their own.
    "weekly_topics": [["2025-02-24", "entity", 1, 1, "I moved", 2, 2]],
}
"""The rows of every report about acme."""

_FACT = """
INSERT INTO memories (tenant_id, memory_id, user_id, conversation_id, kind, status, content, content_hash, day,
                      source_message_ids, enricher, confidence, subject, predicate, object, valid_from, valid_to)
SELECT tenant_id, gen_random_uuid(), u.user_id, conversation_id, 'fact', 'active', %s, sha256(email::bytea),
       (sent_at AT TIME ZONE 'UTC')::date, ARRAY[message_id], 'test@1', 0.75, 'Ana', 'told ' || email, %s,
       sent_at, %s
FROM messages m JOIN users u USING (tenant_id)
WHERE tenant_id = %s AND source_message_id = 'm0'
"""
_SECOND_USER = """
INSERT INTO users (tenant_id, user_id, email, display_name)
SELECT %s, gen_random_uuid(), 'bo@' || slug || '.example', 'Bo'
FROM tenants WHERE tenant_id = %s
"""
_RECALLS = """
INSERT INTO memory_access_log (tenant_id, user_id, accessed_at, correlation_id, what, channel, query_hash, memory_ids,
                               turns, degraded_parts, from_cache, milliseconds)
SELECT m.tenant_id, m.user_id, %s, gen_random_uuid(), 'recall', 'api', sha256('q'), found, 2, degraded, cached, took
FROM memories m, LATERAL (VALUES (ARRAY[m.memory_id], '{}'::text[], true, 10.0), ('{}', '{chroma}', false, 20.0))
     AS answers (found, degraded, cached, took)
WHERE m.tenant_id = %s AND kind = 'fact' AND predicate LIKE '%%ana@%%'
"""
_COSTS = """
INSERT INTO llm_usage (tenant_id, used_at, correlation_id, plugin, model, what, requests, texts, prompt_tokens,
                       cost_usd)
SELECT %s, %s, gen_random_uuid(), 'embedder:openai', 'test-model', 'embedding', 1, 4, 90, cost
FROM (VALUES (0.5), (NULL)) AS calls (cost)
"""
_JOB = """
INSERT INTO memory_jobs (tenant_id, job_type, state, day, attempts, error_class, error_text, correlation_id, created_at,
                         finished_at)
SELECT %s, 'index', state, '2025-03-01', attempts, 'Test', 'failed', gen_random_uuid(), %s::timestamptz,
       %s::timestamptz + lag
FROM (VALUES ('completed', 1, interval '0.5 s'), ('completed', 2, interval '2.5 s'), ('dead', 3, interval '9 s'))
     AS jobs (state, attempts, lag)
"""
_FINDINGS = """
WITH run AS (INSERT INTO audit_runs (started_at) VALUES (%s) RETURNING audit_id)
INSERT INTO audit_findings (tenant_id, audit_id, store, problem, repaired)
SELECT %s, audit_id, %s, %s, repaired FROM run, (VALUES (true), (false)) AS found (repaired)
"""


def fill(stack: ApiStack) -> None:
    """Something for every report about two tenants, of which globex has more."""
    assert stack.settings.postgres_pipeline_url is not None
    for tenant, days, in_day in (("acme", ("01", "01", "01", "02", "12", "12"), "12"), ("globex", ("07",) * 77, "07")):
        moments = [datetime(2025, 3, int(day), n % 24, n // 24, tzinfo=UTC) for n, day in enumerate(days)]
        text = CANARY if tenant == "globex" else "I moved"
        add_messages(
            stack.settings.postgres_pipeline_url,
            tenant,
            [message(tenant, f"m{n}", moment, f"{text} {n}") for n, moment in enumerate(moments)],
        )
        ((tenant_id,),) = stack.rows("SELECT tenant_id FROM tenants WHERE slug = %s", tenant)
        day = f"2025-03-{in_day} 10:00+00"
        stack.execute(_SECOND_USER, tenant_id, tenant_id)
        stack.execute(_FACT, text, text, day, tenant_id)
        stack.execute(_RECALLS, day, tenant_id)
        stack.execute(_COSTS, tenant_id, day)
        stack.execute(_JOB, tenant_id, day, day)
        stack.execute(_FINDINGS, day, tenant_id, *((CANARY, CANARY) if tenant == "globex" else ("chroma", "missing")))


def export(stack: ApiStack, generations_kept: int = 3) -> Path:
    """Export all there is and return the file that is served."""
    assert stack.settings.postgres_pipeline_url is not None
    export_lake(stack.settings.postgres_pipeline_url, DAYS, stack.settings.data / "lake")
    return publish_duckdb(stack.settings.data / "lake", exports_of(stack), generations_kept).path


def exports_of(stack: ApiStack) -> Path:
    return stack.settings.data / "exports"


@pytest.fixture(scope="module")
def filled(servers: Servers, migrated_template: str) -> Iterator[ApiStack]:
    """An API over two tenants that were exported once."""
    with api_stack(servers, migrated_template) as stack:
        give_redis_time(stack)
        fill(stack)
        export(stack)
        shutil.copytree(stack.settings.data, stack.settings.home / "kept", symlinks=True)
        yield stack


@pytest.fixture
def stack(filled: ApiStack) -> Iterator[ApiStack]:
    """The same at the start of every test: nothing cached, the first export served."""
    assert filled.settings.redis_url is not None
    shutil.rmtree(filled.settings.data)
    shutil.copytree(filled.settings.home / "kept", filled.settings.data, symlinks=True)
    with redis.Redis.from_url(filled.settings.redis_url) as client:
        client.flushdb()
    asked = filled.services.analytics
    yield filled
    filled.services.analytics = asked


@pytest.fixture
def ana(filled: ApiStack) -> Person:
    return filled.person("acme", "admin@acme.example", "admin")


@pytest.fixture
def gil(filled: ApiStack) -> Person:
    return filled.person("globex", "admin@globex.example", "admin")


def ask(stack: ApiStack, person: Person, report: str = "daily_activity", **params: Any) -> Any:
    asked = {name.removesuffix("_"): str(value) for name, value in params.items()}
    return stack.client.get(f"{REPORTS}/{report}", params=asked, headers=person.headers)


def answered(stack: ApiStack, person: Person, report: str = "daily_activity", **params: Any) -> Json:
    answer = ask(stack, person, report, **params)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def cached_keys(stack: ApiStack) -> dict[str, bytes]:
    assert stack.settings.redis_url is not None
    with redis.Redis.from_url(stack.settings.redis_url) as client:
        names: Any = client.keys("analytics:*")
        return {name.decode(): client.get(name) for name in names}


# -- whose numbers --


def test_every_report_tells_a_tenant_its_own_numbers(stack: ApiStack, ana: Person, gil: Person) -> None:
    path = current_export(exports_of(stack))
    source = manifest_of(path).source
    assert source is not None
    for name, rows in ACME.items():
        answer = answered(stack, ana, name)
        assert answer["rows"] == rows, name
        assert answer["columns"] == [column.name for column in reports()[name].columns]
        assert (answer["report"], answer["generation"]) == (name, path.name)
        assert (answer["truncated"], answer["cached"]) == (False, False)
        assert datetime.fromisoformat(answer["as_of"]) == source.taken_at
    assert answered(stack, gil)["rows"] == [[GLOBEX_DAY, 77, 77, 1, 1]]
    assert answered(stack, gil, "data_quality")["rows"] == [[GLOBEX_DAY, CANARY, CANARY, 2, 1, 1]]


def test_no_byte_of_another_tenant_is_in_any_answer_or_its_cached_copy(
    stack: ApiStack, ana: Person, gil: Person
) -> None:
    globex = [
        *(
            str(found)
            for row in stack.rows("SELECT user_id, email FROM users WHERE tenant_id = %s", gil.tenant_id)
            for found in row
        ),
        str(gil.tenant_id),
        "globex",
        GLOBEX_DAY,
        "2025-03-03",  # its week
        "77",
    ]
    for name in reports():  # fresh ones of globex lie in the cache
        assert any(word in ask(stack, gil, name).text for word in globex), name
    answers = [stack.client.get(REPORTS, headers=ana.headers).text]
    for params in (
        {},
        {"limit": 5000},
        {"from_": "0001-01-01", "to": "9999-12-31"},
        {"from_": GLOBEX_DAY, "to": GLOBEX_DAY},
    ):
        answers += [ask(stack, ana, name, **params).text for name in reports() for _ in ("from the file", "cached")]
    assert sum('"cached":true' in answer for answer in answers) == 4 * len(reports())
    kept = [value.decode() for key, value in cached_keys(stack).items() if str(ana.tenant_id) in key]
    assert len(kept) == 4 * len(reports())
    for text in [*answers, *kept]:
        # Digits of the file's name, of its moment and of acme's own id say nothing of anybody.
        said = text.partition('"truncated"')[0].replace(str(ana.tenant_id), "")
        assert [word for word in globex if word in said] == []


def test_nobody_without_the_permission_is_told_anything(stack: ApiStack) -> None:
    for role in ("member", "reader"):
        person = stack.person("acme", f"{role}@acme.example", role)
        for url in (REPORTS, f"{REPORTS}/daily_activity", f"{REPORTS}/nonsense"):
            answer = stack.client.get(url, headers=person.headers)
            assert refusal(answer) == (403, "forbidden")
            assert answer.json()["error"]["permission"] == "analytics:read"
        assert stack.rows(
            "SELECT count(*) FROM events WHERE kind = 'permission_refused' AND actor = %s", f"user:{person.user_id}"
        ) == [(1,)]
    assert refusal(stack.client.get(f"{REPORTS}/daily_activity")) == (401, "token_missing")


# -- which rows --


def test_the_list_says_what_every_report_is_and_what_its_columns_mean(stack: ApiStack, ana: Person) -> None:
    listed = stack.client.get(REPORTS, headers=ana.headers).json()["reports"]
    assert [report["name"] for report in listed] == list(ACME)
    path = current_export(exports_of(stack))
    for report in listed:
        assert report["sentence"].endswith(".")
        found = query(
            path,
            "SELECT column_name, data_type, comment FROM duckdb_columns() WHERE table_name = 'mart_' || $name",
            {"name": report["name"]},
        ).rows
        of_mart = [column for column in found if column[0] not in {"tenant_id", "tenant"}]
        assert [(c["name"], c["type"], c["meaning"]) for c in report["columns"]] == of_mart
        assert not {column[0] for column in found} & {"user_id", "email", "content"}


@pytest.mark.parametrize(
    ("report", "params", "expected"),
    [
        ("daily_activity", {"from_": "2025-03-02", "to": "2025-03-12"}, [0, 1]),
        ("daily_activity", {"from_": "2025-03-02", "to": "2025-03-11"}, [1]),
        ("daily_activity", {"to": "2025-03-01"}, [2]),
        ("daily_activity", {"from_": "2025-03-13"}, []),
        ("memory_growth", {"to": "2025-03-01"}, [2, 3]),
        ("fact_churn", {"from_": "2025-03-02"}, [0]),
        ("pipeline_response", {"to": "2025-03-11"}, []),
        ("data_quality", {"from_": "2025-03-12"}, [0]),
        # A week counts where the days asked for touch it.
        ("retention", {"from_": "2025-03-02"}, [0, 1]),
        ("retention", {"from_": "2025-03-03"}, []),
        ("retention", {"to": "2025-02-23"}, []),
        ("weekly_topics", {"from_": "2025-03-02"}, [0]),
        ("weekly_topics", {"from_": "2025-03-03"}, []),
        ("cost_daily", {"to": "2025-03-11"}, []),
        ("recall_use", {"from_": "2025-03-12", "to": "2025-03-12"}, [0]),
    ],
)
def test_days_are_those_asked_for_both_included(
    stack: ApiStack, ana: Person, report: str, params: dict[str, str], expected: list[int]
) -> None:
    assert answered(stack, ana, report, **params)["rows"] == [ACME[report][place] for place in expected]


def test_of_more_rows_than_asked_for_the_newest_are_told(stack: ApiStack, ana: Person) -> None:
    two = answered(stack, ana, limit=2)
    assert (two["rows"], two["truncated"]) == (ACME["daily_activity"][:2], True)
    three = answered(stack, ana, limit=3)
    assert (three["rows"], three["truncated"]) == (ACME["daily_activity"], False)


@pytest.mark.parametrize(
    "params",
    [
        {"from_": "yesterday"},
        {"from_": "2025-02-30"},
        {"from_": "2025-3-1"},
        {"to": "0"},
        {"to": "1740787200"},
        {"to": "2025-03-01T00:00:00"},
        {"to": ""},
        {"to": "٢٠٢٥-٠٣-٠١"},
        {"from_": "2025-03-02", "to": "2025-03-01"},
        {"limit": 0},
        {"limit": 5001},
        {"limit": "all"},
        {"from_": "2025-03-01' OR true --"},
    ],
)
def test_days_and_limits_that_make_no_sense_are_refused(stack: ApiStack, ana: Person, params: dict[str, Any]) -> None:
    assert refusal(ask(stack, ana, **params)) == (422, "invalid")


@pytest.mark.parametrize(
    "report", ["nonsense", "user_daily", "mart_daily_activity", "DAILY_ACTIVITY", "daily_activity.sql"]
)
def test_a_report_that_there_is_not_is_not_found(stack: ApiStack, ana: Person, report: str) -> None:
    answer = ask(stack, ana, report)
    assert refusal(answer) == (404, "not_found")
    assert "daily_activity" in answer.json()["error"]["message"]


# -- cached --


def test_the_second_answer_is_the_same_from_the_cache_for_ten_minutes_at_most(stack: ApiStack, ana: Person) -> None:
    first, second = answered(stack, ana), answered(stack, ana)
    assert (first.pop("cached"), second.pop("cached")) == (False, True)
    assert first == second
    (key,) = cached_keys(stack)
    assert keys.family_of(key) == keys.ANALYTICS
    assert stack.settings.redis_url is not None
    with redis.Redis.from_url(stack.settings.redis_url) as client:
        assert 0 < client.ttl(key) <= 600


def test_what_else_is_asked_is_another_answer(stack: ApiStack, ana: Person, gil: Person) -> None:
    asked: list[dict[str, Any]] = [{}, {"limit": 2}, {"from_": "2025-03-02"}, {"to": "2025-03-02"}]
    assert not any(answered(stack, ana, **params)["cached"] for params in asked)
    assert not answered(stack, gil)["cached"]
    assert all(answered(stack, ana, **params)["cached"] for params in asked)


def test_a_cached_value_that_is_of_another_tenant_is_never_told(stack: ApiStack, ana: Person, gil: Person) -> None:
    answered(stack, ana)
    (own,) = cached_keys(stack)
    answered(stack, gil)
    (others,) = cached_keys(stack).keys() - {own}
    assert stack.settings.redis_url is not None
    with redis.Redis.from_url(stack.settings.redis_url) as client:
        client.copy(others, own, replace=True)
    answer = answered(stack, ana)
    assert (answer["rows"], answer["cached"]) == (ACME["daily_activity"], False)


def test_a_cached_value_that_can_not_be_read_is_replaced(stack: ApiStack, ana: Person) -> None:
    answered(stack, ana)
    (key,) = cached_keys(stack)
    assert stack.settings.redis_url is not None
    with redis.Redis.from_url(stack.settings.redis_url) as client:
        client.set(key, b'{"rows": [')
    assert not answered(stack, ana)["cached"]
    assert answered(stack, ana)["cached"]


def test_rows_that_would_fill_the_cache_are_not_kept(
    stack: ApiStack, ana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analytics, "_CACHED_BYTES", 50)
    assert not answered(stack, ana)["cached"]
    assert not answered(stack, ana)["cached"]
    assert cached_keys(stack) == {}


def test_numbers_of_a_new_export_are_told_at_once(stack: ApiStack, ana: Person) -> None:
    before = answered(stack, ana)
    moment = datetime(2025, 3, 20, tzinfo=UTC)
    name = f"later {uuid4()}"
    assert stack.settings.postgres_pipeline_url is not None
    add_messages(stack.settings.postgres_pipeline_url, "acme", [message("acme", name, moment)])
    path = export(stack)
    after = answered(stack, ana)
    stack.execute("DELETE FROM memories WHERE day = '2025-03-20'")
    stack.execute("DELETE FROM messages WHERE source_message_id = %s", name)
    assert after["rows"] == [["2025-03-20", 1, 1, 1, 1], *before["rows"]]
    assert (after["cached"], after["generation"]) == (False, path.name)
    assert after["as_of"] > before["as_of"]


def test_without_redis_answers_come_from_the_file(stack: ApiStack, ana: Person, redis_server: RedisServer) -> None:
    settings = stack.settings.model_copy(update={"redis_url": redis_server.url()})
    with running(settings, stack.issuer) as api:
        give_redis_time(api)
        assert [answered(api, ana)["cached"] for _ in range(2)] == [False, True]
        redis_server.stop()
        for _ in range(2):
            answer = answered(api, ana)
            assert (answer["rows"], answer["cached"]) == (ACME["daily_activity"], False)


# -- no file, a broken one, a slow one --


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

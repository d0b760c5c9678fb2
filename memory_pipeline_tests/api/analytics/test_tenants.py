"""Reports over HTTP: whose numbers they are."""

from __future__ import annotations

from datetime import datetime

from memory_pipeline.stores.duckdb.generations import current_export, manifest_of
from memory_pipeline.stores.duckdb.reports import reports
from memory_pipeline_tests.api.analytics.support import (
    ACME,
    CANARY,
    GLOBEX_DAY,
    REPORTS,
    answered,
    ask,
    cached_keys,
    exports_of,
    refusal,
)
from memory_pipeline_tests.api.stack import ApiStack
from memory_pipeline_tests.api.support import Person


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

"""Reports over HTTP: which rows are told."""

from __future__ import annotations

from typing import Any

import pytest

from memory_pipeline.stores.duckdb.generations import current_export
from memory_pipeline.stores.duckdb.query import query
from memory_pipeline_tests.api.analytics.support import ACME, REPORTS, answered, ask, exports_of, refusal
from memory_pipeline_tests.api.stack import ApiStack
from memory_pipeline_tests.api.support import Person


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

"""The alerts in docs/alerts.yml speak of metrics that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from memory_pipeline import metrics

ALERTS = Path(__file__).parents[1] / "docs" / "alerts.yml"
_WORDS_OF_PROMQL = {"max", "min", "sum", "absent", "increase", "rate", "or", "and", "by"}
WANTED = {
    "schema_version_mismatch",
    "redis_buffer_overflow",
    "postgres_down",
    "queue_oldest_age",
    "relay_lag",
    "long_open_writer",
    "dead_letters",
    "audit_findings",
    "export_stale",
}


def rules() -> list[dict[str, Any]]:
    document = msgspec.yaml.decode(ALERTS.read_bytes())
    return [rule for group in document["groups"] for rule in group["rules"]]


def test_every_alert_names_metrics_that_are_exposed_with_labels_they_have() -> None:
    exposed = {name for family in metrics.REGISTRY.collect() for name in (family.name, f"{family.name}_total")}
    for rule in rules():
        without_labels = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", rule["expr"])
        names = set(re.findall(r"[a-z_]{4,}", without_labels)) - _WORDS_OF_PROMQL
        assert names, rule
        assert names <= exposed, f"{rule['alert']} asks for {names - exposed}"


def test_the_alerts_that_operators_were_promised_are_there_and_say_what_to_do() -> None:
    found = {rule["alert"]: rule for rule in rules()}
    assert found.keys() >= WANTED
    for rule in found.values():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["action"].endswith(".")

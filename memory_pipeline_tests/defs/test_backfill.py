"""The Dagster UI on real stores: its asset graph, and a backfill over all days as its button launches it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest

from memory_pipeline.defs.analytics.columns import asset_of
from memory_pipeline.local.dagster_dev import DagsterDev
from memory_pipeline.local.processes import free_port, log_tail
from memory_pipeline.stages.audit import audit
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.duckdb.marts import marts
from memory_pipeline.stores.duckdb.publish import current_export
from memory_pipeline_tests.defs.conftest import PROJECT, Deployment
from memory_pipeline_tests.defs.sample import FACTS, MESSAGES, TENANTS, add_sample

GRAPH = """
query { assetNodes { assetKey { path } description groupName isPartitioned isObservable kinds
                     owners { ... on TeamAssetOwner { team } } dependencyKeys { path } partitionKeys
                     backfillPolicy { policyType }
                     partitionStats { numMaterialized numFailed numPartitions } } }
"""
LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
STATUS = """
query Status($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PartitionBackfill {
      status
      error { message }
      runs(limit: 10) { id status tags { key value } assetSelection { path } }
    }
  }
}
"""
DRY_RUN = """
mutation DryRun($schedule: ScheduleSelector!, $due: Float!) {
  scheduleDryRun(selectorData: $schedule, timestamp: $due) {
    __typename
    ... on DryRunInstigationTick {
      evaluationResult { error { message } runRequests { runKey tags { key value } } }
    }
  }
}
"""
LAUNCH_RUN = """
mutation LaunchRun($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { id } }
    ... on PythonError { message }
  }
}
"""
RUN_STATUS = "query Run($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "memory_pipeline"}
FINISHED = ("SUCCESS", "FAILURE", "CANCELED")
LAUNCHED_SECONDS = 60.0
FINISHED_SECONDS = 90.0
DAILY = {
    "facts",
    "memory_relationships",
    "memory_embeddings",
    "chroma_index",
    "lake_messages",
    "lake_memories",
    "lake_facts",
    "lake_memory_relationships",
    "lake_summaries",
    "lake_profiles",
    "lake_jobs",
    "lake_job_days",
    "lake_audit_runs",
    "lake_audit_findings",
    "lake_events",
    "lake_memory_access",
    "lake_llm_usage",
}


class Ui:
    """The UI's GraphQL, as a browser uses it."""

    def __init__(self, dagster: DagsterDev) -> None:
        self.dagster = dagster
        self._client = httpx.Client(base_url=dagster.url, trust_env=False, timeout=30)

    def close(self) -> None:
        self._client.close()

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = self._client.post("/graphql", json={"query": query, "variables": variables})
        body: dict[str, Any] = answer.json()
        assert answer.status_code == 200, body
        assert "errors" not in body, body["errors"]
        data: dict[str, Any] = body["data"]
        return data

    def wait_for(self, what: str, ready: Callable[[], Any], seconds: float) -> Any:
        """Ask until there is an answer; fail with the end of Dagster's log after `seconds`."""
        deadline = time.monotonic() + seconds
        while not (answer := ready()):
            self.dagster.require_running()
            if time.monotonic() > deadline:
                pytest.fail(f"no {what} within {seconds:g} s; end of the log:\n{log_tail(self.dagster.log, 60)}")
            time.sleep(0.3)
        return answer


@pytest.fixture
def ui(deployment: Deployment, tmp_path: Path) -> Iterator[Ui]:
    """`dagster dev` on this test's stores, with daily partitions for a fortnight."""
    start = datetime.now(UTC).date() - timedelta(days=13)
    env = {**deployment.env, "MEMORY_PARTITION_START": start.isoformat(), "DAGSTER_DISABLE_TELEMETRY": "yes"}
    dagster = DagsterDev(PROJECT, tmp_path / "dagster.log", port=free_port(), env=env)
    dagster.start()
    dagster.wait_ready()
    opened = Ui(dagster)
    try:
        yield opened
    finally:
        opened.close()
        dagster.stop()


def name_of(key: dict[str, Any]) -> str:
    return "/".join(key["path"])


@pytest.mark.nightly
def test_a_backfill_over_all_days_from_the_ui_is_one_run(deployment: Deployment, ui: Ui) -> None:
    add_sample(deployment.settings, first_day=datetime.now(UTC).date() - timedelta(days=10))
    nodes = ui.wait_for("asset graph", lambda: _assets(ui), LAUNCHED_SECONDS)
    days = nodes["facts"]["partitionKeys"]
    assert len(days) in (14, 15)  # fourteen, or midnight has just passed
    launched = ui.ask(
        LAUNCH,
        params={
            "assetSelection": [{"path": [name]} for name in sorted(DAILY)],
            "partitionNames": days,
            "fromFailure": False,
            "tags": [],
            "title": "all days",
        },
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    backfill = launched["backfillId"]

    # Meanwhile (the daemon looks for backfills every half minute) what the UI shows, and what the schedule launches.
    _assert_described(nodes)
    _assert_hourly_run_succeeds(ui)
    with Pipeline(deployment.settings) as pipeline:
        assert current_export(pipeline.exports_root).is_file()

    run = ui.wait_for("run", lambda: _runs(ui, backfill), LAUNCHED_SECONDS)[0]
    ui.wait_for("end of the run", lambda: _runs(ui, backfill)[0]["status"] in FINISHED, FINISHED_SECONDS)
    runs = _runs(ui, backfill)
    assert [(one["id"], one["status"]) for one in runs] == [(run["id"], "SUCCESS")], log_tail(ui.dagster.log, 60)
    assert {name_of(key) for key in run["assetSelection"]} == DAILY
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    assert tags["dagster/asset_partition_range_start"] == days[0]
    assert tags["dagster/asset_partition_range_end"] == days[-1]

    after = _assets(ui)
    for name in DAILY:
        assert after[name]["partitionStats"] == {
            "numMaterialized": len(days),
            "numFailed": 0,
            "numPartitions": len(days),
        }
    with dg.DagsterInstance.get() as instance:
        found = instance.get_records_for_run(run["id"], of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
        checks = [record.event_log_entry.get_dagster_event().asset_check_evaluation_data for record in found]
    assert len(checks) == 8
    wrong = [check for check in checks if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR]
    assert wrong == []
    with Pipeline(deployment.settings) as pipeline:
        report = audit(pipeline.database, pipeline.chroma, pipeline.embedder.model, seed=1)
    assert (report.findings, report.vectors) == (0, MESSAGES + len(TENANTS) * len(FACTS))


def _assets(ui: Ui) -> dict[str, dict[str, Any]]:
    return {name_of(node["assetKey"]): node for node in ui.ask(GRAPH)["assetNodes"]}


def _runs(ui: Ui, backfill: str) -> list[dict[str, Any]]:
    answer = ui.ask(STATUS, id=backfill)["partitionBackfillOrError"]
    assert answer["__typename"] == "PartitionBackfill", answer
    assert answer["error"] is None, answer["error"]["message"]
    assert answer["status"] not in ("FAILED", "CANCELED", "COMPLETED_FAILED"), answer
    runs: list[dict[str, Any]] = answer["runs"]
    return runs


def _assert_hourly_run_succeeds(ui: Ui) -> None:
    """Launch the run that the hourly schedule asks for in this minute, with its tags, and wait for its end."""
    schedule = {**REPOSITORY, "scheduleName": "hourly_export_schedule"}

    def requested() -> list[dict[str, Any]]:
        evaluation = ui.ask(DRY_RUN, schedule=schedule, due=time.time())["scheduleDryRun"]["evaluationResult"]
        assert evaluation["error"] is None, evaluation["error"]
        found: list[dict[str, Any]] = evaluation["runRequests"]
        return found  # none where the schedule's own minute has just come: its run is at work

    (request,) = ui.wait_for("request", requested, FINISHED_SECONDS)
    launched = ui.ask(
        LAUNCH_RUN,
        params={
            "selector": {**REPOSITORY, "jobName": "export_job"},
            "runConfigData": "{}",
            "executionMetadata": {"tags": request["tags"]},
        },
    )["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id = launched["run"]["id"]

    def ended() -> str | None:
        status = str(ui.ask(RUN_STATUS, id=run_id)["runOrError"]["status"])
        return status if status in FINISHED else None

    assert ui.wait_for("end of the hourly run", ended, FINISHED_SECONDS) == "SUCCESS", log_tail(ui.dagster.log, 60)


def _assert_described(nodes: dict[str, dict[str, Any]]) -> None:
    depends_on = {name: {name_of(key) for key in node["dependencyKeys"]} for name, node in nodes.items()}
    assert depends_on == {
        "messages": set(),
        "facts": {"messages"},
        "memory_relationships": {"facts"},
        "memory_embeddings": {"facts", "memory_relationships"},
        "chroma_index": {"memory_embeddings"},
        "weekly_summaries": {"facts"},
        "lake_messages": {"messages"},
        "lake_memories": {"facts", "memory_relationships"},
        "lake_facts": {"facts", "memory_relationships"},
        "lake_memory_relationships": {"facts", "memory_relationships"},
        "lake_summaries": {"facts", "memory_relationships", "weekly_summaries"},
        "lake_profiles": {"facts"},
        "lake_jobs": {"messages"},
        "lake_job_days": {"messages"},
        "lake_audit_runs": {"consistency_audit", "facts"},
        "lake_audit_findings": {"consistency_audit", "facts"},
        "lake_events": {"messages"},
        "lake_memory_access": {"messages"},
        "lake_llm_usage": {"memory_embeddings"},
        "lake_dimensions": {"messages"} | {name for name in DAILY if name.startswith("lake_")},
        "duckdb_analytics": {"lake_dimensions"} | {name for name in DAILY if name.startswith("lake_")},
        "published_lake": {"lake_dimensions"} | {name for name in DAILY if name.startswith("lake_")},
        "consistency_audit": {"chroma_index", "messages"},
        **{mart.name: {asset_of(table).to_user_string() for table in mart.reads} for mart in marts()},
    }
    for name, node in nodes.items():
        assert len(node["description"]) > 40, name
        assert node["kinds"], name
        assert node["owners"] == [{"team": "memory-platform"}], name
        assert node["groupName"] != "default", name
        if name in DAILY:
            assert node["backfillPolicy"] == {"policyType": "SINGLE_RUN"}, name

"""The published file's freshness: said in the definitions, looked at by the daemon, shown by the UI."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, TimeWindowFreshnessPolicy
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import create_test_daemon_workspace_context, freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.freshness import FreshnessDaemon
from dagster_graphql.test.utils import execute_dagster_graphql

from memory_pipeline.definitions import defs

FILE = dg.AssetKey("duckdb_analytics")
SHOWN = """
{ assetNodes(assetKeys: [{path: ["duckdb_analytics"]}]) {
    internalFreshnessPolicy { ... on TimeWindowFreshnessPolicy { failWindowSeconds warnWindowSeconds } }
    freshnessStatusInfo { freshnessStatus }
} }
"""


def test_the_file_is_late_after_two_exports_that_did_not_come_and_stale_after_three() -> None:
    graph = defs.get_repository_def().asset_graph
    policies = {key.to_user_string(): graph.get(key).freshness_policy for key in graph.materializable_asset_keys}
    late = policies["duckdb_analytics"]
    assert isinstance(late, TimeWindowFreshnessPolicy)
    assert late.warn_window is not None
    assert (late.warn_window.to_timedelta(), late.fail_window.to_timedelta()) == (
        timedelta(hours=2),
        timedelta(hours=3),
    )
    # Its marts are as fresh as the file: one alarm, not one for each of them.
    assert {name for name, policy in policies.items() if policy is not None} == {"duckdb_analytics"}


@contextmanager
def workspace(instance: dg.DagsterInstance) -> Iterator[Any]:
    """This code location, as the daemon and the UI see it."""
    origin = LoadableTargetOrigin(
        executable_path=sys.executable, module_name="memory_pipeline.definitions", attribute="defs"
    )
    location = InProcessCodeLocationOrigin(origin, location_name="memory_pipeline")
    with create_test_daemon_workspace_context(InProcessWorkspaceLoadTarget(location), instance) as context:
        yield context


@pytest.mark.usefixtures("deployment")
def test_the_daemon_looks_by_itself_and_the_ui_shows_what_it_found(instance: dg.DagsterInstance) -> None:
    assert "FRESHNESS_DAEMON" in instance.get_required_daemon_types()
    published = datetime.now(UTC)
    found = []
    with workspace(instance) as context:
        for hours in (None, 0, 2.5, 3.5):
            if hours == 0:
                instance.report_runless_asset_event(dg.AssetMaterialization(FILE))
            with freeze_time(published + timedelta(hours=hours or 0, minutes=1)):
                list(FreshnessDaemon().run_iteration(context))
                (record,) = instance.get_freshness_state_records([FILE]).values()
                answer = execute_dagster_graphql(context.create_request_context(), SHOWN).data["assetNodes"][0]
            found.append((record.freshness_state, answer["freshnessStatusInfo"]["freshnessStatus"]))
            assert answer["internalFreshnessPolicy"] == {"failWindowSeconds": 10_800, "warnWindowSeconds": 7_200}
    assert found == [
        (FreshnessState.UNKNOWN, "UNKNOWN"),
        (FreshnessState.PASS, "HEALTHY"),
        (FreshnessState.WARN, "WARNING"),
        (FreshnessState.FAIL, "DEGRADED"),
    ]

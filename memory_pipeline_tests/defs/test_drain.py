"""Dagster alone on real stores: what is posted while no worker runs is done by runs that the daemon launches itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from memory_pipeline.defs.sensing import ASKED_BY_TAG
from memory_pipeline.local.dagster_dev import DagsterDev
from memory_pipeline.local.processes import free_port, log_tail
from memory_pipeline.stages.audit import audit
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline_tests.defs.conftest import PROJECT, Deployment
from memory_pipeline_tests.defs.queued import job_states, post

MESSAGES = 2000
DRAINED_SECONDS = 150


@pytest.fixture
def dagster(deployment: Deployment, tmp_path: Path) -> Iterator[DagsterDev]:
    """`dagster dev`, with its daemon, on this test's stores."""
    env = {**deployment.env, "DAGSTER_DISABLE_TELEMETRY": "yes"}
    dagster = DagsterDev(PROJECT, tmp_path / "dagster.log", port=free_port(), env=env)
    dagster.start()
    dagster.wait_ready()
    try:
        yield dagster
    finally:
        dagster.stop()


@pytest.mark.faults
def test_a_burst_without_a_worker_is_drained_by_runs_that_the_daemon_launches(
    deployment: Deployment, instance: dg.DagsterInstance, dagster: DagsterDev
) -> None:
    settings = deployment.settings
    today = datetime.now(UTC).date()
    for start in range(0, MESSAGES, 500):
        texts = [f"I live in town number {n}." for n in range(start, start + 500)]
        post(settings, texts, day=today - timedelta(days=1 + start // 500))

    def drained() -> bool:
        dagster.require_running()
        return set(job_states(settings)) == {"completed"}

    def runs() -> list[dg.DagsterRun]:
        return list(instance.get_runs(dg.RunsFilter(tags={ASKED_BY_TAG: "queue_backlog_sensor"})))

    began = time.monotonic()
    while not drained() or not all(run.is_finished for run in runs()):
        if time.monotonic() > began + DRAINED_SECONDS:
            pytest.fail(f"{job_states(settings)} after {DRAINED_SECONDS} s:\n{log_tail(dagster.log, 60)}")
        time.sleep(0.3)
    assert {(run.job_name, run.status) for run in runs()} == {("backlog_job", dg.DagsterRunStatus.SUCCESS)}
    assert job_states(settings) == {"completed": MESSAGES}
    with Pipeline(settings) as pipeline:
        report = audit(pipeline.database, pipeline.chroma, pipeline.embedder.model, seed=1)
    assert (report.findings, report.vectors) == (0, 2 * MESSAGES)

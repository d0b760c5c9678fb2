"""`flags` on real Postgres: what it changes, who is written down, what it refuses, and its exit codes."""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from datetime import date
from uuid import uuid4

import pytest

from memory_pipeline.cli import main
from memory_pipeline.model.flags import Flag
from memory_pipeline.settings import Settings
from memory_pipeline.stages.flags import FeatureFlags
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.jobs import NewJob, enqueue
from memory_pipeline.stores.postgres.tenants import ensure_tenant
from memory_pipeline_tests.local.host import Servers

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    settings: Settings, servers: Servers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a command line in this process on the test's stores; return its exit code, what it printed, its errors."""
    values = {
        "MEMORY_HOME": str(settings.home),
        "MEMORY_POSTGRES_ADMIN_URL": str(settings.postgres_admin_url),
        "MEMORY_POSTGRES_APP_URL": str(settings.postgres_app_url),
        "MEMORY_POSTGRES_PIPELINE_URL": str(settings.postgres_pipeline_url),
        "MEMORY_REDIS_URL": str(settings.redis_url),
        "MEMORY_CHROMA_URL": str(settings.chroma_url),
        "MEMORY_DAGSTER_POSTGRES_URL": servers.postgres_url(),
        "DAGSTER_HOME": str(settings.home / "dagster"),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    (settings.home / "dagster").mkdir()

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["memory-pipeline", *arguments])
        with pytest.raises(SystemExit) as done:
            main()
        printed = capsys.readouterr()
        code = done.value.code
        assert isinstance(code, int)
        return code, printed.out, printed.err

    return run


@pytest.fixture
def pipeline(settings: Settings) -> Iterator[Pipeline]:
    with Pipeline(settings) as opened:
        opened.flags = FeatureFlags(opened.database, settings, seconds=0)
        yield opened


def listed(run: Run) -> dict[str, dict[str, object]]:
    code, printed, _ = run("flags", "list", "--json")
    assert code == 0
    return {row["flag"]: row for row in json.loads(printed)}


def test_a_flag_is_set_shown_with_its_author_and_unset(run: Run, pipeline: Pipeline) -> None:
    code, said, _ = run("flags", "set", "embedding", "off")
    assert (code, "embedding is off in every process (within 2 s)" in said) == (0, True)
    assert pipeline.flags.off(Flag.EMBEDDING) == (Flag.EMBEDDING,)
    row = listed(run)["embedding"]
    me = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    assert (row["enabled"], row["default"], row["changed_by"]) == (False, True, me)
    assert "as before" in run("flags", "set", "embedding", "off")[1]
    assert run("flags", "unset", "embedding")[0] == 0
    assert pipeline.flags.off(Flag.EMBEDDING) == ()
    assert listed(run)["embedding"]["changed_by"] is None
    with pipeline.database.transaction() as connection:
        events = connection.execute("SELECT kind, actor FROM auth_events ORDER BY event_id").fetchall()
    assert events == [("flag_set", me), ("flag_unset", me)]


def test_the_list_for_people_tells_what_needs_a_restart(run: Run) -> None:
    code, printed, _ = run("flags", "list")
    assert code == 0
    for flag in Flag:
        assert flag in printed
    assert printed.count("a restart only") == 2


@pytest.mark.parametrize(("flag", "remedy"), [("worker", "MEMORY_WORKER_ENABLED"), ("fail_fast", "MEMORY_FAIL_FAST")])
def test_what_needs_a_restart_is_refused_with_what_to_do(run: Run, flag: str, remedy: str) -> None:
    code, _, error = run("flags", "set", flag, "off")
    assert code == 2
    assert f"Change {remedy} and restart them." in " ".join(error.split())


@pytest.mark.parametrize("flag", ["synthesis", "langfuse", "ENRICHMENT", ""])
def test_a_flag_that_switches_nothing_is_not_known(run: Run, flag: str) -> None:
    code, _, error = run("flags", "set", flag, "on")
    assert code == 2
    assert "there are system, enrichment, embedding, relations, weekly_summaries." in " ".join(error.split())


def test_jobs_that_waited_for_a_flag_go_on_when_it_is_set(run: Run, pipeline: Pipeline) -> None:
    with pipeline.database.transaction() as connection:
        tenant_id = ensure_tenant(connection, "acme")
        for job_type in ("index", "detect_relations"):
            job = NewJob(
                tenant_id=tenant_id,
                job_type=job_type,
                day=date(2026, 3, 1),
                correlation_id=uuid4(),
                delay_seconds=300,
            )
            enqueue(connection, [job])
    assert "1 waiting jobs go on" in run("flags", "set", "enrichment", "on")[1]
    with pipeline.database.transaction() as connection:
        soon = connection.execute(
            "SELECT job_type, available_at < clock_timestamp() + interval '10 seconds' FROM memory_jobs ORDER BY 1"
        ).fetchall()
    assert soon == [("detect_relations", False), ("index", True)]


def test_a_worker_beside_an_api_that_does_its_work_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_WORKER_ENABLED", "false")
    code, _, error = run("worker")
    assert code == 2
    assert "MEMORY_WORKER_ENABLED is false" in error

"""`jobs list` as a person reads it: what is not done, with ids that can be copied."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner

from memory_pipeline.cli import app
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.settings import Settings
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.stores.postgres.ledger import Ledger

Run = Callable[..., str]


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on the test's stores, on a terminal of 80 columns; an error of ours is raised."""
    for name in ("home", "postgres_app_url", "postgres_pipeline_url", "redis_url", "chroma_url", "chroma_database"):
        monkeypatch.setenv(f"MEMORY_{name.upper()}", str(getattr(settings, name)))

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
        if isinstance(result.exception, MemoryPipelineError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


@pytest.fixture
def ledger(database: Urls) -> Iterator[Ledger]:
    with Database(database.pipeline_url, role="memory_pipeline") as opened:
        yield Ledger(database, opened)


def test_what_is_not_done_is_listed_the_dead_first_and_what_is_done_on_request(run: Run, ledger: Ledger) -> None:
    assert "no job waits and none failed" in run("jobs", "list")
    dead, done, waiting = ledger.add(3, job_type="enrich_and_embed")
    ledger.fail(ledger.claim_keys([dead]), retry=False, text="no luck\n\x1b[31mat all")
    ledger.finish(ledger.claim_keys([done]))

    listed = json.loads(run("jobs", "list", "--json"))["jobs"]
    assert [job["job_id"] for job in listed] == [str(dead.job_id), str(waiting.job_id)]
    text = run("jobs", "list")
    assert text.index(str(dead.job_id)) < text.index(str(waiting.job_id))
    assert "TestError: no luck??[31mat all\n" in text
    assert "jobs retry ID" in text
    assert str(done.job_id) not in text
    assert str(done.job_id) in run("jobs", "list", "--all")
    assert str(done.job_id) in run("jobs", "list", "--state", "completed")
    assert "only 1 are shown" in run("jobs", "list", "--limit", "1")
    assert "no failed jobs" in run("jobs", "list", "--state", "failed")


def test_an_id_is_whole_on_a_line_of_80_columns_and_is_what_retry_takes(run: Run, ledger: Ledger) -> None:
    (key,) = ledger.add(1, job_type="enrich_and_embed")
    ledger.fail(ledger.claim_keys([key]), retry=False, text="x" * 500)
    (line,) = [line for line in run("jobs", "list").splitlines() if str(key.job_id) in line]
    assert len(line) <= 80
    assert line.split()[:4] == [str(key.job_id), "enrich_and_embed", "dead", "1"]
    assert "1 jobs are pending again" in run("jobs", "retry", line.split()[0])


def test_one_selection_at_a_time(run: Run) -> None:
    done = CliRunner().invoke(app, ["jobs", "list", "--dead", "--all"])
    assert done.exit_code == 2
    assert "one of --dead, --state and --all" in done.output

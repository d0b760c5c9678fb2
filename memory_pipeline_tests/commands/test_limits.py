"""`limits` on real Postgres: what it sets and forgets, whose it is, and who is written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from memory_pipeline.cli import app
from memory_pipeline.model.errors import MemoryPipelineError, NotFoundError
from memory_pipeline.settings import Settings

Run = Callable[..., str]


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on the test's stores, with a tenant and a user; an error of ours is raised."""
    for name in ("home", "postgres_app_url", "postgres_pipeline_url", "redis_url", "chroma_url", "chroma_database"):
        monkeypatch.setenv(f"MEMORY_{name.upper()}", str(getattr(settings, name)))

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments)
        if isinstance(result.exception, MemoryPipelineError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    run("tenants", "add", "acme")
    run("users", "add", "ana@example.org", "--tenant", "acme")
    return run


def listed(run: Run, *arguments: str) -> list[tuple[Any, ...]]:
    rows = json.loads(run("limits", "list", "--json", *arguments))
    return [(row["tenant"], row["email"], row["what"], row["per_hour"]) for row in rows]


def test_a_limit_is_set_for_a_tenant_or_a_user_and_forgotten_again(run: Run) -> None:
    assert listed(run) == []
    assert "(now)" in run("limits", "set", "embedding", "5000", "--tenant", "acme")
    assert "(as before)" in run("limits", "set", "embedding", "5000", "--tenant", "acme")
    run("limits", "set", "embedding", "0", "--tenant", "acme", "--user", "ana@example.org")
    assert listed(run) == [("acme", None, "embedding", 5000), ("acme", "ana@example.org", "embedding", 0)]
    assert "the whole tenant" in run("limits", "list", "--tenant", "acme")

    answer = json.loads(run("limits", "unset", "embedding", "--tenant", "acme", "--json"))
    assert answer["changed"] is True
    assert listed(run) == [("acme", "ana@example.org", "embedding", 0)]
    assert "(as before)" in run("limits", "unset", "embedding", "--tenant", "acme")


def test_each_change_is_an_event_of_the_tenant_with_its_author(run: Run, settings: Settings) -> None:
    run("limits", "set", "relation_detection", "7", "--tenant", "acme", "--user", "ana@example.org")
    run("limits", "set", "relation_detection", "7", "--tenant", "acme", "--user", "ana@example.org")
    run("limits", "unset", "relation_detection", "--tenant", "acme", "--user", "ana@example.org")
    with psycopg.connect(str(settings.postgres_admin_url), options="-c search_path=memory") as connection:
        rows = connection.execute(
            "SELECT e.kind, e.detail->>'what', u.email, e.actor LIKE 'cli:%' FROM events e"
            " JOIN users u ON u.user_id = e.subject_id WHERE e.kind LIKE 'rate_limit%' ORDER BY e.event_id"
        ).fetchall()
    assert rows == [
        ("rate_limit_set", "relation_detection", "ana@example.org", True),
        ("rate_limit_unset", "relation_detection", "ana@example.org", True),
    ]


def test_a_limit_of_nobody_is_refused(run: Run) -> None:
    run("tenants", "add", "globex")
    with pytest.raises(NotFoundError):
        run("limits", "set", "embedding", "1", "--tenant", "nobody")
    with pytest.raises(NotFoundError):
        run("limits", "set", "embedding", "1", "--tenant", "globex", "--user", "ana@example.org")
    with pytest.raises(NotFoundError):
        run("limits", "list", "--tenant", "nobody")
    assert listed(run) == []

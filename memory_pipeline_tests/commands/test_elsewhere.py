"""Commands in a folder where no memory is and no server runs: what they say, and that they leave nothing behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from memory_pipeline.cli import app
from memory_pipeline.local.accounts import home_of
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline_tests.local.host import Servers

USER = ["--user", "ana@example.org"]
LOOKS_FOR_A_MEMORY = {
    "materialize": [],
    "api": [],
    "worker": [],
    "env": [],
    "status": [],
    "recall": ["where does she live?", *USER],
    "sql": ["SELECT 1"],
    "audit": [],
    "rebuild-index": [],
    "identity pending": [],
    "identity list": [],
    "identity link": ["subject", *USER],
    "identity revoke": ["subject"],
    "identity sessions": USER,
    "identity end-session": ["0" * 64],
    "users token": USER,
    "users add": ["ana@example.org", "--tenant", "acme"],
    "users list": [],
    "users disable": ["ana@example.org"],
    "users enable": ["ana@example.org"],
    "tenants list": [],
    "tenants suspend": ["acme"],
    "tenants activate": ["acme"],
    "flags list": [],
    "flags unset": ["enrichment"],
    "limits list": [],
    "limits set": ["embedding", "5", "--tenant", "acme"],
    "limits unset": ["embedding", "--tenant", "acme"],
    "jobs list": [],
    "jobs show": ["019e849a-4010-7cc2-8a5e-6a3c1e0d9b11"],
    "jobs retry": ["--all"],
    "plugins list": [],
    "plugins install": ["embedder:openai", "--tenant", "acme"],
    "plugins uninstall": ["embedder:openai", "--tenant", "acme"],
    "plugins enable": ["embedder:openai"],
    "plugins disable": ["embedder:openai"],
    "roles list": [],
    "roles grant": ["admin", *USER],
    "roles revoke": ["admin", *USER],
    "roles deny": ["member", "analytics:read"],
    "export verify": [],
    "export prune": [],
}
NEEDS_NONE = {"doctor", "export list", "generate", "eval locomo"}
MAKES_ONE = {"import", "up", "demo", "migrate", "tenants add", "flags set", "plugins register", "roles allow"}
GROUPS = ["eval", "identity", "users", "tenants", "flags", "limits", "jobs", "plugins", "roles", "export"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the memory of an empty folder would be; commands run in that folder."""
    for name in os.environ:
        if name.startswith(("MEMORY_", "DAGSTER_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return home_of(Path(".memory"))


def names(group: object, before: str = "") -> Iterator[str]:
    """Every command below a group, with the names of the groups on the way to it."""
    for name, command in getattr(group, "commands", {}).items():
        if hasattr(command, "commands"):
            yield from names(command, f"{before}{name} ")
        else:
            yield f"{before}{name}"


def test_every_command_is_tried_here_or_may_make_a_memory_or_needs_none() -> None:
    found = list(names(typer.main.get_command(app)))
    assert sorted(found) == sorted([*LOOKS_FOR_A_MEMORY, *NEEDS_NONE, *MAKES_ONE])


@pytest.mark.parametrize("command", LOOKS_FOR_A_MEMORY)
def test_a_command_says_where_it_looked_and_how_to_name_another_place(command: str, home: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*command.split(), *LOOKS_FOR_A_MEMORY[command]])
    assert isinstance(done.exception, MemoryPipelineError), done.output
    assert done.exception.exit_code == 2
    said = str(done.exception)
    assert str(home) in said
    assert "MEMORY_HOME=" in said
    assert "`memory-pipeline " in said
    assert not home.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["sql", "SELECT 1", "--tenant", "acme"], ["migrate", "--check"]])
def test_so_does_one_with_these_options(arguments: list[str], home: Path) -> None:
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, MemoryPipelineError)
    assert str(home) in str(done.exception)
    assert not home.exists()


def test_a_list_of_no_exports_says_what_to_do(home: Path) -> None:
    done = CliRunner().invoke(app, ["export", "list"])
    assert done.exit_code == 0
    assert done.stdout.startswith(f"nothing has been exported to {home}/data/exports yet: run `memory-pipeline mat")
    assert CliRunner().invoke(app, ["export", "list", "--json"]).stdout == "[]\n"
    assert not home.exists()


def test_with_servers_of_ones_own_a_read_makes_no_folder_either(
    home: Path, tmp_path: Path, settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("postgres_app_url", "postgres_pipeline_url", "redis_url", "chroma_url", "chroma_database"):
        monkeypatch.setenv(f"MEMORY_{name.upper()}", str(getattr(settings, name)))
    for arguments in (["jobs", "list"], ["tenants", "list"], ["status"], ["flags", "list"]):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
    assert not home.exists()
    assert not (tmp_path / ".memory").exists()


@pytest.mark.nightly
def test_the_doctor_looks_at_a_place_of_its_own_and_leaves_nothing(home: Path, servers: Servers) -> None:
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0, done.output
    assert f"{home} has no memory yet" in done.stdout
    assert not home.exists()


@pytest.mark.parametrize("group", ["", *GROUPS])
def test_a_group_without_a_command_shows_its_help(group: str) -> None:
    done = CliRunner().invoke(app, group.split(), env={"COLUMNS": "200"})
    assert done.exit_code == 2  # as the library has it: nothing was done
    helped = CliRunner().invoke(app, [*group.split(), "--help"], env={"COLUMNS": "200"})
    assert helped.exit_code == 0
    assert "Commands" in helped.stdout
    assert done.output.strip() == helped.stdout.strip()

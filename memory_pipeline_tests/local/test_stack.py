"""The local stack as separate commands see it: one owns, others join, and nothing is left in whatever way it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import httpx
import psycopg
import pytest
import redis

from memory_pipeline.local.processes import boot_id, own_identity
from memory_pipeline.local.stack import local_stack, running_stack, settings_with
from memory_pipeline.model.errors import SettingsError, StoreUnavailableError
from memory_pipeline.settings import load_settings
from memory_pipeline_tests.local.inspect import listening_ports, processes_below, until

ROOT = Path(__file__).parents[2]


class Command:
    """A process that runs `local_stack` on a home, see stack_process.py."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "memory_pipeline_tests.local.stack_process", str(home), *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _stream(self, name: str) -> IO[Any]:
        stream = getattr(self.process, name)
        assert stream is not None
        return stream  # type: ignore[no-any-return]

    def env(self) -> dict[str, str]:
        """The variables, once it has the stack."""
        line = self._stream("stdout").readline()
        assert line, self._stream("stderr").read()
        env: dict[str, str] = json.loads(line)
        return env

    def ask_to_end(self) -> None:
        self._stream("stdin").write("\n")
        self._stream("stdin").flush()

    def end(self) -> str:
        """End it in good order; what it said."""
        _, said = self.process.communicate("\n", timeout=60)
        assert self.process.returncode == 0, said
        return str(said)

    def says(self) -> str:
        """Next line that it tells the person at the terminal."""
        return str(self._stream("stderr").readline())


@pytest.fixture
def start(server_folder: Path) -> Iterator[Callable[..., Command]]:
    """Starts commands on the home `server_folder / "home"`; what still runs after the test is killed."""
    commands: list[Command] = []

    def start_one(*arguments: str) -> Command:
        commands.append(Command(server_folder / "home", *arguments))
        return commands[-1]

    yield start_one
    for command in commands:
        command.process.kill()
        command.process.communicate()
    until(lambda: not processes_below(server_folder), "the servers end with their owner")


def put(env: dict[str, str]) -> None:
    with psycopg.connect(env["MEMORY_POSTGRES_ADMIN_URL"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with redis.Redis.from_url(env["MEMORY_REDIS_URL"]) as client:
        client.set("kept", "42")
    url = f"{env['MEMORY_CHROMA_URL']}/api/v2/tenants/default_tenant/databases"
    httpx.post(url, json={"name": "kept"}).raise_for_status()


def assert_kept(env: dict[str, str]) -> None:
    with psycopg.connect(env["MEMORY_POSTGRES_ADMIN_URL"]) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchall() == [(42,)]
    with redis.Redis.from_url(env["MEMORY_REDIS_URL"]) as client:
        assert client.get("kept") == b"42"
    url = f"{env['MEMORY_CHROMA_URL']}/api/v2/tenants/default_tenant/databases/kept"
    assert httpx.get(url).status_code == 200


def ports(env: dict[str, str]) -> set[int]:
    redis_port = int(env["MEMORY_REDIS_URL"].rpartition(":")[2].partition("/")[0])
    return {redis_port, int(env["MEMORY_CHROMA_URL"].rpartition(":")[2])}


def test_a_stop_leaves_no_process_no_port_and_no_state_and_keeps_the_data(
    start: Callable[..., Command], server_folder: Path
) -> None:
    first = start()
    env = first.env()
    put(env)
    assert len(processes_below(server_folder)) >= 3
    assert ports(env) <= listening_ports()
    assert first.end() == ""
    assert processes_below(server_folder) == {}
    assert not ports(env) & listening_ports()
    home = server_folder / "home"
    assert not (home / "run" / "stack.json").exists()
    assert list((home / "run" / "postgres").iterdir()) == []
    second = start()
    assert_kept(second.env())
    second.end()


def test_the_variables_lead_to_the_stores_under_their_roles(start: Callable[..., Command], server_folder: Path) -> None:
    command = start()
    env = command.env()
    assert set(env) == {
        "MEMORY_POSTGRES_ADMIN_URL",
        "MEMORY_POSTGRES_APP_URL",
        "MEMORY_POSTGRES_PIPELINE_URL",
        "MEMORY_REDIS_URL",
        "MEMORY_CHROMA_URL",
        "MEMORY_DAGSTER_POSTGRES_URL",
        "MEMORY_HOME",
        "DAGSTER_HOME",
        "DAGSTER_EVENT_BATCH_SIZE",
    }
    assert Path(env["DAGSTER_HOME"]).is_dir()
    assert env["MEMORY_HOME"] == str(server_folder / "home")
    for variable, who in {
        "MEMORY_POSTGRES_ADMIN_URL": ("postgres", "memory"),
        "MEMORY_DAGSTER_POSTGRES_URL": ("memory_dagster", "dagster"),
    }.items():
        with psycopg.connect(env[variable]) as connection:
            assert connection.execute("SELECT current_user, current_database()").fetchone() == who
    with psycopg.connect(env["MEMORY_DAGSTER_POSTGRES_URL"]) as connection:
        connection.execute("CREATE TABLE public.runs ()")
    settings = settings_with(load_settings(max_context_blocks=7), env)
    assert settings.postgres_app_url == env["MEMORY_POSTGRES_APP_URL"]
    assert settings.postgres_app_url is not None
    assert settings.postgres_app_url.startswith("postgresql://memory_app@/memory?")
    assert settings.home == server_folder / "home"
    assert settings.max_context_blocks == 7


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_servers_die_with_a_killed_owner_and_the_next_command_finds_the_data(
    start: Callable[..., Command], server_folder: Path, number: int
) -> None:
    first = start()
    env = first.env()
    put(env)
    first.process.send_signal(number)
    _printed, complaints = first.process.communicate()
    assert first.process.returncode == -number, complaints
    until(lambda: not processes_below(server_folder), "the servers end with their owner")
    assert not ports(env) & listening_ports()
    assert (server_folder / "home" / "run" / "stack.json").exists()
    second = start()
    assert_kept(second.env())
    second.end()


def test_a_command_right_after_a_kill_starts_without_waiting_for_the_dying_servers(
    start: Callable[..., Command],
) -> None:
    first = start()
    put(first.env())
    first.process.kill()
    second = start()
    assert_kept(second.env())
    second.end()


def test_commands_started_at_once_share_one_set_of_servers(start: Callable[..., Command], server_folder: Path) -> None:
    prepared = server_folder / "prepared"
    commands = [start(str(prepared)) for _ in range(4)]
    first, *others = [command.env() for command in commands]
    assert others == [first, first, first]
    assert prepared.read_text().splitlines() == [first["MEMORY_POSTGRES_ADMIN_URL"]]
    servers = [command for command in processes_below(server_folder).values() if " -D " in command]
    assert len(servers) == 1
    for command in commands:
        command.ask_to_end()
    for command in commands:
        command.end()


def test_the_owner_waits_for_those_who_joined_and_says_so(start: Callable[..., Command], server_folder: Path) -> None:
    owner = start()
    env = owner.env()
    joiner = start()
    assert joiner.env() == env
    owner.ask_to_end()
    assert "waiting for them" in owner.says()
    put(env)
    assert_kept(env)
    joiner.end()
    owner.process.communicate(timeout=30)
    assert processes_below(server_folder) == {}


def test_a_killed_joiner_does_not_hold_up_the_owner(start: Callable[..., Command], server_folder: Path) -> None:
    owner = start()
    owner.env()
    joiner = start()
    joiner.env()
    joiner.process.kill()
    owner.end()
    assert processes_below(server_folder) == {}


def test_stale_state_that_names_living_processes_is_not_believed_and_they_are_not_touched(
    start: Callable[..., Command], server_folder: Path
) -> None:
    run = server_folder / "home" / "run"
    run.mkdir(parents=True)
    with subprocess.Popen(["sleep", "600"]) as bystander:
        later = {"pid": bystander.pid, "start_time": own_identity().start_time - 1}
        stale = {"version": 1, "boot": boot_id(), "owner": later, "servers": {"Redis": later}, "env": {"lie": "yes"}}
        (run / "stack.json").write_text(json.dumps(stale))
        settings = load_settings(home=server_folder / "home")
        assert running_stack(settings) is None
        command = start()
        assert "lie" not in command.env()
        state = running_stack(settings)
        assert state is not None
        assert state.owner.pid == command.process.pid
        command.end()
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.nightly
def test_a_failed_start_names_the_reason_and_leaves_nothing(server_folder: Path) -> None:
    home = server_folder / "home"
    (home / "postgres").mkdir(parents=True)
    (home / "postgres" / "PG_VERSION").write_text("9.6\n")
    os.chmod(home, 0o711)
    with (
        pytest.raises(StoreUnavailableError, match=r"made by Postgres 9\.6"),
        local_stack(load_settings(home=home)),
    ):
        pytest.fail("must not get here")
    assert processes_below(server_folder) == {}
    assert not (home / "run" / "stack.json").exists()


def test_a_failed_preparation_stops_the_servers(server_folder: Path) -> None:
    def fail(env: dict[str, str]) -> None:
        raise SettingsError("no")

    settings = load_settings(home=server_folder / "home")
    with pytest.raises(SettingsError, match="no"), local_stack(settings, prepare=fail):
        pytest.fail("must not get here")
    assert processes_below(server_folder) == {}
    assert running_stack(settings) is None


def test_with_all_stores_given_nothing_is_started(server_folder: Path) -> None:
    own = {
        "postgres_app_url": "postgresql://memory_app@db/memory",
        "postgres_pipeline_url": "postgresql://memory_pipeline@db/memory",
        "redis_url": "redis://cache:6379/0",
        "chroma_url": "http://chroma:8000",
    }
    with local_stack(load_settings(home=server_folder / "home", **own)) as env:
        assert {name: env[f"MEMORY_{name.upper()}"] for name in own} == own
        assert "MEMORY_POSTGRES_ADMIN_URL" not in env
        assert processes_below(server_folder) == {}


def test_some_stores_given_but_not_all_is_refused(server_folder: Path) -> None:
    settings = load_settings(home=server_folder / "home", redis_url="redis://cache:6379/0")
    with (
        pytest.raises(SettingsError, match=r"MEMORY_REDIS_URL set, but not .*MEMORY_CHROMA_URL"),
        local_stack(settings),
    ):
        pytest.fail("must not get here")


def test_a_home_with_odd_characters_works(start: Callable[..., Command], server_folder: Path) -> None:
    home = server_folder / "a home, with ü% and 'quotes'" / ("long" * 20)
    command = Command(home)
    with contextlib.ExitStack() as ends:
        ends.callback(command.process.kill)
        put(command.env())
        command.end()
        again = Command(home)
        ends.callback(again.process.kill)
        assert_kept(again.env())
        again.end()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a home that its server account can't reach")
def test_a_home_that_the_server_account_cannot_reach_moves_and_this_is_said(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    said: list[str] = []
    with local_stack(load_settings(home=closed / "home"), say=said.append) as env:
        assert env["MEMORY_HOME"].startswith("/var/tmp/memory-pipeline-")
        put(env)
    assert len(said) == 1
    assert env["MEMORY_HOME"] in said[0]
    assert str(closed / "home") in said[0]
    with local_stack(load_settings(home=closed / "home"), say=said.append) as again:
        assert again["MEMORY_HOME"] == env["MEMORY_HOME"]
        assert_kept(again)
    subprocess.run(["rm", "-r", env["MEMORY_HOME"]], check=True)

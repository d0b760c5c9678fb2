"""The shared fixtures: every test has stores of its own on the servers of the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from memory_pipeline.settings import Settings
from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.local.inspect import processes_below, until

ROOT = Path(__file__).parents[2]


def test_an_empty_database_is_empty(empty_database: Database) -> None:
    with psycopg.connect(empty_database.admin_url) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == (empty_database.name,)
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_redis_is_empty(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left behind", "for the next test to find")


def test_redis_is_empty_again(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_a_chroma_database_exists_for_the_test(chroma_url: str, chroma_database: str) -> None:
    answer = httpx.get(f"{chroma_url}/api/v2/tenants/default_tenant/databases/{chroma_database}/collections")
    assert answer.json() == []


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_a_migrated_database_of_its_own(settings: Settings, turn: int) -> None:
    assert settings.postgres_admin_url is not None
    with psycopg.connect(settings.postgres_admin_url) as connection:
        assert connection.execute("SELECT to_regclass('memory.messages') IS NOT NULL").fetchone() == (True,)
        connection.execute("CREATE TABLE public.left_behind ()")  # fails in turn 2 if it sees turn 1
    for url, role in {
        settings.postgres_app_url: "memory_app",
        settings.postgres_pipeline_url: "memory_pipeline",
    }.items():
        assert url is not None
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (role,)


def start_pytest(folder: Path, test: str, *options: str) -> subprocess.Popen[str]:
    """A test run of its own with our fixtures and this one test module, which finds the folder in $REPORT_TO."""
    (folder / "suite").mkdir(exist_ok=True)
    (folder / "suite" / "conftest.py").write_text("from memory_pipeline_tests.conftest import *\n")
    (folder / "suite" / "test_it.py").write_text("import os, pathlib, time\nimport pytest\n" + test)
    place = [str(folder / "suite"), f"--rootdir={folder}", "-c", os.devnull]
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *place, *options],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path), "REPORT_TO": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_run_of_tests_without_stores_starts_no_server(server_folder: Path) -> None:
    look = """
def test_it():
    folder = pathlib.Path(os.environ["REPORT_TO"])
    (folder / "seen").write_text(" ".join(path.name for path in folder.glob("memory-tests-*/*")))
"""
    run = start_pytest(server_folder, look)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    seen = (server_folder / "seen").read_text()
    assert "servers.sock" in seen
    assert "postgres" not in seen
    assert list(server_folder.glob("memory-tests-*")) == []


@pytest.mark.nightly
@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["alone", "workers"])
def test_servers_end_with_a_killed_test_run_and_the_next_run_removes_its_data(
    server_folder: Path, options: list[str]
) -> None:
    hang = """
def test_it(servers, empty_database, redis_url):
    (pathlib.Path(os.environ["REPORT_TO"]) / "up").touch()
    time.sleep(600)
"""
    run = start_pytest(server_folder, hang, *options)
    until((server_folder / "up").exists, "the test runs", seconds=60)
    names = " ".join(processes_below(server_folder).values())
    assert "postgres" in names
    assert "redis-server" in names
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=60)
    until(lambda: not processes_below(server_folder), "nothing runs")
    assert len(list(server_folder.glob("memory-tests-*"))) == 1
    run = start_pytest(server_folder, "def test_it(redis_url): pass")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert list(server_folder.glob("memory-tests-*")) == []


@pytest.mark.nightly
def test_workers_share_one_set_of_servers(server_folder: Path) -> None:
    test = """
@pytest.mark.parametrize("n", range(4))
def test_it(n, database, chroma_url, redis_url, worker_id):
    folder = pathlib.Path(os.environ["REPORT_TO"])
    (folder / f"seen-by-{n}").write_text(database.admin_url.partition("?")[2] + chroma_url)
    (folder / f"worker-{worker_id}").write_text(redis_url)
"""
    run = start_pytest(server_folder, test, "-n", "2", "--dist", "each")
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0, output
    assert len({file.read_text() for file in server_folder.glob("seen-by-*")}) == 1
    assert len({file.read_text() for file in server_folder.glob("worker-gw*")}) == 2
    assert processes_below(server_folder) == {}

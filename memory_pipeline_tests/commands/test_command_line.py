"""The command line as a person uses it: processes of their own, embedded stores, exit codes, JSON."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from memory_pipeline.commands.demonstrating import ANALYST_QUESTIONS
from memory_pipeline.local.processes import descendants, free_port, process_identity
from memory_pipeline.stores.duckdb.generations import TableSummary, current_export, manifest_of
from memory_pipeline.stores.duckdb.questions import worked_question

LENA = "lena.hoffmann@tavola.example"


def environment(home: Path, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MEMORY_", "DAGSTER_"))}
    return clean | {"MEMORY_HOME": str(home)} | more


def run(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "memory_pipeline.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        env=environment(home, **more),
        check=False,
    )


def succeed(home: Path, *arguments: str, **more: str) -> str:
    done = run(home, *arguments, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo_home() -> Iterator[Path]:
    """A home in which `demo` has run once, and demo.txt says what it printed.

    Not below pytest's own folders, which root's servers can't pass.
    """
    home = Path(tempfile.mkdtemp(prefix="memory-demo-"))
    home.chmod(0o711)
    try:
        (home / "demo.txt").write_text(succeed(home, "demo"), encoding="utf-8")
        yield home
    finally:
        shutil.rmtree(home)


def counts(home: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(succeed(home, "status", "--json"))["tenants"]
    return rows


def test_demo_fills_every_store_and_a_second_one_adds_nothing(demo_home: Path) -> None:
    before = counts(demo_home)
    assert [row["tenant"] for row in before] == ["parlando", "tavola", "wayfarer"]
    for row in before:
        for name in ("users", "messages", "facts", "summaries", "vectors"):
            assert row[name], (name, row)
        assert row["pending"] == row["failed"] == 0
        assert row["indexed"] == row["vectors"]
    export = exported(demo_home)

    again = succeed(demo_home, "demo")

    assert "imported 0 sample messages, 1,710 there already" in again
    assert counts(demo_home) == before
    audited = {"audit_runs", "mart_data_quality"}  # an audit is exported with what comes after it
    assert export.keys() == exported(demo_home).keys() > audited
    assert {name for name, table in exported(demo_home).items() if table != export[name]} == audited


def exported(home: Path) -> dict[str, TableSummary]:
    return manifest_of(current_export(home / "data" / "exports")).tables


def test_demo_ends_with_three_answers_for_an_analyst_and_how_to_open_the_file(demo_home: Path) -> None:
    said = (demo_home / "demo.txt").read_text(encoding="utf-8")
    asked = [worked_question(number) for number in ANALYST_QUESTIONS]
    places = [said.index(f"{one.question}\n\n{one.statement}\n") for one in asked]
    assert len(places) == 3
    assert places == sorted(places)
    tenants, people, changes = (said[place:] for place in places)
    assert re.search(r"^ tavola +4 +4 +674 +63 ", tenants, re.MULTILINE)
    assert re.search(r"^ works_as +7 +6 +0\.9 +7 +Lena Hoffmann works as a nurse\.", people, re.MULTILINE)
    assert re.search(rf"^ {LENA} +Lena Hoffmann works at a children's hospital\.", changes, re.MULTILINE)
    opening = re.search(r"duckdb\.connect\(.+?, read_only=True\)", changes)
    assert opening is not None
    with eval(opening[0], {"duckdb": duckdb}) as connection:
        assert connection.sql("SELECT count(*) FROM messages").fetchall() == [(1710,)]


def test_recall_names_the_message_a_fact_comes_from(demo_home: Path) -> None:
    answer = json.loads(succeed(demo_home, "recall", "Where do I work?", "--user", LENA, "--k", "3", "--json"))
    first = answer["memories"][0]
    assert (first["kind"], first["content"]) == ("fact", "Lena Hoffmann works as a nurse.")
    assert first["sources"][0]["speaker"] == "Lena Hoffmann"
    assert answer["degraded"] == []
    assert len(answer["memories"]) == 3


def test_sql_answers_from_the_published_file_and_refuses_to_write(demo_home: Path) -> None:
    rows = json.loads(succeed(demo_home, "sql", "SELECT count(*) AS messages FROM messages", "--format", "json"))
    assert rows == [{"messages": 1710}]
    refused = run(demo_home, "sql", "DELETE FROM messages")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")


def test_audit_of_a_fresh_demo_finds_nothing(demo_home: Path) -> None:
    report = json.loads(succeed(demo_home, "audit", "--json"))
    assert report["findings"] == 0
    assert report["vectors"] == sum(int(str(row["vectors"])) for row in counts(demo_home))


def test_doctor_has_a_line_for_every_store_and_all_are_well(demo_home: Path) -> None:
    checks = {check["name"]: check for check in json.loads(succeed(demo_home, "doctor", "--json"))}
    assert {"postgres app role", "postgres pipeline role", "redis", "chroma", "embedder"} <= set(checks)
    assert all(check["ok"] for check in checks.values()), checks


@pytest.mark.nightly
def test_generated_conversations_go_through_import_and_one_asset(tmp_path: Path, demo_home: Path) -> None:
    succeed(demo_home, "generate", str(tmp_path), "--messages", "60", "--tenants", "1", "--users", "2", "--days", "5")
    (file,) = tmp_path.glob("*.jsonl")
    report = json.loads(succeed(demo_home, "import", "jsonl", str(file), "--tenant", "made-up", "--json"))
    assert (report["inserted"], report["rejected"]) == (60, 0)
    try:
        runs = json.loads(
            succeed(demo_home, "materialize", "facts", "--from", "2026-01-01", "--to", "2026-01-05", "--json")
        )
        assert [(one["assets"], one["succeeded"]) for one in runs] == [(["facts"], True)]
        (made_up,) = [row for row in counts(demo_home) if row["tenant"] == "made-up"]
        assert made_up["pending"] == 0
    finally:
        succeed(demo_home, "materialize")


BAD_LINES = {
    2: ('{"id": "m2", broken', "JSON"),
    3: ('{"id":"m3","conversation_id":"c","content":"a\\u0000b","sent_at":"2026-03-01T10:00:00Z"}', "NUL"),
    4: ('{"id":"m4","conversation_id":"c","content":"\\ud800","sent_at":"2026-03-01T10:00:00Z"}', "surrogate"),
    5: ('{"id":"m5","content":"x","sent_at":"2026-03-01T10:00:00Z"}', "conversation_id"),
    6: ('{"id":"m6","conversation_id":"c","content":"x","sent_at":"3026-03-01T10:00:00Z"}', "future"),
    7: ('{"id":"m7","conversation_id":"c","content":"x","sent_at":"2019-03-01T10:00:00Z"}', "MEMORY_PARTITION_START"),
    8: (
        '{"id":"m8","conversation_id":"c","content":"' + "x" * 10_000_000 + '","sent_at":"2026-03-01T10:00:00Z"}',
        "bytes",
    ),
    9: ('{"id":"m1","conversation_id":"c","content":"other","sent_at":"2026-03-01T10:00:00Z"}', "other content"),
}
GOOD_LINES = {
    1: '{"id":"m1","conversation_id":"c","content":"first","sent_at":"2026-03-01T10:00:00Z"}',
    10: '{"id":"m10","conversation_id":"c","content":"last","sent_at":"2026-03-01T10:00:01Z"}',
}


def test_bad_records_are_named_and_cost_no_good_one(tmp_path: Path, demo_home: Path) -> None:
    lines = GOOD_LINES | {number: line for number, (line, _reason) in BAD_LINES.items()}
    file = tmp_path / "chat.jsonl"
    file.write_text("".join(f"{lines[number]}\n" for number in sorted(lines)))

    done = run(demo_home, "import", "jsonl", str(file), "--tenant", "bad-input", "--user", "ana@b.example", "--json")

    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert (report["inserted"], report["rejected"]) == (len(GOOD_LINES), len(BAD_LINES))
    rejections = {rejection["origin"]: rejection for rejection in report["rejections"]}
    for number, (_line, reason) in BAD_LINES.items():
        rejection = rejections[f"chat.jsonl:{number}"]
        assert reason in rejection["reason"] + rejection["remedy"], rejection
        assert rejection["remedy"]


def test_a_dry_run_writes_nothing(tmp_path: Path, demo_home: Path) -> None:
    file = tmp_path / "chat.jsonl"
    file.write_text(GOOD_LINES[1] + "\n")
    report = json.loads(
        succeed(
            demo_home, "import", "jsonl", str(file), "--tenant", "dry", "--user", "a@b.example", "--dry-run", "--json"
        )
    )
    assert report["inserted"] == 1
    assert "dry" not in [row["tenant"] for row in counts(demo_home)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recall", "hello", "--user", "nobody@nowhere.example"], "nobody@nowhere.example"),
        (["materialize", "no_such_asset"], "no_such_asset"),
        (["import", "jsonl", "/no/such/file"], "/no/such/file"),
        (["import", "jsonl", os.devnull, "--tenant", "Not A Slug"], "Not A Slug"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_two(arguments: list[str], said: str, demo_home: Path) -> None:
    done = run(demo_home, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_setting_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "status", MEMORY_UI_PORT="many")
    assert done.returncode == 2
    assert done.stderr.startswith("error: MEMORY_UI_PORT='many'")


def test_help_loads_no_heavy_library() -> None:
    heavy = ["chromadb", "dagster", "duckdb", "numpy", "onnxruntime", "pandas", "psycopg", "pyarrow", "redis"]
    script = (
        "import sys; from typer.testing import CliRunner; from memory_pipeline.cli import app;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def command_of(pid: int) -> list[str]:
    """Arguments of a process; none where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def workers_below(pid: int) -> list[int]:
    return [child for child in descendants(pid) if "worker" in command_of(child)]


@pytest.mark.nightly
def test_up_serves_the_ui_starts_its_worker_anew_and_ctrl_c_leaves_no_process(demo_home: Path) -> None:
    port = free_port()
    log = demo_home / "up.log"
    with log.open("w") as output:
        up = subprocess.Popen(
            [sys.executable, "-m", "memory_pipeline.cli", "up"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(demo_home, MEMORY_UI_PORT=str(port)),
        )
    try:
        deadline = time.monotonic() + 120
        while f"http://127.0.0.1:{port}" not in log.read_text():
            assert up.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        exports = succeed(demo_home, "env")
        assert "export MEMORY_POSTGRES_APP_URL=" in exports
        started = [identity for pid in descendants(up.pid) if (identity := process_identity(pid)) is not None]
        assert len(started) > 5
        (worker,) = workers_below(up.pid)
        os.kill(worker, signal.SIGKILL)
        while not set(workers_below(up.pid)) - {worker}:
            assert up.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        assert "the worker is started anew in 1 s" in log.read_text()
        started += [identity for pid in descendants(up.pid) if (identity := process_identity(pid)) is not None]
        assert succeed(demo_home, "env") == exports
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0, log.read_text()
    finally:
        up.kill()
        up.wait()
    deadline = time.monotonic() + 10
    while any(identity.is_alive() for identity in started) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [identity for identity in started if identity.is_alive()]
    assert run(demo_home, "env").returncode == 2

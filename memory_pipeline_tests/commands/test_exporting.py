"""`export list|verify|prune`, `sql --tenant` and `sql --question`, on published files alone: no server is up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memory_pipeline.commands import querying
from memory_pipeline.model.errors import ForbiddenError
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores.duckdb import overview
from memory_pipeline.stores.duckdb.fresh_reader import read_in_fresh_process
from memory_pipeline.stores.duckdb.generations import TableSummary, current_export, generations, prune, switch
from memory_pipeline.stores.duckdb.overview import published_files, tenant_export, verify_exports
from memory_pipeline.stores.duckdb.publish import LOCK, Scope, publish_duckdb
from memory_pipeline.stores.duckdb.query import query
from memory_pipeline.stores.duckdb.questions import questions, worked_question
from memory_pipeline.stores.files import locked
from memory_pipeline.stores.lake.publish import publish_lake
from memory_pipeline_tests.accounts import NOBODY, as_another_account
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.stores.export_sample import MESSAGES, WINDOW, add_messages, fill, message
from memory_pipeline_tests.stores.lake_places import Place

CONSUMERS = {
    "acme-lab": Scope(tenant="acme", mask_key=b"a key for these tests alone"),
    "acme": Scope(tenant="acme"),
}


@pytest.fixture(scope="module")
def exported(servers: Servers, migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a lake, two generations for everyone, and two consumers."""
    data = tmp_path_factory.mktemp("data")
    with fresh_database(servers, migrated_template) as database:
        fill(database.pipeline_url)
        export_lake(database.pipeline_url, WINDOW, data / "lake")
        publish_duckdb(data / "lake", data / "exports", 3, CONSUMERS)
        late = message("acme", "late", datetime(2025, 3, 2, 12, tzinfo=UTC))
        add_messages(database.pipeline_url, "acme", [late])
        export_lake(database.pipeline_url, WINDOW, data / "lake")
        publish_duckdb(data / "lake", data / "exports", 3, CONSUMERS)
    return data


@pytest.fixture
def data(exported: Path, tmp_path: Path) -> Path:
    shutil.copytree(exported, tmp_path / "data", symlinks=True)
    return tmp_path / "data"


def run(data: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MEMORY_")}
    return subprocess.run(
        [sys.executable, "-m", "memory_pipeline.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=clean | {"MEMORY_DATA_DIR": str(data)} | environment,
        check=False,
    )


def test_every_generation_is_listed_with_whose_rows_it_has(data: Path) -> None:
    files = json.loads(run(data, "export", "list", "--json").stdout)
    assert [(one["consumer"], one["served"], one["tenant"], one["masked"], one["messages"]) for one in files] == [
        (None, True, None, False, MESSAGES + 1),
        (None, False, None, False, MESSAGES),
        ("acme", True, "acme", False, MESSAGES // 2 + 1),
        ("acme", False, "acme", False, MESSAGES // 2),
        ("acme-lab", True, "acme", True, MESSAGES // 2 + 1),
        ("acme-lab", False, "acme", True, MESSAGES // 2),
    ]
    assert [one["generation"] for one in files] == [2, 1] * 3
    assert all(one["rows"] > one["messages"] and Path(one["path"]).is_file() for one in files)


def test_a_list_for_people_has_every_path_whole_however_narrow_the_terminal_is(data: Path) -> None:
    files = json.loads(run(data, "export", "list", "--json").stdout)
    lines = run(data, "export", "list", COLUMNS="40").stdout.splitlines()
    listed = [line.strip() for line in lines if line.endswith(".duckdb") and not line.startswith("open ")]
    assert listed == [one["path"] for one in files]
    assert [line.split()[:3] for line in lines if line.startswith(("1 ", "2 "))] == [
        [str(one["generation"]), "yes" if one["served"] else "no", str(one["messages"])] for one in files
    ]
    assert "DuckDB file for acme-lab, rows of acme, masked" in lines
    links = [Path(line.removeprefix("open ")) for line in lines if line.startswith("open ")]
    assert [str(link.resolve()) for link in links] == [one["path"] for one in files if one["served"]]


def test_verifying_passes_on_whole_files_and_names_damaged_ones(data: Path) -> None:
    done = run(data, "export", "verify")
    assert (done.returncode, done.stdout) == (0, "every file is as it was written\n")
    damaged = current_export(data / "exports")
    damaged.chmod(0o644)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    damaged.write_bytes(content)
    (data / "lake/messages/day=2025-03-02/part-0.parquet").unlink()
    done = run(data, "export", "verify", "--json")
    problems = json.loads(done.stdout)["problems"]
    assert done.returncode == 1
    assert len(problems) == 2
    assert problems[0].endswith("lake/messages/day=2025-03-02/part-0.parquet is missing")
    assert damaged.name in problems[1]


def test_the_published_lake_is_listed_and_verified_too(data: Path, lake_place: Place) -> None:
    url = lake_place.url
    publish_lake(data / "lake", url, 3)
    listed = json.loads(run(data, "export", "list", "--json", MEMORY_LAKE_URL=url).stdout)
    assert [one["kind"] for one in listed] == ["duckdb"] * 6 + ["lake"]
    assert (listed[-1]["served"], listed[-1]["messages"]) == (True, MESSAGES + 1)
    assert listed[-1]["url"].startswith(f"{url.partition('?')[0]}/manifests/000001-")
    assert "manifests/0" in run(data, "export", "list", MEMORY_LAKE_URL=url, COLUMNS="300").stdout
    assert run(data, "export", "verify", MEMORY_LAKE_URL=url).returncode == 0
    lost = next(name for name in lake_place.files() if name.startswith("data/users/"))
    lake_place.remove(lost)
    done = run(data, "export", "verify", "--json", MEMORY_LAKE_URL=url)
    assert done.returncode == 1
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem.endswith(f"{lost} is missing: materialize published_lake")


def test_a_published_lake_that_does_not_answer_is_a_sentence(data: Path) -> None:
    url = "s3://bucket/lake?endpoint_override=http://127.0.0.1:1&region=eu-west-1"
    done = run(data, "export", "verify", MEMORY_LAKE_URL=url, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x")
    assert done.returncode == 3
    assert "the published lake can't be read at s3://bucket/lake" in done.stderr
    assert "Traceback" not in done.stderr
    done = run(data, "export", "list", MEMORY_LAKE_URL="lake")
    assert done.returncode == 2
    assert "MEMORY_LAKE_URL: String should match" in done.stderr


def test_pruning_keeps_what_is_served(data: Path) -> None:
    served = current_export(data / "exports")
    removed = json.loads(run(data, "export", "prune", "--keep", "1", "--json").stdout)["removed"]
    assert len(removed) == 3
    assert generations(data / "exports") == [served]
    assert run(data, "export", "prune", "--keep", "1").stdout == "nothing to remove\n"


def test_sql_asks_a_tenants_own_file_with_texts_where_there_is_one(data: Path) -> None:
    question = (
        "SELECT count(*) AS messages, count(DISTINCT tenant_id) AS tenants, max(content) <> '' AS texts FROM messages"
    )
    done = run(data, "sql", question, "--tenant", "acme", "--format", "json")
    assert json.loads(done.stdout) == [{"messages": MESSAGES // 2 + 1, "tenants": 1, "texts": True}]
    shutil.rmtree(data / "exports/consumers/acme")
    done = run(data, "sql", question, "--tenant", "acme", "--format", "json")
    assert json.loads(done.stdout) == [{"messages": MESSAGES // 2 + 1, "tenants": 1, "texts": False}]
    refused = run(data, "sql", question, "--tenant", "globex")
    assert refused.returncode == 2
    assert "no file is exported for tenant 'globex' alone" in refused.stderr


@pytest.fixture
def open_data(exported: Path) -> Iterator[Path]:
    """The data folder below none that is closed to other accounts, as pytest's are."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    try:
        shutil.copytree(exported, folder / "data", symlinks=True)
        (folder / "data").chmod(0o711)
        yield folder / "data"
    finally:
        shutil.rmtree(folder)


def test_the_group_of_a_consumer_finds_its_file_by_name_in_a_folder_it_may_not_list(open_data: Path) -> None:
    exports = open_data / "exports"
    masked = current_export(exports / "consumers/acme-lab")
    for path in (masked.parent, *masked.parent.iterdir()):
        os.chown(path, -1, NOBODY, follow_symlinks=False)
    masked.parent.chmod(0o750)
    with as_another_account():
        with pytest.raises(PermissionError):
            list((exports / "consumers").iterdir())
        # That with texts is another consumer's, which this account may not open.
        assert tenant_export(exports, "acme", ["acme", "acme-lab", "not there"]) == masked
        assert query(masked, "SELECT count(*) FROM messages").rows == [(MESSAGES // 2 + 1,)]
        for tenant, names in (("acme", ["acme"]), ("acme", []), ("globex", ["acme-lab"])):
            with pytest.raises(ForbiddenError, match=rf"'{tenant}'.*MEMORY_EXPORT_CONSUMERS"):
                tenant_export(exports, tenant, names)


def test_sql_names_the_consumers_of_the_settings_and_says_what_an_account_may_not_open(
    open_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, list[str]]] = []

    def remember(exports: Path, tenant: str, consumers: Iterable[str]) -> Path:
        asked.append((tenant, list(consumers)))
        return tenant_export(exports, tenant, consumers)

    monkeypatch.setenv("MEMORY_DATA_DIR", str(open_data))
    monkeypatch.setenv("MEMORY_HOME", str(open_data))
    monkeypatch.setenv("MEMORY_EXPORT_CONSUMERS", '{"lab": {"tenant": "acme"}}')
    monkeypatch.setattr(overview, "tenant_export", remember)
    with as_another_account(), pytest.raises(ForbiddenError, match="this account may open"):
        querying.sql_command("SELECT 1", "csv", 60, "acme", None)
    assert asked == [("acme", ["lab"])]
    (open_data / "exports").chmod(0o700)
    for tenant in (None, "acme"):
        with as_another_account(), pytest.raises(ForbiddenError, match="this account may"):
            querying.sql_command("SELECT 1", "csv", 60, tenant, None)


def test_sql_asks_the_new_file_where_the_old_one_is_removed_before_it_is_opened(
    data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    old, new = generations(data / "exports")
    switch(data / "exports", old.name)

    def found_too_late(exports: Path) -> Path:
        path = current_export(exports)
        if path == old:
            switch(exports, new.name)
            prune(exports, 1)
        return path

    monkeypatch.setenv("MEMORY_DATA_DIR", str(data))
    monkeypatch.setattr(querying, "current_export", found_too_late)
    assert querying.sql_command("SELECT count(*) AS messages FROM messages", "csv", 60, None, None) == 0
    assert capfd.readouterr().out == f"messages\n{MESSAGES + 1}\n"
    assert not old.exists()


def test_sql_says_so_where_the_served_file_is_gone(data: Path) -> None:
    current_export(data / "exports").unlink()
    done = run(data, "sql", "SELECT 1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "export again" in done.stderr


def test_sql_ends_quietly_where_nobody_reads_its_answer(data: Path) -> None:
    command = f"{sys.executable} -m memory_pipeline.cli sql 'FROM range(3000000)' --format csv | head -n 2"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"MEMORY_DATA_DIR": str(data)},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "range\n0\n", "")


def test_generations_that_a_publisher_removes_meanwhile_are_no_problem(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = data / "exports"
    old, new = generations(exports)

    def removed_meanwhile(path: Path) -> dict[str, TableSummary]:
        if path == old:
            prune(exports, 1)
        return read_in_fresh_process(path)

    monkeypatch.setattr(overview, "read_in_fresh_process", removed_meanwhile)
    assert overview.verify_exports(exports) == []
    assert generations(exports) == [new]


def test_listing_and_verifying_wait_for_the_publisher_where_they_meet_something_half_done(data: Path) -> None:
    exports = data / "exports"
    served = current_export(exports)
    with ThreadPoolExecutor(2) as threads:
        with locked(exports / LOCK):
            served.rename(exports / "aside")
            listed = threads.submit(published_files, exports)
            problems = threads.submit(verify_exports, exports)
            with pytest.raises(TimeoutError):
                listed.result(timeout=0.5)
            (exports / "aside").rename(served)
        assert listed.result(timeout=60)[0].path == served
        assert problems.result(timeout=60) == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("SELECT * FROM '/etc/passwd'", "'/etc/passwd' is the name of a file"),
        ("INSTALL httpfs", "INSTALL brings an extension"),
        ("", "the query is empty. Give one"),
        ("SELECT 1; SELECT 2", "these are 2 statements"),
        ("ATTACH 'other.duckdb'", "ATTACH leads to another database"),
        ("COPY messages TO 'messages.csv'", "--format csv > answer.csv"),
        ("PRAGMA database_list", "SHOW TABLES, DESCRIBE messages"),
    ],
)
def test_a_refusal_is_one_line_and_a_status_other_than_zero(data: Path, statement: str, said: str) -> None:
    done = run(data, "sql", statement)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: refused: ")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_sql_stops_at_the_limit_and_says_so(data: Path) -> None:
    done = run(data, "sql", "SELECT source_message_id FROM messages ORDER BY 1", "--limit", "2", "--format", "csv")
    assert len(done.stdout.splitlines()) == 3
    assert "only the first 2 rows" in done.stderr


def test_worked_questions_are_listed_and_asked_by_number(data: Path) -> None:
    listed = run(data, "sql", "--questions").stdout.splitlines()
    assert [line.split(maxsplit=1) for line in listed] == [[str(one.number), one.question] for one in questions()]
    done = run(data, "sql", "--question", "2", "--format", "json")
    assert [(row["tenant"], row["messages"]) for row in json.loads(done.stdout)] == [
        ("acme", MESSAGES // 2 + 1),
        ("globex", MESSAGES // 2),
    ]
    assert worked_question(2).statement in done.stderr
    own = json.loads(run(data, "sql", "--question", "2", "--tenant", "acme", "--format", "json").stdout)
    assert [row["tenant"] for row in own] == ["acme"]


def test_sql_takes_a_query_or_a_question_that_is_there(data: Path) -> None:
    unknown = run(data, "sql", "--question", "0")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "there is no question 0" in unknown.stderr
    for arguments in ([], ["SELECT 1", "--question", "2"], ["--question", "2", "--questions"]):
        assert run(data, "sql", *arguments).returncode == 2

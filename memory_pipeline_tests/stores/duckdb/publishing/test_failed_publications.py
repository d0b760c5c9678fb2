"""The published DuckDB file: what is served after failures, damage, crashes and rivalry."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import pytest

from memory_pipeline.model.errors import ExportError, NoExportError
from memory_pipeline.stores import lake
from memory_pipeline.stores.duckdb import build, publish
from memory_pipeline.stores.duckdb.generations import TableSummary
from memory_pipeline.stores.duckdb.publish import ExportReport, current_export, generations, publish_duckdb
from memory_pipeline_tests.stores.duckdb.publishing.support import (
    alter_a_row,
    assert_served,
    change,
    count_messages,
    leave_wal,
    litter,
    read_day,
    truncate,
)
from memory_pipeline_tests.stores.export_sample import MESSAGES, rewrite


def test_a_build_that_fails_in_the_middle_leaves_the_old_file_served(lake_root: Path, exports: Path) -> None:
    report = publish_duckdb(lake_root, exports, 3)
    change(lake_root)
    whole = read_day(lake_root, "summaries", date(2025, 3, 1))
    at = whole.schema.get_field_index("status")
    broken = whole.set_column(at, "another_name", whole.column(at))
    rewrite(lake_root, "summaries", date(2025, 3, 1), broken)
    with pytest.raises(ExportError, match="not built"):
        publish_duckdb(lake_root, exports, 3)
    assert_served(exports, report)
    assert litter(exports) == []
    rewrite(lake_root, "summaries", date(2025, 3, 1), whole)
    assert_served(exports, publish_duckdb(lake_root, exports, 3), MESSAGES - 1)


def cut_last_byte(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def leave_wal_of_a_checkpoint(path: Path) -> None:
    path.with_name(path.name + ".wal.checkpoint").write_bytes(b"stale")


def leave_wal_of_a_recovery(path: Path) -> None:
    path.with_name(path.name + ".wal.recovery").write_bytes(b"stale")


def lose_a_row(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM messages WHERE message_id = (SELECT min(message_id) FROM messages)")


def drop_a_table(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("DROP TABLE mart_user_daily")


@pytest.mark.parametrize(
    "damage",
    [
        *(truncate, cut_last_byte, lose_a_row, alter_a_row, drop_a_table),
        *(leave_wal, leave_wal_of_a_checkpoint, leave_wal_of_a_recovery),
    ],
)
def test_a_damaged_build_is_refused_before_the_switch(
    lake_root: Path, exports: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    report = publish_duckdb(lake_root, exports, 3)
    change(lake_root)

    def damaged_build(
        root: Path, manifest: lake.LakeManifest | None, path: Path, scope: build.Scope
    ) -> dict[str, TableSummary]:
        tables = build.build(root, manifest, path, scope)
        damage(path)
        return tables

    with monkeypatch.context() as patch:
        patch.setattr(publish, "build", damaged_build)
        with pytest.raises(ExportError, match="refused before the switch"):
            publish_duckdb(lake_root, exports, 3)
    assert_served(exports, report)
    assert generations(exports) == [report.path]
    assert litter(exports) == []
    assert_served(exports, publish_duckdb(lake_root, exports, 3), MESSAGES - 1)


@pytest.mark.parametrize(
    ("call", "nth"),
    [
        *(("flush", nth) for nth in range(1, 7)),
        *(("os.replace", nth) for nth in range(1, 5)),
        *((step, 1) for step in ("build", "verify_in_fresh_process", "place", "switch", "prune")),
    ],
)
def test_a_publisher_killed_at_any_step_leaves_a_whole_file_served(
    lake_root: Path, exports: Path, call: str, nth: int
) -> None:
    old = publish_duckdb(lake_root, exports, 2)
    change(lake_root)
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_AT, str(lake_root), str(exports), call, str(nth)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    served = current_export(exports)
    assert count_messages(served) == (MESSAGES if served == old.path else MESSAGES - 1)
    assert count_messages(exports / "memory.duckdb") in (MESSAGES, MESSAGES - 1)
    report = publish_duckdb(lake_root, exports, 2)
    assert_served(exports, report, MESSAGES - 1)
    assert litter(exports) == []
    assert len(generations(exports)) == 2


_KILLED_AT = """
import os, signal, sys
from pathlib import Path
from memory_pipeline.stores import files
from memory_pipeline.stores.duckdb import generations, publish

lake, exports, call, nth = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
calls = 0

def killing(function):
    def counted(*arguments, **named):
        global calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return counted

if call == "os.replace":
    os.replace = killing(os.replace)
elif call == "flush":
    generations.flush = files.flush = killing(files.flush)
else:
    setattr(publish, call, killing(getattr(publish, call)))
publish.publish_duckdb(lake, exports, 2)
"""


def test_two_publishers_at_once_make_one_generation(lake_root: Path, exports: Path) -> None:
    reports: list[ExportReport] = []
    threads = [threading.Thread(target=lambda: reports.append(publish_duckdb(lake_root, exports, 3))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.published for report in reports) == [False, True]
    assert generations(exports) == [reports[0].path]
    assert_served(exports, reports[0])
    assert litter(exports) == []


def test_a_served_file_that_was_damaged_is_replaced(lake_root: Path, exports: Path) -> None:
    first = publish_duckdb(lake_root, exports, 2)
    truncate(first.path)
    second = publish_duckdb(lake_root, exports, 2)
    assert second.published
    assert second.digest == first.digest
    assert_served(exports, second)


def test_a_stale_wal_beside_the_link_or_a_generation_is_removed(lake_root: Path, exports: Path) -> None:
    report = publish_duckdb(lake_root, exports, 2)
    for leave in (leave_wal, leave_wal_of_a_checkpoint, leave_wal_of_a_recovery):
        leave(report.path)
        leave(exports / "memory.duckdb")
    publish_duckdb(lake_root, exports, 2)
    assert litter(exports) == []
    assert_served(exports, report)


def test_asking_before_the_first_export_is_a_sentence(exports: Path) -> None:
    with pytest.raises(NoExportError, match="memory-pipeline materialize"):
        current_export(exports)
    exports.mkdir()
    (exports / "CURRENT").write_text("../../etc/passwd\n")
    with pytest.raises(ExportError, match="export again"):
        current_export(exports)

"""Exports while things go wrong: readers across publications, a full disk, exporters killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores.duckdb.generations import current_export, generations
from memory_pipeline.stores.duckdb.overview import verify_exports
from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline.stores.duckdb.query import query
from memory_pipeline.stores.lake import verify_lake
from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.stores.export_sample import MESSAGES, WINDOW, add_messages, fill, lake_bytes, message

pytestmark = pytest.mark.faults

READS = 10_000
_READS_PER_OPENING = 10
# Opens a file in plain DuckDB and answers a query a line.
_HOLD = """
import duckdb, sys
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    for line in sys.stdin:
        print(connection.execute(line).fetchall(), flush=True)
"""
_WHOLE = """
SELECT (SELECT count(*) FROM messages) AS messages, (SELECT sum(messages) FROM mart_daily_activity) AS counted,
       (SELECT count(*) FROM messages JOIN users USING (tenant_id, user_id)) AS joined
"""
_EXPORT = """
import resource, sys
from pathlib import Path
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline_tests.stores.export_sample import WINDOW

url, folder, limit = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
from memory_pipeline.model.errors import ExportError
try:
    export_lake(url, WINDOW, folder / "lake")
    publish_duckdb(folder / "lake", folder / "exports", 2)
except ExportError as error:
    sys.exit(f"refused: {error}")
"""


def say(url: str, number: int) -> None:
    """One more message, on a day of the sample."""
    add_messages(url, "acme", [message("acme", f"more{number}", datetime(2025, 3, 2, 12, tzinfo=UTC), "x" * 20_000)])


def export(url: str, folder: Path, limit: int = 0) -> subprocess.Popen[str]:
    """Export and publish in a process of its own, which may write no file longer than `limit` bytes."""
    return subprocess.Popen(
        [sys.executable, "-c", _EXPORT, url, str(folder), str(limit)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE if limit else subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.timeout(900)
def test_ten_thousand_reads_across_publications_see_whole_files(database: Database, tmp_path: Path) -> None:
    url, lake, exports = database.pipeline_url, tmp_path / "lake", tmp_path / "exports"
    fill(url)
    export_lake(url, WINDOW, lake)
    publish_duckdb(lake, exports, 3)
    done = threading.Event()
    counts: set[int] = set()

    def read(times: int) -> int:
        for _ in range(times // _READS_PER_OPENING):
            with duckdb.connect(str((exports / "memory.duckdb").resolve()), read_only=True) as connection:
                found = {connection.execute(_WHOLE).fetchall()[0] for _ in range(_READS_PER_OPENING)}
            ((messages, counted, joined),) = found
            assert messages == counted == joined
            counts.add(messages)
        return times

    def hold() -> int:
        """One who opened the first file and goes on with it."""
        held = 0
        with subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(exports / "memory.duckdb")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            while not done.is_set():
                holder.stdin.write(_WHOLE.replace("\n", " ").encode() + b"\n")
                holder.stdin.flush()
                assert holder.stdout.readline() == f"[({MESSAGES}, {MESSAGES}, {MESSAGES})]\n".encode()
                held += 1
                time.sleep(0.01)
            holder.stdin.close()
        return held

    with ThreadPoolExecutor(3) as readers:
        holding = readers.submit(hold)
        reading = [readers.submit(read, READS // 2) for _ in range(2)]
        published = 0
        while not all(one.done() for one in reading):
            say(url, published)
            export_lake(url, WINDOW, lake)
            published += publish_duckdb(lake, exports, 3).published
        done.set()
        assert sum(one.result() for one in reading) == READS
        assert holding.result() > 100
    assert published > 5
    # They saw new files as they came, each of them whole.
    assert len(counts) > 3
    assert counts <= set(range(MESSAGES, MESSAGES + published + 1))


@pytest.mark.parametrize("limit", [1_000, 40_000, 300_000])
def test_a_full_disk_leaves_the_last_export_served_and_says_so(database: Database, tmp_path: Path, limit: int) -> None:
    """A file that may not grow is what a full disk is to its writer; where it stops depends on the limit."""
    url, lake, exports = database.pipeline_url, tmp_path / "lake", tmp_path / "exports"
    fill(url)
    export_lake(url, WINDOW, lake)
    served = publish_duckdb(lake, exports, 2)
    before = lake_bytes(lake)
    for number in range(20):
        say(url, number)
    refused = export(url, tmp_path, limit)
    _, told = refused.communicate(timeout=120)
    assert refused.returncode == 1
    assert told.startswith("refused: ")
    assert "mend the disk" in told or "still served" in told
    assert current_export(exports) == served.path
    assert query(exports / "memory.duckdb", _WHOLE).rows == [(MESSAGES, MESSAGES, MESSAGES)]
    assert verify_exports(exports) == []
    assert verify_lake(lake) == []
    if limit == 1_000:
        assert lake_bytes(lake) == before
    export_lake(url, WINDOW, lake)
    assert publish_duckdb(lake, exports, 2).rows["messages"] == MESSAGES + 20
    assert sorted(path.name for path in exports.glob(".*")) == [".publisher.lock"]


@pytest.mark.timeout(600)
def test_an_exporter_killed_at_random_moments_leaves_old_or_new_whole(database: Database, tmp_path: Path) -> None:
    url, exports = database.pipeline_url, tmp_path / "exports"
    fill(url)
    whole = _seconds(lambda: export(url, tmp_path).wait())
    moments = random.Random(7)
    killed = 0
    for number in range(15):
        say(url, number)
        exporter = export(url, tmp_path)
        try:
            exporter.wait(moments.uniform(0.3, 1.1) * whole)
        except subprocess.TimeoutExpired:
            exporter.send_signal(signal.SIGKILL)
            exporter.wait()
            killed += 1
        ((messages, counted, joined),) = query(exports / "memory.duckdb", _WHOLE).rows
        assert messages == counted == joined
        assert MESSAGES <= messages <= MESSAGES + number + 1
    assert killed > 5
    assert export(url, tmp_path).wait() == 0
    assert query(exports / "memory.duckdb", _WHOLE).rows == [(MESSAGES + 15,) * 3]
    export_lake(url, WINDOW, tmp_path / "fresh/lake")
    fresh = publish_duckdb(tmp_path / "fresh/lake", tmp_path / "fresh/exports", 1)
    again = publish_duckdb(tmp_path / "lake", exports, 2)
    assert (again.published, again.digest) == (False, fresh.digest)
    assert verify_lake(tmp_path / "lake") == []
    assert len(generations(exports)) <= 2


def _seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started

"""A Chroma that is there and can't: it answers with errors, its disk is full, it refuses one vector, it lost its data.

What it can't take waits, a vector it refuses fails its own job alone, and afterwards the rig's check of all invariants.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from memory_pipeline.local.chroma import ChromaServer
from memory_pipeline.local.postgres import PostgresServer
from memory_pipeline.local.redis import RedisServer
from memory_pipeline_tests.faults.chroma_proxy import Answer, ChromaProxy, Script, failing, refusing
from memory_pipeline_tests.faults.worker_rig import Rig, make_rig
from memory_pipeline_tests.local.inspect import until

pytestmark = pytest.mark.faults

_DISK_MEGABYTES = 24


@pytest.fixture
def proxy(chroma_url: str) -> Iterator[ChromaProxy]:
    with ChromaProxy(chroma_url) as proxy:
        yield proxy


@pytest.fixture
def proxied(
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    proxy: ChromaProxy,
    chroma_database: str,
    server_folder: Path,
) -> Iterator[Rig]:
    """A rig whose Chroma is behind the proxy."""
    rig = make_rig(postgres_server, redis_server, proxy.url, chroma_database, server_folder)
    yield rig
    rig.close()


def most_attempts(rig: Rig) -> int:
    return max(row.attempts for row in rig.ledger.rows().values())


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(failing, id="500"),
        pytest.param(lambda _request: Answer(429, b'{"error": "ChromaError", "message": "slow down"}'), id="429"),
        pytest.param(
            lambda request: failing(request) if request.path.endswith(("/add", "/upsert", "/delete")) else None,
            id="500 for writes alone",
        ),
    ],
)
def test_chroma_that_answers_with_errors_makes_jobs_wait_and_not_fail(
    proxied: Rig, proxy: ChromaProxy, script: Script
) -> None:
    proxied.worker()
    with proxied.traffic(20):
        until(lambda: len(proxied.names) > 20, "messages come")
        proxy.script = script
        time.sleep(15)
        proxy.script = None
    assert proxy.scripted > 3
    proxied.check(seconds=120)
    assert {row.state for row in proxied.ledger.rows().values()} == {"completed"}
    assert most_attempts(proxied) == 1, "waiting cost an attempt"


def test_a_vector_that_chroma_refuses_costs_no_neighbour_an_attempt(proxied: Rig, proxy: ChromaProxy) -> None:
    proxied.post(120)
    with proxied.ledger.database.transaction() as connection:
        row = connection.execute("SELECT memory_id FROM memories ORDER BY memory_id LIMIT 1 OFFSET 60").fetchone()
    assert row is not None
    poison: UUID = row[0]
    proxy.script = refusing([poison])
    proxied.worker()
    proxied.rest(120)
    rows = proxied.ledger.rows()
    [dead] = [key for key, job in rows.items() if job.state == "dead"]
    assert (rows[dead].subject_id, rows[dead].error_class) == (poison, "ChromaRefusedError")
    assert {job.attempts for key, job in rows.items() if key != dead} == {1}
    proxy.script = None
    proxied.run_window()
    proxied.check(dead=[dead])


def test_a_full_disk_of_chroma_makes_jobs_wait_and_not_fail(
    postgres_server: PostgresServer, redis_server: RedisServer, server_folder: Path
) -> None:
    with small_disk(server_folder / "disk") as disk:
        chroma = ChromaServer(disk / "chroma", server_folder / "small-chroma.log")
        chroma.start()
        rig = make_rig(postgres_server, redis_server, chroma.url, "default_database", server_folder)
        try:
            rig.worker()
            with rig.traffic(20):
                until(lambda: len(rig.names) > 20, "messages come")
                rest = disk / "rest"
                fill(rest)
                before = len(rig.names)
                until(lambda: "disk is full" in rig.logs or len(rig.names) > before + 200, "Chroma is out of space", 30)
                time.sleep(8)
                waiting = {row.state for row in rig.ledger.rows().values()} & {"pending", "processing"}
                rest.unlink()
                # Without that its writes hang, or are told as done and are not (1.5.9).
                chroma.stop()
                chroma.start()
            assert waiting, "the disk was not full: nothing waited"
            rig.check(seconds=120)
            assert {row.state for row in rig.ledger.rows().values()} == {"completed"}
            assert most_attempts(rig) == 1, "waiting cost an attempt"
        finally:
            rig.close()
            chroma.stop()


def test_chroma_that_hangs_for_longer_than_jobs_may_take_makes_them_wait_and_not_fail(
    postgres_server: PostgresServer, redis_server: RedisServer, chroma_server: ChromaServer, server_folder: Path
) -> None:
    rig = make_rig(postgres_server, redis_server, chroma_server.url, "default_database", server_folder)
    try:
        rig.worker(MEMORY_WORKER_JOB_TIMEOUT_MS="6000")
        rig.post(5)
        rig.rest()
        chroma_server.running().suspend()
        rig.post(20)
        time.sleep(25)
        chroma_server.running().resume()
        rig.check(seconds=120)
        assert {row.state for row in rig.ledger.rows().values()} == {"completed"}
        assert most_attempts(rig) == 1, "waiting cost an attempt"
    finally:
        rig.close()


def test_lost_collections_are_built_again_by_workers_with_traffic(
    postgres_server: PostgresServer, redis_server: RedisServer, chroma_server: ChromaServer, server_folder: Path
) -> None:
    rig = make_rig(postgres_server, redis_server, chroma_server.url, "default_database", server_folder)
    try:
        workers = [rig.worker(), rig.worker()]
        with rig.traffic(12):
            until(lambda: len(rig.names) > 60, "messages come")
            chroma_server.stop()
            shutil.rmtree(chroma_server.data_dir)
            chroma_server.start()
            posted = len(rig.names)
            until(lambda: len(rig.names) > posted + 30, "messages come again")
        rig.check(seconds=120)
        assert {row.state for row in rig.ledger.rows().values()} == {"completed"}
        assert most_attempts(rig) == 1, "waiting cost an attempt"
        assert [worker.exit_code for worker in workers] == [None, None]
    finally:
        rig.close()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of a few megabytes, in memory; needs root."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MEGABYTES}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until there is no space left."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return

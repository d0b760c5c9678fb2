"""Many jobs without work under workers that are killed every two seconds: nothing lost, nothing doubled; and how fast.

Numbers are printed, not judged: what else the machine does is part of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from memory_pipeline_tests.faults.worker_rig import Rig
from memory_pipeline_tests.local.inspect import until

KILL_SECONDS = 2.0
# As they are unless somebody sets them.
_DEFAULTS = {"MEMORY_WORKER_LEASE_MS": "20000", "MEMORY_WORKER_POLL_INTERVAL_MS": "1000"} | {
    "MEMORY_WORKER_MAX_CONCURRENT_JOBS": "5"
}


class Supervisor:
    """Has two workers run at any time; kills them in turn when told, and starts another at once."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._pids = [self._start(), self._start()]
        self.kills = 0

    @contextmanager
    def killing(self) -> Iterator[None]:
        """Kill one every two seconds while the block runs."""
        over = threading.Event()

        def kill() -> None:
            while not over.wait(KILL_SECONDS):
                self._kill()

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _kill(self) -> None:
        os.kill(self._pids.pop(0), signal.SIGKILL)
        self.kills += 1
        self._pids.append(self._start())

    def _start(self) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def supervised(rig: Rig) -> Iterator[Supervisor]:
    command = [sys.executable, "-m", "memory_pipeline_tests.worker.worker_process", "obeying", "--fork"]
    with (
        (rig.folder / "load.log").open("w") as log,
        subprocess.Popen(
            command,
            env=os.environ | rig.env | _DEFAULTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            yield Supervisor(process)
        finally:
            process.kill()  # and the kernel ends its worker


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_nothing_is_lost_or_doubled_in_twenty_thousand_jobs_under_kills(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    under_kills(rig, capsys, jobs=20_000, measured=5_000)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_nothing_is_lost_or_doubled_in_a_hundred_thousand_jobs_under_kills(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    under_kills(rig, capsys, jobs=100_000, measured=20_000)


def under_kills(rig: Rig, capsys: pytest.CaptureFixture[str], *, jobs: int, measured: int) -> None:
    """Row 5: as many jobs before and after the kills are done at as much the same rate as the machine is the same.

    The rate is printed. What can be judged on a busy machine is what the kills leave behind, which would cost it: every
    job of afterwards is claimed once, with others, and answered, and the stream holds no entry of theirs.
    """
    with supervised(rig) as supervisor:
        add(rig, 500)
        rig.rest(120)
        before = best_rate(rig, measured)
        with supervisor.killing():
            began = time.monotonic()
            add(rig, jobs)
            until(lambda: open_jobs(rig) == 0, "all jobs have ended", 900)
            seconds = time.monotonic() - began
        rig.rest(120)
        under = set(rig.ledger.rows())
        after = best_rate(rig, measured)
        rig.check(seconds=120)
        later = [row for key, row in rig.ledger.rows().items() if key not in under]
    tried = sum(row.attempts > 1 for row in rig.ledger.rows().values())
    with capsys.disabled():
        print(
            f"\n{jobs:,} jobs in {seconds:.0f} s under {supervisor.kills} kills: {jobs / seconds:,.0f} jobs/s,"
            f" {tried:,} tried more than once, none lost, none doubled, none dead"
            f"\nthroughput without kills, best of three: {before:,.0f} jobs/s before, {after:,.0f} jobs/s after them"
            f" ({after / before:.0%}; aim: at least 95 %);"
            f" load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        )
    assert supervisor.kills >= 1
    assert len(later) == 3 * measured
    assert {(row.state, row.attempts, row.claimed_alone) for row in later} == {("completed", 1, False)}


def add(rig: Rig, count: int) -> None:
    for _ in range(0, count, 500):
        rig.add(500)


def best_rate(rig: Rig, count: int) -> float:
    """Of three tries, so that what else the machine did meanwhile counts least."""
    return max(rate(rig, count) for _ in range(3))


def rate(rig: Rig, count: int) -> float:
    """Jobs per second of the workers that run."""
    add(rig, count)
    began = time.monotonic()
    waiting = open_jobs(rig)
    until(lambda: open_jobs(rig) == 0, "they are done", 600)
    return waiting / (time.monotonic() - began)


def open_jobs(rig: Rig) -> int:
    with rig.ledger.database.transaction() as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM memory_jobs WHERE state IN ('pending', 'failed'))"
            " + (SELECT count(*) FROM memory_jobs WHERE state = 'processing')"
        ).fetchone()
    assert row is not None
    return int(row[0])

"""A child that ends is started anew: after a pause that grows while it does not stay, and begins again when it did."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory_pipeline.local.http_child import HttpChild
from memory_pipeline.local.processes import free_port
from memory_pipeline.local.restarts import LONGEST_PAUSE_SECONDS, WELL_SECONDS, Restarts
from memory_pipeline_tests.local.inspect import until


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Life:
    """A child that a test ends, and what is told of it."""

    def __init__(self, log: Path) -> None:
        command = [sys.executable, "-c", "import time; print('born', flush=True); time.sleep(600)"]
        self.child = HttpChild("the child", command, log, port=free_port(), port_setting="A_PORT", path="/", env={})
        self.child.start()
        self.log = log
        self.clock = Clock()
        self.restarts = Restarts(self.child, self.clock)

    @property
    def pid(self) -> int:
        assert self.child._child is not None
        return self.child._child.pid

    def kill(self) -> None:
        child = self.child._child
        assert child is not None
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)

    def pause(self) -> float:
        """End it, let it be started anew, and return how long that took."""
        before = self.pid
        self.kill()
        told = self.restarts.look()
        assert told is not None
        seconds = float(told.rpartition(" in ")[2].removesuffix(" s."))
        self.clock.now += seconds - 0.01
        assert self.restarts.look() is None
        assert self.pid == before
        self.clock.now += 0.02
        assert self.restarts.look() is None
        assert self.pid != before
        return seconds


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    made = Life(tmp_path / "child.log")
    yield made
    made.child.stop()


def test_a_child_that_runs_is_left_alone(life: Life) -> None:
    before = life.pid
    assert [life.restarts.look() for _ in range(3)] == [None] * 3
    assert life.pid == before


def test_what_is_told_of_an_end_is_the_end_of_its_log(life: Life) -> None:
    until(lambda: "born" in life.log.read_text(), "the child has said something")
    life.kill()
    told = life.restarts.look()
    assert told is not None
    assert "the child has ended" in told
    assert "born" in told
    assert life.restarts.look() is None  # told once


def test_pauses_grow_to_a_limit_and_begin_again_once_it_was_well(life: Life) -> None:
    pauses = [life.pause() for _ in range(8)]
    assert pauses == [1, 2, 4, 8, 16, 32, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]
    life.clock.now += WELL_SECONDS
    assert life.pause() == 1


def test_a_start_that_is_refused_is_tried_again(life: Life) -> None:
    with socket.create_server(("127.0.0.1", life.child.port)):
        life.kill()
        life.restarts.look()
        life.clock.now += 1
        told = life.restarts.look()
        assert told is not None
        assert "is taken" in told
        assert "anew in 2 s" in told
    life.clock.now += 2
    assert life.restarts.look() is None
    assert life.child._child is not None
    assert life.child._child.exit_code is None

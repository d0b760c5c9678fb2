"""Locks: only their owner can hold them, and who waits tells for whom. Folders and files that are made to last."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from memory_pipeline.stores import files
from memory_pipeline.stores.files import locked, make_folders
from memory_pipeline.stores.lock_holders import lock_holders
from memory_pipeline_tests.accounts import as_another_account, open_folder, umask  # noqa: F401  # a fixture

_HOLD = """
import sys
from pathlib import Path
from memory_pipeline.stores.files import locked
with locked(Path(sys.argv[1]), shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another_process(path: Path, how: str = "alone") -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_a_lock_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    with umask(mask), locked(tmp_path / "folder/.lock"):
        pass
    assert mode(tmp_path / "folder/.lock") == 0o600
    assert mode(tmp_path / "folder") == 0o700


def test_a_lock_of_an_earlier_version_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".lock").chmod(0o644)
    with locked(tmp_path / ".lock", shared=True):
        assert mode(tmp_path / ".lock") == 0o600


def test_another_account_can_not_hold_a_lock(open_folder: Path) -> None:  # noqa: F811
    open_folder.chmod(0o755)
    with locked(open_folder / ".lock"):
        pass
    with as_another_account():
        for shared in (False, True):
            with (
                pytest.raises(PermissionError, match="only whoever publishes"),
                locked(open_folder / ".lock", shared=shared),
            ):
                pass
        with pytest.raises(PermissionError):
            os.open(open_folder / ".lock", os.O_RDONLY)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a lock")
@pytest.mark.parametrize("how", ["alone", "shared"])
def test_who_waits_for_a_lock_tells_for_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(files, "TELL_AFTER_SECONDS", 0.05)
    path = tmp_path / ".lock"

    def wait() -> None:
        with locked(path):
            pass

    with capture_logs() as logs, ThreadPoolExecutor(1) as threads:
        with held_by_another_process(path, how) as holder:
            waiting = threads.submit(wait)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=1)
        waiting.result(timeout=60)
    told = [line for line in logs if line["event"] == "waiting_for_lock"]
    assert 2 <= len(told) < 10  # the next line comes after twice as long
    for line in told:
        assert line["path"] == str(path)
        (name,) = line["held_by"]
        assert name.startswith(f"pid {holder.pid} (python")
        assert line["seconds"] >= 0.05


def test_who_need_not_wait_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "TELL_AFTER_SECONDS", 0.0)
    with capture_logs() as logs:
        for shared in (True, False):
            with locked(tmp_path / ".lock", shared=shared):
                pass
        with locked(tmp_path / ".lock", shared=True), locked(tmp_path / ".lock", shared=True):
            pass
    assert logs == []


def test_a_lock_is_free_again_when_its_holder_is_killed(tmp_path: Path) -> None:
    with held_by_another_process(tmp_path / ".lock") as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with locked(tmp_path / ".lock"):
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a lock")
def test_holders_are_told_and_waiters_are_not(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert lock_holders(path) == []
    with ThreadPoolExecutor(1) as threads:
        with locked(path), path.open() as other:
            waiting = threads.submit(fcntl.flock, other, fcntl.LOCK_SH)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
            (holder,) = lock_holders(path)
            assert holder.startswith(f"this process, pid {os.getpid()} (")
        waiting.result(timeout=60)
    assert lock_holders(path) == []


@pytest.mark.parametrize("mask", [0, 0o077])
def test_folders_have_the_mode_they_are_to_have_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        assert make_folders(tmp_path / "a/b", 0o755) == [tmp_path / "a", tmp_path / "a/b"]
        assert make_folders(tmp_path / "a/b/c", 0o711) == [tmp_path / "a/b/c"]
    assert [mode(path) for path in (tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/c")] == [0o755, 0o755, 0o711]
    assert make_folders(tmp_path / "a/b", 0o700) == []
    assert mode(tmp_path / "a/b") == 0o755

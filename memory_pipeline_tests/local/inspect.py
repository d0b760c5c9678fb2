"""What runs and what listens on this machine, read from /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def processes_below(folder: Path) -> dict[int, str]:
    """Command lines by pid of processes other than Python commands that name a path below the folder."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace").split("\0")
            place = os.readlink(f"/proc/{entry}/cwd")
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # ended, or not ours
            continue
        if "memory_pipeline_tests.local.stack_process" in words:
            continue
        if place.startswith(str(folder)) or any(str(folder) in word for word in words):
            found[int(entry)] = " ".join(words)
    return found


def listening_ports() -> set[int]:
    """TCP ports of IPv4 that some process listens on."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return {int(fields[1].rpartition(":")[2], 16) for line in lines if (fields := line.split())[3] == "0A"}


def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Wait for a condition. Raises AssertionError naming it after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)

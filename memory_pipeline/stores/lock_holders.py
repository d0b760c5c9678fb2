"""Who holds a lock file, as far as the system tells: for whoever waits for it."""

from __future__ import annotations

import os
from pathlib import Path

_LOCKS = Path("/proc/locks")
_WORDS = 5  # of a command line: which command it is, not all that it was told


def lock_holders(path: Path) -> list[str]:
    """Return a phrase for each process that holds a flock on the file; none where the system does not tell."""
    try:
        status, lines = path.stat(), _LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return []  # another system than Linux, or a file that is gone
    found: dict[str, list[int]] = {}
    for line in lines:
        words = line.split()
        # "7: FLOCK ADVISORY WRITE 4711 fe:00:2506921 0 EOF"; who waits has an arrow for the second word.
        if len(words) > 5 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(status.st_ino):
            found.setdefault(words[5].rpartition(":")[0], []).append(int(words[4]))
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    # Some file systems have several devices, and tell another one here.
    pids = found.get(device) or [pid for others in found.values() for pid in others]
    return [_described(pid) for pid in sorted(set(pids))]


def _described(pid: int) -> str:
    if pid <= 0:
        return "a process of another container or machine"
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        words = []
    command = " ".join(word.rpartition("/")[2][:40] for word in words[:_WORDS] if word)
    return f"{'this process, ' if pid == os.getpid() else ''}pid {pid}{f' ({command})' if command else ''}"

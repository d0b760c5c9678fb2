"""`up`, `api`, `worker`, `env`, `status`, `doctor`, `migrate`: running the local stack and asking how it is."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.markup import escape

from memory_pipeline.commands.output import err, number, out, print_json, table
from memory_pipeline.commands.session import project_root, running_stack, scratch_stack, unprepared_stack
from memory_pipeline.local.accounts import home_of
from memory_pipeline.local.dagster_dev import DagsterDev
from memory_pipeline.local.own_servers import ApiServer, WorkerServer
from memory_pipeline.local.restarts import Restarts
from memory_pipeline.local.stack import running_stack as find_running_stack
from memory_pipeline.local.stack import settings_with, stores_missing
from memory_pipeline.model.errors import MemoryPipelineError, NotFoundError, SettingsError, WiringError
from memory_pipeline.model.jobs import JOB_TYPES
from memory_pipeline.serving.wiring import wired
from memory_pipeline.settings import Settings, load_settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.migrate import check_schema_at, migrate, shipped_migrations
from memory_pipeline.stores.postgres.statistics import StoreCounts, store_counts

_WATCHDOG_TIMEOUTS = 2.0
"""A worker whose threads can't run for so many time-outs of a job is ended, but not before _WATCHDOG_SECONDS."""
_WATCHDOG_SECONDS = 30.0


class Check(msgspec.Struct, frozen=True):
    """One line of the doctor: what was looked at, and what to do where it is not well."""

    name: str
    ok: bool
    detail: str


def env_command() -> int:
    """Print `export` lines of the stack that is up."""
    settings = load_settings()
    state = find_running_stack(settings)
    if state is None:
        raise _no_stack_up(settings)
    for name, value in sorted(state.env.items()):
        print(f"export {name}={shlex.quote(value)}")
    return 0


def migrate_command(*, check: bool) -> int:
    """Apply the migrations with the admin's connection, or only compare."""
    with unprepared_stack(make_home=not check) as settings:
        return _migrate(settings.postgres_admin_url, check)


def _migrate(admin_url: str | None, check: bool) -> int:
    if admin_url is None:
        raise SettingsError("MEMORY_POSTGRES_ADMIN_URL is not set; `migrate` connects with it.")
    if check:
        check_schema_at(admin_url)
        out.print(f"the schema is up to date ({len(shipped_migrations())} migrations)")
        return 0
    applied = migrate(admin_url)
    out.print(f"applied {', '.join(applied)}" if applied else "nothing to apply: the schema is up to date")
    return 0


def status_command(*, json: bool) -> int:
    """Show how many rows each store holds, per tenant."""
    with running_stack() as settings, Pipeline(settings) as pipeline:
        with pipeline.database.transaction() as connection:
            counts = store_counts(connection)
        export = settings.data / "exports" / "memory.duckdb"
    report: dict[str, Any] = {
        "tenants": counts,
        "export": str(export) if export.exists() else None,
        "home": str(settings.home),
    }
    if json:
        print_json(report)
        return 0
    _show_counts(counts)
    out.print(f"export: {export if export.exists() else 'none yet'}", highlight=False)
    return 0


def _show_counts(counts: list[StoreCounts]) -> None:
    grid = table(
        "What there is", "tenant", "users", "messages", "pending", "failed", "facts", "summaries", "vectors", "indexed"
    )
    for row in counts:
        cells = (row.users, row.messages, row.pending, row.failed, row.facts, row.summaries, row.vectors, row.indexed)
        grid.add_row(row.tenant, *(number(cell) for cell in cells))
    out.print(grid)


def doctor_command(*, json: bool) -> int:
    """Run every start-up check; exit 1 where one is not well."""
    checks = list(_checks())
    if json:
        print_json(checks)
    else:
        for check in checks:
            mark = "[green]ok  [/green]" if check.ok else "[red]FAIL[/red]"
            out.print(f"{mark} {check.name:<22} {escape(check.detail)}", highlight=False, soft_wrap=True)
    return 0 if all(check.ok for check in checks) else 1


def _checks() -> Iterator[Check]:
    yield Check("python", sys.version_info[:2] in {(3, 11), (3, 12), (3, 13)}, sys.version.split()[0])
    try:
        settings = load_settings()
    except SettingsError as error:
        yield Check("settings", False, str(error))
        return
    yield Check("settings", True, f"partitions from {settings.partition_start}")
    home = home_of(settings.home)
    there = home.is_dir() and stores_missing(settings) is None
    untried = f"{home} has no memory yet (`memory-pipeline import`, `up` or `demo` makes one): tried elsewhere below"
    yield Check("home", True, str(home) if there else untried)
    free = shutil.disk_usage(_existing_parent(settings.home)).free
    yield Check(
        "disk", free > 2**30, f"{free / 2**30:.1f} GiB free" + ("" if free > 2**30 else "; free at least 1 GiB")
    )
    try:
        with running_stack(make_home=True) if there else scratch_stack("memory-doctor-") as stack:
            yield from _store_checks(stack)
    except MemoryPipelineError as error:
        yield Check("stores", False, str(error))


def _store_checks(settings: Settings) -> Iterator[Check]:
    from memory_pipeline.stores.redis.connection import server_version

    with Pipeline(settings) as pipeline:
        yield _check("postgres pipeline role", lambda: _role(pipeline.database))
        yield _check("postgres app role", lambda: _role(pipeline.app_database))
        yield _check("wiring", lambda: _wiring(pipeline))
        yield _check("redis", lambda: f"version {server_version(settings.redis_url or '')}")
        yield _check("chroma", lambda: _chroma(pipeline))
        yield _check("embedder", lambda: _embedder(pipeline))
        yield _check("enricher", lambda: f"{pipeline.enricher.name}, version {pipeline.enricher.version}")
        yield _check("dagster instance", _dagster)


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except MemoryPipelineError as error:
        return Check(name, False, str(error))


def _role(database: Database) -> str:
    with database.transaction() as connection:
        row = connection.execute("SELECT current_user, current_setting('server_version')").fetchone()
    assert row is not None
    return f"{row[0]} on PostgreSQL {row[1]}; schema and row-level security as expected"


def _wiring(pipeline: Pipeline) -> str:
    with wired("command", pipeline) as wiring:
        if wiring.report.result != "same":
            raise WiringError(wiring.report.message)
        return wiring.report.message


def _dagster() -> str:
    from memory_pipeline.defs.launch import check_instance

    return check_instance()


def _chroma(pipeline: Pipeline) -> str:
    pipeline.chroma.heartbeat()
    return str(pipeline.settings.chroma_url)


def _embedder(pipeline: Pipeline) -> str:
    vectors = pipeline.embedder.embed(["Is the embedder well?"])
    return f"{pipeline.embedder.model}, dimension {vectors.shape[1]}"


def _existing_parent(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def up_command() -> int:
    """Run the stack with the API, a worker, the Dagster UI and its daemon until Ctrl-C; everything ends with it.

    Where the API or Dagster ends by itself, all of it does. A worker that ends is started anew, after growing pauses:
    nothing is lost without it, and Dagster's backlog sensor asks for runs that do its work meanwhile.
    """
    from memory_pipeline.local.issuer import ensure_development_issuer

    stop = threading.Event()
    with _set_on_signals(stop), running_stack(make_home=True) as settings, contextlib.ExitStack() as stops:
        _end_runs_of_before()
        if settings.issuers_file is None:
            ensure_development_issuer(settings.home)
        logs = settings.home / "logs"
        api = ApiServer(logs / "api.log", port=settings.api_port, env={})
        ui = DagsterDev(project_root(), logs / "dagster.log", port=settings.ui_port, env={})
        longest = max(map(settings.job_timeout_seconds, JOB_TYPES))
        worker = WorkerServer(logs / "worker.log", port=settings.worker_port, env={}, job_seconds=longest)
        children = [api, worker, ui] if settings.worker_enabled else [api, ui]
        out.print("starting the API, the worker and the Dagster UI …" if settings.worker_enabled else "starting …")
        for child in children:
            stops.callback(child.stop)
            child.start()
        for child in children:
            child.wait_ready()
        stops.callback(err.print, "stopping …")
        out.print(f"API         [link]{api.url}/api/v1/memory/docs[/link]")
        out.print(f"Dagster UI  [link]{ui.url}[/link]")
        out.print(f"state       {settings.home}", highlight=False)
        out.print('another shell: [bold]eval "$(memory-pipeline env)"[/bold] points it here. Ctrl-C stops everything.')
        restarts = Restarts(worker)
        while not stop.wait(1.0):
            for child in children:
                if child is not worker:
                    child.require_running()
                elif told := restarts.look():
                    err.print(told, markup=False, highlight=False, soft_wrap=True)
    return 0


def api_command() -> int:
    """Run the API alone, on stores that run already."""
    from memory_pipeline.api.server import serve

    serve(_settings_of_what_runs())
    return 0


def worker_command() -> int:
    """Run a worker alone, on stores that run already, until a signal; then finish what is in work."""
    from prometheus_client import start_http_server

    from memory_pipeline import metrics
    from memory_pipeline.logs import configure_logs
    from memory_pipeline.worker.process import Worker
    from memory_pipeline.worker.watchdog import Watchdog

    settings = _settings_of_what_runs()
    if not settings.worker_enabled:
        raise SettingsError(
            "MEMORY_WORKER_ENABLED is false, so the API does the work itself and no worker is to run. Set it to true "
            "for all processes and restart the API, or leave the worker stopped: Dagster's runs do what is pending."
        )
    configure_logs()
    stop = threading.Event()
    with _set_on_signals(stop), Worker(settings) as worker:
        server, thread = start_http_server(settings.worker_port, "127.0.0.1", registry=metrics.REGISTRY)
        try:
            with Watchdog(
                max(_WATCHDOG_SECONDS, _WATCHDOG_TIMEOUTS * settings.worker_job_timeout_ms / 1000)
            ) as watchdog:
                while not stop.wait(1.0):
                    watchdog.alive()
                    worker.require_running()
        finally:
            server.shutdown()
            thread.join()
    return 0


def _settings_of_what_runs() -> Settings:
    """The settings as they are where they name stores; else with those of the stack that is up."""
    settings = load_settings()
    state = find_running_stack(settings) if settings.postgres_app_url is None else None
    if state is None and settings.postgres_app_url is None and settings.postgres_pipeline_url is None:
        raise _no_stack_up(settings)
    return settings_with(settings, state.env) if state is not None else settings


def _no_stack_up(settings: Settings) -> MemoryPipelineError:
    return NotFoundError(
        f"no stack is up on {home_of(settings.home)}: start one there with `memory-pipeline up`. If yours is "
        "elsewhere, name it: MEMORY_HOME=/path/to/.memory; servers of your own are named by the MEMORY_*_URL settings."
    )


def _end_runs_of_before() -> None:
    from memory_pipeline.defs.launch import end_dead_runs

    end_dead_runs()


@contextmanager
def _set_on_signals(stop: threading.Event) -> Iterator[None]:
    """Set `stop` on Ctrl-C, SIGTERM or a closed terminal; the second signal acts at once, as if nobody listened."""
    earlier = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def restore() -> None:
        for kind, handler in earlier.items():
            signal.signal(kind, handler)

    def set_once(*_: object) -> None:
        stop.set()
        restore()

    for kind in earlier:
        signal.signal(kind, set_once)
    try:
        yield
    finally:
        restore()

"""Where a command finds its stores: servers named in the environment, the stack that is up, or one started for it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from memory_pipeline.local.accounts import reachable_home
from memory_pipeline.local.stack import local_stack, no_stores_at, settings_with, stores_missing
from memory_pipeline.model.errors import SettingsError
from memory_pipeline.settings import Settings, load_settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.migrate import migrate

_NO_SERVERS = {
    "postgres_admin_url": None,
    "postgres_app_url": None,
    "postgres_pipeline_url": None,
    "redis_url": None,
    "chroma_url": None,
    "dagster_postgres_url": None,
}
INSTANCE_FILE = "dagster.yaml"


def project_root() -> Path:
    """Return the folder of dagster.yaml and workspace.yaml: the checkout this package is installed from."""
    root = Path(__file__).resolve().parents[2]
    if not (root / INSTANCE_FILE).is_file():
        raise SettingsError(
            f"{INSTANCE_FILE} is not beside the package ({root}): "
            "install memory_pipeline from a checkout, as `make demo` does."
        )
    return root


@contextmanager
def running_stack(*, make_home: bool = False) -> Iterator[Settings]:
    """Give settings with every URL set, of stores that run for as long as this lasts, migrated.

    A home that is not there is made only with `make_home`: whoever looks for something in the wrong folder is told so
    (NotFoundError) instead of being shown an empty memory.

    The addresses go into this process's environment too: Dagster and the code location read them from there.
    """
    with _stack_of(load_settings(), make_home=make_home) as settings:
        yield settings


def require_stores(settings: Settings) -> None:
    """Raise NotFoundError where the stores would be embedded ones that nobody made yet."""
    missing = stores_missing(settings)
    if missing is not None:
        raise no_stores_at(missing)


@contextmanager
def unprepared_stack(*, make_home: bool = False) -> Iterator[Settings]:
    """Give settings of running stores as they are: nothing is migrated."""
    with _stack_of(load_settings(), prepare=None, make_home=make_home) as settings:
        yield settings


@contextmanager
def running_pipeline(*, make_home: bool = False) -> Iterator[Pipeline]:
    """Give an open pipeline on running stores."""
    with running_stack(make_home=make_home) as settings, Pipeline(settings) as pipeline:
        yield pipeline


@contextmanager
def scratch_pipeline(prefix: str) -> Iterator[Pipeline]:
    """Give a pipeline on embedded servers in a temporary folder, whatever servers the environment names.

    Everything is gone afterwards: for measuring, so that it neither finds nor leaves anything.
    """
    with scratch_stack(prefix, **_NO_SERVERS) as settings, Pipeline(settings) as pipeline:
        yield pipeline


@contextmanager
def scratch_stack(prefix: str, **changes: None) -> Iterator[Settings]:
    """Give settings of running stores with a temporary folder as home, and these changes to the environment's."""
    parent = reachable_home(Path(tempfile.gettempdir()), say=lambda line: None)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as folder:
        Path(folder).chmod(0o711)
        settings = load_settings(**load_settings().model_dump() | changes | {"home": Path(folder), "data_dir": None})
        with _stack_of(settings, make_home=True) as running:
            yield running


def _prepare(env: dict[str, str]) -> None:
    """What the owner of a stack does before anyone uses it."""
    migrate(env["MEMORY_POSTGRES_ADMIN_URL"])


@contextmanager
def _stack_of(
    settings: Settings, *, make_home: bool, prepare: Callable[[dict[str, str]], None] | None = _prepare
) -> Iterator[Settings]:
    with local_stack(settings, prepare=prepare, make_home=make_home) as env:
        earlier = {name: os.environ.get(name) for name in env}
        os.environ.update(env)
        try:
            if make_home or Path(env["DAGSTER_HOME"]).is_dir():
                _install_instance_file(Path(env["DAGSTER_HOME"]))
            yield settings_with(settings, env)
        finally:
            for name, value in earlier.items():
                if value is None:
                    os.environ.pop(name)
                else:
                    os.environ[name] = value


def _install_instance_file(dagster_home: Path) -> None:
    """Dagster reads its instance file from DAGSTER_HOME alone; keep the project's there."""
    wanted = (project_root() / INSTANCE_FILE).read_bytes()
    installed = dagster_home / INSTANCE_FILE
    if installed.is_file() and installed.read_bytes() == wanted:
        return
    unfinished = dagster_home / f".{INSTANCE_FILE}.{os.getpid()}"
    unfinished.write_bytes(wanted)
    unfinished.replace(installed)

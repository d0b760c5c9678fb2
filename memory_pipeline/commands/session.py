"""Where a command finds its stores: servers named in the environment, the stack that is up, or one started for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memory_pipeline.local.stack import local_stack, settings_with
from memory_pipeline.model.errors import SettingsError
from memory_pipeline.settings import Settings, load_settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.migrate import migrate

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
def running_stack() -> Iterator[Settings]:
    """Give settings with every URL set, of stores that run for as long as this lasts, migrated.

    The addresses go into this process's environment too: Dagster and the code location read them from there.
    """
    with local_stack(load_settings(), prepare=lambda env: _migrate(env["MEMORY_POSTGRES_ADMIN_URL"])) as env:
        os.environ.update(env)
        _install_instance_file(Path(env["DAGSTER_HOME"]))
        yield settings_with(load_settings(), env)


@contextmanager
def running_pipeline() -> Iterator[Pipeline]:
    """Give an open pipeline on running stores."""
    with running_stack() as settings, Pipeline(settings) as pipeline:
        yield pipeline


def _migrate(admin_url: str) -> None:
    migrate(admin_url)


def _install_instance_file(dagster_home: Path) -> None:
    """Dagster reads its instance file from DAGSTER_HOME alone; keep the project's there."""
    wanted = (project_root() / INSTANCE_FILE).read_bytes()
    installed = dagster_home / INSTANCE_FILE
    if installed.is_file() and installed.read_bytes() == wanted:
        return
    unfinished = dagster_home / f".{INSTANCE_FILE}.{os.getpid()}"
    unfinished.write_bytes(wanted)
    unfinished.replace(installed)

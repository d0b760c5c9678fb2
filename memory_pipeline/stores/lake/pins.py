"""Keeps the files of the lake as they are for a publisher, without keeping exports waiting: by a second name for each.

    <root>/.pinned/messages/day=2025-03-01/part-0.parquet

Exports replace files and never write into them, so what has a second name stays. Who publishes removes these names in
the end, and first of all those that a publisher left that was killed: the rows behind them may have been erased.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from memory_pipeline.stores.files import locked
from memory_pipeline.stores.lake.manifest import LakeManifest
from memory_pipeline.stores.lake.published import LOCK
from memory_pipeline.stores.lake.switch import reading

PINNED = ".pinned"
_NO_SECOND_NAMES = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK})


@contextmanager
def pinned(root: Path) -> Iterator[tuple[LakeManifest | None, Path]]:
    """Yield the lake's manifest and a folder with the files that it names; exports go on meanwhile. Hold `LOCK`."""
    folder = root / PINNED
    _remove(folder)
    try:
        with reading(root) as manifest:
            for table, entry in manifest.tables.items() if manifest else ():
                for name in entry.files:
                    _pin(root / table / name, folder / table / name)
        yield manifest, folder
    finally:
        _remove(folder)


def release_pins(root: Path) -> None:
    """Wait for whoever publishes this lake, and remove what one that was killed had pinned."""
    with locked(root / LOCK):
        _remove(root / PINNED)


def _pin(path: Path, pin: Path) -> None:
    pin.parent.mkdir(parents=True, exist_ok=True)
    # A file that is missing is told of when it is to be copied: it may be there already.
    with suppress(FileNotFoundError):
        try:
            pin.hardlink_to(path)
        except OSError as error:
            if error.errno not in _NO_SECOND_NAMES:
                raise
            shutil.copyfile(path, pin)  # the disk knows no second names


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)

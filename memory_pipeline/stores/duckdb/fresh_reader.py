"""Has a built DuckDB file read by a process that had no part in building it, and compares."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from memory_pipeline.model.errors import ExportError
from memory_pipeline.stores.duckdb import verify
from memory_pipeline.stores.duckdb.generations import TableSummary


def verify_in_fresh_process(reader: FreshReader, path: Path, expected: dict[str, TableSummary]) -> None:
    """Raise ExportError unless another process finds in the file exactly the tables, rows and digests `expected`."""
    try:
        found = reader.read(path)
    except ExportError as error:
        raise ExportError(
            f"the built file was refused before the switch: {error}. The last export is still served."
        ) from error
    if found != expected:
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise ExportError(
            f"the built file was refused before the switch: {', '.join(wrong)} on disk differ from what was built. "
            "The last export is still served."
        )


class FreshReader:
    """A process that reads one file and ends; started before there is a file, it is ready once there is."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", verify.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def read(self, path: Path) -> dict[str, TableSummary]:
        """Return what it finds in a file. Raises ExportError where it can't read it, or a .wal lies beside it."""
        found, problem = self._process.communicate(str(path))
        if self._process.returncode != 0:
            raise ExportError(problem.strip() or f"the verifier ended with status {self._process.returncode}")
        return msgspec.json.decode(found, type=dict[str, TableSummary])

    def __enter__(self) -> FreshReader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()


def read_in_fresh_process(path: Path) -> dict[str, TableSummary]:
    """Return what a new process finds in a file. Raises ExportError where it can't, or a .wal lies beside it."""
    with FreshReader() as reader:
        return reader.read(path)

"""Builds the DuckDB file from the Parquet lake: tables, marts and comments, checkpointed and closed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from memory_pipeline.model.errors import ExportError
from memory_pipeline.stores import lake
from memory_pipeline.stores.duckdb import verify
from memory_pipeline.stores.files import sha256_of
from memory_pipeline.stores.sqlfiles import sql

if TYPE_CHECKING:
    import duckdb

PACKAGE = "memory_pipeline.stores.duckdb"
_MEMORY_LIMIT = "512MB"  # of DuckDB's buffers; what does not fit is spilled beside the build


class TableSummary(msgspec.Struct, frozen=True):
    """What a table of a published file holds."""

    rows: int
    digest: str
    """Sum of the row hashes, in any order, in hexadecimal; comparable within one version of DuckDB."""


def source_digest(lake_root: Path) -> str:
    """Return the SHA-256 of everything a build depends on: the lake's files, the SQL, the version of DuckDB."""
    import duckdb

    digest = hashlib.sha256(f"duckdb {duckdb.__version__}\n".encode())
    for folder in ("sql", "marts"):
        for file in sorted(files(PACKAGE).joinpath(folder).iterdir(), key=lambda entry: entry.name):
            digest.update(f"{file.name}\n{file.read_text(encoding='utf-8')}\n".encode())
    for table in lake.TABLES:
        for path in lake.lake_files(lake_root, table):
            digest.update(f"{path.relative_to(lake_root).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def build(lake_root: Path, path: Path) -> dict[str, TableSummary]:
    """Make the file `path` (which must not exist) from the lake and return what it holds.

    Call it within `lake.reading`. Raises ExportError where the lake can't be read, a row breaks a constraint, or the
    number of rows differs from the lake's.
    """
    import duckdb

    config: dict[str, Any] = {"memory_limit": _MEMORY_LIMIT, "temp_directory": str(path.with_name("spill"))}
    try:
        with duckdb.connect(str(path), config=config) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("BEGIN")
            connection.execute(sql(PACKAGE, "tables"))
            for table in lake.TABLES:
                _load(connection, lake_root, table)
            for mart in mart_files():
                connection.execute(mart.read_text(encoding="utf-8"))
            connection.execute(sql(PACKAGE, "comments"))
            connection.execute("COMMIT")
            connection.execute("CHECKPOINT")
            tables = verify.read_tables(connection)
    except duckdb.Error as error:
        raise ExportError(
            f"the DuckDB file was not built: {str(error).strip()}. The last export is still served."
        ) from error
    return msgspec.convert(tables, dict[str, TableSummary])


def verify_in_fresh_process(path: Path, expected: dict[str, TableSummary]) -> None:
    """Raise ExportError unless a new process finds in the file exactly the tables, rows and digests `expected`."""
    finished = subprocess.run(
        [sys.executable, "-P", verify.__file__, str(path)], capture_output=True, text=True, check=False
    )
    if finished.returncode != 0:
        reason = finished.stderr.strip() or f"the verifier ended with status {finished.returncode}"
        raise ExportError(f"the built file was refused before the switch: {reason}. The last export is still served.")
    found = msgspec.json.decode(finished.stdout, type=dict[str, TableSummary])
    if found != expected:
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise ExportError(
            f"the built file was refused before the switch: {', '.join(wrong)} on disk differ from what was built. "
            "The last export is still served."
        )


def mart_files() -> list[Path]:
    """Return the marts' `.sql` files in the order of their names."""
    folder = Path(str(files(PACKAGE).joinpath("marts")))
    return sorted(folder.glob("*.sql"))


def _load(connection: duckdb.DuckDBPyConnection, lake_root: Path, table: str) -> None:
    paths = [str(path) for path in lake.lake_files(lake_root, table)]
    if not paths:
        return
    loaded = connection.execute(sql(PACKAGE, f"load_{table}"), {"files": paths}).fetchall()[0][0]
    expected = lake.rows_in(paths)
    if loaded != expected:
        raise ExportError(
            f"table {table}: {loaded} rows arrived of the lake's {expected}. The last export is still served."
        )

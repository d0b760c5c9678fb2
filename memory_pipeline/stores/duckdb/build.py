"""Builds a DuckDB file from the Parquet lake: tables, marts and comments, checked, checkpointed and closed.

Either whole (`build`), or as a copy of the last one in which the days that changed are replaced (`build_from`).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from memory_pipeline.model.errors import ExportError
from memory_pipeline.stores import lake
from memory_pipeline.stores.duckdb import verify
from memory_pipeline.stores.duckdb.generations import TableSummary
from memory_pipeline.stores.duckdb.marts import PACKAGE, Mart, affected, marts
from memory_pipeline.stores.duckdb.soundness import (
    require_counts_of_postgres,
    require_lake_files,
    require_lake_of_postgres,
    require_rows_of_lake,
    require_sound,
)
from memory_pipeline.stores.files import flush
from memory_pipeline.stores.lake.tables import day_of
from memory_pipeline.stores.sqlfiles import sql

if TYPE_CHECKING:
    import duckdb

_MEMORY_LIMIT = "512MB"  # of DuckDB's buffers; what does not fit is spilled beside the build
_HMAC_BLOCK = 64
# Rows of these go by age, hour by hour, or never, and say nothing of a person: they may stay in a copy's free space.
_OF_NOBODY = frozenset({"job_days", "llm_usage", "audit_runs"})

Made = dict[str, dict[str, str]]
"""The lake's files by table and name, each with the first digits of its SHA-256."""


class Scope(msgspec.Struct, frozen=True):
    """For whom a file is made."""

    tenant: str | None = None
    """Slug of the one tenant whose rows it has; None: of all."""
    mask_key: bytes | None = None
    """Leave out texts, and replace ids and names by keyed hashes."""


EVERYTHING = Scope()


def recipe(scope: Scope = EVERYTHING) -> str:
    """Return the SHA-256 of what a build depends on beside the lake: the SQL, the version of DuckDB, for whom it is."""
    import duckdb

    digest = hashlib.sha256(f"duckdb {duckdb.__version__}\ntenant {scope.tenant}\n".encode())
    if scope.mask_key is not None:
        digest.update(b"masked " + hashlib.sha256(b"recipe" + scope.mask_key).digest())
    for folder in ("sql", "marts"):
        for file in sorted(files(PACKAGE).joinpath(folder).iterdir(), key=lambda entry: entry.name):
            digest.update(f"{file.name}\n{file.read_text(encoding='utf-8')}\n".encode())
    return digest.hexdigest()


def made_of(manifest: lake.LakeManifest | None) -> Made:
    """Return the files of the lake by table and name, with the first digits of their digests."""
    tables = manifest.tables if manifest else {}
    return {
        table: {name: file.sha256[:16] for name, file in tables[table].files.items()} if table in tables else {}
        for table in lake.TABLES
    }


def build(
    lake_root: Path, manifest: lake.LakeManifest | None, path: Path, scope: Scope = EVERYTHING
) -> dict[str, TableSummary]:
    """Make the file `path` (which must not exist) from the lake and return what it holds.

    Call it within `lake.reading`. Raises ExportError where the lake can't be read or is not what was exported, a row
    breaks a constraint, a key comes twice, a reference leads nowhere, or rows differ in number from those of Postgres.
    """
    files = {table: entry.files for table, entry in manifest.tables.items()} if manifest is not None else {}
    with _lake_files_looked_at(lake_root, manifest, files) as looked_at, _building(path) as connection:
        connection.execute(sql(PACKAGE, "tables"))
        connection.execute(sql(PACKAGE, "comments"))
        tenant = _tenant_id(connection, lake_root, manifest, scope.tenant)
        if scope.mask_key is not None:
            _set_mask(connection, scope.mask_key)
        for table in lake.TABLES:
            paths = lake.lake_files(lake_root, manifest, table)
            loaded = _load(connection, table, paths, tenant, masked=scope.mask_key is not None)
            if manifest is not None and table in manifest.tables:
                whole = manifest.tables[table].rows
                require_rows_of_lake(table, loaded, whole if tenant is None else _rows_of(connection, paths, tenant))
        with _written_out(path):
            if manifest is not None and tenant is None:
                require_counts_of_postgres(connection, manifest)
            elif manifest is not None:
                require_lake_of_postgres(manifest)  # of which this file has the tenant's rows, as was just counted
            require_sound(connection, manifest, None)
            _make_marts(connection, marts())
        looked_at.result()
        _commit(connection)
        return msgspec.convert(verify.read_tables(connection), dict[str, TableSummary])


def build_from(
    base: Path,
    base_tables: Mapping[str, TableSummary],
    base_made_of: Made,
    lake_root: Path,
    manifest: lake.LakeManifest,
    path: Path,
) -> dict[str, TableSummary] | None:
    """Make `path` as a copy of `base` with the days replaced whose files are others than `base_made_of`.

    Returns what it holds, as `build` would find it: worked out from the digests of `base` and of the days that were
    replaced, so that a copy of a damaged file can't pass verification. Or None where a row of `base` is gone or says
    something else now: what it said would stay in the free space of the copy, so the file has to be built whole. Rows
    that go by age and say nothing of a person, and jobs of users who are still there, are no reason for that.
    Raises as `build` does.
    """
    changes = {table: names for table, names in _changes(base_made_of, made_of(manifest)).items() if names}
    read = {table: [name for name in names if _in_lake(manifest, table, name)] for table, names in changes.items()}
    require_lake_files(lake_root, manifest, read)
    shutil.copyfile(base, path)
    with _written_out(path), _building(path) as connection:
        for table, names in changes.items():
            if _lost_rows(connection, table, names, lake_root, manifest):
                return None
        tables = dict(base_tables)
        changed_days: set[date] = set()
        for table, names in changes.items():
            days = sorted(day for name in names if (day := day_of(name)) is not None)
            changed_days.update(days)
            before = _digest(connection, table, days)
            connection.execute(sql(PACKAGE, f"drop_{table}"), {"days": days} if days else None)
            paths = [lake_root / table / name for name in read[table]]
            _load(connection, table, paths, None, masked=False)
            tables[table] = _exchanged(tables[table], before, _digest(connection, table, days))
        require_counts_of_postgres(connection, manifest)
        require_sound(connection, manifest, sorted(changed_days))
        exchanged, whole = _make_marts_again(connection, set(changes), sorted(changed_days), base_tables)
        _commit(connection)
        made = verify.read_tables(connection, [mart.name for mart in whole])
        return tables | exchanged | msgspec.convert(made, dict[str, TableSummary])


@contextmanager
def _lake_files_looked_at(
    lake_root: Path, manifest: lake.LakeManifest | None, files: Mapping[str, Iterable[str]]
) -> Iterator[Future[None]]:
    """Meanwhile look whether the lake's files are what was exported: loading them leaves time for it.

    Yields what to wait for. Where they are not, that is raised instead of what came of it.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="lake-digests") as thread:
        looked_at = thread.submit(require_lake_files, lake_root, manifest, files) if manifest else Future[None]()
        if manifest is None:
            looked_at.set_result(None)
        try:
            yield looked_at
        except ExportError:
            looked_at.result()
            raise


@contextmanager
def _written_out(path: Path) -> Iterator[None]:
    """Meanwhile let the disk have what was written so far; the checkpoint would wait for all of it."""
    with ThreadPoolExecutor(1, thread_name_prefix="copy-flush") as thread:
        flushed = thread.submit(flush, path)
        yield
        flushed.result()


@contextmanager
def _building(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    import duckdb

    config: dict[str, Any] = {"memory_limit": _MEMORY_LIMIT, "temp_directory": str(path.with_name("spill"))}
    try:
        with duckdb.connect(str(path), config=config) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("BEGIN")
            yield connection
    except duckdb.Error as error:
        raise ExportError(
            f"the DuckDB file was not built: {str(error).strip()}. The last export is still served."
        ) from error


def _commit(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("COMMIT")
    connection.execute("CHECKPOINT")


def _make_marts(connection: duckdb.DuckDBPyConnection, chosen: Sequence[Mart]) -> None:
    for mart in chosen:
        connection.execute(mart.statement)


def _make_marts_again(
    connection: duckdb.DuckDBPyConnection,
    changed: set[str],
    days: Sequence[date],
    base_tables: Mapping[str, TableSummary],
) -> tuple[dict[str, TableSummary], list[Mart]]:
    """Make marts anew: by day those that can be and whose dimensions are unchanged, then the others whole.

    Returns what those made by day hold (worked out as for tables, so that what was damaged in the base differs), and
    which were made whole.
    """
    again = affected(changed)
    apart = {*(changed & set(lake.DIMENSIONS)), *(mart.name for mart in again)}
    by_day = [mart for mart in again if mart.by_day and not mart.reads & apart]
    whole = [mart for mart in again if mart not in by_day]
    exchanged = {}
    if by_day:
        connection.execute("SET VARIABLE changed_days = $days::DATE[]", {"days": days})
        connection.execute(sql(PACKAGE, "changed_days"))
        for mart in by_day:
            before = _digest(connection, mart.name, days)
            connection.execute(sql(PACKAGE, f"drop_{mart.name}"), {"days": days})
            connection.sql(mart.query).insert_into(mart.name)
            exchanged[mart.name] = _exchanged(base_tables[mart.name], before, _digest(connection, mart.name, days))
        connection.execute(sql(PACKAGE, "changed_days_end"))
    _make_marts(connection, whole)
    return exchanged, whole


def _load(
    connection: duckdb.DuckDBPyConnection, table: str, paths: Sequence[Path], tenant: UUID | None, *, masked: bool
) -> int:
    if not paths:
        return 0
    statement = sql(PACKAGE, f"mask_{table}" if masked else f"load_{table}")
    parameters = {"files": [str(path) for path in paths], "tenant": tenant}
    return int(connection.execute(statement, parameters).fetchall()[0][0])


def _rows_of(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], tenant: UUID) -> int:
    """Return how many rows of these files are the tenant's, counted apart from what loaded them."""
    if not paths:
        return 0
    parameters = {"files": [str(path) for path in paths], "tenant": tenant}
    return int(connection.execute(sql(PACKAGE, "rows_of_tenant"), parameters).fetchall()[0][0])


def _tenant_id(
    connection: duckdb.DuckDBPyConnection, lake_root: Path, manifest: lake.LakeManifest | None, slug: str | None
) -> UUID | None:
    if slug is None:
        return None
    paths = [str(path) for path in lake.lake_files(lake_root, manifest, "tenants")]
    found = connection.execute(sql(PACKAGE, "tenant_id"), {"files": paths, "slug": slug}).fetchall() if paths else []
    if not found:
        raise ExportError(
            f"there is no tenant {slug!r} in the lake, so no file was made for it; mend MEMORY_EXPORT_CONSUMERS."
        )
    return UUID(str(found[0][0]))


def _set_mask(connection: duckdb.DuckDBPyConnection, key: bytes) -> None:
    """Make the pseudonyms' macros, for this connection alone. The key is padded as RFC 2104 says."""
    block = (hashlib.sha256(key).digest() if len(key) > _HMAC_BLOCK else key).ljust(_HMAC_BLOCK, b"\0")
    connection.execute("SET VARIABLE mask_inner = $1", [bytes(byte ^ 0x36 for byte in block)])
    connection.execute("SET VARIABLE mask_outer = $1", [bytes(byte ^ 0x5C for byte in block)])
    connection.execute(sql(PACKAGE, "mask_macros"))


def _changes(before: Made, after: Made) -> dict[str, list[str]]:
    """Return by table the names of files that came, went, or have other bytes."""
    return {
        table: sorted(
            name
            for name in before[table].keys() | after[table].keys()
            if before[table].get(name) != after[table].get(name)
        )
        for table in lake.TABLES
    }


def _in_lake(manifest: lake.LakeManifest, table: str, name: str) -> bool:
    return table in manifest.tables and name in manifest.tables[table].files


def _lost_rows(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    names: Sequence[str],
    lake_root: Path,
    manifest: lake.LakeManifest,
) -> bool:
    days = [day for name in names if (day := day_of(name)) is not None]
    if table in _OF_NOBODY:
        return False
    if table == "jobs":
        # They go by age too, and have ids but no text. Users are replaced before, so who was erased is not there.
        return bool(connection.execute(sql(PACKAGE, "jobs_without_user"), {"days": days}).fetchall()[0][0])
    paths = [str(lake_root / table / name) for name in names if _in_lake(manifest, table, name)]
    if not paths or len(paths) < len(names):
        return True  # a day that has no rows any more
    parameters: dict[str, object] = {"table": table, "files": paths}
    if days:
        parameters["days"] = days
    statement = sql(PACKAGE, "lost_rows_days" if days else "lost_rows_dimension")
    return bool(connection.execute(statement, parameters).fetchall()[0][0])


def _digest(connection: duckdb.DuckDBPyConnection, table: str, days: Sequence[date]) -> tuple[int, int]:
    """Return rows and digest of some days; of all rows of a dimension, which has none."""
    if days:
        rows, digest = connection.execute(sql(PACKAGE, "digest_days"), {"table": table, "days": days}).fetchall()[0]
        return int(rows), int(digest)
    found = verify.read_tables(connection, [table])[table]
    return int(found["rows"]), int(str(found["digest"]), 16)


def _exchanged(table: TableSummary, before: tuple[int, int], after: tuple[int, int]) -> TableSummary:
    digest = int(table.digest, 16) - before[1] + after[1]
    return TableSummary(table.rows - before[0] + after[0], f"{digest:x}")

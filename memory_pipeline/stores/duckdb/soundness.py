"""What has to hold of a file before it is served: the rows that Postgres counted, each once, with what it names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from memory_pipeline.model.errors import ExportError
from memory_pipeline.stores.duckdb.marts import PACKAGE
from memory_pipeline.stores.files import sha256_of
from memory_pipeline.stores.lake import DIMENSIONS, TABLES, LakeManifest
from memory_pipeline.stores.lake.manifest import days_not_exported
from memory_pipeline.stores.lake.tables import day_of
from memory_pipeline.stores.sqlfiles import sql

if TYPE_CHECKING:
    import duckdb

_READERS = 2  # digests are work for the processor, of which few cores are ours
_TOLD = 5
_SERVED = "The last export is still served."
EXPORT_LAKE_FIRST = f"{_SERVED} Export the lake first: materialize lake_dimensions."


def require_whole_lake(lake_root: Path, manifest: LakeManifest | None) -> None:
    """Raise ExportError unless the lake has every table: one that it lacks would come out as one without rows."""
    if manifest is None:
        raise ExportError(f"there is no lake in {lake_root} (any more), so there are no rows. {EXPORT_LAKE_FIRST}")
    missing = [table for table in TABLES if table not in manifest.tables]
    if missing:
        raise ExportError(f"the lake in {lake_root} lacks {', '.join(missing)}. {EXPORT_LAKE_FIRST}")


def require_lake_files(lake_root: Path, manifest: LakeManifest, wanted: Mapping[str, Iterable[str]]) -> None:
    """Raise ExportError unless these files, by table and name, are byte for byte what was exported."""
    files = [(table, name) for table, names in wanted.items() for name in names]

    def look(file: tuple[str, str]) -> str | None:
        table, name = file
        expected, path = manifest.tables[table].files[name].sha256, lake_root / table / name
        try:
            found = sha256_of(path)
        except FileNotFoundError:
            return f"{_place(table, name)}: {path} is missing"
        if found == expected:
            return None
        return f"{_place(table, name)}: {path} has the SHA-256 {found[:16]}…, {expected[:16]}… was exported"

    with ThreadPoolExecutor(_READERS, thread_name_prefix="lake-digests") as readers:
        wrong = [told for told in readers.map(look, files) if told is not None]
    if wrong:
        raise ExportError(
            f"the lake is not as it was exported: {_listed(wrong)}. {_SERVED} Delete these files and export again."
        )


def require_lake_of_postgres(manifest: LakeManifest) -> None:
    """Raise ExportError unless the lake has of every table and day the rows that Postgres counted when exporting it."""
    _refuse([told for table in manifest.tables for told in _stated_otherwise(table, manifest)])


def require_counts_of_postgres(connection: duckdb.DuckDBPyConnection, manifest: LakeManifest) -> None:
    """Raise ExportError unless every table has on every day the rows that Postgres counted when it was exported.

    For a file with the rows of all tenants; for others there is `require_lake_of_postgres`.
    """
    wrong: list[str] = []
    for table, entry in manifest.tables.items():
        wrong += _stated_otherwise(table, manifest)
        counted = {day_of(name): rows for name, rows in _counted(table, manifest).items()}
        found = _rows_by_day(connection, table)
        wrong += [
            f"{_on(table, day)}: {found.get(day, 0)} rows in the file, Postgres counted {counted.get(day, 0)} "
            f"at {entry.source.taken_at:%Y-%m-%d %H:%M:%S} UTC"
            for day in sorted(found.keys() | counted.keys(), key=lambda one: one or date.min)
            if found.get(day, 0) != counted.get(day, 0)
        ]
    _refuse(wrong)


def require_rows_of_lake(table: str, found: int, expected: int) -> None:
    """Raise ExportError unless all rows that the lake has for a file arrived."""
    if found != expected:
        raise ExportError(f"table {table}: {found} rows arrived of the lake's {expected}. {_SERVED}")


def require_sound(
    connection: duckdb.DuckDBPyConnection, manifest: LakeManifest | None, days: Sequence[date] | None
) -> None:
    """Raise ExportError unless every key comes once and every reference leads somewhere; of rows of `days`, or of all.

    That keys are not NULL, the tables demand themselves.
    """
    if manifest is None:
        return
    memories = manifest.tables.get("memories")
    coverage = {
        "no_messages": days_not_exported(manifest, "messages"),
        "no_memories": days_not_exported(manifest, "memories"),
        "all_memories": memories is not None and memories.complete,
    }
    repeated = connection.execute(sql(PACKAGE, "repeated_keys"), {"days": days}).fetchall()
    broken = connection.execute(sql(PACKAGE, "broken_references"), {"days": days} | coverage).fetchall()
    problems = [f"{count} keys of {table} come more than once{_first(day)}" for table, count, day in repeated if count]
    problems += [
        f"{count} rows of {name} name no row of {target}{_first(day)}" for name, target, count, day in broken if count
    ]
    if problems:
        raise ExportError(
            f"the DuckDB file was refused: {'; '.join(problems)} (none expected). {_SERVED} If tables of the "
            "lake were exported one by one, export all of them together; else run `memory-pipeline audit`."
        )


def _stated_otherwise(table: str, manifest: LakeManifest) -> Iterator[str]:
    """Give the files of a table whose rows, as the lake states them, are not those that Postgres counted."""
    files, expected = manifest.tables[table].files, _counted(table, manifest)
    for name in sorted(expected.keys() | files.keys()):
        stated, counted = files[name].rows if name in files else 0, expected.get(name, 0)
        if stated != counted:
            yield f"{_place(table, name)}: {stated} rows in the lake, Postgres counted {counted}"


def _refuse(wrong: Sequence[str]) -> None:
    if wrong:
        raise ExportError(
            f"the DuckDB file was refused: {_listed(wrong)}. {_SERVED} Delete the files of these days in the lake and "
            "export again."
        )


def _counted(table: str, manifest: LakeManifest) -> dict[str, int]:
    counted = manifest.tables[table].counted
    if counted is None:
        raise ExportError(
            f"table {table} was exported by an older version, which did not keep what Postgres counted. {_SERVED} "
            "Export the lake again: materialize lake_dimensions."
        )
    return counted


def _rows_by_day(connection: duckdb.DuckDBPyConnection, table: str) -> dict[date | None, int]:
    if table in DIMENSIONS:
        (rows,) = connection.execute(sql(PACKAGE, "rows_of_table"), {"table": table}).fetchall()[0]
        return {None: int(rows)}
    return {
        day: int(rows) for day, rows in connection.execute(sql(PACKAGE, "rows_by_day"), {"table": table}).fetchall()
    }


def _place(table: str, name: str) -> str:
    return _on(table, day_of(name))


def _on(table: str, day: date | None) -> str:
    return f"table {table}" if day is None else f"table {table}, {day}"


def _first(day: date | None) -> str:
    return f", the first on {day}" if day is not None else ""


def _listed(told: Sequence[str]) -> str:
    more = len(told) - _TOLD
    return "; ".join(told[:_TOLD]) + (f"; and {more} more" if more > 0 else "")

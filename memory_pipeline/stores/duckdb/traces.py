"""Looks for a user in everything that was exported: the proof that an erasure reached it all.

Every column with ids is asked, in tables and marts, and in what the program writes about its own doing (events, audit
findings) the texts too. Texts that people wrote are not: an id in them is no trace of the pipeline.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from memory_pipeline.model.errors import ExportError
from memory_pipeline.stores.duckdb.build import Scope
from memory_pipeline.stores.duckdb.generations import generations, manifest_of
from memory_pipeline.stores.duckdb.publish import CONSUMERS
from memory_pipeline.stores.lake import TABLES

if TYPE_CHECKING:
    import duckdb

_OWN_WORDS = {"events", "audit_findings"}
"""Tables whose texts the program wrote."""


def pseudonym(mask_key: bytes, id_: UUID) -> UUID:
    """Return what a file masked under this key has in place of an id, as sql/mask_macros.sql makes it."""
    return UUID(_keyed(mask_key, f"id {id_}")[:32])


def files_naming(
    lake_root: Path, exports_root: Path, user_id: UUID, consumers: Mapping[str, Scope] | None = None
) -> list[Path]:
    """Return the files of the lake and the published files that name this user; masked ones by the pseudonym.

    Masked files of consumers whose key is not among `consumers` can't be asked and are returned too. Raises
    ExportError where a file can't be read.
    """
    import duckdb

    found: list[Path] = []
    plain = _Names(user_id, str(user_id))
    try:
        with duckdb.connect() as connection:
            for table in TABLES:
                paths = [str(path) for path in (lake_root / table).rglob("*.parquet")]
                if paths:
                    rows = connection.read_parquet(paths, hive_partitioning=False, filename=True)
                    naming = _rows_naming(rows, table, plain)
                    if naming is not None:
                        names = naming.project("filename").distinct().order("filename").fetchall()
                        found += [Path(name) for (name,) in names]
        for folder, key in _folders(exports_root, consumers or {}):
            for path in generations(folder):
                if not manifest_of(path).masked:
                    names_here = _is_named(path, plain)
                else:
                    names_here = key is None or _is_named(path, _masked(key, user_id))
                if names_here:
                    found.append(path)
    except duckdb.Error as error:
        raise ExportError(f"what was exported can't be looked through for user {user_id}: {error}") from error
    return found


class _Names(NamedTuple):
    """What stands for the user in a file."""

    id: UUID
    text: str


def _masked(mask_key: bytes, user_id: UUID) -> _Names:
    return _Names(pseudonym(mask_key, user_id), _keyed(mask_key, f"text user:{user_id}"))


def _keyed(mask_key: bytes, text: str) -> str:
    return hmac.new(mask_key, text.encode(), hashlib.sha256).hexdigest()


def _folders(exports_root: Path, consumers: Mapping[str, Scope]) -> Iterator[tuple[Path, bytes | None]]:
    """Yield the folders of published files, each with the key its files are masked under, if that is known."""
    yield exports_root, None
    if (exports_root / CONSUMERS).is_dir():
        for folder in sorted((exports_root / CONSUMERS).iterdir()):
            yield folder, consumers[folder.name].mask_key if folder.name in consumers else None


def _is_named(path: Path, names: _Names) -> bool:
    import duckdb

    with duckdb.connect(str(path), read_only=True) as connection:
        for (table,) in connection.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall():
            naming = _rows_naming(connection.table(table), table, names)
            if naming is not None and naming.limit(1).fetchall():
                return True
    return False


def _rows_naming(rows: duckdb.DuckDBPyRelation, table: str, names: _Names) -> duckdb.DuckDBPyRelation | None:
    """Return the rows that name the user in any column; None where the table has no column that could."""
    from duckdb import ColumnExpression, ConstantExpression, FunctionExpression

    tests = []
    for name, type_ in zip(rows.columns, map(str, rows.types), strict=True):
        column = ColumnExpression(name)
        if type_ == "UUID":
            tests.append(column == ConstantExpression(names.id))
        elif type_ == "UUID[]":
            tests.append(FunctionExpression("list_contains", column, ConstantExpression(names.id)))
        elif table in _OWN_WORDS and type_ in ("VARCHAR", "JSON") and name != "filename":
            tests.append(FunctionExpression("contains", column.cast("VARCHAR"), ConstantExpression(names.text)))
    return rows.filter(reduce(or_, tests)) if tests else None

"""Looks for a user in everything that was exported: the proof that an erasure reached it all."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from memory_pipeline.stores.duckdb.generations import generations
from memory_pipeline.stores.duckdb.marts import PACKAGE
from memory_pipeline.stores.duckdb.publish import CONSUMERS
from memory_pipeline.stores.sqlfiles import sql

_TABLES_WITH_USERS = (
    *("users", "conversations", "messages", "memories", "facts", "summaries", "profiles", "jobs"),
    "memory_access",
)


def files_naming(lake_root: Path, exports_root: Path, user_id: UUID) -> list[Path]:
    """Return the files of the lake and the published files that have a row of this user.

    Files of consumers who get pseudonyms can't be asked; they are made of the same lake.
    """
    import duckdb

    found: list[Path] = []
    with duckdb.connect() as connection:
        for table in _TABLES_WITH_USERS:
            paths = [str(path) for path in (lake_root / table).rglob("*.parquet")]
            if paths:
                rows = connection.execute(sql(PACKAGE, "files_naming"), {"files": paths, "user_id": user_id}).fetchall()
                found += [Path(name) for (name,) in rows]
    folders = [exports_root]
    if (exports_root / CONSUMERS).is_dir():
        folders += sorted((exports_root / CONSUMERS).iterdir())
    for path in (file for folder in folders for file in generations(folder)):
        with duckdb.connect(str(path), read_only=True) as connection:
            for table in _TABLES_WITH_USERS:
                parameters = {"table": table, "user_id": user_id}
                (count,) = connection.execute(sql(PACKAGE, "rows_naming"), parameters).fetchall()[0]
                if count:
                    found.append(path)
                    break
    return found

"""Reads a built DuckDB file as a stranger would, and prints what it holds: `echo FILE | python verify.py`.

Run by the publisher in a process of its own, so that nothing the builder still has in memory can stand in for what is
on the disk. It imports nothing of this package, and before it is told which file, all that it needs. Prints one JSON
object, {table: {"rows": number, "digest": text}}, and exits 0; or a sentence on standard error, and exits 1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

_TABLES = "SELECT table_name FROM duckdb_tables() WHERE NOT internal ORDER BY table_name"
# A sum, because exclusive-or would hide a row that is there twice. Row hashes are DuckDB's own, so they compare within
# one version of it.
_DIGEST = "SELECT count(*), coalesce(sum(hash(t)), 0) FROM query_table($1) AS t"


def read_tables(
    connection: duckdb.DuckDBPyConnection, chosen: list[str] | None = None
) -> dict[str, dict[str, int | str]]:
    """Return the row count and the digest of the rows (in any order) of every table, or of those chosen."""
    tables: dict[str, dict[str, int | str]] = {}
    for name in [row[0] for row in connection.execute(_TABLES).fetchall()] if chosen is None else chosen:
        rows, digest = connection.execute(_DIGEST, [name]).fetchall()[0]
        tables[name] = {"rows": int(rows), "digest": f"{int(digest):x}"}
    return tables


def main() -> int:
    import duckdb

    path = Path(sys.stdin.read().removesuffix("\n"))
    # The .wal itself, or what DuckDB calls it while it writes or reads it.
    wals = sorted(other for other in path.parent.iterdir() if other.name.startswith(f"{path.name}.wal"))
    if wals:
        sys.stderr.write(f"{wals[0]} lies beside the file, so it is not complete by itself")
        return 1
    try:
        with duckdb.connect(str(path), read_only=True, config={"memory_limit": "512MB"}) as connection:
            tables = read_tables(connection)
    except duckdb.Error as error:
        sys.stderr.write(f"DuckDB can't read it: {str(error).strip()}")
        return 1
    sys.stdout.write(json.dumps(tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The columns of the exported tables with their meaning, read from the SQL that makes them.

Needs no DuckDB and no file, so it can describe the tables where both would be too heavy: while definitions load.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from memory_pipeline.stores.duckdb.marts import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

_TABLE = re.compile(r"CREATE TABLE (\w+) \(\n(.*?)\n\);", re.DOTALL)
_COLUMN = re.compile(r"^ +(\w+) +(\S+?)(?: USING COMPRESSION \w+)?( NOT NULL)?,?$", re.MULTILINE)
_COMMENT = re.compile(r"COMMENT ON COLUMN (\w+)\.(\w+) IS '((?:[^']|'')*)';")


class Column(NamedTuple):
    """One column of an exported table."""

    name: str
    type: str
    """As written in the table's definition."""
    nullable: bool
    comment: str


@cache
def exported_columns() -> dict[str, list[Column]]:
    """Return the columns of every exported table, in their order."""
    comments = {
        (table, name): text.replace("''", "'") for table, name, text in _COMMENT.findall(sql(PACKAGE, "comments"))
    }
    return {
        table: [
            Column(name, type_, not required, comments[table, name]) for name, type_, required in _COLUMN.findall(body)
        ]
        for table, body in _TABLE.findall(sql(PACKAGE, "tables"))
    }

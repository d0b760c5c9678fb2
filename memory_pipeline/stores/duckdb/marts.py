"""The marts: one `.sql` file each, which says what it is, what its key is, and where every column comes from.

    -- What it is, in a sentence or two.
    -- By day: what is said of a day is made of that day's rows alone.     (only where it is so)
    -- Key: day, tenant_id
    CREATE OR REPLACE TABLE mart_x AS SELECT …;
    COMMENT ON COLUMN mart_x.day IS 'UTC day.'; -- DATE from messages.day

Read without DuckDB, so that definitions can be made of it where that would be too heavy.
"""

from __future__ import annotations

import re
from functools import cache
from graphlib import TopologicalSorter
from importlib.resources import files
from typing import NamedTuple

PACKAGE = "memory_pipeline.stores.duckdb"
_BY_DAY = re.compile(r"^-- By day: .+$", re.MULTILINE)
_KEY = re.compile(r"^-- Key: (.+)$", re.MULTILINE)
_COLUMN = re.compile(r"^COMMENT ON COLUMN (\w+)\.(\w+) IS '((?:[^']|'')*)'; -- (\S+) from (.+)$", re.MULTILINE)


class MartColumn(NamedTuple):
    """One column of a mart."""

    name: str
    type: str
    comment: str
    sources: list[tuple[str, str]]
    """(table, column) that it is made of."""


class Mart(NamedTuple):
    """One mart, by its file."""

    name: str
    statement: str
    description: str
    key: list[str]
    by_day: bool
    """Its rows of a day are made of that day's rows of daily tables, and of dimensions."""
    columns: list[MartColumn]

    @property
    def query(self) -> str:
        """The SELECT that the table is made with."""
        return self.statement[self.statement.index(" AS\n") + 4 : self.statement.index(";\nCOMMENT ")]

    @property
    def reads(self) -> set[str]:
        """Tables and marts that it is made of."""
        return {table for column in self.columns for table, _ in column.sources}


@cache
def marts() -> list[Mart]:
    """Return all marts, each after those it reads."""
    folder = files(PACKAGE).joinpath("marts")
    found = {mart.name: mart for mart in (_parse(entry.name, entry.read_text("utf-8")) for entry in folder.iterdir())}
    order = TopologicalSorter({name: sorted(found[name].reads & found.keys()) for name in sorted(found)})
    return [found[name] for name in order.static_order()]


def affected(changed: set[str]) -> list[Mart]:
    """Return the marts to be made again after some tables changed, in order."""
    touched = set(changed)
    again = []
    for mart in marts():
        if mart.reads & touched:
            touched.add(mart.name)
            again.append(mart)
    return again


def _parse(file_name: str, text: str) -> Mart:
    name = file_name.removesuffix(".sql")
    header = text[: text.index("CREATE ")]
    key = _KEY.search(header)
    if key is None:
        raise ValueError(f"{file_name} has no line `-- Key: …` in its header")
    by_day = _BY_DAY.search(header)
    said = header[: (by_day or key).start()].splitlines()
    description = " ".join(line.removeprefix("--").strip() for line in said if line.startswith("--"))
    columns = [
        MartColumn(column, type_, comment.replace("''", "'"), [_source(part) for part in sources.split(", ")])
        for table, column, comment, type_, sources in _COLUMN.findall(text)
        if table == name
    ]
    return Mart(name, text, description, key[1].split(", "), by_day is not None, columns)


def _source(part: str) -> tuple[str, str]:
    table, column = part.strip().split(".")
    return table, column

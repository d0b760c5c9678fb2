"""The guide for analysts, kept in docs/analyst-guide.md so that every change of what they read is seen in review.

`python -m memory_pipeline_tests.stores.duckdb.analyst_guide` rewrites it from analyst_guide.md beside this module, the
comments inside a newly built file, the headers of the marts, the statements that mask, and the worked questions.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from string import Template
from typing import NamedTuple

import duckdb

from memory_pipeline.commands.querying import MAX_ROWS
from memory_pipeline.stages.audit import LISTED_FINDINGS
from memory_pipeline.stores import lake
from memory_pipeline.stores.duckdb.marts import PACKAGE, marts
from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline.stores.duckdb.questions import questions
from memory_pipeline.stores.sqlfiles import sql

GUIDE = Path(__file__).parents[3] / "docs" / "analyst-guide.md"
COMMAND = f"python -m {__spec__.name if __spec__ else __name__}"
LEFT_OUT = "left out"
PSEUDONYM = "pseudonym"
UNLESS_KNOWN = "pseudonym, but for names of importers"
HOUR = "cut to the hour"
DAY = "cut to the day"
FROM_DAY = "counted from the beginning of the day"
ANEW = "counted anew from 0"
_TEXT = Path(__file__).with_name("analyst_guide.md")
_REPLACED = re.compile(r"^ +(.+) AS (\w+),?$", re.MULTILINE)
_HOW = {
    "known_source(": UNLESS_KNOWN,
    "to_hour(": HOUR,
    "to_day(": DAY,
    "row_number() ": ANEW,
    **dict.fromkeys(("pseudonym(", "keyed_hash(", "keyed_digest(", "list_transform(", "list_sort("), PSEUDONYM),
}
"""What a masked column holds, by how the expression that makes it begins."""
_COLUMNS = """
SELECT t.table_name, t.comment, c.column_name, c.data_type, c.is_nullable, c.comment
FROM duckdb_tables() t
JOIN duckdb_columns() c USING (schema_name, table_name)
WHERE NOT t.internal
ORDER BY t.table_name, c.column_index
"""


class DescribedColumn(NamedTuple):
    """A column as the file describes it."""

    name: str
    type: str
    nullable: bool
    comment: str


class DescribedTable(NamedTuple):
    """A table or mart as the file describes it."""

    comment: str
    columns: list[DescribedColumn]


def described_tables(path: Path) -> dict[str, DescribedTable]:
    """Return the tables and marts of a file by name, with the comments it holds."""
    tables: dict[str, DescribedTable] = {}
    with duckdb.connect(str(path), read_only=True) as connection:
        for table, meaning, column, type_, nullable, comment in connection.execute(_COLUMNS).fetchall():
            described = tables.setdefault(table, DescribedTable(meaning, []))
            described.columns.append(DescribedColumn(column, type_, nullable, comment))
    return tables


@cache
def masked_columns(table: str) -> dict[str, str]:
    """Return what a masked file has in place of the columns of an exported table."""
    return {column: _how(expression) for expression, column in _REPLACED.findall(sql(PACKAGE, f"mask_{table}"))}


def _how(expression: str) -> str:
    if expression in ("''", "'{}'", "NULL"):
        return LEFT_OUT
    if expression.startswith("to_day(created_at) + "):
        return FROM_DAY
    return next(how for start, how in _HOW.items() if expression.startswith(start))


def write_guide() -> str:
    """Return the guide as text that depends on nothing but the code."""
    with tempfile.TemporaryDirectory(prefix="memory-guide-") as folder:
        # Without a lake the file is empty, and says of its tables what every file says.
        tables = described_tables(publish_duckdb(Path(folder) / "lake", Path(folder) / "exports", 1).path)
    export_days, warn_hours, fail_hours = _freshness()
    text = Template(_TEXT.read_text(encoding="utf-8")).substitute(
        command=COMMAND,
        duckdb_version=".".join(duckdb.__version__.split(".")[:2]),
        export_days=export_days,
        warn_hours=warn_hours,
        fail_hours=fail_hours,
        listed_findings=LISTED_FINDINGS,
        max_rows=f"{MAX_ROWS:,}",
        how_many=len(questions()),
        questions="\n".join(_questions()),
        marts="\n".join(_marts(tables)),
        tables="\n".join(_tables(tables)),
    )
    return text.strip() + "\n"


def _questions() -> Iterator[str]:
    for one in questions():
        yield f"### {one.number}. {one.question}\n\n{one.context}\n\n```sql\n{one.statement}\n```\n"


def _marts(tables: dict[str, DescribedTable]) -> Iterator[str]:
    for mart in sorted(marts()):
        described = tables[mart.name]
        yield f"### {mart.name}\n\n{described.comment}\n"
        yield f"Key: {_names(mart.key)}. Made of {_names(sorted(mart.reads))}.\n"
        yield "| column | type | meaning | made of |\n|---|---|---|---|"
        made_of = {column.name: column.sources for column in mart.columns}
        for column in described.columns:
            sources = _names(f"{table}.{source}" for table, source in made_of[column.name])
            yield f"| `{column.name}` | {column.type} | {_cell(column.comment)} | {sources} |"
        yield ""


def _tables(tables: dict[str, DescribedTable]) -> Iterator[str]:
    for name in lake.TABLES:
        described, masked = tables[name], masked_columns(name)
        yield f"### {name}\n\n{described.comment}\n"
        yield "| column | type | meaning | in a masked file |\n|---|---|---|---|"
        for column in described.columns:
            type_ = f"{column.type} or NULL" if column.nullable else column.type
            yield f"| `{column.name}` | {type_} | {_cell(column.comment)} | {masked.get(column.name, '')} |"
        yield ""


def _names(names: Iterator[str] | list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _freshness() -> tuple[int, str, str]:
    """Return how many days the schedule exports, and after how many hours Dagster warns and complains."""
    import dagster as dg
    from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy

    from memory_pipeline.definitions import defs
    from memory_pipeline.defs.analytics.schedule import DAYS

    key = dg.AssetKey("duckdb_analytics")
    policy = defs.resolve_assets_def(key).specs_by_key[key].freshness_policy
    assert isinstance(policy, TimeWindowFreshnessPolicy)
    assert policy.warn_window is not None
    warn, fail = (window.to_timedelta() / timedelta(hours=1) for window in (policy.warn_window, policy.fail_window))
    return DAYS, f"{warn:g}", f"{fail:g}"


def main() -> None:
    """Write the guide."""
    GUIDE.write_text(write_guide(), encoding="utf-8")
    print(f"wrote {GUIDE}")


if __name__ == "__main__":
    main()

"""Checks on `duckdb_analytics`: the published file has the rows of Postgres, each once and with its key."""

from collections.abc import Iterator

import dagster as dg

from memory_pipeline.defs.common import PipelineResource
from memory_pipeline.stores.duckdb import checks
from memory_pipeline.stores.duckdb.checks import rows_and_keys
from memory_pipeline.stores.duckdb.publish import current_export
from memory_pipeline.stores.postgres.checks import exported_rows, mart_numbers

_LISTED = 20
_ROWS = dg.AssetCheckSpec(
    "rows_match_postgres",
    asset="duckdb_analytics",
    description=(
        "Every daily table of the published file has as many rows as Postgres. A warning: the file may be older than "
        "the newest messages, or days were never exported."
    ),
)
_KEYS = dg.AssetCheckSpec(
    "keys_are_unique",
    asset="duckdb_analytics",
    description="Every row of the published file has its key, and no key comes twice.",
)
_NUMBERS = dg.AssetCheckSpec(
    "numbers_match_postgres",
    asset="duckdb_analytics",
    description=(
        "Numbers of the marts, tenant by tenant, are those that Postgres gives. A warning, as rows_match_postgres is: "
        "the file may be older."
    ),
)


@dg.multi_asset_check(specs=[_ROWS, _KEYS, _NUMBERS], description="The checks of the published file, in a few queries.")
def analytics_checks(pipeline: PipelineResource) -> Iterator[dg.AssetCheckResult]:
    with pipeline.database.transaction() as connection:
        expected, numbers = exported_rows(connection), mart_numbers(connection)
    path = current_export(pipeline.exports_root)
    tables, shown = rows_and_keys(path), checks.mart_numbers(path)
    published = {table.table: table.rows for table in tables}
    differing = [table for table, rows in expected.items() if published[table] != rows]
    counts = "\n".join(f"| {table} | {expected[table]:,} | {published[table]:,} |" for table in expected)
    yield dg.AssetCheckResult(
        check_name=_ROWS.name,
        passed=not differing,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"the file differs from Postgres in {', '.join(differing)}" if differing else None,
        metadata={"tables": dg.MetadataValue.md(f"| table | Postgres | published |\n|---|---|---|\n{counts}")},
    )
    unsound = [table.table for table in tables if table.without_key or table.repeated]
    keys = "\n".join(f"| {one.table} | {one.rows:,} | {one.without_key:,} | {one.repeated:,} |" for one in tables)
    yield dg.AssetCheckResult(
        check_name=_KEYS.name,
        passed=not unsound,
        description=f"keys are missing or repeated in {', '.join(unsound)}" if unsound else None,
        metadata={
            "tables": dg.MetadataValue.md(f"| table | rows | without key | repeated |\n|---|---|---|---|\n{keys}")
        },
    )
    wrong = sorted(key for key in numbers.keys() | shown.keys() if numbers.get(key, 0) != shown.get(key, 0))
    names = sorted({name for name, _ in wrong})
    lines = "\n".join(
        f"| {name} | {tenant} | {numbers.get((name, tenant), 0):,} | {shown.get((name, tenant), 0):,} |"
        for name, tenant in wrong[:_LISTED]
    )
    yield dg.AssetCheckResult(
        check_name=_NUMBERS.name,
        passed=not wrong,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"the marts differ from Postgres in {', '.join(names)}" if wrong else None,
        metadata={
            "compared": len(numbers),
            "differing": dg.MetadataValue.md(f"| number | tenant | Postgres | published |\n|---|---|---|---|\n{lines}"),
        },
    )

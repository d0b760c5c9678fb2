"""Checks on `duckdb_analytics`: the published file has the rows of Postgres, each once and with its key."""

from collections.abc import Iterator

import dagster as dg

from memory_pipeline.defs.analytics.assets import duckdb_analytics
from memory_pipeline.defs.common import PipelineResource
from memory_pipeline.stores.duckdb.checks import rows_and_keys
from memory_pipeline.stores.duckdb.publish import current_export
from memory_pipeline.stores.postgres.checks import exported_rows

_ROWS = dg.AssetCheckSpec(
    "rows_match_postgres",
    asset=duckdb_analytics,
    description=(
        "Every daily table of the published file has as many rows as Postgres. A warning: the file may be older than "
        "the newest messages, or days were never exported."
    ),
)
_KEYS = dg.AssetCheckSpec(
    "keys_are_unique",
    asset=duckdb_analytics,
    description="Every row of the published file has its key, and no key comes twice.",
)


@dg.multi_asset_check(specs=[_ROWS, _KEYS], description="Both checks of the published file, in one query of it.")
def analytics_checks(pipeline: PipelineResource) -> Iterator[dg.AssetCheckResult]:
    with pipeline.database.transaction() as connection:
        expected = exported_rows(connection)
    tables = rows_and_keys(current_export(pipeline.exports_root))
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

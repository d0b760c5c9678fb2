"""Changes of the sample's lake, and what is served of it."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from memory_pipeline.stores.duckdb.publish import ExportReport, current_export, generations
from memory_pipeline_tests.stores.export_sample import MESSAGES, ROWS, rewrite

TABLES = {
    **ROWS,
    "dim_days": 4,
    "mart_cost_daily": 0,
    "mart_daily_activity": 6,
    "mart_data_quality": 0,
    "mart_fact_catalogue": 4,
    "mart_fact_churn": 4,
    "mart_hourly_activity": 24,
    "mart_memory_growth": 12,
    "mart_pipeline_response": 0,
    "mart_recall_use": 0,
    "mart_retention": 4,
    "mart_user_daily": 6,
    "mart_weekly_topics": 8,
}
LAST_DAY = date(2025, 3, 4)


def change(lake_root: Path) -> None:
    """Drop one message and its episode from the lake, so that the next publication has something to do."""
    table = read_day(lake_root, "messages")
    (gone,) = table.column("message_id").slice(table.num_rows - 1).to_pylist()
    memories = read_day(lake_root, "memories")
    rests = [gone not in ids for ids in memories.column("source_message_ids").to_pylist()]
    rewrite(lake_root, "messages", LAST_DAY, table.slice(0, table.num_rows - 1))
    rewrite(lake_root, "memories", LAST_DAY, memories.take([n for n, stays in enumerate(rests) if stays]))


def read_day(lake_root: Path, table: str, day: date = LAST_DAY) -> pa.Table:
    return pq.ParquetFile(lake_root / table / f"day={day}/part-0.parquet").read()


def count_messages(path: Path) -> int:
    with duckdb.connect(str(path), read_only=True) as connection:
        (found,) = connection.execute("SELECT count(*) FROM messages").fetchall()[0]
        return int(found)


def litter(exports: Path) -> list[str]:
    """Names that belong to no generation, nor to what is there for good."""
    known = {"CURRENT", "memory.duckdb", ".publisher.lock"}
    known |= {name for path in generations(exports) for name in (path.name, path.with_suffix(".json").name)}
    return sorted(path.name for path in exports.iterdir() if path.name not in known)


def assert_served(exports: Path, report: ExportReport, messages: int = MESSAGES) -> None:
    """The generation of `report` is what CURRENT and the link lead to, and it is whole."""
    assert current_export(exports) == report.path
    assert os.readlink(exports / "memory.duckdb") == report.path.name
    assert count_messages(exports / "memory.duckdb") == messages


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def leave_wal(path: Path) -> None:
    path.with_name(path.name + ".wal").write_bytes(b"stale")


def alter_a_mart(path: Path) -> None:
    """On a day that does not change; the mart is made anew for days that do."""
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE mart_daily_activity SET messages = 999 WHERE day = '2025-03-01'")


def alter_a_row(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "UPDATE messages SET content = 'x' WHERE message_id = (SELECT min(message_id) FROM messages)"
        )

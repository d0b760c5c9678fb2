"""The columns of the lake's tables, as readers of the Parquet files see them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from memory_pipeline.stores.lake import DIMENSIONS, lake_files


class Column(NamedTuple):
    """One column; `day` is the folder's name, the others are in the files."""

    name: str
    type: str
    """Arrow's name of the type."""


def lake_columns(root: Path, table: str) -> list[Column]:
    """Return the columns of a table, from its newest file; none where it has no file yet."""
    import pyarrow.parquet as pq

    files = lake_files(root, table)
    if not files:
        return []
    columns = [Column(field.name, str(field.type)) for field in pq.read_schema(files[-1])]
    return columns if table in DIMENSIONS else [Column("day", "date32[day]"), *columns]

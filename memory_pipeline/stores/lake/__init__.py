"""The Parquet lake: one folder per table, one file per UTC day (hive style), and a manifest that says what is in it.

    <root>/manifest.json                               rows, digests, and the moment of Postgres they are of
    <root>/messages/day=2025-03-01/part-0.parquet      daily tables
    <root>/users/part-0.parquet                        dimensions, written whole

`tables` names them, `writer` makes the files, `manifest` says which are stale, `switch` puts all of an export in place
at once or none of it.
"""

from __future__ import annotations

from memory_pipeline.stores.lake.manifest import LakeManifest
from memory_pipeline.stores.lake.switch import Export, exporting, lake_files, reading, verify_lake
from memory_pipeline.stores.lake.tables import DAILY_TABLES, DIMENSIONS, LEDGERS, TABLES, require_table
from memory_pipeline.stores.lake.writer import LakeReport

__all__ = [
    "DAILY_TABLES",
    "DIMENSIONS",
    "LEDGERS",
    "TABLES",
    "Export",
    "LakeManifest",
    "LakeReport",
    "exporting",
    "lake_files",
    "reading",
    "require_table",
    "verify_lake",
]

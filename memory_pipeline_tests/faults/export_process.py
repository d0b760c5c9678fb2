"""One half of an export in a process of its own, which says how much memory it took at its peak.

python -m memory_pipeline_tests.faults.export_process HALF PIPELINE_URL FOLDER

HALF is "lake" (Postgres to FOLDER/lake) or "file" (FOLDER/lake to FOLDER/exports). Prints the peak in MiB.

What the export keeps in memory on purpose is an eighth of what it is in production here: a row group, and DuckDB's
buffers. So a test reaches the height at which memory stays with an eighth of the rows.
"""

from __future__ import annotations

import resource
import sys
from datetime import date
from pathlib import Path

from memory_pipeline.model.window import DayWindow
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores.duckdb import build
from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline.stores.lake import writer

DAYS = DayWindow(date(2025, 1, 1), date(2026, 1, 1))


def main() -> None:
    half, url, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    writer._GROUP_BYTES = 8 << 20
    build._MEMORY_LIMIT = "64MB"
    if half == "lake":
        export_lake(url, DAYS, folder / "lake")
    else:
        publish_duckdb(folder / "lake", folder / "exports", 1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


if __name__ == "__main__":
    main()

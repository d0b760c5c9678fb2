"""The check of an export: it sees what Postgres and the file do not have alike."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from memory_pipeline.model.window import DayWindow
from memory_pipeline_tests.stores.postgres.ledger import DAY
from memory_pipeline_tests.worker.support import Bench
from memory_pipeline_tests.worker.watch import check_export, export_everything


def test_an_export_that_lacks_a_row_or_has_another_is_caught(bench: Bench, tmp_path: Path) -> None:
    bench.ledger.add(5)
    window = DayWindow(DAY, DAY + timedelta(days=1))
    exported = export_everything(bench.ledger.urls.pipeline_url, tmp_path, window)
    check_export(bench.watched, exported)
    claims = bench.ledger.claim(1)
    with pytest.raises(AssertionError, match=f"differ in jobs: .*{claims[0].job_id}.*processing"):
        check_export(bench.watched, exported)
    bench.ledger.add(1)
    with pytest.raises(AssertionError, match="5 rows of jobs, Postgres 6"):
        check_export(bench.watched, exported)

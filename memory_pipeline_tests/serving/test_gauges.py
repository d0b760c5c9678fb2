"""What the gauges say of the whole system, also where a part of it is not there."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory_pipeline import metrics
from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.serving.gauges import sample_gauges
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline_tests.conftest import Database as Urls


@pytest.fixture
def opened(database: Urls) -> Iterator[Database]:
    with Database(database.pipeline_url) as each:
        yield each


def export_age() -> float:
    age = metrics.REGISTRY.get_sample_value("memory_export_age_seconds")
    assert age is not None
    return age


def test_an_export_that_was_never_made_or_is_gone_is_infinitely_old(opened: Database, tmp_path: Path) -> None:
    metrics.export_age_seconds.set(0)
    sample_gauges(opened, tmp_path)
    assert export_age() == math.inf
    current = tmp_path / "CURRENT"
    current.touch()
    four_hours_ago = time.time() - 4 * 3600
    os.utime(current, (four_hours_ago, four_hours_ago))
    sample_gauges(opened, tmp_path)
    assert 4 * 3600 <= export_age() < 5 * 3600
    current.unlink()
    sample_gauges(opened, tmp_path)
    assert export_age() == math.inf


def test_the_age_of_the_export_is_known_while_postgres_is_away(tmp_path: Path) -> None:
    metrics.export_age_seconds.set(0)
    away = Database("postgresql://nobody@127.0.0.1:1/memory", wait_seconds=0.1)
    with pytest.raises(StoreUnavailableError):
        sample_gauges(away, tmp_path)
    assert export_age() == math.inf

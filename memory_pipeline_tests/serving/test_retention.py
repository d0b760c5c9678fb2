"""What is kept of answers and of their cost for how long: in Postgres, and so in the exports."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from memory_pipeline.serving import services
from memory_pipeline.serving.retention import Forgotten, forget_old_records
from memory_pipeline.serving.services import Services
from memory_pipeline.settings import Settings
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.stores.export_sample import WINDOW, fill, lake_bytes

_ACCESS = """
INSERT INTO memory_access_log (tenant_id, user_id, accessed_at, correlation_id, what, channel, query_hash, memory_ids,
                               turns, from_cache, milliseconds)
SELECT tenant_id, user_id, %s, gen_random_uuid(), 'recall', 'api', sha256('?'), '{}', 0, false, 1 FROM users
"""
_USAGE = """
INSERT INTO llm_usage (tenant_id, used_at, correlation_id, plugin, model, what, requests, texts, prompt_tokens)
SELECT tenant_id, %s, gen_random_uuid(), 'embedder:openai', 'small', 'embedding', 1, 1, 1 FROM tenants
"""
_LEFT = "SELECT count(*) FROM memory_access_log UNION ALL SELECT count(*) FROM llm_usage"


def midnight(days_ago: int) -> datetime:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days_ago)


@pytest.fixture
def old(database: Urls) -> list[datetime]:
    """An answer to each of two users, and a charge to each of their tenants, at each of these times."""
    fill(database.pipeline_url)
    moments = [midnight(30), midnight(10) - timedelta(microseconds=1), midnight(10), midnight(0)]
    with psycopg.connect(database.admin_url, options="-c search_path=memory,public") as connection:
        for moment in moments:
            connection.execute(_ACCESS, [moment])
            connection.execute(_USAGE, [moment])
    return moments


def left(database: Urls) -> list[int]:
    with psycopg.connect(database.admin_url, options="-c search_path=memory,public") as connection:
        return [count for (count,) in connection.execute(_LEFT)]


def times(database: Urls) -> list[datetime]:
    with psycopg.connect(database.admin_url, options="-c search_path=memory,public -c timezone=UTC") as connection:
        return [at for (at,) in connection.execute("SELECT DISTINCT accessed_at FROM memory_access_log ORDER BY 1")]


def test_days_that_are_older_than_asked_go_whole_and_in_batches(database: Urls, old: list[datetime]) -> None:
    with Database(database.pipeline_url, role="memory_pipeline") as opened:
        assert forget_old_records(opened, 0, 0) == Forgotten(0, 0)
        assert forget_old_records(opened, 10, 0, at_once=1, most_batches=3) == Forgotten(3, 0)
        assert left(database) == [5, 8], "no more than that in one go"
        assert forget_old_records(opened, 10, 30, at_once=1) == Forgotten(1, 0)
        assert times(database) == old[2:], "the day is kept from its first moment"
        assert forget_old_records(opened, 10, 29) == Forgotten(0, 2)
        assert forget_old_records(opened, 1, 1) == Forgotten(2, 4)
    assert left(database) == [2, 2]


def test_what_is_not_kept_any_more_leaves_the_exports_too(database: Urls, old: list[datetime], tmp_path: Path) -> None:
    lake, exports = tmp_path / "lake", tmp_path / "exports"
    export_lake(database.pipeline_url, WINDOW, lake)
    assert publish_duckdb(lake, exports, 1).rows["memory_access"] == 2 * len(old)
    with Database(database.pipeline_url, role="memory_pipeline") as opened:
        forget_old_records(opened, 10, 10)
    export_lake(database.pipeline_url, None, lake)
    report = publish_duckdb(lake, exports, 1)
    assert (report.rows["memory_access"], report.rows["llm_usage"]) == (4, 4)
    assert report.whole_because == "rows are gone, or say something else"
    days = {name.split("/")[1] for name in lake_bytes(lake) if name.startswith(("memory_access/", "llm_usage/"))}
    assert days == {f"day={midnight(10).date()}", f"day={midnight(0).date()}"}
    export_lake(database.pipeline_url, WINDOW, tmp_path / "fresh")
    assert lake_bytes(tmp_path / "fresh") == lake_bytes(lake)


def test_the_api_forgets_by_itself_what_its_settings_do_not_keep(
    settings: Settings, database: Urls, old: list[datetime], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_CLEAN_SECONDS", 0.05)
    changed = settings.model_copy(
        update={"home": tmp_path, "access_log_retention_days": 10, "llm_usage_retention_days": 0}
    )
    with Services(changed, settle_seconds=0):
        deadline = time.monotonic() + 30
        while left(database) != [4, 8] and time.monotonic() < deadline:
            time.sleep(0.05)
    assert (left(database), times(database)) == ([4, 8], old[2:])

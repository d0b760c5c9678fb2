"""What Dagster's UI shows of each export: every asset of the group has a plot and a preview, and none names anybody."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import dagster as dg
import psycopg
import pytest
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from PIL import Image

from memory_pipeline.defs.analytics import charts
from memory_pipeline.defs.assembly import build_definitions
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.stores.export_sample import WINDOW, fill

_DEFINITIONS = build_definitions().get_repository_def()
EXPORTS = sorted(
    key
    for key in _DEFINITIONS.asset_graph.get_all_asset_keys()
    if _DEFINITIONS.asset_graph.get(key).group_name == "analytics"
)
DAYS = [day.isoformat() for day in WINDOW.days()]
_IMAGE = re.compile(r"!\[[a-z_ ]+\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)")
_MOST_IN_AN_EVENT = 36_000
# Whatever is written of people: ids, names, addresses, titles, and everything that was said or found.
_TOLD = """
SELECT user_id::text FROM users UNION SELECT email FROM users UNION SELECT display_name FROM users
UNION SELECT conversation_id::text FROM conversations UNION SELECT title FROM conversations
UNION SELECT source_conversation_id FROM conversations
UNION SELECT message_id::text FROM messages UNION SELECT content FROM messages
UNION SELECT memory_id::text FROM memories UNION SELECT content FROM memories
UNION SELECT subject FROM memories UNION SELECT predicate FROM memories UNION SELECT object FROM memories
UNION SELECT slot FROM memories
"""


class Shown(NamedTuple):
    """What two runs left in Dagster's history: of the daily tables, then of everything else."""

    metadata: dict[dg.AssetKey, list[Mapping[str, Any]]]
    """Of every materialization, newest first."""
    told: list[str]
    """Everything in Postgres that is of people."""


@pytest.fixture(scope="module")
def shown(servers: Servers, migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    home = tmp_path_factory.mktemp("home")
    with fresh_database(servers, migrated_template) as fresh:
        fill(fresh.pipeline_url)
        with psycopg.connect(fresh.pipeline_url, options="-c search_path=memory,public") as connection:
            told = [text for (text,) in connection.execute(_TOLD) if text]
        settings = load_settings(
            home=home,
            postgres_app_url=fresh.app_url,
            postgres_pipeline_url=fresh.pipeline_url,
            lake_url=(home / "published").as_uri(),
        )
        with Pipeline(settings) as pipeline:
            yield Shown(_materialized(pipeline), told)


def _materialized(pipeline: Pipeline) -> dict[dg.AssetKey, list[Mapping[str, Any]]]:
    known = build_definitions(resource_overrides={"pipeline": pipeline}).get_repository_def().assets_defs_by_key
    chosen = list({id(known[key]): known[key] for key in EXPORTS}.values())
    with dg.DagsterInstance.ephemeral() as instance:
        daily = [one for one in chosen if one.partitions_def is not None]
        others = [one for one in chosen if one.partitions_def is None]
        days = {ASSET_PARTITION_RANGE_START_TAG: DAYS[0], ASSET_PARTITION_RANGE_END_TAG: DAYS[-1]}
        assert dg.materialize(daily, instance=instance, tags=days).success
        assert dg.materialize(others, instance=instance).success
        records = {key: instance.fetch_materializations(key, limit=100).records for key in EXPORTS}
        for key, found in records.items():
            for record in found:
                assert len(dg.serialize_value(record.event_log_entry)) < _MOST_IN_AN_EVENT, key
    return {
        key: [dict(record.asset_materialization.metadata) for record in found if record.asset_materialization]
        for key, found in records.items()
    }


def test_every_export_shows_a_plot_and_a_preview_and_nothing_of_people(shown: Shown) -> None:
    assert len(shown.told) > 40
    assert len(shown.metadata) > 25
    for key, materializations in shown.metadata.items():
        name = key.to_user_string()
        of_a_lake_table = name.startswith("lake_") and name != "lake_dimensions"
        assert len(materializations) == (len(DAYS) if of_a_lake_table else 1), name
        for older in materializations[1:]:  # over a year of days they would be stored 365 times
            assert {"plot", "preview"}.isdisjoint(older), name
        plot, preview = materializations[0]["plot"].value, materializations[0]["preview"].value
        image = _IMAGE.fullmatch(plot)
        assert image is not None, name
        with Image.open(io.BytesIO(base64.b64decode(image[1]))) as drawn:
            assert (drawn.format, drawn.size) == ("PNG", (charts.WIDTH, charts.HEIGHT)), name
        head, line, *_rows = preview.splitlines()
        assert line == f"|{'---|' * (head.count('|') - 1)}", name
        words = "\n".join(str(value.value) for label, value in materializations[0].items() if label != "plot")
        assert [text for text in shown.told if text in words] == [], name


def test_previews_say_what_was_exported(shown: Shown) -> None:
    def rows(asset: str) -> list[list[str]]:
        lines = shown.metadata[dg.AssetKey(asset)][0]["preview"].value.splitlines()[2:]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]

    assert [row[:2] for row in rows("lake_messages")] == [
        ["2025-03-04", "8"],
        ["2025-03-02", "8"],
        ["2025-03-01", "8"],
        ["all 3 days", "24"],
    ]
    lake = {row[0]: row for row in rows("lake_dimensions")}
    assert lake["messages"][1:3] + lake["messages"][4:] == ["24", "3", "2025-03-01", "2025-03-04"]
    assert lake["users"][1:3] + lake["users"][4:] == ["2", "1", "", ""]
    assert rows("published_lake") == rows("lake_dimensions")
    assert ["messages", "24"] in rows("duckdb_analytics")
    tenants = ("acme", "globex")
    assert rows("mart_user_daily")[:4] == [
        [f"2025-03-0{day}", tenant, "1", "4", "4", facts] for day, facts in ((4, "1"), (2, "0")) for tenant in tenants
    ]
    # Of two facts one was superseded after 71 hours and a few minutes.
    assert [row[:6] for row in rows("mart_fact_catalogue")] == [[tenant, "2", "1", "1", "1", "0"] for tenant in tenants]
    assert [row[2:] for row in rows("mart_weekly_topics") if row[1] == "acme"] == [
        ["entity", "1", "1", "1"],
        ["topic", "1", "1", "1"],
    ] * 2
    assert rows("dim_days") == [["2025-03-01", "4", "2", "2025-03-01", "2025-03-04"]]

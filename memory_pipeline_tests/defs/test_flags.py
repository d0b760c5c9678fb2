"""Assets while flags are off: they do nothing, say so, and do it all when the flag is on again."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import dagster as dg
import pytest

from memory_pipeline.definitions import defs
from memory_pipeline.model.flags import Flag
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.feature_flags import set_override
from memory_pipeline.stores.postgres.permissions import Author
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.defs.conftest import Deployment
from memory_pipeline_tests.defs.sample import FIRST_DAY, TENANTS, WINDOW, add_sample
from memory_pipeline_tests.stages.support import World

SWITCHED = [
    ("facts", Flag.ENRICHMENT),
    ("memory_relationships", Flag.RELATIONS),
    ("weekly_summaries", Flag.WEEKLY_SUMMARIES),
    ("memory_embeddings", Flag.EMBEDDING),
    ("chroma_index", Flag.SYSTEM),
]
"""In the order in which they build on each other."""
HOLDINGS = (
    "SELECT count(*), count(*) FILTER (WHERE kind = 'fact'), count(*) FILTER (WHERE kind = 'summary'),"
    " (SELECT count(*) FROM memory_relationships), (SELECT count(*) FROM memory_embeddings),"
    " (SELECT count(*) FROM index_entries) FROM memories"
)


@pytest.fixture
def world(deployment: Deployment, database: Urls) -> Iterator[World]:
    add_sample(deployment.settings)
    opened = World(database.pipeline_url, database.admin_url)
    yield opened
    opened.close()


def switch(database: Database, flag: Flag, *, enabled: bool) -> None:
    with database.transaction() as connection:
        set_override(connection, flag, Author("test:me", uuid4()), enabled=enabled)


def materialize(asset: str) -> dict[str, object]:
    """Run one asset over the sample's days, or its week, and return the metadata it told."""
    first, last = str(WINDOW.start), str(list(WINDOW.days())[-1])
    assert FIRST_DAY.weekday() == 0
    whole = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    one = asset == "weekly_summaries"
    result = dg.materialize(
        [defs.resolve_assets_def(asset)],
        partition_key=first if one else None,
        tags={} if one else whole,
    )
    assert result.success
    events = result.asset_materializations_for_node(asset)
    assert events
    return {key: value.value for key, value in events[0].metadata.items()}


def test_a_stage_that_is_off_says_so_and_does_its_work_when_it_is_on_again(
    world: World,
) -> None:
    changed = []
    for asset, flag in SWITCHED:
        before = world.execute(HOLDINGS)
        switch(world.database, flag, enabled=False)
        told = materialize(asset)
        assert flag.setting in str(told["switched_off"])
        assert told["dagster/row_count"] == 0
        assert world.execute(HOLDINGS) == before
        switch(world.database, flag, enabled=True)
        told = materialize(asset)
        assert "switched_off" not in told
        changed.append(world.execute(HOLDINGS) != before)
    assert changed == [True] * len(SWITCHED)


def test_embedding_over_a_limit_is_told_and_goes_on_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    materialize("facts")
    (memories,) = world.execute("SELECT count(*) FROM memories")[0]
    monkeypatch.setenv("MEMORY_EMBEDDING_RATE_LIMIT", "2")
    told = materialize("memory_embeddings")
    assert (told["memories"], told["limited"]) == (2 * len(TENANTS), memories - 2 * len(TENANTS))
    monkeypatch.delenv("MEMORY_EMBEDDING_RATE_LIMIT")
    assert materialize("memory_embeddings")["memories"] == told["limited"]

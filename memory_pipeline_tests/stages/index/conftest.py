"""The fixtures that the tests of the index stage share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from memory_pipeline.settings import Settings
from memory_pipeline.stores.chroma.store import ChromaStore
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline_tests.stages.index.support import World


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    assert settings.postgres_pipeline_url
    assert settings.postgres_admin_url
    assert settings.chroma_url
    with (
        Database(settings.postgres_pipeline_url) as database,
        ChromaStore(settings.chroma_url, settings.chroma_database) as chroma,
    ):
        world = World(database, settings.postgres_admin_url, chroma)
        yield world
        world.close()


@pytest.fixture
def acme(world: World) -> UUID:
    return world.tenant("acme")


@pytest.fixture
def stored(settings: Settings, world: World) -> Callable[[UUID], dict[str, Any]]:
    """Returns everything in a tenant's live collection, over Chroma's HTTP, without any code of ours."""

    def fetch(tenant_id: UUID) -> dict[str, Any]:
        databases = f"{settings.chroma_url}/api/v2/tenants/default_tenant/databases/{settings.chroma_database}"
        answer = httpx.post(
            f"{databases}/collections/{world.live(tenant_id).collection_uuid}/get",
            json={"include": ["metadatas", "documents", "embeddings"]},
        )
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    return fetch

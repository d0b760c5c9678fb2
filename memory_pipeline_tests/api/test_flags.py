"""The API while flags are off: what it answers, and through which door messages come in."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from memory_pipeline.api.app import create_app
from memory_pipeline.model.flags import Flag
from memory_pipeline.serving.services import Services
from memory_pipeline.settings import Settings
from memory_pipeline.stages.flags import FeatureFlags
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.feature_flags import set_override
from memory_pipeline.stores.postgres.permissions import Author
from memory_pipeline_tests.api.support import PREFIX, Person, message
from memory_pipeline_tests.stages.support import HashedEmbedder

Rows = Callable[..., list[tuple[object, ...]]]


def switch(settings: Settings, flag: Flag, *, enabled: bool) -> None:
    with Database(str(settings.postgres_pipeline_url)) as database, database.transaction() as connection:
        set_override(connection, flag, Author("test:me", uuid4()), enabled=enabled)


def test_an_api_that_runs_is_switched_off_and_on_again(
    client: TestClient, services: Services, ana: Person, api_settings: Settings
) -> None:
    def status() -> int:
        return client.get(f"{PREFIX}/conversations", headers=ana.headers).status_code

    def wait_for(expected: int) -> None:
        deadline = time.monotonic() + 20
        while status() != expected:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    assert status() == 200
    switch(api_settings, Flag.SYSTEM, enabled=False)
    wait_for(503)
    answer = client.get(f"{PREFIX}/conversations", headers=ana.headers)
    assert "MEMORY_SYSTEM_ENABLED" in answer.json()["error"]["message"]
    assert client.get("/metrics").status_code == 200
    deadline = time.monotonic() + 20
    while client.get(f"{PREFIX}/health").json()["system_enabled"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    switch(api_settings, Flag.SYSTEM, enabled=True)
    wait_for(200)
    assert services.flags.enabled(Flag.SYSTEM)


@pytest.mark.parametrize("off", [Flag.ENRICHMENT, Flag.EMBEDDING])
def test_without_a_worker_a_job_says_what_is_to_be_done_once_the_flag_is_on(
    off: Flag, api_settings: Settings, ana: Person, rows: Rows
) -> None:
    settings = api_settings.model_copy(update={"worker_enabled": False})
    with (
        Services(settings, settle_seconds=0) as services,
        TestClient(create_app(services), raise_server_exceptions=False) as client,
    ):
        services.pipeline.embedder = HashedEmbedder()
        flags = FeatureFlags(services.pipeline.database, settings, seconds=0)
        services.flags = services.pipeline.flags = flags

        def post(name: str) -> int:
            body = {"messages": [message(f"I like {name}.", id=name)]}
            return client.post(f"{PREFIX}/messages", json=body, headers=ana.headers).status_code

        switch(settings, off, enabled=False)
        flags.refresh()
        assert post("tea") == 200
        assert rows("SELECT job_type, state FROM memory_jobs") == [("enrich_and_embed", "pending")]
        assert set(rows("SELECT status FROM memories")) == {("pending_enrichment",)}
        switch(settings, off, enabled=True)
        flags.refresh()
        assert post("coffee") == 200
        assert len(rows("SELECT 1 FROM memory_jobs")) == 1
        assert rows("SELECT status FROM memories WHERE content LIKE '%%coffee%%' AND kind = 'episode'") == [("active",)]

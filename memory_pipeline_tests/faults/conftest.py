"""Fixtures of faults: servers that a test may break, and worker processes on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from memory_pipeline.local.postgres import PostgresServer
from memory_pipeline.local.redis import RedisServer
from memory_pipeline_tests.faults.worker_rig import Rig, make_rig


@pytest.fixture
def rig(
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    chroma_url: str,
    chroma_database: str,
    server_folder: Path,
) -> Iterator[Rig]:
    """A queue on servers of this test alone (Chroma is the run's, with a database of this test)."""
    rig = make_rig(postgres_server, redis_server, chroma_url, chroma_database, server_folder)
    yield rig
    rig.close()

"""The fixtures that the tests of sessions share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import redis

from memory_pipeline.serving.sessions import Sessions
from memory_pipeline.serving.tokens import TokenVerifier
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.tenants import User
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.conftest import Database as DatabaseUrls
from memory_pipeline_tests.serving.identity_provider import JwksServer, issuer_at, jwks_server
from memory_pipeline_tests.serving.sessions.support import KEY, OTHER, OTHER_ISSUER, TRUSTED_ISSUER, Stack


@pytest.fixture(scope="package")
def server() -> Iterator[JwksServer]:
    with jwks_server(KEY, OTHER) as running:
        yield running


@pytest.fixture
def stack(database: DatabaseUrls, redis_url: str, server: JwksServer) -> Iterator[Stack]:
    verifier = TokenVerifier(
        [
            issuer_at(server.url),
            issuer_at(server.url, issuer=OTHER_ISSUER),
            issuer_at(server.url, issuer=TRUSTED_ISSUER, trusted_email=True),
        ]
    )
    with ExitStack() as closing:
        app = closing.enter_context(Database(database.app_url, role="memory_app", pool_size=8))
        admin = closing.enter_context(Database(database.pipeline_url, role="memory_pipeline"))
        manager = closing.enter_context(RedisManager(redis_url))
        client = closing.enter_context(redis.Redis.from_url(redis_url))
        yield Stack(app, admin, manager, client, verifier, Sessions(app, manager, verifier))


@pytest.fixture
def ana(stack: Stack) -> User:
    return stack.add_user("ana@example.org", "acme")

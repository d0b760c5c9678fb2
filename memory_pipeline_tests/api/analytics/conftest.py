"""An API over two tenants that were exported."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import redis

from memory_pipeline_tests.api.analytics.support import export, fill
from memory_pipeline_tests.api.stack import ApiStack, api_stack
from memory_pipeline_tests.api.support import Person
from memory_pipeline_tests.api.test_outage import give_redis_time
from memory_pipeline_tests.local.host import Servers


@pytest.fixture(scope="package")
def filled(servers: Servers, migrated_template: str) -> Iterator[ApiStack]:
    """An API over two tenants that were exported once."""
    with api_stack(servers, migrated_template) as stack:
        give_redis_time(stack)
        fill(stack)
        export(stack)
        shutil.copytree(stack.settings.data, stack.settings.home / "kept", symlinks=True)
        yield stack


@pytest.fixture
def stack(filled: ApiStack) -> Iterator[ApiStack]:
    """The same at the start of every test: nothing cached, the first export served."""
    assert filled.settings.redis_url is not None
    shutil.rmtree(filled.settings.data)
    shutil.copytree(filled.settings.home / "kept", filled.settings.data, symlinks=True)
    with redis.Redis.from_url(filled.settings.redis_url) as client:
        client.flushdb()
    asked = filled.services.analytics
    yield filled
    filled.services.analytics = asked


@pytest.fixture
def ana(filled: ApiStack) -> Person:
    return filled.person("acme", "admin@acme.example", "admin")


@pytest.fixture
def gil(filled: ApiStack) -> Person:
    return filled.person("globex", "admin@globex.example", "admin")

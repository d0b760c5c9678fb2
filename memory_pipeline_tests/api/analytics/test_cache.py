"""Reports over HTTP: how long an answer is kept, and when it is new."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import redis

from memory_pipeline.local.redis import RedisServer
from memory_pipeline.serving import analytics
from memory_pipeline.stores.redis import keys
from memory_pipeline_tests.api.analytics.support import ACME, answered, cached_keys, export
from memory_pipeline_tests.api.stack import ApiStack, running
from memory_pipeline_tests.api.support import Person
from memory_pipeline_tests.api.test_outage import give_redis_time
from memory_pipeline_tests.stores.export_sample import add_messages, message


def test_the_second_answer_is_the_same_from_the_cache_for_ten_minutes_at_most(stack: ApiStack, ana: Person) -> None:
    first, second = answered(stack, ana), answered(stack, ana)
    assert (first.pop("cached"), second.pop("cached")) == (False, True)
    assert first == second
    (key,) = cached_keys(stack)
    assert keys.family_of(key) == keys.ANALYTICS
    assert stack.settings.redis_url is not None
    with redis.Redis.from_url(stack.settings.redis_url) as client:
        assert 0 < client.ttl(key) <= 600


def test_what_else_is_asked_is_another_answer(stack: ApiStack, ana: Person, gil: Person) -> None:
    asked: list[dict[str, Any]] = [{}, {"limit": 2}, {"from_": "2025-03-02"}, {"to": "2025-03-02"}]
    assert not any(answered(stack, ana, **params)["cached"] for params in asked)
    assert not answered(stack, gil)["cached"]
    assert all(answered(stack, ana, **params)["cached"] for params in asked)


def test_a_cached_value_that_is_of_another_tenant_is_never_told(stack: ApiStack, ana: Person, gil: Person) -> None:
    answered(stack, ana)
    (own,) = cached_keys(stack)
    answered(stack, gil)
    (others,) = cached_keys(stack).keys() - {own}
    assert stack.settings.redis_url is not None
    with redis.Redis.from_url(stack.settings.redis_url) as client:
        client.copy(others, own, replace=True)
    answer = answered(stack, ana)
    assert (answer["rows"], answer["cached"]) == (ACME["daily_activity"], False)


def test_a_cached_value_that_can_not_be_read_is_replaced(stack: ApiStack, ana: Person) -> None:
    answered(stack, ana)
    (key,) = cached_keys(stack)
    assert stack.settings.redis_url is not None
    with redis.Redis.from_url(stack.settings.redis_url) as client:
        client.set(key, b'{"rows": [')
    assert not answered(stack, ana)["cached"]
    assert answered(stack, ana)["cached"]


def test_rows_that_would_fill_the_cache_are_not_kept(
    stack: ApiStack, ana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analytics, "_CACHED_BYTES", 50)
    assert not answered(stack, ana)["cached"]
    assert not answered(stack, ana)["cached"]
    assert cached_keys(stack) == {}


def test_numbers_of_a_new_export_are_told_at_once(stack: ApiStack, ana: Person) -> None:
    before = answered(stack, ana)
    moment = datetime(2025, 3, 20, tzinfo=UTC)
    name = f"later {uuid4()}"
    assert stack.settings.postgres_pipeline_url is not None
    add_messages(stack.settings.postgres_pipeline_url, "acme", [message("acme", name, moment)])
    path = export(stack)
    after = answered(stack, ana)
    stack.execute("DELETE FROM memories WHERE day = '2025-03-20'")
    stack.execute("DELETE FROM messages WHERE source_message_id = %s", name)
    assert after["rows"] == [["2025-03-20", 1, 1, 1, 1], *before["rows"]]
    assert (after["cached"], after["generation"]) == (False, path.name)
    assert after["as_of"] > before["as_of"]


def test_without_redis_answers_come_from_the_file(stack: ApiStack, ana: Person, redis_server: RedisServer) -> None:
    settings = stack.settings.model_copy(update={"redis_url": redis_server.url()})
    with running(settings, stack.issuer) as api:
        give_redis_time(api)
        assert [answered(api, ana)["cached"] for _ in range(2)] == [False, True]
        redis_server.stop()
        for _ in range(2):
            answer = answered(api, ana)
            assert (answer["rows"], answer["cached"]) == (ACME["daily_activity"], False)

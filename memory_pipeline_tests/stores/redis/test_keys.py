"""Every key has a family, and none but queue and buffer lives for ever."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
import redis

from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.conversations import ConversationCache, Ticket
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.stores.redis.support import ADA, all_keys, message

_FOR_EVER = {keys.JOBS, keys.BUFFER}


def test_every_name_has_exactly_one_family() -> None:
    talk, user = uuid4(), uuid4()
    names = {
        keys.conversation(talk): keys.CONVERSATION,
        keys.conversation_messages(talk): keys.CONVERSATION_MESSAGES,
        keys.conversation_lease(talk): keys.CONVERSATION_LEASE,
        keys.WRITERS_KEY: keys.CONVERSATION_WRITERS,
        keys.session(b"\x00\xff" * 16): keys.SESSION,
        keys.auth(user): keys.AUTH,
        keys.rbac(user, "enricher:local"): keys.RBAC,
        keys.analytics(user, "memory-000042-0a1b2c3d4e.duckdb", "fact_churn", b"\x00\xff" * 16): keys.ANALYTICS,
        keys.wiring("api", "host-1"): keys.WIRING,
        keys.BUFFER_KEY: keys.BUFFER,
        keys.JOBS_KEY: keys.JOBS,
    }
    for name, family in names.items():
        assert [each for each in keys.FAMILIES if re.fullmatch(each.pattern, name)] == [family]
        if family in _FOR_EVER:
            with pytest.raises(ValueError, match="no family of keys with a lifetime"):
                keys.lifetime(name)
        else:
            assert keys.lifetime(name) == family.seconds
            assert keys.lifetime(name, 1) == 1
            with pytest.raises(ValueError, match="can't live 0 seconds"):
                keys.lifetime(name, 0)


def test_only_queue_and_buffer_have_no_lifetime() -> None:
    assert {family for family in keys.FAMILIES if family.seconds is None} == _FOR_EVER


def test_a_session_of_use_leaves_no_key_without_family_and_lifetime(redis_url: str) -> None:
    with RedisManager(redis_url, cache_seconds=5) as manager, redis.Redis.from_url(redis_url) as client:
        cache = ConversationCache(manager, settle_seconds=0)
        for place in range(20):
            talk = uuid4()
            ticket = cache.read(talk, ADA.tenant_id, ADA.user_id)
            assert isinstance(ticket, Ticket)
            if place % 2:
                cache.warm(talk, ticket, ADA, [message(1)])
            if place % 3:
                announcement = cache.announce(talk)
                if place % 4:
                    cache.append(talk, announcement, [message(2)], created=ADA)
                elif place % 5:
                    cache.withdraw(announcement)
            if place % 7 == 0:
                cache.drop([talk])
        for key in (keys.auth(uuid4()), keys.session(bytes(32)), keys.rbac(uuid4(), "embedder:minilm")):
            manager.warm_value(key, {"some": "value"})
            manager.get_value(key, dict[str, str], cache="auth")
        manager.drop_values(keys.auth(uuid4()), keys.wiring("api", "host-1"))
        manager.queue(lambda connection: connection.rpush(keys.BUFFER_KEY, "a write"))
        found = all_keys(client)

    seen = {key: keys.family_of(key) for key in found}
    assert None not in seen.values(), found
    assert {family for family in seen.values() if family} >= {
        keys.CONVERSATION,
        keys.CONVERSATION_MESSAGES,
        keys.CONVERSATION_LEASE,
        keys.CONVERSATION_WRITERS,
        keys.AUTH,
        keys.BUFFER,
    }
    for key, family in seen.items():
        assert family is not None
        if family.seconds is None:
            assert found[key] == -1
        else:
            assert 0 <= found[key] <= family.seconds, key

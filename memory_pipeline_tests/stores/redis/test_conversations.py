"""The conversation cache: order, bounds, owners, and that what it answers is what Postgres holds."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
import redis

from memory_pipeline import metrics
from memory_pipeline.local.redis import RedisServer
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.conversations import (
    MOST_BYTES,
    CachedConversation,
    CacheMessage,
    ConversationCache,
    Owner,
    Ticket,
)
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.stores.redis.support import ADA, MALLORY, ids_in, let_time_pass, message, newest


@pytest.fixture
def manager(redis_url: str) -> Iterator[RedisManager]:
    with RedisManager(redis_url, cache_seconds=5) as manager:
        yield manager


@pytest.fixture
def cache(manager: RedisManager) -> ConversationCache:
    """A cache of a Redis that nobody has written to before, so that nothing has to settle."""
    return ConversationCache(manager, settle_seconds=0)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def read(cache: ConversationCache, talk: UUID, owner: Owner = ADA) -> CachedConversation | Ticket:
    return cache.read(talk, owner.tenant_id, owner.user_id)


def warmed(cache: ConversationCache, messages: list[CacheMessage]) -> UUID:
    """A conversation whose messages a reader has stored."""
    talk = uuid4()
    ticket = read(cache, talk)
    assert isinstance(ticket, Ticket)
    assert cache.warm(talk, ticket, ADA, messages)
    return talk


def test_what_a_reader_stored_is_answered_with_the_metadata(cache: ConversationCache) -> None:
    messages = [message(2), message(1)]
    found = read(cache, warmed(cache, messages))
    assert ids_in(found) == newest(messages)
    assert isinstance(found, CachedConversation)
    assert found.metadata == ADA.metadata


def test_equal_times_are_ordered_by_position_then_id(cache: ConversationCache) -> None:
    messages = [message(5, position=place) for place in (300, -1, 2**63 - 1, 2, 2, 2)]
    assert ids_in(read(cache, warmed(cache, messages))) == newest(messages)


def test_late_and_repeated_messages_leave_the_newest_hundred(cache: ConversationCache) -> None:
    everything = [message(10 * number) for number in range(140)]
    talk = warmed(cache, everything[-100:])
    late = [message(395), message(405), message(1_000), everything[-1], everything[0]]
    for each in late:
        assert cache.append(talk, cache.announce(talk), [each])
    assert ids_in(read(cache, talk)) == newest({*everything, *late})


def test_a_repeat_in_other_words_of_json_replaces_the_first(cache: ConversationCache) -> None:
    first = message(1)
    talk = warmed(cache, [first, message(2)])
    cache.append(talk, cache.announce(talk), [first._replace(json=first.json.replace(b'":"', b'": "'))])
    found = read(cache, talk)
    assert len(ids_in(found)) == 2
    assert isinstance(found, CachedConversation)
    assert b'": "' in found.messages


@pytest.mark.parametrize(
    "other", [MALLORY, MALLORY._replace(tenant_id=ADA.tenant_id), MALLORY._replace(user_id=ADA.user_id)]
)
def test_a_conversation_of_another_tenant_or_user_is_a_miss_and_cannot_be_overwritten(
    cache: ConversationCache, other: Owner
) -> None:
    messages = [message(1)]
    talk = warmed(cache, messages)
    ticket = read(cache, talk, other)
    assert ticket == Ticket(None)
    assert not cache.warm(talk, Ticket(None), other, [message(9)])
    assert ids_in(read(cache, talk)) == newest(messages)


def test_nothing_is_answered_between_an_announcement_and_its_end(cache: ConversationCache) -> None:
    messages = [message(1)]
    talk = warmed(cache, messages)
    announcement = cache.announce(talk)
    assert read(cache, talk) == Ticket(None)
    assert cache.withdraw(announcement)
    assert ids_in(read(cache, talk)) == newest(messages)


def test_a_reader_that_began_before_a_write_can_not_store_what_it_read(cache: ConversationCache) -> None:
    talk = uuid4()
    ticket = read(cache, talk)
    assert isinstance(ticket, Ticket)
    cache.append(talk, cache.announce(talk), [message(2)])
    assert not cache.warm(talk, ticket, ADA, [message(1)])
    assert isinstance(read(cache, talk), Ticket)


def test_a_reader_can_not_store_while_a_writer_that_came_after_it_is_at_work(cache: ConversationCache) -> None:
    talk = uuid4()
    ticket = read(cache, talk)
    assert isinstance(ticket, Ticket)
    cache.announce(talk)
    assert not cache.warm(talk, ticket, ADA, [message(1)])
    assert read(cache, talk) == Ticket(None)


def test_a_dropped_conversation_is_not_brought_back_by_a_reader_under_way(cache: ConversationCache) -> None:
    messages = [message(1)]
    talk = uuid4()
    ticket = read(cache, talk)
    assert isinstance(ticket, Ticket)
    assert cache.drop([talk])
    assert not cache.warm(talk, ticket, ADA, messages)
    again = read(cache, talk)
    assert isinstance(again, Ticket)
    assert cache.warm(talk, again, ADA, messages)


def test_a_writer_that_died_keeps_the_list_unread_until_it_is_read_anew(
    cache: ConversationCache, client: redis.Redis
) -> None:
    messages = [message(1), message(2)]
    talk = warmed(cache, messages[:1])
    cache.announce(talk)
    let_time_pass(client, 29)
    assert read(cache, talk) == Ticket(None)
    let_time_pass(client, 2)
    ticket = read(cache, talk)
    assert isinstance(ticket, Ticket)
    assert cache.warm(talk, ticket, ADA, messages)
    assert ids_in(read(cache, talk)) == newest(messages)


def test_a_writer_that_took_too_long_leaves_no_list_behind(cache: ConversationCache, client: redis.Redis) -> None:
    talk = warmed(cache, [message(1)])
    announcement = cache.announce(talk)
    let_time_pass(client, 31)
    ticket = read(cache, talk)
    assert isinstance(ticket, Ticket)
    assert cache.warm(talk, ticket, ADA, [message(1)])
    cache.append(talk, announcement, [message(2)])
    assert isinstance(read(cache, talk), Ticket)


def test_the_writer_of_a_new_conversation_makes_its_list(cache: ConversationCache) -> None:
    talk, messages = uuid4(), [message(1), message(2)]
    assert cache.append(talk, cache.announce(talk), messages, created=ADA)
    assert ids_in(read(cache, talk)) == newest(messages)


def test_a_new_conversation_that_another_has_written_to_meanwhile_is_left_to_readers(cache: ConversationCache) -> None:
    talk = uuid4()
    creator = cache.announce(talk)
    cache.append(talk, cache.announce(talk), [message(2)])
    cache.append(talk, creator, [message(1)], created=ADA)
    assert isinstance(read(cache, talk), Ticket)


def test_one_announcement_covers_many_conversations(cache: ConversationCache) -> None:
    talks = [uuid4() for _ in range(1200)]
    announcement = cache.announce(*talks)
    for talk in (talks[0], talks[-1]):
        assert read(cache, talk) == Ticket(None)
        cache.append(talk, announcement, [message(1)])
        assert read(cache, talk) != Ticket(None)
    cache.withdraw(announcement)
    assert read(cache, talks[700]) != Ticket(None)


def test_no_more_is_kept_than_the_most_bytes(cache: ConversationCache) -> None:
    talk = warmed(cache, [message(1, "x" * (MOST_BYTES // 2))])
    cache.append(talk, cache.announce(talk), [message(2, "y" * (MOST_BYTES // 2))])
    ticket = read(cache, talk)
    assert isinstance(ticket, Ticket)
    assert not cache.warm(talk, ticket, ADA, [message(1, "x" * MOST_BYTES)])
    cache.append(talk, cache.announce(talk), [message(2, "y" * MOST_BYTES)])
    assert isinstance(read(cache, talk), Ticket)


def test_bytes_are_counted_as_messages_come_and_go(cache: ConversationCache, client: redis.Redis) -> None:
    everything = [message(number, "x" * (number % 7)) for number in range(250)]
    talk = warmed(cache, everything[:60])
    for start in range(60, 250, 19):
        cache.append(talk, cache.announce(talk), [*everything[start : start + 19], everything[start - 1]])
    kept = client.zrange(keys.conversation_messages(talk), 0, -1)
    assert len(kept) == 100
    assert client.hget(keys.conversation(talk), "bytes") == b"%d" % sum(map(len, kept))


def test_fewer_than_all_may_be_asked_for(cache: ConversationCache) -> None:
    messages = [message(number) for number in range(9)]
    talk = warmed(cache, messages)
    assert ids_in(cache.read(talk, ADA.tenant_id, ADA.user_id, newest=4)) == newest(messages, 4)
    for wrong in (0, 101):
        with pytest.raises(ValueError, match="1 to 100 messages"):
            cache.read(talk, ADA.tenant_id, ADA.user_id, newest=wrong)


def test_hits_and_misses_are_counted(cache: ConversationCache) -> None:
    def counted(result: str) -> float:
        return (
            metrics.REGISTRY.get_sample_value("memory_cache_reads_total", {"cache": "conversation", "result": result})
            or 0
        )

    hits, misses = counted("hit"), counted("miss")
    read(cache, warmed(cache, [message(1)]))
    assert (counted("hit"), counted("miss")) == (hits + 1, misses + 1)


@pytest.mark.parametrize("lost", ["metadata", "messages", "writers", "lease"])
def test_keys_that_were_evicted_one_by_one_make_misses(
    cache: ConversationCache, client: redis.Redis, lost: str
) -> None:
    talk = warmed(cache, [message(1)])
    announcement = cache.announce(talk)
    client.delete(
        {
            "metadata": keys.conversation(talk),
            "messages": keys.conversation_messages(talk),
            "writers": keys.WRITERS_KEY,
            "lease": keys.conversation_lease(talk),
        }[lost]
    )
    assert isinstance(read(cache, talk), Ticket)
    cache.append(talk, announcement, [message(2)])
    assert isinstance(read(cache, talk), Ticket) == (lost != "lease")


def test_after_a_flush_nothing_is_stored_until_lost_writers_have_ended(
    manager: RedisManager, client: redis.Redis
) -> None:
    cache = ConversationCache(manager)
    talk, messages = uuid4(), [message(1)]
    client.flushdb()
    assert read(cache, talk) == Ticket(None)
    let_time_pass(client, 29)
    assert read(cache, talk) == Ticket(None)
    let_time_pass(client, 2)
    ticket = read(cache, talk)
    assert isinstance(ticket, Ticket)
    assert cache.warm(talk, ticket, ADA, messages)
    client.flushdb()
    cache.append(talk, cache.announce(talk), [message(2)], created=ADA)
    assert read(cache, talk) == Ticket(None)


def test_lists_that_outlived_a_restart_are_not_trusted(redis_server: RedisServer) -> None:
    with (
        RedisManager(redis_server.url(), cache_seconds=5) as manager,
        redis.Redis.from_url(redis_server.url()) as client,
    ):
        cache = ConversationCache(manager)
        read(cache, uuid4())
        let_time_pass(client, 31)
        talk = warmed(cache, [message(1)])
        redis_server.stop()  # in good order, so that the list is surely in the file
        redis_server.start()
        assert client.exists(keys.conversation_messages(talk))
        assert manager.cache(lambda connection: connection.ping(), False)
        assert read(cache, talk) == Ticket(None)


def test_a_lease_that_came_back_with_a_restart_does_not_let_a_reader_store(
    cache: ConversationCache, client: redis.Redis
) -> None:
    """The announcement took the lease away; the last second of writes was lost, and the lease is there again."""
    talk = uuid4()
    ticket = read(cache, talk)
    assert isinstance(ticket, Ticket)
    assert ticket.lease is not None
    cache.announce(talk)
    client.set(keys.conversation_lease(talk), ticket.lease, ex=30)
    client.hdel(keys.WRITERS_KEY, str(talk))
    run_id, _, since = ticket.lease.split(b"@")[1].partition(b":")
    client.hset(keys.WRITERS_KEY, "epoch", b"0" * len(run_id) + b":" + since)
    assert not cache.warm(talk, ticket, ADA, [message(1)])
    assert isinstance(read(cache, talk), Ticket)


def test_a_full_redis_keeps_lists_right_and_raises_nothing(redis_server: RedisServer) -> None:
    with (
        RedisManager(redis_server.url(), cache_seconds=5) as manager,
        redis.Redis.from_url(redis_server.url()) as client,
    ):
        cache = ConversationCache(manager, settle_seconds=0)
        messages = [message(1)]
        talk, fresh = warmed(cache, messages), uuid4()
        client.config_set("maxmemory", "1")
        ticket = read(cache, fresh)
        assert ticket == Ticket(None)
        announcement = cache.announce(talk)
        assert announcement is not None
        assert read(cache, talk) == Ticket(None)
        cache.append(talk, announcement, [message(2)])
        assert not client.exists(keys.conversation_messages(talk))
        cache.append(fresh, cache.announce(fresh), messages, created=ADA)
        assert read(cache, fresh) == Ticket(None)
        client.config_set("maxmemory", "0")
        again = read(cache, talk)
        assert isinstance(again, Ticket)
        assert cache.warm(talk, again, ADA, messages)
        assert ids_in(read(cache, talk)) == newest(messages)


def test_a_conversation_that_could_not_be_announced_is_not_read_by_this_process(redis_url: str) -> None:
    with RedisManager(redis_url, pool_size=1, cache_seconds=5) as manager:
        cache = ConversationCache(manager, writer_seconds=0.2, settle_seconds=0)
        messages = [message(1), message(2)]
        talk = warmed(cache, messages[:1])
        pool = manager._cache.quick.connection_pool
        only = pool.get_connection()
        assert cache.announce(talk) is None
        assert not cache.append(talk, None, messages[1:])
        pool.release(only)
        assert read(cache, talk) == Ticket(None)
        threading.Event().wait(0.25)
        ticket = read(cache, talk)
        assert isinstance(ticket, Ticket)
        assert cache.warm(talk, ticket, ADA, messages)
        assert ids_in(read(cache, talk)) == newest(messages)


def test_a_token_that_could_not_be_taken_back_is_taken_back_at_the_next_read(redis_url: str) -> None:
    with RedisManager(redis_url, pool_size=1, cache_seconds=5) as manager:
        cache = ConversationCache(manager, settle_seconds=0)
        pool = manager._cache.quick.connection_pool
        talks = [warmed(cache, [message(1)]) for _ in range(3)]
        announcements = [cache.announce(talk) for talk in talks]
        only = pool.get_connection()
        assert not cache.append(talks[0], announcements[0], [message(2)])
        assert not cache.withdraw(announcements[1])
        assert not cache.drop([talks[2]], announcements[2])
        pool.release(only)
        for talk in talks:
            ticket = read(cache, talk)
            assert isinstance(ticket, Ticket)
            assert cache.warm(talk, ticket, ADA, [message(1)])


def test_concurrent_writers_and_readers_always_see_a_committed_state(cache: ConversationCache) -> None:
    """Six writers, three readers; `states` is Postgres: every state there has been, the last one current."""
    talk = uuid4()
    states: list[tuple[CacheMessage, ...]] = [tuple(message(number) for number in range(80))]
    commit = threading.Lock()
    writers_left = threading.Semaphore(0)
    hits = 0

    def write(seed: int) -> None:
        order = random.Random(seed)
        for _ in range(60):
            new = tuple(message(order.randrange(1000)) for _ in range(order.randrange(1, 4)))
            announcement = cache.announce(talk)
            fate = order.random()
            if fate < 0.1:
                cache.withdraw(announcement)
                continue
            with commit:
                states.append(states[-1] + new)
            cache.append(talk, announcement, new)
            time.sleep(order.random() / 50)  # or there would be a writer at work at every moment
        writers_left.release()

    def look() -> int:
        seen = 0
        while writers_left._value < 6:
            first = len(states) - 1
            found = read(cache, talk)
            if isinstance(found, CachedConversation):
                last = len(states)
                assert ids_in(found) in [newest(state) for state in states[first:last]]
                seen += 1
            else:
                cache.warm(talk, found, ADA, sorted(states[-1], key=lambda each: each[:3])[-100:])
        return seen

    with ThreadPoolExecutor(9) as threads:
        readers = [threads.submit(look) for _ in range(3)]
        for writer in [threads.submit(write, seed) for seed in range(6)]:
            writer.result()
        hits = sum(reader.result() for reader in readers)
    assert hits > 0
    found = read(cache, talk)
    if isinstance(found, Ticket):
        assert cache.warm(talk, found, ADA, sorted(states[-1], key=lambda each: each[:3])[-100:])
    assert ids_in(read(cache, talk)) == newest(states[-1])


def test_concurrent_writers_alone_end_with_exactly_the_newest_hundred(cache: ConversationCache) -> None:
    start = [message(0)]
    talk = warmed(cache, start)
    written = [
        [message(random.Random(writer).randrange(500), position=writer) for _ in range(40)] for writer in range(8)
    ]

    def write(messages: list[CacheMessage]) -> None:
        for each in messages:
            assert cache.append(talk, cache.announce(talk), [each])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, written))
    assert ids_in(read(cache, talk)) == newest([*start, *(each for messages in written for each in messages)])

"""Every order in which the steps of readers and writers can fall: after each step a hit is what is committed then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import pytest
import redis

from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.conversations import (
    Announcement,
    CachedConversation,
    CacheMessage,
    ConversationCache,
    Ticket,
)
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.stores.redis.support import ADA, ids_in, let_time_pass, message, newest

Step = Callable[[], None]


class History:
    """One conversation in Postgres (`committed`) and in the cache, and those who work on it."""

    def __init__(self, manager: RedisManager, client: redis.Redis) -> None:
        self.client = client
        self.cache = ConversationCache(manager)
        self.observer = ConversationCache(manager, settle_seconds=10**9)
        self.talk: UUID = uuid4()
        self.committed: list[CacheMessage] = []
        self.exists = False

    def settle(self) -> None:
        self.cache.read(self.talk, ADA.tenant_id, ADA.user_id)
        let_time_pass(self.client, 31)

    def forget(self) -> None:
        """Remove what it left, so that the next one has not the keys of all before it to make older."""
        self.client.delete(*self.client.keys(f"conversation:{self.talk}*"), "no such key")
        self.client.hdel(keys.WRITERS_KEY, str(self.talk))

    def store(self) -> None:
        ticket = self.cache.read(self.talk, ADA.tenant_id, ADA.user_id)
        assert isinstance(ticket, Ticket)
        assert self.cache.warm(self.talk, ticket, ADA, self.committed)

    def check(self) -> bool:
        """Whether it is cached; as it is committed, or the test fails."""
        found = self.observer.read(self.talk, ADA.tenant_id, ADA.user_id)
        if isinstance(found, Ticket):
            return False
        assert ids_in(found) == newest(self.committed)
        return True

    def reader(self) -> list[Step]:
        found: list[CachedConversation | Ticket] = []
        rows: list[CacheMessage] = []

        def read() -> None:
            found.append(self.cache.read(self.talk, ADA.tenant_id, ADA.user_id))

        def look() -> None:
            rows.extend(self.committed)

        def warm() -> None:
            if isinstance(found[0], Ticket):
                self.cache.warm(self.talk, found[0], ADA, rows)

        return [read, look, warm]

    def writer(self, ends: str) -> list[Step]:
        new = [message(50), message(7)]
        token: list[Announcement | None] = []
        creates: list[bool] = []

        def announce() -> None:
            token.append(self.cache.announce(self.talk))

        def commit() -> None:
            creates.append(not self.exists)
            if ends == "deletes":
                self.committed.clear()
                self.exists = False
            elif ends != "rolls back":
                self.committed.extend(new)
                self.exists = True

        def end() -> None:
            if ends == "deletes":
                self.cache.drop([self.talk], token[0])
            elif ends == "rolls back":
                self.cache.withdraw(token[0])
            elif ends == "appends":
                self.cache.append(self.talk, token[0], new, created=ADA if creates[0] else None)

        return [announce, commit, end]

    def flush(self) -> list[Step]:
        def lose_everything() -> None:
            self.client.flushdb()

        return [lose_everything]


def orders(left: list[int]) -> Iterator[tuple[int, ...]]:
    """Every sequence in which each number occurs as often as `left` says."""
    if not any(left):
        yield ()
    for number, count in enumerate(left):
        if count:
            rest = [*left[:number], count - 1, *left[number + 1 :]]
            yield from ((number, *later) for later in orders(rest))


def run_every_order(url: str, begin: str, actors: Callable[[History], list[list[Step]]]) -> tuple[int, int]:
    """Run all orders, with a check after each step; return how many orders, and after how many steps it was a hit."""
    histories = hits = 0
    with RedisManager(url, cache_seconds=5) as manager, redis.Redis.from_url(url) as client:
        for order in orders([len(steps) for steps in actors(History(manager, client))]):
            history = History(manager, client)
            history.settle()
            if begin != "absent":
                history.committed.append(message(20))
                history.exists = True
            if begin == "cached":
                history.store()
            todo = [list(steps) for steps in actors(history)]
            for number in order:
                todo[number].pop(0)()
                hits += history.check()
            history.forget()
            histories += 1
    return histories, hits


ENDS = ["appends", "rolls back", "deletes", "dies after the commit"]
BEGINNINGS = ["absent", "uncached", "cached"]


@pytest.mark.parametrize("begin", BEGINNINGS)
@pytest.mark.parametrize("ends", ENDS)
def test_a_reader_and_a_writer_in_every_order(redis_url: str, begin: str, ends: str) -> None:
    histories, hits = run_every_order(redis_url, begin, lambda history: [history.reader(), history.writer(ends)])
    assert histories == 20
    assert (hits > 0) == (begin != "absent" or ends == "appends")


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_a_flush_beside_them_in_every_order(redis_url: str, begin: str) -> None:
    histories, _hits = run_every_order(
        redis_url, begin, lambda history: [history.reader(), history.writer("appends"), history.flush()]
    )
    assert histories == 140


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("begin", ["uncached", "cached"])
@pytest.mark.parametrize("ends", ENDS)
def test_a_reader_and_two_writers_in_every_order(redis_url: str, begin: str, ends: str) -> None:
    histories, hits = run_every_order(
        redis_url, begin, lambda history: [history.reader(), history.writer("appends"), history.writer(ends)]
    )
    assert histories == 1680
    assert hits > 0

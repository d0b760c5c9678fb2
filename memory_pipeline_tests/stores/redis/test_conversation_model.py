"""Whatever writers, readers and Redis do, and in whatever order: a hit is what is committed at that moment.

`committed` is Postgres. A writer is a transaction in steps (begin, insert, announce, commit, append), a reader too
(read, look into Postgres, warm). Any of them may die between two steps, and Redis may be flushed, restarted, robbed of
keys, or out of reach. What the protocol asks of callers is kept: no transaction is open when half a minute has passed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.conversations import (
    Announcement,
    CachedConversation,
    CacheMessage,
    ConversationCache,
    Ticket,
)
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.stores.redis.support import ADA, MALLORY, ids_in, let_time_pass, message, newest

TALKS = [UUID(int=number) for number in (1, 2)]
talks = st.sampled_from(TALKS)
amounts = st.sampled_from([1, 1, 2, 40, 110])


@dataclass
class Writer:
    """A transaction on one conversation."""

    talk: UUID
    messages: list[CacheMessage]
    deletes: bool
    inserted: bool = False
    creates: bool = False
    announced: bool = False
    announcement: Announcement | None = None
    committed: bool = False


@dataclass
class Reader:
    """A reader after a miss."""

    talk: UUID
    ticket: Ticket
    rows: list[CacheMessage] | None = field(default=None)


class Conversations(RuleBasedStateMachine):
    """See above. `url` is set by the test."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.client = redis.Redis.from_url(self.url)
        self.client.flushdb()
        self.manager = RedisManager(self.url, pool_size=1, cache_seconds=5)
        self.cache = ConversationCache(self.manager)
        self.committed: dict[UUID, list[CacheMessage]] = {}
        self.writers: list[Writer] = []
        self.readers: list[Reader] = []
        self.invalidations: list[UUID] = []
        self.taken: Any = None
        self.random = random.Random(1)

    def teardown(self) -> None:
        if self.taken is not None:
            self.connect()
        self.manager.close()
        self.client.close()

    @initialize()
    def settle(self) -> None:
        self.cache.read(TALKS[0], ADA.tenant_id, ADA.user_id)
        let_time_pass(self.client, 31)

    # -- writers --

    def pick(self, number: int, **traits: bool) -> Writer | None:
        fitting = [each for each in self.writers if all(getattr(each, name) == is_ for name, is_ in traits.items())]
        return fitting[number % len(fitting)] if fitting else None

    @rule(talk=talks, amount=amounts, deletes=st.sampled_from([False, False, False, True]))
    def begin(self, talk: UUID, amount: int, deletes: bool) -> None:
        if len(self.writers) < 4:
            messages = [message(self.random.randrange(1000)) for _ in range(amount)]
            self.writers.append(Writer(talk, messages, deletes))

    @rule(number=st.integers(0, 3))
    def insert(self, number: int) -> None:
        writer = self.pick(number, inserted=False)
        if writer is None:
            return
        rivals = [each for each in self.writers if each.talk == writer.talk and each.inserted and not each.committed]
        exists = writer.talk in self.committed
        # Who deletes waits for those who insert and the other way round; two who create wait for each other.
        if (writer.deletes and rivals) or any(each.deletes for each in rivals) or (rivals and not exists):
            return
        writer.inserted = True
        writer.creates = not exists and not writer.deletes

    @rule(number=st.integers(0, 3))
    def announce(self, number: int) -> None:
        writer = self.pick(number, announced=False)
        if writer is not None:
            writer.announced = True
            writer.announcement = self.cache.announce(writer.talk)

    @rule(number=st.integers(0, 3))
    def commit(self, number: int) -> None:
        writer = self.pick(number, announced=True, inserted=True, committed=False)
        if writer is None:
            return
        writer.committed = True
        if writer.deletes:
            self.committed.pop(writer.talk, None)
        else:
            self.committed.setdefault(writer.talk, []).extend(writer.messages)
        if writer.announcement is None:
            self.invalidations.append(writer.talk)

    @rule(number=st.integers(0, 3))
    def end(self, number: int) -> None:
        writer = self.pick(number, committed=True)
        if writer is None:
            return
        self.writers.remove(writer)
        if writer.deletes:
            self.cache.drop([writer.talk], writer.announcement)
        else:
            created = ADA if writer.creates else None
            self.cache.append(writer.talk, writer.announcement, writer.messages, created=created)

    @rule(number=st.integers(0, 3), withdraws=st.booleans())
    def roll_back(self, number: int, withdraws: bool) -> None:
        writer = self.pick(number, committed=False)
        if writer is not None:
            self.writers.remove(writer)
            if withdraws and writer.announced:
                self.cache.withdraw(writer.announcement)

    @rule(number=st.integers(0, 3))
    def die_after_the_commit(self, number: int) -> None:
        writer = self.pick(number, committed=True)
        if writer is not None:
            self.writers.remove(writer)

    @rule()
    def invalidate(self) -> None:
        if self.invalidations and self.cache.drop(self.invalidations):
            self.invalidations.clear()

    # -- readers --

    def rows(self, talk: UUID) -> list[CacheMessage]:
        return sorted(self.committed.get(talk, []), key=lambda each: each[:3])[-100:]

    @rule(talk=talks)
    def read(self, talk: UUID) -> None:
        found = self.cache.read(talk, ADA.tenant_id, ADA.user_id)
        if isinstance(found, CachedConversation):
            assert ids_in(found) == newest(self.committed.get(talk, []))
        elif len(self.readers) < 4:
            self.readers.append(Reader(talk, found))

    @rule(talk=talks)
    def pry(self, talk: UUID) -> None:
        assert self.cache.read(talk, MALLORY.tenant_id, ADA.user_id).__class__ is Ticket

    @rule(number=st.integers(0, 3))
    def look_into_postgres(self, number: int) -> None:
        fresh = [each for each in self.readers if each.rows is None]
        if fresh:
            reader = fresh[number % len(fresh)]
            reader.rows = self.rows(reader.talk)

    @rule(number=st.integers(0, 3))
    def warm(self, number: int) -> None:
        done = [each for each in self.readers if each.rows is not None]
        if done:
            reader = done[number % len(done)]
            self.readers.remove(reader)
            self.cache.warm(reader.talk, reader.ticket, ADA, reader.rows or [])

    @rule(talk=talks)
    def read_and_warm(self, talk: UUID) -> None:
        found = self.cache.read(talk, ADA.tenant_id, ADA.user_id)
        if isinstance(found, Ticket):
            self.cache.warm(talk, found, ADA, self.rows(talk))

    # -- what may happen to Redis --

    @precondition(lambda self: not any(not each.committed for each in self.writers))
    @rule()
    def half_a_minute_passes(self) -> None:
        let_time_pass(self.client, 31)
        self.cache._doubtful = {talk: until - 31 for talk, until in self.cache._doubtful.items()}

    @rule()
    def flush(self) -> None:
        self.client.flushdb()

    @rule(number=st.integers(0, 1000))
    def evict(self, number: int) -> None:
        present = sorted(self.client.keys("*"))
        if present:
            self.client.delete(present[number % len(present)])

    @rule(loses=st.booleans())
    def restart(self, loses: bool) -> None:
        """Another run id; tokens and leases of the last second may be lost while the lists live on."""
        epoch: Any = self.client.hget(keys.WRITERS_KEY, "epoch")
        if epoch is None:
            return
        if loses:
            self.client.delete(keys.WRITERS_KEY, *(keys.conversation_lease(talk) for talk in TALKS))
        self.client.hset(keys.WRITERS_KEY, "epoch", b"0" * 40 + epoch[40:])

    @precondition(lambda self: self.taken is None)
    @rule()
    def disconnect(self) -> None:
        """This process has no connection to Redis; other processes have."""
        pool = self.manager._cache.quick.connection_pool
        self.taken = pool.get_connection()

    @precondition(lambda self: self.taken is not None)
    @rule()
    def connect(self) -> None:
        self.manager._cache.quick.connection_pool.release(self.taken)
        self.taken = None


@pytest.fixture
def machine(redis_url: str) -> Iterator[type[Conversations]]:
    Conversations.url = redis_url
    yield Conversations
    Conversations.url = ""


def check(machine: type[Conversations], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_hit_is_what_is_committed_at_that_moment(machine: type[Conversations]) -> None:
    check(machine, 30, 50)


@pytest.mark.nightly
def test_a_hit_is_what_is_committed_at_that_moment_in_many_histories(machine: type[Conversations]) -> None:
    check(machine, 600, 60)

"""Whatever writers, readers and Redis do, and in whatever order: a hit is what is committed at that moment.

`committed` is Postgres. A writer is a transaction in steps (begin, insert, announce, commit, append), a reader too
(read, look into Postgres, warm). Any of them may die between two steps, and Redis may be flushed, restarted, robbed of
keys, or out of reach. What the protocol asks of callers is kept: no transaction is open when half a minute has passed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

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
talks = st.sampled_from([TALKS[0], TALKS[0], TALKS[0], TALKS[1]])
amounts = st.sampled_from([1, 1, 2, 40, 110])
disturbances = st.sampled_from(["none", "none", "none", "flush", "evict", "evict", "restart", "restart with losses"])
mostly_not = st.sampled_from([False] * 5 + [True])


@dataclass
class Writer:
    """A transaction on one conversation; `steps` are what it has yet to do."""

    talk: UUID
    messages: list[CacheMessage]
    deletes: bool
    steps: list[str]
    creates: bool = False
    inserted: bool = False
    committed: bool = False
    announcement: Announcement | None = None


@dataclass
class Reader:
    """A reader after a miss."""

    talk: UUID
    ticket: Ticket
    rows: list[CacheMessage] | None = None


class Conversations(RuleBasedStateMachine):
    """See above. `url` is set by the test."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.client = redis.Redis.from_url(self.url)
        self.client.flushdb()
        self.manager = RedisManager(self.url, pool_size=1, cache_seconds=5)
        self.cache = ConversationCache(self.manager)
        self.observer = ConversationCache(self.manager, settle_seconds=10**9)
        """Reads without side effects: it is never given a lease."""
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

    def new_messages(self, amount: int) -> list[CacheMessage]:
        return [message(self.random.randrange(1000)) for _ in range(amount)]

    @initialize(amount=amounts, cached=st.booleans())
    def begin_with_one_conversation(self, amount: int, cached: bool) -> None:
        self.committed[TALKS[0]] = self.new_messages(amount)
        self.read_and_warm(TALKS[0])
        let_time_pass(self.client, 31)
        if cached:
            self.read_and_warm(TALKS[0])
            self.read(TALKS[0])
            assert not self.readers, "it was a hit"

    @invariant()
    def a_hit_is_what_is_committed(self) -> None:
        if self.taken is not None:
            return
        for talk in set(TALKS) - self.cache._doubtful.keys():
            found = self.observer.read(talk, ADA.tenant_id, ADA.user_id)
            if isinstance(found, CachedConversation):
                assert ids_in(found) == newest(self.committed.get(talk, []))

    # -- writers --

    @precondition(lambda self: len(self.writers) < 3)
    @rule(talk=talks, amount=amounts, deletes=mostly_not, announces_first=st.booleans(), steps=st.integers(0, 4))
    def begin(self, talk: UUID, amount: int, deletes: bool, announces_first: bool, steps: int) -> None:
        first = ["announce", "insert"] if announces_first else ["insert", "announce"]
        self.writers.append(Writer(talk, self.new_messages(amount), deletes, [*first, "commit", "end"]))
        self.go_on(self.writers[-1], steps)

    @precondition(lambda self: self.writers)
    @rule(number=st.integers(0, 2), steps=st.integers(1, 4))
    def advance(self, number: int, steps: int) -> None:
        self.go_on(self.writers[number % len(self.writers)], steps)

    @precondition(lambda self: self.writers)
    @rule(number=st.integers(0, 2), withdraws=st.booleans())
    def fail(self, number: int, withdraws: bool) -> None:
        """A writer rolls back, or dies: with an open transaction or after the commit."""
        writer = self.writers.pop(number % len(self.writers))
        if withdraws and not writer.committed and "announce" not in writer.steps:
            self.cache.withdraw(writer.announcement)

    def go_on(self, writer: Writer, steps: int) -> None:
        """Take the next steps, as far as other transactions let it."""
        for step in writer.steps[:steps]:
            if not getattr(self, f"_{step}")(writer):
                return
            writer.steps.pop(0)
        if not writer.steps:
            self.writers.remove(writer)

    def _insert(self, writer: Writer) -> bool:
        """Who deletes waits for those who insert and the other way round; two who create wait for each other."""
        rivals = [each for each in self.writers if each.talk == writer.talk and each.inserted and not each.committed]
        exists = writer.talk in self.committed
        if (writer.deletes and rivals) or any(each.deletes for each in rivals) or (rivals and not exists):
            return False
        writer.inserted = True
        writer.creates = not exists and not writer.deletes
        return True

    def _announce(self, writer: Writer) -> bool:
        writer.announcement = self.cache.announce(writer.talk)
        return True

    def _commit(self, writer: Writer) -> bool:
        writer.committed = True
        if writer.deletes:
            self.committed.pop(writer.talk, None)
        else:
            self.committed.setdefault(writer.talk, []).extend(writer.messages)
        if writer.announcement is None:
            self.invalidations.append(writer.talk)
        return True

    def _end(self, writer: Writer) -> bool:
        if writer.deletes:
            self.cache.drop([writer.talk], writer.announcement)
        else:
            created = ADA if writer.creates else None
            self.cache.append(writer.talk, writer.announcement, writer.messages, created=created)
        return True

    @precondition(lambda self: self.invalidations)
    @rule()
    def invalidate(self) -> None:
        if self.cache.drop(self.invalidations):
            self.invalidations.clear()

    # -- readers --

    def rows(self, talk: UUID) -> list[CacheMessage]:
        return sorted(self.committed.get(talk, []), key=lambda each: each[:3])[-100:]

    @rule(talk=talks)
    def read(self, talk: UUID) -> None:
        found = self.cache.read(talk, ADA.tenant_id, ADA.user_id)
        if isinstance(found, CachedConversation):
            assert ids_in(found) == newest(self.committed.get(talk, []))
        elif len(self.readers) < 3:
            self.readers.append(Reader(talk, found))

    @precondition(lambda self: self.readers)
    @rule(number=st.integers(0, 2))
    def go_on_reading(self, number: int) -> None:
        """A reader looks into Postgres; the next time it stores what it found there."""
        reader = self.readers[number % len(self.readers)]
        if reader.rows is None:
            reader.rows = self.rows(reader.talk)
        else:
            self.readers.remove(reader)
            self.cache.warm(reader.talk, reader.ticket, ADA, reader.rows)

    @rule(talk=talks)
    def read_and_warm(self, talk: UUID) -> None:
        found = self.cache.read(talk, ADA.tenant_id, ADA.user_id)
        if isinstance(found, Ticket):
            self.cache.warm(talk, found, ADA, self.rows(talk))
        else:
            assert ids_in(found) == newest(self.committed.get(talk, []))

    @rule(talk=talks)
    def pry(self, talk: UUID) -> None:
        assert isinstance(self.cache.read(talk, MALLORY.tenant_id, ADA.user_id), Ticket)

    # -- what may happen to Redis --

    @rule()
    def half_a_minute_passes(self) -> None:
        """No transaction takes that long: what is open is rolled back by Postgres, and its writer dead."""
        self.writers = [each for each in self.writers if each.committed]
        let_time_pass(self.client, 31)
        self.cache._doubtful = {talk: until - 31 for talk, until in self.cache._doubtful.items()}

    @rule(kind=disturbances, number=st.integers(0, 1000))
    def disturb(self, kind: str, number: int) -> None:
        present: list[Any] = sorted(self.client.keys("*"))
        if kind == "flush":
            self.client.flushdb()
        elif kind == "evict":
            if present:
                self.client.delete(present[number % len(present)])
        elif kind.startswith("restart"):
            epoch: Any = self.client.hget(keys.WRITERS_KEY, "epoch")
            if epoch is None:
                return
            if kind == "restart with losses":
                # Tokens and leases of the last second are not in the file; the lists are.
                self.client.delete(keys.WRITERS_KEY, *(keys.conversation_lease(talk) for talk in TALKS))
            self.client.hset(keys.WRITERS_KEY, "epoch", b"0" * 40 + epoch[40:])

    @precondition(lambda self: self.taken is None)
    @rule(really=mostly_not)
    def disconnect(self, really: bool) -> None:
        """This process has no connection to Redis; other processes have."""
        if really:
            self.taken = self.manager._cache.quick.connection_pool.get_connection()

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
@pytest.mark.timeout(900)
def test_a_hit_is_what_is_committed_at_that_moment_in_many_histories(machine: type[Conversations]) -> None:
    check(machine, 300, 60)

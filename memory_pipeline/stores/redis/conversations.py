"""The newest messages of conversations, kept in Redis beside Postgres, and never staler than Postgres.

What is stored. `conversation:{id}` is a hash: whose it is (checked on every read), the conversation's metadata as JSON,
and the epoch (below). `conversation:{id}:messages` is a sorted set, all scores equal, of the newest 100 messages: each
member is 32 bytes that sort as (sent_at, position, message_id) do, then the message's JSON. A list holds the newest 100
*or the whole conversation where it has fewer*, so adding a message and cutting to 100 keeps that true, however late the
message is.

How a writer goes about it, so that nobody can read a list that lacks a committed message:

1. in its transaction, before the commit: `announce` leaves a token. While there is a token, reads are misses;
2. after the commit: `append` adds the messages, cuts the list, takes the token back: one script, so writers can't harm
   each other. After a rollback: `withdraw`. Where it is unknown whether the commit arrived: neither; the token says so;
3. where `announce` answered None (Redis is away) the writer inserts the conversation into `cache_invalidations` in its
   transaction, and calls `append` with None after the commit. A chore calls `drop` for such rows, then deletes them.

How a reader goes about it: `read`, on a miss with a ticket; then Postgres; then `warm` with the ticket. The ticket is a
lease in Redis that every announcement, append and drop takes away. None is given while a writer's token is younger than
`writer_seconds`. So a list is stored only if no writer was at work between the giving of the ticket and the storing,
and no list from before a change is brought back. A token older than that belongs to a writer that has died: its
transaction has ended one way or the other, and the next `warm` replaces list and token.

What if Redis loses tokens while lists live on, or are made anew? All tokens are in one key, together with an *epoch*,
named after the server's run id. The key is gone after FLUSHALL, after eviction, after a restart without data; a restart
from the append-only file, which may lack the last second, shows in the run id. Each begins a new epoch: lists of an
older epoch count as absent, and no ticket is given for `settle_seconds`, after which every writer whose token was lost
has ended.

The caller's part: from `announce` to the end of its transaction less than `writer_seconds` may pass (bound it with
`transaction_timeout`), and `warm` is given the newest 100 messages, or all where there are fewer, read in a transaction
that began after the `read`. Whatever changes or deletes messages of a conversation announces and drops as well.
Metadata must not change with messages.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

from memory_pipeline import metrics
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline.stores.redis.scripts import Argument, run

if TYPE_CHECKING:
    import redis

MOST_MESSAGES = 100
MOST_BYTES = 1_000_000
"""A conversation whose newest 100 messages are larger is not cached."""
WRITER_SECONDS = 30.0
_CACHE = "conversation"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SIGN = 1 << 63
_IDS_AT_ONCE = 500


class CacheMessage(NamedTuple):
    """A message to be cached: its place in the conversation, and its JSON object as readers are to get it."""

    sent_at: datetime
    position: int
    message_id: UUID
    json: bytes


class CachedConversation(NamedTuple):
    """What the cache holds of a conversation."""

    metadata: bytes
    """The JSON object that was given to `warm`."""
    messages: bytes
    """JSON array of the newest messages, oldest first."""
    length: int
    """How many messages; fewer than were asked for is the whole conversation."""


class Ticket(NamedTuple):
    """A miss; what `warm` needs to store what is now read from Postgres. Without a lease `warm` does nothing."""

    lease: bytes | None


class Announcement(NamedTuple):
    """The token of a writer that is about to commit."""

    nonce: str
    conversation_ids: tuple[UUID, ...]


class Owner(NamedTuple):
    """Whose conversation it is, and its metadata as a JSON object without anything that changes with messages."""

    tenant_id: UUID
    user_id: UUID
    metadata: bytes


class ConversationCache:
    """The cached conversations of one Redis. Methods may be called from many threads; none raises because of Redis."""

    def __init__(
        self, manager: RedisManager, *, writer_seconds: float = WRITER_SECONDS, settle_seconds: float | None = None
    ) -> None:
        """`writer_seconds`: longest time from `announce` to the end of the transaction.

        `settle_seconds`: how long nothing is stored after Redis has lost (or never had) its state; `writer_seconds`
        unless given. Less is right only where nobody can have announced before.
        """
        self._manager = manager
        self._writer_seconds = writer_seconds
        self._head: tuple[int, int, int] = (
            int(writer_seconds * 1000),
            int((writer_seconds if settle_seconds is None else settle_seconds) * 1000),
            keys.lifetime(keys.WRITERS_KEY),
        )
        self._lock = threading.Lock()
        self._doubtful: dict[UUID, float] = {}
        """Conversations that a writer could not announce, with the time (monotonic) from which it has surely ended.

        This process does not read them from Redis before that, nor before they have been dropped once more after it.
        """
        self._unfinished: dict[UUID, set[str]] = {}
        """Conversations with the tokens of writers that have ended and could not take them back."""
        manager.on_cache_return(self._catch_up)

    # -- writing --

    def announce(self, *conversation_ids: UUID) -> Announcement | None:
        """Tell that a transaction is about to change these conversations; None where Redis is away.

        Call it in the transaction, best as its last step before the commit. On None insert them into
        `cache_invalidations` in the same transaction.
        """
        nonce = uuid4().hex
        for some in _slices(conversation_ids):
            names = [keys.WRITERS_KEY, *(keys.conversation_lease(each) for each in some)]
            if self._run("announce", names, [nonce, *map(str, some)]) is None:
                self._doubt(conversation_ids)
                return None
        return Announcement(nonce, conversation_ids)

    def append(
        self,
        conversation_id: UUID,
        announcement: Announcement | None,
        messages: Sequence[CacheMessage],
        *,
        created: Owner | None = None,
    ) -> bool:
        """Add messages that have been committed, and take the token back. False where Redis is away.

        messages: as Postgres has them. A repeat may carry another time than the message it repeats: leave it out, or
        give the row that is there.

        `created`: given where this very transaction inserted the conversation, so that its list can be made of these
        messages; it holds them all.
        """
        if announcement is None:
            return self.drop([conversation_id])
        newest = sorted(map(_member, messages))[-MOST_MESSAGES:]
        # A list that would be refused for its size need not travel.
        fits = sum(map(len, newest)) <= MOST_BYTES
        if not fits:
            return self.drop([conversation_id], announcement)
        owner: list[Argument] = (
            ["", "", ""] if created is None else [str(created.tenant_id), str(created.user_id), created.metadata]
        )
        answer = self._run(
            "append",
            [keys.WRITERS_KEY, *_keys_of(conversation_id)],
            [str(conversation_id), announcement.nonce, MOST_MESSAGES, MOST_BYTES, *owner, *newest],
        )
        if answer is None:
            self._leave_unfinished([conversation_id], announcement.nonce)
        return answer is not None

    def withdraw(self, announcement: Announcement | None) -> bool:
        """Take the token back after a rollback: nothing has changed. False where Redis is away."""
        if announcement is None:
            return True
        withdrawn = True
        for some in _slices(announcement.conversation_ids):
            if self._run("withdraw", [keys.WRITERS_KEY], [announcement.nonce, *map(str, some)]) is None:
                self._leave_unfinished(some, announcement.nonce)
                withdrawn = False
        return withdrawn

    def drop(self, conversation_ids: Iterable[UUID], announcement: Announcement | None = None) -> bool:
        """Forget conversations, and keep readers that are under way from bringing them back. False where Redis is away.

        For deletions (after the commit, with the announcement made before it), for rows of `cache_invalidations`, and
        wherever in doubt: it never does harm.
        """
        ids = tuple(conversation_ids)
        nonce = "" if announcement is None else announcement.nonce
        dropped = True
        for some in _slices(ids):
            dropped = self._run("drop", *_drop_arguments(some, nonce)) is not None and dropped
        if not dropped and announcement is None:
            self._doubt(ids)
        elif not dropped:
            self._leave_unfinished(ids, nonce)
        return dropped

    # -- reading --

    def read(
        self, conversation_id: UUID, tenant_id: UUID, user_id: UUID, *, newest: int = MOST_MESSAGES
    ) -> CachedConversation | Ticket:
        """Return the `newest` messages (at most 100) of this user's conversation, or a ticket for `warm` on a miss.

        Raises ValueError for less than 1 or more than 100 messages.
        """
        if not 1 <= newest <= MOST_MESSAGES:
            raise ValueError(f"the cache holds 1 to {MOST_MESSAGES} messages, not {newest}")
        answer: Any = None
        if not (self._doubtful or self._unfinished) or self._trusted(conversation_id):
            answer = self._run(
                "read",
                [keys.WRITERS_KEY, *_keys_of(conversation_id)],
                [str(conversation_id), str(tenant_id), str(user_id), uuid4().hex, newest],
            )
        hit = answer is not None and answer[0] == 1
        metrics.cache_reads.labels(_CACHE, "hit" if hit else "miss").inc()
        if hit:
            return CachedConversation(answer[1], answer[2], answer[3])
        return Ticket(answer[1] or None if answer is not None else None)

    def warm(self, conversation_id: UUID, ticket: Ticket, owner: Owner, messages: Sequence[CacheMessage]) -> bool:
        """Store what was read from Postgres after `read` gave the ticket; tell whether it was stored.

        messages: the newest 100, or all where there are fewer, in any order.
        """
        members = sorted(map(_member, messages))
        if ticket.lease is None or not members or sum(map(len, members)) > MOST_BYTES:
            return False
        if len(members) > MOST_MESSAGES:
            members = members[-MOST_MESSAGES:]
        answer = self._run(
            "warm",
            [keys.WRITERS_KEY, *_keys_of(conversation_id)],
            [str(conversation_id), ticket.lease, str(owner.tenant_id), str(owner.user_id), owner.metadata, *members],
        )
        return bool(answer == b"stored")

    # -- inside --

    def _run(self, name: str, names: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script; None where Redis is away. No script answers None."""
        return self._manager.cache(lambda client: self._script(client, name, names, arguments), None)

    def _script(self, client: redis.Redis, name: str, names: Sequence[str], arguments: Sequence[Argument]) -> Any:
        return run(client, ("prelude", f"conversation_{name}"), names, [*self._head, *arguments])

    def _doubt(self, conversation_ids: Iterable[UUID]) -> None:
        until = time.monotonic() + self._writer_seconds
        with self._lock:
            for conversation_id in conversation_ids:
                self._doubtful.pop(conversation_id, None)
                self._doubtful[conversation_id] = until

    def _leave_unfinished(self, conversation_ids: Iterable[UUID], nonce: str) -> None:
        with self._lock:
            for conversation_id in conversation_ids:
                self._unfinished.setdefault(conversation_id, set()).add(nonce)

    def _trusted(self, conversation_id: UUID) -> bool:
        """Whether a conversation may be read from Redis; drops doubtful ones whose time has come, oldest first."""
        now = time.monotonic()
        with self._lock:
            due = {each: until for each, until in islice(self._doubtful.items(), _IDS_AT_ONCE) if until <= now}
            unfinished = [(conversation_id, nonce) for nonce in self._unfinished.get(conversation_id, ())]
        if due and self._run("drop", *_drop_arguments(tuple(due), "")) is not None:
            with self._lock:
                for each, until in due.items():
                    if self._doubtful.get(each) == until:
                        del self._doubtful[each]
        for each, nonce in unfinished:
            if self._run("drop", *_drop_arguments([each], nonce)) is not None:
                self._finished(each, nonce)
        return conversation_id not in self._doubtful

    def _finished(self, conversation_id: UUID, nonce: str) -> None:
        with self._lock:
            nonces = self._unfinished.get(conversation_id, set())
            nonces.discard(nonce)
            if not nonces:
                self._unfinished.pop(conversation_id, None)

    def _catch_up(self, client: redis.Redis) -> None:
        """Redis is back: let no process read what this one could not announce, and take tokens back."""
        with self._lock:
            doubtful = tuple(self._doubtful)
            unfinished = [(each, nonce) for each, nonces in self._unfinished.items() for nonce in nonces]
        for some in _slices(doubtful):
            self._script(client, "drop", *_drop_arguments(some, ""))
        for each, nonce in unfinished:
            self._script(client, "drop", *_drop_arguments([each], nonce))
            self._finished(each, nonce)


def _member(message: CacheMessage) -> bytes:
    """Bytes that sort as (sent_at, position, message_id) do, then the JSON."""
    microseconds = (message.sent_at - _EPOCH) // _MICROSECOND
    order = (microseconds + _SIGN).to_bytes(8, "big") + (message.position + _SIGN).to_bytes(8, "big")
    return order + message.message_id.bytes + message.json


def _keys_of(conversation_id: UUID) -> list[str]:
    return [
        keys.conversation(conversation_id),
        keys.conversation_messages(conversation_id),
        keys.conversation_lease(conversation_id),
    ]


def _drop_arguments(conversation_ids: Sequence[UUID], nonce: str) -> tuple[list[str], list[Argument]]:
    names = [name for each in conversation_ids for name in _keys_of(each)]
    return [keys.WRITERS_KEY, *names], [nonce, *map(str, conversation_ids)]


def _slices(conversation_ids: Sequence[UUID]) -> Iterable[Sequence[UUID]]:
    """So few at a time that Redis answers each call in a few milliseconds."""
    return (conversation_ids[start : start + _IDS_AT_ONCE] for start in range(0, len(conversation_ids), _IDS_AT_ONCE))

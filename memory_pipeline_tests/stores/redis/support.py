"""Conversations to cache, the state Postgres would hold of them, and time that passes when a test says so."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import redis

from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.conversations import CachedConversation, CacheMessage, Owner

ADA = Owner(uuid4(), uuid4(), b'{"title":"Garden"}')
MALLORY = Owner(uuid4(), uuid4(), b'{"title":"Other"}')
START = datetime(2026, 3, 1, tzinfo=UTC)


def message(seconds: int, text: str = "", *, position: int = 0) -> CacheMessage:
    """A message sent so many seconds after START."""
    message_id = uuid4()
    body = {"message_id": str(message_id), "content": text or f"said after {seconds} s"}
    return CacheMessage(START + timedelta(seconds=seconds), position, message_id, msgspec.json.encode(body))


def newest(messages: Iterable[CacheMessage], count: int = 100) -> list[str]:
    """Ids of the newest messages, oldest first, as Postgres orders them."""
    return [str(each.message_id) for each in sorted(messages, key=lambda each: each[:3])[-count:]]


def ids_in(found: object) -> list[str]:
    """Ids of the messages that the cache answered, which must be a hit."""
    assert isinstance(found, CachedConversation), found
    ids = [each["message_id"] for each in msgspec.json.decode(found.messages)]
    assert found.length == len(ids)
    return ids


def let_time_pass(connection: redis.Redis, seconds: int) -> None:
    """Make all that the conversation cache has stored older, as if so many seconds had passed."""
    client: Any = connection  # the client's types leave open whether answers are decoded
    state = client.hgetall(keys.WRITERS_KEY)
    old = state.pop(b"epoch", b"")
    new = old
    if old:
        run_id, whole, micros = old.split(b":")
        new = b"%s:%d:%s" % (run_id, int(whole) - seconds, micros)
        client.hset(keys.WRITERS_KEY, "epoch", new)
    for conversation, tokens in state.items():
        pairs = [token.split(b":") for token in tokens.split(b";") if token]
        older = b"".join(b"%s:%d;" % (nonce, int(time) - seconds * 1000) for nonce, time in pairs)
        client.hset(keys.WRITERS_KEY, conversation, older)
    for key in client.keys("conversation:*"):
        family = keys.family_of(key.decode())
        if family is keys.CONVERSATION and client.hget(key, "epoch") == old:
            client.hset(key, "epoch", new)
        elif family is keys.CONVERSATION_LEASE:
            left = client.pttl(key) - seconds * 1000
            if left > 0:
                client.set(key, client.get(key).replace(old, new), px=left)
            else:
                client.delete(key)


def all_keys(client: redis.Redis) -> dict[str, int]:
    """Every key of the database with its remaining life in seconds, -1 for ever."""
    return {key.decode(): client.ttl(key) for key in client.scan_iter(count=1000)}

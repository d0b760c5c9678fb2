"""Measures what cached conversations cost in Redis, on a server of its own.

    python -m benchmarks.redis_memory --users 1000 --messages 20 --characters 120

Each idle user has one conversation. The memory is what Redis reports more than before (`used_memory`), with allocator
overhead of the keys and without fragmentation; the second number is what the process occupies (`used_memory_rss`).
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec

from memory_pipeline.stores.redis.conversations import CacheMessage, ConversationCache, Owner, Ticket
from memory_pipeline.stores.redis.manager import RedisManager

_START = datetime(2026, 1, 1, tzinfo=UTC)
_TEXT = "the garden needs water again on friday and we should ask Maria whether the green tea is still there"


def idle_caches(url: str, *, users: int = 1000, messages: int = 20, characters: int = 120, seed: int = 7) -> int:
    """Cache one conversation per user in an empty Redis and return the bytes that takes."""
    choice = random.Random(seed)
    with RedisManager(url, cache_seconds=5) as manager:
        cache = ConversationCache(manager, settle_seconds=0)
        before = manager.health().memory_used
        for number in range(users):
            conversation_id, owner, rows = _conversation(choice, number, messages, characters)
            ticket = cache.read(conversation_id, owner.tenant_id, owner.user_id)
            if not isinstance(ticket, Ticket) or not cache.warm(conversation_id, ticket, owner, rows):
                raise SystemExit(f"conversation {number} could not be cached: is the Redis at hand empty and idle?")
        after = manager.health().memory_used
    if before is None or after is None:
        raise SystemExit("Redis went away while it was measured.")
    return after - before


def _conversation(
    choice: random.Random, number: int, messages: int, characters: int
) -> tuple[UUID, Owner, list[CacheMessage]]:
    """A conversation as the API would cache it: every message a JSON object with ids, role, times and text."""
    conversation_id = UUID(int=choice.getrandbits(128))
    metadata = {"conversation_id": conversation_id, "title": f"Talk {number}", "project": None, "created_at": _START}
    owner = Owner(UUID(int=choice.getrandbits(128)), UUID(int=choice.getrandbits(128)), msgspec.json.encode(metadata))
    words = _TEXT.split()
    rows = []
    for place in range(messages):
        message_id = UUID(int=choice.getrandbits(128))
        sent_at = _START + timedelta(minutes=place, microseconds=choice.randrange(1_000_000))
        content = ""
        while len(content) < characters:
            content += choice.choice(words) + " "
        body = {
            "message_id": message_id,
            "role": "user" if place % 2 == 0 else "assistant",
            "speaker": None,
            "content": content[:characters],
            "sent_at": sent_at,
            "position": place,
        }
        rows.append(CacheMessage(sent_at, place, message_id, msgspec.json.encode(body)))
    return conversation_id, owner, rows


def main() -> None:
    """Start a Redis, fill it, print the numbers as one JSON object."""
    from memory_pipeline.local.redis import RedisServer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=20)
    parser.add_argument("--characters", type=int, default=120)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="redis-memory-") as folder:
        Path(folder).chmod(0o711)
        server = RedisServer(Path(folder) / "redis", Path(folder) / "redis.log")
        server.start()
        try:
            used = idle_caches(server.url(), users=chosen.users, messages=chosen.messages, characters=chosen.characters)
            with RedisManager(server.url()) as manager:
                resident = manager.queue(lambda client: client.info("memory"))["used_memory_rss"]
        finally:
            server.stop()
    print(
        json.dumps(
            {
                **vars(chosen),
                "megabytes": round(used / 1e6, 2),
                "bytes_per_conversation": round(used / chosen.users),
                "resident_megabytes": round(resident / 1e6, 2),
            }
        )
    )


if __name__ == "__main__":
    main()

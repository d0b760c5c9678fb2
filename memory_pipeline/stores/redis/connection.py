"""Asking a Redis server who it is."""

from __future__ import annotations

from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.stores.redis.manager import RedisManager


def server_version(url: str) -> str:
    """Return the version of the server at `url`. Raises StoreUnavailableError where none answers, SettingsError."""
    with RedisManager(url) as manager:
        version = manager.queue(lambda client: client.info("server")).get("redis_version")
    if version is None:
        raise StoreUnavailableError("The server that MEMORY_REDIS_URL names does not say its version: is it a Redis?")
    return str(version)

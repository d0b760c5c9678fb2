"""Asking a Redis server who it is, without the machinery of the manager: for commands that look once and end."""

from __future__ import annotations

from memory_pipeline.model.errors import StoreUnavailableError

_TIMEOUT_SECONDS = 5.0


def server_version(url: str) -> str:
    """Return the version of the server at `url`. Raises StoreUnavailableError where none answers."""
    import redis

    try:
        with redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
        ) as client:
            return str(client.info("server")["redis_version"])
    except (redis.RedisError, ValueError) as error:
        raise StoreUnavailableError(f"Redis can't be reached: {error}. Start it, or mend MEMORY_REDIS_URL.") from error

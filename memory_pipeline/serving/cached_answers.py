"""Dropping what Redis holds and a decision has made wrong, and insisting that Redis was told."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_fixed

from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.stores.redis.manager import RedisManager

KEYS_AT_ONCE = 200
"""Few enough for one call of the cache's connection, which waits some tens of milliseconds at most."""
_TRIES = 4
_WAIT_SECONDS = 0.5
"""Together longer than the manager leaves Redis alone after a failure, so that one lost packet is no error."""


def drop_or_raise(redis: RedisManager, names: Iterable[str]) -> None:
    """Drop these values in every process. Raises StoreUnavailableError where Redis could not be told of all."""
    remaining = iter(names)
    while batch := list(islice(remaining, KEYS_AT_ONCE)):
        tries = Retrying(
            retry=retry_if_result(lambda told: not told),
            stop=stop_after_attempt(_TRIES),
            wait=wait_fixed(_WAIT_SECONDS),
            retry_error_callback=lambda _state: False,
        )
        if not tries(redis.drop_values, *batch):
            raise StoreUnavailableError(f"Redis did not answer in {_TRIES} tries.")

"""What the commands of an administrator work with: the stores of one system, and who makes the change."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import msgspec

from memory_pipeline.commands.session import running_stack
from memory_pipeline.model.errors import SettingsError
from memory_pipeline.serving.permissions import Affected, Change, make_change
from memory_pipeline.serving.wiring import wired
from memory_pipeline.settings import Settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.permissions import Author
from memory_pipeline.stores.redis.manager import RedisManager


class Desk(msgspec.Struct, frozen=True):
    """What an administrator's command works with."""

    settings: Settings
    database: Database
    redis: RedisManager
    author: Author

    def change(self, change: Callable[[Connection], bool], affected: Affected) -> Change:
        return make_change(self.database, self.redis, change, affected)


@contextmanager
def open_desk(*, make_home: bool = False) -> Iterator[Desk]:
    """Give the stores as memory_pipeline, once it is sure that they are those of the other processes."""
    with running_stack(make_home=make_home) as settings, Pipeline(settings) as pipeline, wired("command", pipeline):
        if settings.redis_url is None:
            raise SettingsError("MEMORY_REDIS_URL is not set; cached permissions could not be dropped.")
        with RedisManager(settings.redis_url, cache_url=settings.redis_cache_url) as redis:
            yield Desk(settings, pipeline.database, redis, Author(_actor(), uuid4()))


def _actor() -> str:
    """Return who runs this command, by the account of the process: variables such as USER say what they like."""
    uid = os.getuid()
    try:
        return f"cli:{pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"cli:uid-{uid}"

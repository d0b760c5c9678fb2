"""Everything that answers applications, opened from the settings once per API process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, Self
from uuid import UUID

import msgspec
import structlog

from memory_pipeline import metrics
from memory_pipeline.model.errors import SettingsError, StoreUnavailableError
from memory_pipeline.model.identity import Principal
from memory_pipeline.model.records import IncomingMessage
from memory_pipeline.model.validation import Limits
from memory_pipeline.serving import conversations, messages
from memory_pipeline.serving.health import CacheReport, HealthReport
from memory_pipeline.serving.messages import Author, NewMessage, TakenMessage
from memory_pipeline.serving.permissions import require_permission
from memory_pipeline.serving.sessions import Sessions
from memory_pipeline.settings import Settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.conversations import Deleted
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.redis.conversations import ConversationCache
from memory_pipeline.stores.redis.manager import RedisManager

log = structlog.get_logger()

_POOL_WAIT_SECONDS = 2.0
_STATEMENT_SECONDS = 20.0
"""Less than the 30 s after which a writer that announced itself to the cache is taken for dead."""
_INVALIDATIONS_AT_ONCE = 500


class Taken(msgspec.Struct, frozen=True):
    """The answer to posted messages."""

    status: Literal["durable", "buffered"]
    correlation_id: UUID
    messages: list[TakenMessage]


class Services:
    """Stores, caches, identity, write buffer and chores of one API process. A context manager."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._open = ExitStack()

    def __enter__(self) -> Self:
        settings = self.settings
        with ExitStack() as opening:
            self.pipeline = opening.enter_context(Pipeline(settings))
            self.database = opening.enter_context(self._database("api", settings.api_pool_size))
            self._auth_database = opening.enter_context(self._database("auth", settings.auth_pool_size))
            self.redis = opening.enter_context(
                RedisManager(_required(settings.redis_url, "MEMORY_REDIS_URL"), cache_url=settings.redis_cache_url)
            )
            self.cache = ConversationCache(self.redis)
            self.sessions = Sessions(self._auth_database, self.redis, settings)
            self._chores = opening.enter_context(Chores({"cache_invalidations": self._settle_invalidations}))
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def _database(self, name: str, size: int) -> Database:
        url = _required(self.settings.postgres_app_url, "MEMORY_POSTGRES_APP_URL")
        return Database(
            url,
            role="memory_app",
            pool_size=size,
            wait_seconds=_POOL_WAIT_SECONDS,
            statement_seconds=_STATEMENT_SECONDS,
        )

    # -- what requests ask for --

    def require_enabled(self) -> None:
        """Raise where the whole system is switched off."""
        if not self.settings.system_enabled:
            raise StoreUnavailableError("the system is switched off (MEMORY_SYSTEM_ENABLED=false).")

    def post_messages(self, principal: Principal, posted: Sequence[NewMessage], correlation_id: UUID) -> Taken:
        """Store messages, or buffer them while Postgres is away."""
        require_permission(principal, "messages:write")
        settings = self.settings
        now = datetime.now(UTC)
        limits = Limits.at(
            now, partition_start=settings.partition_start, max_message_bytes=settings.max_message_bytes
        )
        prepared = messages.prepare(principal.user_id, posted, limits, now)
        author = Author.of(principal)
        try:
            taken = self._write(author, prepared, principal.actor, correlation_id)
        except StoreUnavailableError as error:
            self._buffer(principal, prepared, correlation_id, now, error)
            metrics.messages_ingested.labels("buffered").inc(len(prepared))
            return Taken("buffered", correlation_id, messages.buffered(author, prepared))
        metrics.messages_ingested.labels("durable").inc(len(taken))
        log.info("messages_ingested", messages=len(taken))
        if not settings.worker_enabled:
            self._refresh(author, taken)
        return Taken("durable", correlation_id, taken)

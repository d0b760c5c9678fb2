"""Everything that answers applications, opened from the settings once per API process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, Self
from uuid import UUID

import msgspec
import structlog

from memory_pipeline import metrics
from memory_pipeline.model.errors import BusyError, SettingsError, StoreUnavailableError
from memory_pipeline.model.flags import Flag
from memory_pipeline.model.identity import Principal
from memory_pipeline.model.records import BufferedWrite, IncomingMessage
from memory_pipeline.model.validation import Limits
from memory_pipeline.model.window import NamedMemories, NamedMemory
from memory_pipeline.providers.registry import plugin_names
from memory_pipeline.serving import conversations, messages
from memory_pipeline.serving.analytics import Analytics
from memory_pipeline.serving.buffering import accept_write
from memory_pipeline.serving.chores import Chores
from memory_pipeline.serving.gauges import SAMPLE_SECONDS, sample_gauges
from memory_pipeline.serving.health import CacheReport, HealthReport, Remembered
from memory_pipeline.serving.health_checks import HealthChecks
from memory_pipeline.serving.issuers import load_issuers
from memory_pipeline.serving.messages import MessageOwner, TakenMessage
from memory_pipeline.serving.permissions import require_permission
from memory_pipeline.serving.posted_messages import NewMessage, prepare
from memory_pipeline.serving.replayer import Replayer
from memory_pipeline.serving.retention import forget_old_records
from memory_pipeline.serving.sessions import Sessions
from memory_pipeline.serving.tokens import TokenVerifier
from memory_pipeline.serving.wiring import Wiring
from memory_pipeline.settings import Settings
from memory_pipeline.stages.flags import FeatureFlags
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.plugin_permissions import PluginGate
from memory_pipeline.stages.refresh import refresh
from memory_pipeline.stages.refusals import RefusalLog
from memory_pipeline.stores.postgres.conversations import Deleted, owed_invalidations, settle_invalidations
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.directory import delete_expired_sessions
from memory_pipeline.stores.redis.buffer import WriteBuffer
from memory_pipeline.stores.redis.conversations import ConversationCache
from memory_pipeline.stores.redis.manager import RedisManager

log = structlog.get_logger(__name__)

_POOL_WAIT_SECONDS = 2.0
_STATEMENT_SECONDS = 5.0
_WRITER_SECONDS = 30.0
"""Longer than a transaction may take (twice a statement, by the server's clock), and than the client waits for it."""
_INVALIDATIONS_AT_ONCE = 500
_CLEAN_SECONDS = 600.0
_REFRESH_WAIT_SECONDS = 10.0


class Taken(msgspec.Struct, frozen=True):
    """The answer to posted messages."""

    status: Literal["durable", "buffered"]
    correlation_id: UUID
    messages: list[TakenMessage]


class Services:
    """Stores, caches, identity, write buffer and chores of one API process. A context manager."""

    def __init__(self, settings: Settings, *, settle_seconds: float = _WRITER_SECONDS) -> None:
        """`settle_seconds`: how long conversations are not cached by a Redis that was just started or emptied."""
        self.settings = settings
        self._settle_seconds = settle_seconds
        self._open = ExitStack()

    def __enter__(self) -> Self:
        settings = self.settings
        with ExitStack() as opening:
            self.pipeline = opening.enter_context(Pipeline(settings))
            self.database = opening.enter_context(self._app_database(settings.api_pool_size))
            self._background = opening.enter_context(
                Database(
                    _required(settings.postgres_pipeline_url, "MEMORY_POSTGRES_PIPELINE_URL"),
                    role="memory_pipeline",
                    pool_size=settings.background_pool_size,
                    wait_seconds=_POOL_WAIT_SECONDS,
                )
            )
            self.flags = FeatureFlags(self._background, settings)
            self.flags.refresh()
            self.pipeline.flags = self.flags
            self._auth_database = opening.enter_context(self._app_database(settings.auth_pool_size))
            self.redis = opening.enter_context(
                RedisManager(_required(settings.redis_url, "MEMORY_REDIS_URL"), cache_url=settings.redis_cache_url)
            )
            self.cache = ConversationCache(
                self.redis, writer_seconds=_WRITER_SECONDS, settle_seconds=self._settle_seconds
            )
            verifier = TokenVerifier(load_issuers(settings), settings.token_leeway_seconds)
            self.sessions = Sessions(
                self._auth_database, self.redis, verifier, session_seconds=settings.session_seconds
            )
            self.buffer = WriteBuffer(
                self.redis, settings.buffer_max_writes, settings.buffer_max_bytes, enabled=settings.buffer_enabled
            )
            self._wiring = opening.enter_context(
                Wiring(
                    "api",
                    {
                        "MEMORY_POSTGRES_APP_URL": self.database,
                        "MEMORY_POSTGRES_PIPELINE_URL": self._background,
                    },
                    self.redis,
                )
            )
            self._refusals = RefusalLog(self.database)
            self.analytics = Analytics(self.pipeline.exports_root, self.redis, self.require)
            self._refreshing = threading.Lock()
            names = plugin_names(settings)
            self._request_plugins = (names.enricher, names.embedder)
            self._plugins = PluginGate(self.database, self.redis, refusals=self._refusals)
            self._replayer = Replayer(self.buffer, self._background, self._replay)
            self._replayer.start()
            opening.callback(self._replayer.stop)
            self._checks = HealthChecks(
                settings, self._background, self.redis, self.pipeline, self.buffer, self.flags, self._wiring
            )
            self._health = Remembered(self._checks.report)
            # Requests look at what was read last: none of them waits for a Postgres that is away.
            opening.enter_context(Chores({"feature_flags": self.flags.refresh}))
            opening.enter_context(Chores({"cache_invalidations": self._settle_invalidations}))
            opening.enter_context(Chores({"gauges": self._sample_gauges}, SAMPLE_SECONDS))
            cleaning = {"expired_sessions": self._forget_expired_sessions, "old_records": self._forget_old_records}
            opening.enter_context(Chores(cleaning, _CLEAN_SECONDS))
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def _app_database(self, size: int) -> Database:
        url = _required(self.settings.postgres_app_url, "MEMORY_POSTGRES_APP_URL")
        return Database(
            url,
            role="memory_app",
            pool_size=size,
            wait_seconds=_POOL_WAIT_SECONDS,
            statement_seconds=_STATEMENT_SECONDS,
        )

    # -- what requests ask for --

    def require(self, principal: Principal, permission: str, correlation_id: UUID) -> None:
        """Raise ForbiddenError where the user lacks a permission."""
        require_permission(principal, permission, self._refusals, correlation_id=correlation_id)

    def require_enabled(self) -> None:
        """Raise where the whole system is switched off."""
        if not self.flags.enabled(Flag.SYSTEM):
            raise StoreUnavailableError("the system is switched off (MEMORY_SYSTEM_ENABLED is false).")

    def post_messages(self, principal: Principal, posted: Sequence[NewMessage], correlation_id: UUID) -> Taken:
        """Store messages, or buffer them while Postgres is away."""
        self.require(principal, "messages:write", correlation_id)
        now = datetime.now(UTC)
        limits = Limits.at(
            now,
            partition_start=self.settings.partition_start,
            max_message_bytes=self.settings.max_message_bytes,
        )
        prepared = prepare(principal.user_id, posted, limits, now)
        owner = MessageOwner.of(principal)
        try:
            written = self._write(owner, prepared, principal.actor, correlation_id, principal)
        except StoreUnavailableError as error:
            log.warning("postgres_away", message=str(error))
            self._buffer(principal, prepared, limits, now, correlation_id)
            metrics.messages_ingested.labels("buffered").inc(len(prepared))
            return Taken("buffered", correlation_id, messages.buffered(owner, prepared))
        metrics.messages_ingested.labels("durable").inc(len(prepared))
        log.info("messages_ingested", messages=len(prepared), inserted=written.inserted)
        return Taken("durable", correlation_id, written.taken)

    def read_conversation(
        self, principal: Principal, conversation_id: UUID, limit: int, before_id: UUID | None, correlation_id: UUID
    ) -> bytes:
        """Return a conversation with its newest messages, as JSON."""
        self.require(principal, "conversations:read", correlation_id)
        return conversations.read(
            self.database, self.cache, principal, conversation_id, limit=limit, before_id=before_id
        )

    def list_conversations(
        self, principal: Principal, limit: int, after_id: UUID | None, correlation_id: UUID
    ) -> bytes:
        """Return a page of the user's conversations, as JSON."""
        self.require(principal, "conversations:read", correlation_id)
        return conversations.list_page(self.database, principal, limit, after_id)

    def delete_conversation(self, principal: Principal, conversation_id: UUID, correlation_id: UUID) -> Deleted:
        """Delete a conversation and all that was derived from it."""
        self.require(principal, "conversations:delete", correlation_id)
        deleted = conversations.delete(self.database, self.cache, principal, conversation_id, correlation_id)
        log.info("conversation_deleted", conversation_id=str(conversation_id), messages=deleted.messages)
        return deleted

    def health(self) -> HealthReport:
        """Return how everything is; at most a second old."""
        return self._health.get()

    def cache_stats(self) -> CacheReport:
        """Return how large the caches are and how often they answered."""
        return self._checks.cache()

    # -- writing --

    @property
    def _enriches_at_once(self) -> bool:
        """Whether ingest does the worker's work itself: MEMORY_WORKER_ENABLED is false, and no flag keeps it from that.

        Where one does, a job says what there is to do when that flag is on again.
        """
        stages = (Flag.SYSTEM, Flag.ENRICHMENT, Flag.EMBEDDING)
        return not self.settings.worker_enabled and all(self.flags.enabled(flag) for flag in stages)

    def _write(
        self,
        owner: MessageOwner,
        prepared: Sequence[IncomingMessage],
        actor: str,
        correlation_id: UUID,
        principal: Principal | None = None,
    ) -> messages.Written:
        """Write through one of two doors: by a job for the worker, or enriched and indexed before this returns."""
        if not self._enriches_at_once:
            return messages.ingest_block_async(
                self.database, self.cache, owner, prepared, actor=actor, correlation_id=correlation_id
            )
        return messages.ingest_block(
            self.database,
            self.cache,
            owner,
            prepared,
            actor=actor,
            correlation_id=correlation_id,
            refresh=lambda memories: self._refresh(memories, principal, correlation_id),
        )

    def _refresh(self, memories: Sequence[NamedMemory], principal: Principal | None, correlation_id: UUID) -> None:
        """Run the stages on memories within a request, on behalf of who asks.

        Raises BusyError where others do so for too long, ForbiddenError where the user may not run a plugin.
        """
        if principal is not None:
            for plugin in self._request_plugins:
                self._plugins.require(principal, plugin, correlation_id=correlation_id)
        # One at a time: the embedder uses every core there is, and two would only wait for each other.
        if not self._refreshing.acquire(timeout=_REFRESH_WAIT_SECONDS):
            raise BusyError("other requests are being enriched; these memories are left to the pipeline.")
        try:
            refresh(self.pipeline, NamedMemories.of(memories))
        finally:
            self._refreshing.release()

    def _buffer(
        self,
        principal: Principal,
        prepared: Sequence[IncomingMessage],
        limits: Limits,
        received_at: datetime,
        correlation_id: UUID,
    ) -> None:
        accept_write(
            self.buffer,
            limits,
            BufferedWrite(
                tenant_id=principal.tenant_id,
                user_id=principal.user_id,
                issuer=principal.issuer,
                subject=principal.subject,
                correlation_id=correlation_id,
                received_at=received_at,
                messages=tuple(prepared),
            ),
        )
        self._replayer.wake()

    def _replay(self, entry: BufferedWrite) -> int:
        """Write a buffered request as the direct path does; return how many of its messages were new."""
        return messages.write_buffered(
            self.database, self.cache, entry, with_jobs=self.settings.worker_enabled
        ).inserted

    # -- chores --

    def _sample_gauges(self) -> None:
        self.health()  # sets which stores are up
        sample_gauges(self._background, self.pipeline.exports_root)

    def _forget_expired_sessions(self) -> None:
        with self._background.transaction() as connection:
            delete_expired_sessions(connection)

    def _forget_old_records(self) -> None:
        days = self.settings.access_log_retention_days, self.settings.llm_usage_retention_days
        forget_old_records(self._background, *days)

    def _settle_invalidations(self) -> None:
        """Have the cache let go of conversations that were written without its knowledge."""
        while True:
            with self._background.transaction() as connection:
                owed = owed_invalidations(connection, _INVALIDATIONS_AT_ONCE)
            if not owed or not self.cache.drop({conversation_id for _id, conversation_id in owed}):
                return
            with self._background.transaction() as connection:
                settle_invalidations(connection, [invalidation_id for invalidation_id, _conversation in owed])


def _required(url: str | None, name: str) -> str:
    if url is None:
        raise SettingsError(f"{name} is not set; the API needs it. `memory-pipeline up` sets it.")
    return url

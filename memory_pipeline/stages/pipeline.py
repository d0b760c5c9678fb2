"""Everything the stages need, opened from the settings once and only when first used."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from memory_pipeline.model.errors import SettingsError
from memory_pipeline.providers.base import Embedder, Enricher, Summarizer
from memory_pipeline.settings import Settings
from memory_pipeline.stages.flags import FeatureFlags
from memory_pipeline.stages.rate_limits import RateLimits
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.redis.limits import HourlyWindows
from memory_pipeline.stores.redis.manager import RedisManager

if TYPE_CHECKING:
    from memory_pipeline.stores.chroma.store import ChromaStore


_CHROMA_SECONDS = 60.0
"""The longest wait for an answer of Chroma."""


class Pipeline:
    """Stores and providers of one process. A context manager: what was opened is closed at its end."""

    def __init__(self, settings: Settings, *, patience_seconds: float | None = None) -> None:
        """`patience_seconds`: the longest wait for an answer of Chroma or a remote embedder, which is then asked once.

        For callers who try again anyway, and have to be done in time; None waits and tries as the settings say.
        """
        self.settings = settings
        self._patience_seconds = patience_seconds
        self._open = ExitStack()
        self._opening = threading.Lock()
        self._windows: HourlyWindows | None = None

    @cached_property
    def database(self) -> Database:
        """Postgres as memory_pipeline: every tenant, by policy."""
        url = _required(self.settings.postgres_pipeline_url, "MEMORY_POSTGRES_PIPELINE_URL")
        return self._open.enter_context(Database(url, role="memory_pipeline"))

    @cached_property
    def app_database(self) -> Database:
        """Postgres as memory_app: the tenant of the transaction, nothing else."""
        url = _required(self.settings.postgres_app_url, "MEMORY_POSTGRES_APP_URL")
        return self._open.enter_context(Database(url, role="memory_app"))

    @cached_property
    def flags(self) -> FeatureFlags:
        """What is switched on."""
        return FeatureFlags(self.database, self.settings)

    @cached_property
    def rate_limits(self) -> RateLimits:
        """How much of what costs money may be done; Redis is opened when something has a limit."""
        return RateLimits(self.settings, self._hourly_windows)

    def _hourly_windows(self) -> HourlyWindows:
        with self._opening:
            if self._windows is None:
                url = _required(self.settings.redis_url, "MEMORY_REDIS_URL")
                self._windows = HourlyWindows(self._open.enter_context(RedisManager(url)))
        return self._windows

    @cached_property
    def chroma(self) -> ChromaStore:
        from memory_pipeline.stores.chroma.store import ChromaStore

        url = _required(self.settings.chroma_url, "MEMORY_CHROMA_URL")
        timeout = _CHROMA_SECONDS if self._patience_seconds is None else min(_CHROMA_SECONDS, self._patience_seconds)
        return self._open.enter_context(
            ChromaStore(url, database=self.settings.chroma_database, timeout_seconds=timeout)
        )

    @property
    def lake_root(self) -> Path:
        """Folder of the Parquet lake."""
        return self.settings.data / "lake"

    @property
    def exports_root(self) -> Path:
        """Folder of the published DuckDB files."""
        return self.settings.data / "exports"

    @cached_property
    def embedder(self) -> Embedder:
        from memory_pipeline.providers.registry import make_embedder

        embedder = make_embedder(self.settings, patience_seconds=self._patience_seconds)
        if isinstance(embedder, AbstractContextManager):
            self._open.enter_context(embedder)
        return embedder

    @cached_property
    def enricher(self) -> Enricher:
        from memory_pipeline.providers.registry import make_enricher

        return make_enricher(self.settings)

    @cached_property
    def summarizer(self) -> Summarizer:
        from memory_pipeline.providers.registry import make_summarizer

        return make_summarizer(self.settings)

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _required(url: str | None, name: str) -> str:
    if url is None:
        raise SettingsError(
            f"{name} is not set. Point it at a server, or run through the local stack "
            '(`memory-pipeline up`, then `eval "$(memory-pipeline env)"`).'
        )
    return url

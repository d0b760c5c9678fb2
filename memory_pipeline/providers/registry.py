"""Makes the providers that the settings name. Each is imported when made, so that a command without one is light."""

from __future__ import annotations

import math
from typing import NamedTuple

from memory_pipeline.providers.base import Embedder, Enricher, Summarizer
from memory_pipeline.settings import Settings


class PluginNames(NamedTuple):
    """The providers in use, as the plugin registry in Postgres names them."""

    enricher: str
    embedder: str
    summarizer: str


def plugin_names(settings: Settings) -> PluginNames:
    """Return the plugins that the settings name; costs nothing, nothing is made."""
    return PluginNames(f"enricher:{settings.enricher}", f"embedder:{settings.embedder}", "summarizer:extractive")


def make_embedder(settings: Settings, *, patience_seconds: float | None = None) -> Embedder:
    """Return the embedder that MEMORY_EMBEDDER names; nothing is loaded or called before its first use.

    With `patience_seconds` a remote one is asked once, and waited for no longer than that.
    """
    match settings.embedder:
        case "minilm":
            from memory_pipeline.providers.minilm.embedder import MiniLMEmbedder

            return MiniLMEmbedder(
                settings.home / "models",
                batch_tokens=settings.embedding_batch_tokens,
                threads=settings.embedding_threads,
            )
        case "openai":
            from memory_pipeline.providers.openai_embedder import OpenAIEmbedder

            return OpenAIEmbedder(
                settings.embedding_base_url,
                settings.embedding_model,
                settings.embedding_dimension,
                settings.embedding_api_key,
                request_dimension=settings.embedding_request_dimension,
                max_input_tokens=settings.embedding_max_input_tokens,
                max_request_inputs=settings.embedding_max_request_inputs,
                timeout_seconds=min(settings.embedding_timeout_seconds, patience_seconds or math.inf),
                retries=settings.retry_attempts if patience_seconds is None else 0,
                backoff_seconds=settings.retry_backoff_ms / 1000,
            )


def make_enricher(settings: Settings) -> Enricher:
    """Return the enricher that MEMORY_ENRICHER names."""
    match settings.enricher:
        case "local":
            from memory_pipeline.providers.local_enricher import LocalEnricher

            return LocalEnricher()


def make_summarizer(settings: Settings) -> Summarizer:
    """Return the summarizer. There is one so far: the extractive one, which needs neither model nor key."""
    from memory_pipeline.providers.extractive_summarizer import ExtractiveSummarizer

    return ExtractiveSummarizer()

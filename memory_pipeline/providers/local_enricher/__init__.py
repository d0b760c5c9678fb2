"""The local, deterministic fact extractor: regular expressions and word lists, no key, no model, no network."""

from memory_pipeline.providers.local_enricher.enricher import LocalEnricher

__all__ = ["LocalEnricher"]

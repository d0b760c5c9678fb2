"""Enrichers, embedders and summarizers: local ones that need no key, and OpenAI-compatible ones. No stores, no Dagster."""

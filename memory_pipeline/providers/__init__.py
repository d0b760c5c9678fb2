"""Enrichers, embedders and summarizers: local ones without a key, and OpenAI-compatible ones. No stores."""

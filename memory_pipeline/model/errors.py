"""Errors for people: what happened, to which record or setting, and what to do. Each has an exit code."""

from __future__ import annotations


class MemoryPipelineError(Exception):
    """Base of every error raised on purpose. The message is a whole sentence and safe to show."""

    exit_code = 2


class SettingsError(MemoryPipelineError):
    """A setting is missing or has a value that can't be used."""


class SchemaVersionError(MemoryPipelineError):
    """The database's schema is older, newer or other than the migrations this process ships with."""


class StoreUnavailableError(MemoryPipelineError):
    """A store can't be reached or does not answer in time."""

    exit_code = 3


class RecordRefusedError(MemoryPipelineError):
    """Postgres refused a record for what is in it; nothing of the transaction was stored."""


class NotFoundError(MemoryPipelineError):
    """A tenant, user or record named by the caller does not exist (for this caller)."""


class ProviderError(MemoryPipelineError):
    """An enricher, embedder or summarizer failed for good: bad answer, wrong dimension, NaN, refused."""


class ProviderUnavailableError(ProviderError):
    """A provider as a whole can't be used: not installed, unreachable, overloaded, or refusing the key.

    No record is to blame: work that meets it must wait or stop, and never count as failed for good.
    """

    exit_code = 3


class ExportError(MemoryPipelineError):
    """An export was not published; the last good one is still served."""

"""Errors for people: what happened, to which record or setting, and what to do. Each has an exit code."""

from __future__ import annotations


class MemoryPipelineError(Exception):
    """Base of every error raised on purpose. The message is a whole sentence and safe to show."""

    exit_code = 2
    code = "error"
    """What a program may compare, for answers over HTTP."""


class SettingsError(MemoryPipelineError):
    """A setting is missing or has a value that can't be used."""


class SchemaVersionError(MemoryPipelineError):
    """The database's schema is older, newer or other than the migrations this process ships with."""


class StoreUnavailableError(MemoryPipelineError):
    """A store can't be reached or does not answer in time."""

    exit_code = 3
    code = "store_unavailable"


class BusyError(MemoryPipelineError):
    """Everything that could do this is taken; the same request may succeed a moment later."""

    exit_code = 3
    code = "busy"


class BufferFullError(MemoryPipelineError):
    """Postgres is away and the write buffer can't take the write: it is full, turned off, or away too."""

    exit_code = 3
    code = "buffer_full"


class UnauthenticatedError(MemoryPipelineError):
    """No token, or one that can't be trusted (any more)."""

    def __init__(self, message: str, *, code: str = "unauthenticated") -> None:
        super().__init__(message)
        self.code = code


class ForbiddenError(MemoryPipelineError):
    """The caller is known and may not do this."""

    def __init__(self, message: str, *, code: str = "forbidden", permission: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.permission = permission


class ConflictError(MemoryPipelineError):
    """An id is taken by another record; nothing of the request was stored."""

    code = "conflict"


class InvalidRequestError(MemoryPipelineError):
    """A request holds what can't be taken; nothing of it was stored."""

    code = "invalid"


class WiringError(MemoryPipelineError):
    """Two processes, or two settings of one, lead to different databases."""

    code = "wiring"


class RecordRefusedError(MemoryPipelineError):
    """Postgres refused a record for what is in it; nothing of the transaction was stored."""


class NotFoundError(MemoryPipelineError):
    """A tenant, user or record named by the caller does not exist (for this caller)."""

    code = "not_found"


class ProviderError(MemoryPipelineError):
    """An enricher, embedder or summarizer failed for good: bad answer, wrong dimension, NaN, refused."""


class ProviderUnavailableError(ProviderError):
    """A provider as a whole can't be used: not installed, unreachable, overloaded, or refusing the key.

    No record is to blame: work that meets it must wait or stop, and never count as failed for good.
    """

    exit_code = 3


class ExportError(MemoryPipelineError):
    """An export was not published; the last good one is still served."""


class NoExportError(ExportError):
    """Nothing was exported yet, so there is nothing to read."""

    code = "no_export"


class QueryTimeoutError(MemoryPipelineError):
    """A query over an exported file took longer than it may."""

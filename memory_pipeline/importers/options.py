"""What every importer is told, and the last step they share: from a candidate to a message or a rejection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property

from memory_pipeline.model.records import IncomingMessage, Rejection
from memory_pipeline.model.validation import Limits, Problem, check_message

SEE_DOCS = "compare the record with docs/jsonl-format.md"


def _ignore_bytes(count: int) -> None:
    """Nobody shows progress."""


def _ignore_skip(kind: str) -> None:
    """Nobody counts what is left out."""


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """The circumstances of one import. Times are aware; sizes are bytes of UTF-8."""

    partition_start: date
    max_message_bytes: int
    now: datetime
    """The clock, read by the caller."""
    user_email: str | None = None
    """Whose memory records without a user of their own belong to; for Slack it goes before the users' own addresses."""
    project: str | None = None
    on_bytes: Callable[[int], None] = _ignore_bytes
    """Called with the number of bytes read since the last call; after a whole import they add up to `size_of`."""
    on_skip: Callable[[str], None] = _ignore_skip
    """Called once for each part left out on purpose, with its kind: "system message", "image without text" …"""

    @cached_property
    def limits(self) -> Limits:
        return Limits.at(self.now, partition_start=self.partition_start, max_message_bytes=self.max_message_bytes)

    @property
    def max_record_bytes(self) -> int:
        """Longest JSON of one message that is read: 16 MiB, or all a longest content could need with escapes."""
        return max(16 * 1024 * 1024, 6 * self.max_message_bytes + 65_536)


def reject(origin: str, problem: Problem) -> Rejection:
    return Rejection(origin=origin, reason=problem.reason, remedy=problem.remedy)


def rest_unread(origin: str, error: Exception, source: str) -> Rejection:
    """Return the rejection of all that comes after a damage in a file; `source` is what to get again: file, export."""
    return Rejection(
        origin=origin,
        reason=f"the rest of the file can't be read: {error}",
        remedy=f"get the {source} again and import it whole; repeats change nothing",
    )


def checked(message: IncomingMessage, limits: Limits) -> IncomingMessage | Rejection:
    """Return `message`, or why it can't be taken."""
    problem = check_message(message, limits)
    return message if problem is None else reject(message.origin, problem)


def label(text: str) -> str:
    """Shorten a name found in a file to what may stand in a line of a report: no control characters, no surrogates."""
    return ascii(text[:40])[1:-1]


def from_epoch(seconds: float) -> datetime | Problem:
    """Return the UTC time of `seconds` since 1970."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        hint = " (they look like milliseconds or smaller units)" if seconds > 1e11 else ""
        return Problem(f"{seconds:.17g} is not a time in epoch seconds{hint}", "give the time in seconds since 1970")

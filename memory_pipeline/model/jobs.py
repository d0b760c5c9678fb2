"""Jobs: the states of the ledger, and the arithmetic of attempts, waits and leases. No clock and no chance in here.

pending ─claim─► processing ─finish─► completed
   ▲                │  └─fail, or the lease ends─► failed (tried again when its time comes) or, attempts used up, dead
   └─release────────┘                              dead ─retry─► pending
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args
from uuid import UUID

import msgspec

JobType = Literal["enrich_and_embed", "index", "detect_relations", "summarize", "synthesize", "erase", "replay_write"]
JobState = Literal["pending", "processing", "completed", "failed", "dead"]
JOB_TYPES: tuple[JobType, ...] = get_args(JobType)
JOB_STATES: tuple[JobState, ...] = get_args(JobState)
HANDLED_TYPES: tuple[JobType, ...] = ("enrich_and_embed", "index", "detect_relations", "replay_write")
"""Those that workers know how to do; a job of another type is not taken on."""
MEMORY_TYPES: tuple[JobType, ...] = ("enrich_and_embed", "index")
"""Done when the memory they are about is as it should be, whoever saw to it."""
LEASE_EXPIRED = "LeaseExpired"
"""Error class of an attempt that was never answered: its worker died, hung, or lost its way to Postgres."""

_ERROR_TEXT_LIMIT = 2000
_HEARTBEATS_PER_LEASE = 4


class JobKey(NamedTuple):
    """What names a job: in the ledger, and (nothing else of it) in the stream."""

    tenant_id: UUID
    job_id: UUID


class StreamedJob(NamedTuple):
    """What the stream carries of a job: ids, and whether it has to be claimed alone."""

    key: JobKey
    alone: bool


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often a job is tried, and how long it waits in between."""

    max_attempts: int
    """The first try included."""
    backoff_seconds: float
    """Wait after the first failure; doubles each time."""
    longest_backoff_seconds: float = 900.0


def backoff_seconds(policy: RetryPolicy, attempts: int, chance: float) -> float:
    """Return how long a job waits that has failed for the `attempts`-th time.

    `chance` is a random number from 0 to 1: the wait is between half of the doubled one and all of it, so that jobs
    that failed together do not come back together.
    """
    # Beyond 2^60 the limit holds anyway, and a float would overflow.
    whole = min(policy.longest_backoff_seconds, policy.backoff_seconds * 2.0 ** min(max(attempts, 1) - 1, 60))
    return whole * (0.5 + chance / 2)


def heartbeat_interval(lease_seconds: float) -> float:
    """Return the seconds between renewals of a lease: three may be lost before it ends."""
    return lease_seconds / _HEARTBEATS_PER_LEASE


def storable_text(text: str) -> str:
    """Return an error's text as Postgres takes it: without NUL or half characters, at most 2,000 characters."""
    shortened = text if len(text) <= _ERROR_TEXT_LIMIT else text[: _ERROR_TEXT_LIMIT - 1] + "…"
    return shortened.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")

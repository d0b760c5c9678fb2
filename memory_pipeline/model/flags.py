"""Feature flags: parts of the system that an operator switches off, and on again, while everything runs.

The setting MEMORY_<NAME>_ENABLED of each process is the default; a row in Postgres overrides it in all of them. What a
part that is off would have done stays pending.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from memory_pipeline.model.jobs import JobType


class Flag(StrEnum):
    """What can be switched while processes run."""

    SYSTEM = "system"
    """The API's answers, the worker, and every stage."""
    ENRICHMENT = "enrichment"
    EMBEDDING = "embedding"
    RELATIONS = "relations"
    WEEKLY_SUMMARIES = "weekly_summaries"

    @property
    def field(self) -> str:
        """Its name among the settings."""
        return f"{self.value}_enabled"

    @property
    def setting(self) -> str:
        """The environment variable that holds its default."""
        return f"MEMORY_{self.field.upper()}"

    @property
    def waiting_jobs(self) -> tuple[JobType, ...]:
        """Jobs that a worker has put aside while it was off."""
        match self:
            case Flag.ENRICHMENT | Flag.EMBEDDING:
                return ("enrich_and_embed", "index")
            case Flag.RELATIONS:
                return ("detect_relations",)
            case Flag.SYSTEM:  # those taken just before it was off
                return ("enrich_and_embed", "index", "detect_relations")
            case Flag.WEEKLY_SUMMARIES:
                return ()


def flag_named(name: str) -> Flag | None:
    """Return the flag of this name; None where this release has none."""
    return next((flag for flag in Flag if flag.value == name), None)


class FixedFlag(NamedTuple):
    """A setting that looks like a flag, and the reason why it can't be changed without a restart."""

    field: str
    reason: str

    @property
    def setting(self) -> str:
        return f"MEMORY_{self.field.upper()}"


FIXED_FLAGS = {
    "worker": FixedFlag(
        "worker_enabled",
        "it decides which processes there are: switched on, jobs would wait for a worker that nobody started, and "
        "switched off, a worker would go on beside an API that does its work.",
    ),
    "fail_fast": FixedFlag(
        "fail_fast", "it is for the process of a developer, and would hold in every process of the system."
    ),
}


def switched_off(flags: tuple[Flag, ...]) -> str:
    """Say which flags keep something from being done."""
    names = " and ".join(flag.setting for flag in flags)
    return f"switched off by {names}; what there is to do stays pending and is done when that is on again"

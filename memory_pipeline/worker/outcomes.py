"""What becomes of a claimed job, and how a batch is worked through so that one bad job never fails its neighbours."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import structlog
from structlog.contextvars import bound_contextvars

from memory_pipeline.logs import places_of
from memory_pipeline.model.errors import (
    BusyError,
    MemoryPipelineError,
    ProviderError,
    ProviderUnavailableError,
    StoreUnavailableError,
)
from memory_pipeline.stores.postgres.jobs import ClaimedJob
from memory_pipeline.worker.job_lines import fields_of

log = structlog.get_logger(__name__)


class Done(NamedTuple):
    """The work is done, or there is nothing (more) to do."""


class Failed(NamedTuple):
    """The attempt failed for a reason of the job's own."""

    error_class: str
    error_text: str
    retry: bool
    """False where trying again can't help."""
    plugin: str | None = None
    """Which plugin did not do it, where that is known."""


class Waits(NamedTuple):
    """No fault of the job: it is given back, and due again after a while."""

    seconds: float
    reason: str


Outcome = Done | Failed | Waits
Handle = Callable[[Sequence[ClaimedJob]], Sequence[Outcome]]
"""Works on jobs of one type; returns an outcome for each, in order. May raise: then nobody knows whose fault it was."""

AWAY_SECONDS = 5.0
"""How long jobs wait for a store or a provider that is away."""
BUSY_SECONDS = 0.5
NO_HANDLER_SECONDS = 60.0
"""How long a job waits whose type this worker does not know: a worker of a newer release may."""


def _unknown() -> bool:
    return False


def work_through(
    handle: Handle,
    jobs: Sequence[ClaimedJob],
    stopped: Callable[[], bool],
    providers_answer: Callable[[], bool] = _unknown,
) -> list[Outcome]:
    """Return an outcome for each job. A batch that raises is halved until the job that does it stands alone.

    Once `stopped` answers true, what is left waits: it is given back at once. `providers_answer` asks them something
    that is well known to be harmless, for a job alone that they did not answer; false where it can't be known.
    """
    if stopped():
        return [Waits(0.0, "the worker stops")] * len(jobs)
    try:
        return _answers(handle, jobs)
    except StoreUnavailableError as error:
        return [Waits(AWAY_SECONDS, str(error))] * len(jobs)
    except ProviderUnavailableError as error:
        return _away(handle, jobs, stopped, providers_answer, error)
    except BusyError as error:
        return [Waits(BUSY_SECONDS, str(error))] * len(jobs)
    # A plugin or a record may raise anything; the job keeps the reason. SystemExit would end this thread unnoticed.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        if len(jobs) == 1:
            return [_failure(error, jobs[0])]
        log.warning("batch_split", jobs=len(jobs), error=type(error).__name__)
        middle = len(jobs) // 2
        halves = (jobs[:middle], jobs[middle:])
        return [outcome for half in halves for outcome in work_through(handle, half, stopped, providers_answer)]


def _answers(handle: Handle, jobs: Sequence[ClaimedJob]) -> list[Outcome]:
    """Have jobs worked on. What is logged meanwhile about one that is alone names its ids."""
    with bound_contextvars(**fields_of(jobs[0])) if len(jobs) == 1 else nullcontext():
        outcomes = list(handle(jobs))
    if len(outcomes) != len(jobs):
        raise MemoryPipelineError(
            f"the handler of {jobs[0].job_type} answered {len(outcomes)} outcomes for {len(jobs)} jobs: a mistake of "
            "this program. Mend it, then retry the jobs."
        )
    return outcomes


def _away(
    handle: Handle,
    jobs: Sequence[ClaimedJob],
    stopped: Callable[[], bool],
    providers_answer: Callable[[], bool],
    error: MemoryPipelineError,
) -> list[Outcome]:
    """Say what becomes of jobs that a provider did not take. (No job makes a store go away.)

    Away, it takes none, and all wait. But a single text may make a provider time out whatever comes with it. So a part
    of them is tried once more, chosen anew each time: if that is taken, the others are looked at more closely, and a
    job that is left alone has failed by itself. It may hold its neighbours up for a while, and never for good. One that
    comes alone has failed if the providers answer something else at that moment.
    """
    if len(jobs) == 1 and not stopped() and providers_answer():
        return [_failure(error, jobs[0])]
    if len(jobs) == 1 or stopped():
        return [Waits(AWAY_SECONDS, str(error))] * len(jobs)
    size = max(1, len(jobs) >> (1 + secrets.randbelow(len(jobs).bit_length() - 1)))
    start = secrets.randbelow(len(jobs) - size + 1)
    part, others = jobs[start : start + size], [*jobs[:start], *jobs[start + size :]]
    try:
        taken = _answers(handle, part)
    except (StoreUnavailableError, ProviderUnavailableError, BusyError):
        # It is away for these too, so that says nothing of any job: all wait, for the first reason.
        return [Waits(AWAY_SECONDS, str(error))] * len(jobs)
    except (Exception, SystemExit):  # noqa: BLE001 - it is there; whose fault that is, is found by halving
        taken = work_through(handle, part, stopped, providers_answer)
    log.warning("batch_split", jobs=len(jobs), error=type(error).__name__)
    if len(others) == 1:
        rest: list[Outcome] = [_failure(error, others[0])]
    else:
        rest = work_through(handle, others, stopped, providers_answer)
    return [*rest[:start], *taken, *rest[start:]]


def _failure(error: BaseException, job: ClaimedJob) -> Failed:
    """Say why a job failed. The text of a foreign error may quote a message, so only its place is told."""
    name = type(error).__name__
    place = places_of(error)
    text = str(error) if isinstance(error, MemoryPipelineError) else place
    # What a plugin says of a text stays in the ledger, under the rules of the tenant.
    told = place if isinstance(error, ProviderError) else text
    log.warning("job_raised", **fields_of(job), error=name, text=told)
    return Failed(name, text, retry=True)

"""What is done for each type of job: the stages, on the memories that the jobs name."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import uuid4

import structlog

from memory_pipeline.model.errors import ConflictError, ForbiddenError, InvalidRequestError, NotFoundError
from memory_pipeline.model.flags import Flag, switched_off
from memory_pipeline.model.jobs import JobType
from memory_pipeline.model.limits import Requester
from memory_pipeline.model.records import BufferedWrite, Role, Turn
from memory_pipeline.model.window import NamedMemories, NamedMemory
from memory_pipeline.serving.buffering import write_refused
from memory_pipeline.serving.messages import write_buffered
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.refresh import RefreshedMemory, RefreshState, Timings, refresh
from memory_pipeline.stages.relate import relate
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.due import keys_of, named_and_facts
from memory_pipeline.stores.postgres.jobs import ClaimedJob, NewJob, enqueue
from memory_pipeline.stores.postgres.replays import is_written, refused_write
from memory_pipeline.stores.redis.conversations import ConversationCache
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline.worker.outcomes import Done, Failed, Handle, Outcome, Waits
from memory_pipeline.worker.waiting import GrowingWaits

log = structlog.get_logger(__name__)

_PLAIN_TEXT = "The weather is fine today."
_LIMITED = "the tenant or user is over a rate limit"

PROBE_SECONDS = 30.0
"""How long what providers answered to a plain sentence is believed."""
REFUSED_SECONDS = 300.0
"""How long a job waits whose tenant has not installed the plugin, so that installing it is enough."""
OFF_SECONDS = 300.0
"""How long a job waits that a flag holds up; who sets that flag on brings the job forward."""


def _always() -> bool:
    return True


def _unknown() -> bool:
    return False


class Handlers(NamedTuple):
    """The handlers of one process, by type of job."""

    by_type: Mapping[JobType, Handle]
    switched_on: Callable[[], bool] = _always
    """Whether jobs may be taken at all; asked before each turn, and answered without delay."""
    providers_answer: Callable[[], bool] = _unknown
    """Asks the providers something plain, when they did not answer a job that came alone; False: nobody knows."""

    @property
    def job_types(self) -> list[JobType]:
        return list(self.by_type)


def stage_handlers(
    pipeline: Pipeline, redis: RedisManager, timings: Timings, *, detector: str | None = None
) -> Handlers:
    """Return the handlers that run the pipeline's stages, and write what the write buffer could not.

    `detector` is the plugin that looks for relations, so that its rate limit holds where it costs money; None is the
    ordering of facts in time that is built in, which costs nothing and has no limit.
    """
    cache = ConversationCache(redis)
    flags, limits, held = pipeline.flags, pipeline.rate_limits, GrowingWaits()

    def enrich_and_embed(jobs: Sequence[ClaimedJob]) -> list[Outcome]:
        outcomes = _refresh(pipeline, jobs, timings, held)
        if not flags.off(Flag.RELATIONS):
            _relate_new_facts(pipeline, jobs, outcomes)
        return outcomes

    def detect_relations(jobs: Sequence[ClaimedJob]) -> list[Outcome]:
        off = flags.off(Flag.RELATIONS)
        if off:
            return [Waits(OFF_SECONDS, switched_off(off))] * len(jobs)
        turns = [0.0] * len(jobs)
        if detector is not None:
            requesters = [Requester(job.tenant_id, job.user_id) for job in jobs]
            with pipeline.database.transaction() as connection:
                turns = limits.admit(connection, "relation_detection", detector, requesters)
        admitted = [job for job, seconds in zip(jobs, turns, strict=True) if not seconds]
        if admitted:
            _relate(pipeline, admitted)
        return [Waits(seconds, _LIMITED) if seconds else Done() for seconds in turns]

    def replay_write(jobs: Sequence[ClaimedJob]) -> list[Outcome]:
        return [_write_refused(pipeline, cache, job) for job in jobs]

    return Handlers(
        {
            "replay_write": replay_write,
            "enrich_and_embed": enrich_and_embed,
            # The same way: what is gone or up to date in Postgres costs enrichment and embedding a look.
            "index": enrich_and_embed,
            "detect_relations": detect_relations,
        },
        switched_on=lambda: not flags.off(),
        providers_answer=_Probe(pipeline).answers,
    )


class _Probe:
    """Asks enricher and embedder something plain, and no more often than once in a while: asking may cost."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._lock = threading.Lock()
        self._asked_at = -math.inf
        self._answer = False

    def answers(self) -> bool:
        """Whether both answered when last asked, at most PROBE_SECONDS ago."""
        with self._lock:
            if time.monotonic() - self._asked_at > PROBE_SECONDS:
                self._answer = _providers_answer(self._pipeline)
                self._asked_at = time.monotonic()
            return self._answer


def _providers_answer(pipeline: Pipeline) -> bool:
    """Whether both take a plain sentence at this moment. Which of them did not answer a job is not known here."""
    turn = Turn(
        message_id=uuid4(),
        conversation_id=uuid4(),
        role=Role.USER,
        speaker="Ana",
        content=_PLAIN_TEXT,
        sent_at=datetime.now(UTC),
    )
    try:
        pipeline.enricher.enrich(turn)
        pipeline.embedder.embed([_PLAIN_TEXT])
    # A plugin may raise anything; one that refuses such a sentence says nothing about the job.
    except Exception as error:  # noqa: BLE001
        log.info("providers_do_not_answer", error=type(error).__name__)
        return False
    return True


def _write_refused(pipeline: Pipeline, cache: ConversationCache, job: ClaimedJob) -> Outcome:
    if is_written(job.payload):  # and its worker died before it could say so
        return Done()
    entry = refused_write(job.payload)
    if (entry.tenant_id, entry.entry_id) != job.key:
        # A row of this ledger is written by whoever may write as its tenant; its payload must not reach another one.
        text = "the request it holds belongs to another tenant or another job: it is not written."
        return Failed("WrongTenant", text, retry=False)

    def write_entry(entry: BufferedWrite) -> int:
        return write_buffered(pipeline.database, cache, entry, with_jobs=True).inserted

    try:
        write_refused(pipeline.database, entry, write_entry)
    except (ForbiddenError, ConflictError, InvalidRequestError, NotFoundError) as error:
        return Failed(type(error).__name__, str(error), retry=False)
    return Done()


def no_op_handlers() -> Handlers:
    """Return handlers that do nothing: for measuring the queue by itself."""

    def nothing(jobs: Sequence[ClaimedJob]) -> list[Outcome]:
        return [Done()] * len(jobs)

    return Handlers({"enrich_and_embed": nothing, "index": nothing, "detect_relations": nothing})


def _memories(jobs: Sequence[ClaimedJob]) -> NamedMemories:
    return NamedMemories.of(
        NamedMemory(job.tenant_id, job.subject_id, job.day) for job in jobs if job.subject_id is not None
    )


def _relate_new_facts(pipeline: Pipeline, jobs: Sequence[ClaimedJob], outcomes: Sequence[Outcome]) -> None:
    """Order the facts found in those memories that are done: a later message may have ended what was true before.

    What there is decides, not what this batch wrote: so a batch that is done again does what is left of it.
    """
    done = [job for job, outcome in zip(jobs, outcomes, strict=True) if isinstance(outcome, Done)]
    named = keys_of(_memories(done))
    with pipeline.database.transaction() as connection:
        facts = set(named_and_facts(connection, _memories(done))) - set(named)
    if facts:
        _relate(pipeline, done)


def _relate(pipeline: Pipeline, jobs: Sequence[ClaimedJob]) -> None:
    """Order the facts of these jobs' memories, and ask for those that changed to be indexed as they are now."""
    correlation_ids = {job.tenant_id: job.correlation_id for job in reversed(jobs)}

    def ask_for_index(connection: Connection, changed: Sequence[NamedMemory]) -> None:
        enqueue(
            connection,
            [
                NewJob(
                    tenant_id=fact.tenant_id,
                    job_type="index",
                    subject_id=fact.memory_id,
                    day=fact.day,
                    correlation_id=correlation_ids[fact.tenant_id],
                )
                for fact in changed
            ],
        )

    relate(pipeline.database, _memories(jobs), on_changed=ask_for_index)


def _refresh(pipeline: Pipeline, jobs: Sequence[ClaimedJob], timings: Timings, held: GrowingWaits) -> list[Outcome]:
    report = refresh(pipeline, _memories(jobs), timings=timings)
    by_memory = {(each.memory.tenant_id, each.memory.memory_id): each for each in report.memories}
    return [_outcome(by_memory.get((job.tenant_id, job.subject_id)), job, held) for job in jobs]  # type: ignore[arg-type]


def _outcome(refreshed: RefreshedMemory | None, job: ClaimedJob, held: GrowingWaits) -> Outcome:
    if refreshed is None:
        return Failed("NoSubject", "the job names no memory: it can't be done.", retry=False)
    if refreshed.state not in (RefreshState.HELD, RefreshState.AWAY):
        held.forget(job.key)
    match refreshed.state:
        case RefreshState.DONE | RefreshState.UNKNOWN:
            return Done()
        case RefreshState.HELD:
            return Waits(held.next(job.key), "another run holds the memory")
        case RefreshState.AWAY:
            return Waits(held.next(job.key), refreshed.failure_text or "its index can't be written now")
        case RefreshState.OFF:
            return Waits(OFF_SECONDS, switched_off(refreshed.flags))
        case RefreshState.LIMITED:
            return Waits(refreshed.wait_seconds, _LIMITED)
        case RefreshState.REFUSED:
            return Waits(REFUSED_SECONDS, "the tenant has not installed the plugin")
        case RefreshState.FAILED:
            text = refreshed.failure_text or "no text"
            # A memory among the dead letters stays there until a person has looked; the index may be back later.
            return Failed(refreshed.failure_class or "Failed", text, refreshed.retryable, refreshed.plugin)

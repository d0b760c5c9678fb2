"""The Redis stream that carries ids of jobs to workers: speed, and nothing that Postgres would miss.

An entry is a tenant id and a job id. Each goes to one consumer of the group, and again to another if that one keeps it
too long; done with, it is acknowledged and deleted. The stream is never trimmed. The group begins at 0 and is made anew
where Redis has lost it (FLUSHALL, an empty restart, eviction): what is in the stream is then delivered once more, and
what is not is put there again from Postgres (stores.postgres.job_outbox). Every failure of Redis is a
StoreUnavailableError: a worker then claims straight from Postgres.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from uuid import UUID

import structlog

from memory_pipeline.model.jobs import JobKey, StreamedJob
from memory_pipeline.stores.redis.keys import JOBS_KEY
from memory_pipeline.stores.redis.manager import RedisManager

if TYPE_CHECKING:
    import redis

GROUP = "workers"
LONGEST_BLOCK_MS = 2000
"""Longest wait for entries in one call: well below the time after which the connection counts as dead."""
_PAGE_ENTRIES = 1000
_GROUP_GONE = ("NOGROUP", "UNBLOCKED")
"""What Redis calls it: the first; and the second where it went while a reader of Redis 7.0 waited for entries."""
_FIRST = "-"

Result = TypeVar("Result")
_log = structlog.get_logger()


class Delivery(NamedTuple):
    """An entry that this consumer has until it acknowledges it."""

    entry_id: str
    key: JobKey
    alone: bool
    """To be claimed without any other job."""


class JobStream:
    """The stream `memory:jobs` and its one group of workers. Safe to use from several threads and processes."""

    def __init__(self, manager: RedisManager) -> None:
        self._manager = manager

    def publish(self, jobs: Sequence[StreamedJob]) -> None:
        """Add an entry for each job, in one round trip; a failure may leave some of them in the stream."""

        def work(client: redis.Redis) -> None:
            with client.pipeline(transaction=False) as pipeline:
                for job in jobs:
                    pipeline.xadd(JOBS_KEY, _fields(job))
                pipeline.execute()

        self._manager.queue(work)

    def read(self, consumer: str, count: int, block_ms: int) -> list[Delivery]:
        """Return up to `count` new entries; wait up to `block_ms` (at most 2,000; 0 not at all) for the first."""
        block = min(block_ms, LONGEST_BLOCK_MS) or None

        def work(client: redis.Redis) -> Any:
            return client.xreadgroup(GROUP, consumer, {JOBS_KEY: ">"}, count=count, block=block)

        answer = self._in_group(work)
        return self._deliveries(answer[0][1]) if answer else []

    def claim_idle(self, consumer: str, idle_ms: int, count: int) -> list[Delivery]:
        """Take over up to `count` entries that some consumer has had for `idle_ms` or longer without acknowledging."""

        def work(client: redis.Redis) -> Any:
            return client.eval(_lua("stream_claim_idle"), 1, JOBS_KEY, GROUP, consumer, idle_ms, count)

        return self._deliveries((entry_id, _pairs(values)) for entry_id, values in self._in_group(work))

    def acknowledge(self, entry_ids: Sequence[str]) -> None:
        """End the entries: acknowledged and deleted in one transaction, so that none is left half done with."""
        if not entry_ids:
            return

        def work(client: redis.Redis) -> None:
            with client.pipeline(transaction=True) as pipeline:
                pipeline.xack(JOBS_KEY, GROUP, *entry_ids)
                pipeline.xdel(JOBS_KEY, *entry_ids)
                pipeline.execute()

        self._manager.queue(work)

    def depth(self) -> int:
        """Return how many entries there are, those included that consumers have."""
        return int(self._manager.queue(lambda client: client.xlen(JOBS_KEY)))

    def in_progress(self) -> int:
        """Return how many entries consumers have and have not acknowledged."""
        return int(self._in_group(lambda client: client.xpending(JOBS_KEY, GROUP))["pending"])

    def holds(self, keys: Collection[JobKey]) -> set[JobKey]:
        """Return those of the jobs that have an entry; reads the whole stream, page by page."""
        wanted, found = set(keys), set[JobKey]()
        after = _FIRST
        while len(found) < len(wanted):
            page = self._manager.queue(_page_reader(after))
            for _, fields in page:
                job = _parse(fields)
                if job is not None and job.key in wanted:
                    found.add(job.key)
            if len(page) < _PAGE_ENTRIES:
                break
            after = f"({page[-1][0].decode()}"
        return found

    def forget_consumers(self, idle_ms: int) -> int:
        """Forget consumers not seen for so long that hold no entry; return how many. A worker's name is used once."""

        def work(client: redis.Redis) -> Any:
            return client.eval(_lua("stream_forget_consumers"), 1, JOBS_KEY, GROUP, idle_ms)

        return int(self._in_group(work))

    def _in_group(self, work: Callable[[redis.Redis], Result]) -> Result:
        """Do what needs the group; where there is none, make it at 0 and do it once more."""
        import redis

        def attempt(client: redis.Redis) -> Result:
            try:
                return work(client)
            except redis.ResponseError as error:
                if not any(word in str(error) for word in _GROUP_GONE):
                    raise
            try:
                client.xgroup_create(JOBS_KEY, GROUP, id="0", mkstream=True)
                _log.info("job_group_created", stream=JOBS_KEY, group=GROUP)
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):  # else another worker was first
                    raise
            return work(client)

        return self._manager.queue(attempt)

    def _deliveries(self, entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> list[Delivery]:
        """Decode entries. One that is not of ours names no job, so nothing is lost when it is ended here."""
        deliveries, foreign = [], []
        for raw_id, fields in entries:
            entry_id, job = raw_id.decode(), _parse(fields)
            if job is None:
                foreign.append(entry_id)
            else:
                deliveries.append(Delivery(entry_id, job.key, job.alone))
        if foreign:
            _log.warning("foreign_stream_entries_dropped", stream=JOBS_KEY, entries=len(foreign))
            self.acknowledge(foreign)
        return deliveries


def _fields(job: StreamedJob) -> dict[Any, Any]:
    fields = {"t": job.key.tenant_id.bytes, "j": job.key.job_id.bytes}
    return fields | {"a": b"1"} if job.alone else fields


def _parse(fields: dict[bytes, bytes]) -> StreamedJob | None:
    tenant_id, job_id = fields.get(b"t", b""), fields.get(b"j", b"")
    if len(tenant_id) != 16 or len(job_id) != 16:
        return None
    return StreamedJob(JobKey(UUID(bytes=tenant_id), UUID(bytes=job_id)), b"a" in fields)


def _pairs(values: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(values[::2], values[1::2], strict=True))


def _page_reader(after: str) -> Callable[[redis.Redis], Any]:
    return lambda client: client.xrange(JOBS_KEY, min=after, count=_PAGE_ENTRIES)


@cache
def _lua(name: str) -> str:
    return files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")

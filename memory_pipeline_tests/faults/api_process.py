"""What an API process does with writes, without HTTP: for tests of outages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal
from uuid import UUID

from memory_pipeline.local.postgres import PostgresServer
from memory_pipeline.model.errors import BufferFullError, BusyError, StoreUnavailableError
from memory_pipeline.model.records import BufferedWrite
from memory_pipeline.serving.replayer import Replayer
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.migrate import migrate
from memory_pipeline.stores.redis.buffer import WriteBuffer
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.serving.buffered_writes import (
    Ingest,
    Person,
    link_person,
    rows,
)

Answer = Literal["durable", "buffered", "refused"]


class Process:
    """What an API process does with a request: into Postgres, else into the buffer, else refused; and it replays."""

    def __init__(self, pipeline: Database, app: Database, manager: RedisManager) -> None:
        self.pipeline = pipeline
        self.write = Ingest(app)
        self.buffer = WriteBuffer(manager, 100_000, 100_000_000)
        self.replayer = Replayer(self.buffer, pipeline, self.write, interval=0.1, max_pause=0.5)

    def post(self, entry: BufferedWrite) -> Answer:
        try:
            self.write(entry)
        except BusyError:  # a Postgres that hangs keeps all connections for a while
            return "refused"
        except StoreUnavailableError:
            try:
                self.buffer.add(entry)
            except (BufferFullError, StoreUnavailableError):
                return "refused"
            self.replayer.wake()
            return "buffered"
        return "durable"

    def is_done(self) -> bool:
        """Nothing waits in the buffer, and the end of all that was added here is known."""
        try:
            return self.buffer.stats().entries == 0 and not self.buffer.unsettled()
        except StoreUnavailableError:
            return False


@contextmanager
def process(pipeline_url: str, app_url: str, redis_url: str, *, replays: bool = True) -> Iterator[Process]:
    """An API process; Postgres and Redis must be there when it starts."""
    with ExitStack() as stack:
        opened = Process(
            stack.enter_context(Database(pipeline_url, role="memory_pipeline", wait_seconds=2)),
            stack.enter_context(Database(app_url, role="memory_app", wait_seconds=2)),
            stack.enter_context(RedisManager(redis_url)),
        )
        if replays:
            opened.replayer.start()
            stack.callback(opened.replayer.stop)
        yield opened


@contextmanager
def process_on(postgres: PostgresServer, redis_url: str, *, replays: bool = True) -> Iterator[Process]:
    with process(postgres.url("memory_pipeline"), postgres.url("memory_app"), redis_url, replays=replays) as opened:
        yield opened


def link_first_person(postgres: PostgresServer) -> Person:
    """Migrate a server of the test's own and return its one user."""
    migrate(postgres.url())
    with Database(postgres.url("memory_pipeline"), role="memory_pipeline") as pipeline:
        return link_person(pipeline)


def names_of(entries: list[BufferedWrite]) -> list[str]:
    return [message.source_message_id.partition("/")[2] for entry in entries for message in entry.messages]


def ledger(admin_url: str) -> Counter[tuple[UUID, str]]:
    found = rows(admin_url, "SELECT job_id, state FROM memory_jobs WHERE job_type = 'replay_write'")
    return Counter((job_id, state) for job_id, state in found)

"""A queue on servers of a test's own: messages to post, worker processes to kill, and one check of all invariants."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from memory_pipeline.local.own_servers import WorkerServer
from memory_pipeline.local.postgres import PostgresServer
from memory_pipeline.local.processes import Child, free_port, start_child
from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.jobs import JobKey
from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline.model.window import DayWindow
from memory_pipeline.providers.local_enricher.enricher import LocalEnricher
from memory_pipeline.serving.messages import MessageOwner, write
from memory_pipeline.settings import Settings, load_settings
from memory_pipeline.stages.index import index_memories
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.jobs import enqueue
from memory_pipeline.stores.postgres.migrate import migrate
from memory_pipeline.stores.redis.conversations import ConversationCache
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline.stores.redis.stream import JobStream
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.local.inspect import until
from memory_pipeline_tests.serving.buffered_writes import START, Person, link_person
from memory_pipeline_tests.stages.support import HashedEmbedder, embed, enrich
from memory_pipeline_tests.stores.postgres.ledger import Ledger
from memory_pipeline_tests.worker.watch import (
    Watched,
    check_export,
    check_jobs,
    check_memories,
    export_everything,
    job_keys,
    watch,
)

_SAYINGS = ("I live in {place}.", "I moved to {place}.", "I like coffee.", "I work as a nurse.", "We met in {place}.")
EDIT = (
    "UPDATE memories SET content = content || ' (edited)', version = version + 1,"
    " content_hash = sha256(convert_to(content || ' (edited)', 'UTF8')) WHERE memory_id = %s"
)
"""Makes a memory (by its id) another version."""
_WINDOW = DayWindow(START.date(), START.date() + timedelta(days=365))
_PLACES = ("Lisbon", "Berlin", "Paris", "Porto")


class Rig:
    """Everything of one test. Postgres and Redis may be killed, suspended or emptied at any time."""

    def __init__(
        self, postgres: PostgresServer, redis: RedisServer, env: Mapping[str, str], folder: Path, attempts: int
    ) -> None:
        self.postgres = postgres
        self.redis = redis
        self.env = dict(env)
        self.folder = folder
        self.names: list[str] = []
        self.keys: list[JobKey] = []
        """Of jobs that were added by themselves; those of messages come with them."""
        self.watched = Watched(postgres.url(), redis.url(), attempts)
        self._children: list[Child] = []
        self._stack = ExitStack()
        database = self._stack.enter_context(Database(postgres.url("memory_pipeline"), role="memory_pipeline"))
        self._app = self._stack.enter_context(Database(postgres.url("memory_app"), role="memory_app"))
        urls = Urls("postgres", postgres.url(), postgres.url("memory_app"), postgres.url("memory_pipeline"))
        self.ledger = Ledger(urls, database)
        self.people = [link_person(database, slug) for slug in ("acme", "globex")]
        self._cache = ConversationCache(self._stack.enter_context(RedisManager(redis.url())))

    def close(self) -> None:
        """End the workers; a server that a failed test left suspended goes on, so that it can be stopped."""
        for child in self._children:
            child.kill()
        for server in (self.redis.child, self.postgres.running()):
            if server is not None:
                server.resume()
        self._stack.close()

    @property
    def settings(self) -> Settings:
        wanted = {name.removeprefix("MEMORY_").lower(): value for name, value in self.env.items()}
        return load_settings(**wanted)

    # -- workers --

    def worker(self, kind: str = "stages", *options: str, failpoints: str | None = None, **env: str) -> Child:
        """Start a worker process; it works when this returns (or has met its end at a failpoint)."""
        number = len(self._children)
        ready = self.folder / f"ready-{number}"
        command = [sys.executable, "-m", "memory_pipeline_tests.worker.worker_process", kind, "--ready", str(ready)]
        wanted = os.environ | self.env | env | ({"MEMORY_FAILPOINTS": failpoints} if failpoints else {})
        child = start_child(
            "worker", [*command, *options], self.log(number), env=wanted, death_signal=signal.SIGKILL, cwd=Path.cwd()
        )
        self._children.append(child)
        until(lambda: ready.exists() or child.exit_code is not None, "the worker works", 60)
        return child

    def log(self, number: int = 0) -> Path:
        return self.folder / f"worker-{number}.log"

    @property
    def logs(self) -> str:
        return "".join(self.log(number).read_text() for number in range(len(self._children)))

    @contextmanager
    def command(self, **env: str) -> Iterator[WorkerServer]:
        """`memory-pipeline worker`, as anybody starts it."""
        server = WorkerServer(self.folder / "command.log", port=free_port(), env=self.env | env)
        server.start()
        try:
            server.wait_ready()
            yield server
        finally:
            server.stop()

    # -- work --

    def add(self, count: int, **changes: Any) -> list[JobKey]:
        """Add jobs for obeying workers."""
        keys = self.ledger.add(count, **changes)
        self.keys += keys
        return keys

    def post(self, count: int) -> None:
        """Post messages of two tenants, one by one, as the API writes them, with a job each."""
        for _ in range(count):
            number = len(self.names)
            person = self.people[number % len(self.people)]
            self._write(person, f"m{number:05d}", number)
            self.names.append(f"m{number:05d}")

    @contextmanager
    def traffic(self, per_second: float) -> Iterator[None]:
        """Post at this rate while the block runs; what Postgres does not take is posted again until it does."""
        over = threading.Event()

        def send() -> None:
            while not over.wait(1 / per_second):
                try:
                    self.post(1)
                except Exception:  # noqa: BLE001 - Postgres is away: the client tries again, with the same name
                    time.sleep(0.1)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _write(self, person: Person, name: str, number: int) -> None:
        message = IncomingMessage(
            source="api",
            source_message_id=f"{person.user_id}/{name}",
            source_conversation_id=f"{person.user_id}/c{number % 3}",
            role=Role.USER,
            content=_SAYINGS[number % 5].format(place=_PLACES[number % 4]) + f" ({name})",
            sent_at=START + timedelta(minutes=17 * number),
            position=0,
        )
        owner = MessageOwner(person.tenant_id, person.user_id, "Ana")
        write(self._app, self._cache, owner, [message], actor="test", correlation_id=uuid4(), with_jobs=True)

    def edit_some(self) -> None:
        """Change three episodes, which makes them new versions, with a job for each."""
        chance = random.Random(len(self.keys))
        with self.ledger.database.transaction() as connection:
            rows = connection.execute(
                "SELECT tenant_id, memory_id, day FROM memories WHERE kind = 'episode' AND status = 'active'"
            ).fetchall()
            for tenant_id, memory_id, day in chance.sample(rows, min(3, len(rows))):
                connection.execute(EDIT, [memory_id])
                new = self.ledger.new_job(tenant_id=tenant_id, subject_id=memory_id, day=day)
                self.keys += enqueue(connection, [new])

    def run_window(self) -> None:
        """What a Dagster run over all days does, in this process."""
        with Pipeline(self.settings) as pipeline:
            embedder, enricher = HashedEmbedder(), LocalEnricher()
            enrich(pipeline.database, enricher, _WINDOW)
            embed(pipeline.database, embedder, _WINDOW)
            index_memories(pipeline.database, pipeline.chroma, embedder.model, embedder.dimension, _WINDOW)

    # -- the end --

    def states(self) -> dict[JobKey, str]:
        return {key: row.state for key, row in self.ledger.rows().items()}

    def rest(self, seconds: float = 60) -> None:
        """Wait until every job has ended and no entry is left, by workers that run."""

        def at_rest() -> bool:
            with self.ledger.database.transaction() as connection:
                row = connection.execute(
                    "SELECT NOT EXISTS (SELECT FROM memory_jobs WHERE state IN ('pending', 'failed'))"
                    " AND NOT EXISTS (SELECT FROM memory_jobs WHERE state = 'processing')"
                ).fetchone()
            assert row is not None
            with RedisManager(self.redis.url()) as manager:
                return bool(row[0]) and JobStream(manager).depth() == 0

        until(at_rest, "every job has ended and every entry is acknowledged", seconds)

    def check(self, *, dead: Sequence[JobKey] = (), failed: Collection[str] = (), seconds: float = 60) -> None:
        """Wait for rest; then the invariants of queue and stores, whatever happened before."""
        self.rest(seconds)
        of_messages = set(job_keys(self.watched.admin_url, "enrich_and_embed")) - set(self.keys)
        assert len(of_messages) == len(self.names), "a message has no job, or two"
        # Facts that a later message ended have asked to be indexed as they are now.
        asked_for = set(job_keys(self.watched.admin_url, "index")) - set(self.keys)
        check_jobs(self.watched, [*self.keys, *of_messages, *asked_for], dead=dead)
        if self.names:
            with Pipeline(self.settings) as pipeline:
                pipeline.embedder, pipeline.enricher = HashedEmbedder(), LocalEnricher()
                check_memories(self.watched, pipeline, self.names, failed=failed)
            exported = export_everything(self.postgres.url("memory_pipeline"), self.folder / "data", _WINDOW)
            check_export(self.watched, exported)


def make_rig(postgres: PostgresServer, redis: RedisServer, chroma_url: str, chroma_database: str, folder: Path) -> Rig:
    """A rig whose workers are impatient: a lease of three seconds, retries after a tenth of one."""
    migrate(postgres.url())
    watch(postgres.url())
    env = {
        "MEMORY_HOME": str(folder / "home"),
        "MEMORY_POSTGRES_PIPELINE_URL": postgres.url("memory_pipeline"),
        "MEMORY_REDIS_URL": redis.url(),
        "MEMORY_CHROMA_URL": chroma_url,
        "MEMORY_CHROMA_DATABASE": chroma_database,
        "MEMORY_WORKER_LEASE_MS": "3000",
        "MEMORY_WORKER_POLL_INTERVAL_MS": "200",
        "MEMORY_RETRY_BACKOFF_MS": "100",
        "MEMORY_WORKER_MAX_CONCURRENT_JOBS": "3",
    }
    return Rig(postgres, redis, env, folder, attempts=4)

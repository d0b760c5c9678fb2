"""What the tests of the write buffer share: a tenant with a linked user, requests, and the ingest that replays them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString, NamedTuple
from uuid import UUID, uuid4

import psycopg
import redis

from memory_pipeline.model.errors import ConflictError
from memory_pipeline.model.records import BufferedWrite, IncomingMessage, Rejection, Role
from memory_pipeline.serving.buffering import ReplayReport, replay
from memory_pipeline.serving.ingest import UserDirectory, ingest
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.tenants import ensure_tenant, ensure_user
from memory_pipeline.stores.redis.buffer import WriteBuffer
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.conftest import Database as Urls

START = datetime(2025, 3, 1, 12, tzinfo=UTC)
ISSUER = "https://issuer.example"


class Person(NamedTuple):
    """A linked user."""

    tenant_id: UUID
    user_id: UUID
    email: str
    subject: str


def link_person(pipeline: Database, slug: str = "acme", name: str = "ana") -> Person:
    """Return a new user of the tenant, with a linked identity."""
    with pipeline.transaction() as connection:
        tenant_id = ensure_tenant(connection, slug)
        email = f"{name}@{slug}.example"
        user_id = ensure_user(connection, tenant_id, email, name.capitalize())
        connection.execute(
            "INSERT INTO identities (issuer, subject, state, tenant_id, user_id, changed_by)"
            " VALUES (%s, %s, 'linked', %s, %s, 'test')",
            [ISSUER, email, tenant_id, user_id],
        )
    return Person(tenant_id, user_id, email, email)


def request(person: Person, *names: str, content: str = "said", conversation: str = "c1") -> BufferedWrite:
    """A request with a message of each name (its id), as the API would buffer it."""
    return BufferedWrite(
        tenant_id=person.tenant_id,
        user_id=person.user_id,
        issuer=ISSUER,
        subject=person.subject,
        correlation_id=uuid4(),
        received_at=START,
        messages=tuple(
            IncomingMessage(
                source="api",
                source_message_id=f"{person.user_id}/{name}",
                source_conversation_id=f"{person.user_id}/{conversation}",
                role=Role.USER,
                content=f"{content} {name}",
                sent_at=START + timedelta(seconds=place),
                position=place,
                user_email=person.email,
            )
            for place, name in enumerate(names)
        ),
    )


def requests(person: Person, number: int, first: int = 0) -> list[BufferedWrite]:
    """One request of one message each, named in order."""
    return [request(person, f"m{place:05d}") for place in range(first, first + number)]


class Ingest:
    """Writes requests as the direct path does, and notes in what order it was asked to."""

    def __init__(self, app: Database) -> None:
        self._app = app
        self._users: dict[UUID, UserDirectory] = {}
        self.asked: list[UUID] = []

    def __call__(self, entry: BufferedWrite) -> int:
        self.asked.append(entry.entry_id)
        rejections: list[Rejection] = []
        if entry.tenant_id not in self._users:
            self._users[entry.tenant_id] = UserDirectory(self._app, entry.tenant_id, None)
        report = ingest(
            self._app,
            entry.tenant_id,
            self._users[entry.tenant_id],
            entry.messages,
            actor=f"user:{entry.user_id}",
            on_reject=rejections.append,
        )
        if rejections:
            raise ConflictError(rejections[0].reason)
        return report.inserted


def rows(admin_url: str, statement: LiteralString, *parameters: object) -> Sequence[Any]:
    """Rows as the superuser sees them."""
    with psycopg.connect(admin_url, options="-c search_path=memory,public -c timezone=UTC") as connection:
        return connection.execute(statement, parameters).fetchall()


def stored_names(admin_url: str) -> list[str]:
    """The messages in Postgres by the order in which they were committed (of rows written one by one)."""
    found = rows(admin_url, "SELECT source_message_id FROM messages ORDER BY received_at, position")
    return [name.partition("/")[2] for (name,) in found]


class World(NamedTuple):
    """A database with one linked user, an empty buffer, and the ingest that replays write with."""

    urls: Urls
    redis_url: str
    manager: RedisManager
    pipeline: Database
    app: Database
    ana: Person
    buffer: WriteBuffer
    write: Ingest

    def replay(self, **options: Any) -> ReplayReport:
        return replay(self.buffer, self.pipeline, self.write, **options)

    def jobs(self) -> list[tuple[UUID, str]]:
        found = rows(self.urls.admin_url, "SELECT job_id, state FROM memory_jobs WHERE job_type = 'replay_write'")
        return [(job_id, state) for job_id, state in found]

    def events(self, kind: str) -> list[tuple[UUID, UUID | None, UUID, dict[str, Any]]]:
        return list(
            rows(
                self.urls.admin_url,
                "SELECT tenant_id, subject_id, correlation_id, detail FROM events WHERE kind = %s",
                kind,
            )
        )

    def change(self, statement: LiteralString, *parameters: object) -> None:
        with self.pipeline.transaction() as connection:
            connection.execute(statement, parameters)

    def flush(self) -> None:
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushdb()


@contextmanager
def opened_world(urls: Urls, redis_url: str) -> Iterator[World]:
    """The parts of a test, opened; its user is ana of acme."""
    with ExitStack() as stack:
        pipeline = stack.enter_context(Database(urls.pipeline_url, role="memory_pipeline"))
        app = stack.enter_context(Database(urls.app_url, role="memory_app"))
        manager = stack.enter_context(RedisManager(redis_url))
        yield World(
            urls,
            redis_url,
            manager,
            pipeline,
            app,
            link_person(pipeline),
            WriteBuffer(manager, 10_000, 100_000_000),
            Ingest(app),
        )

"""Messages to take in, and what is there of a tenant afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from memory_pipeline.model.records import IncomingMessage, Rejection, Role
from memory_pipeline.serving.ingest import IngestReport, UserDirectory, ingest
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.tenants import ensure_tenant
from memory_pipeline_tests.conftest import Database as Urls

START = datetime(2025, 3, 1, 12, tzinfo=UTC)
USER = "ana@acme.example"
# Everything of a tenant but what the database makes up: generated ids and the time of arrival.
_STATE = {
    "users": "SELECT email, display_name FROM users",
    "conversations": "SELECT conversation_id, email, source, source_conversation_id, title, project"
    " FROM conversations JOIN users USING (tenant_id, user_id)",
    "messages": "SELECT message_id, conversation_id, email, source, source_message_id, role, speaker, content,"
    " content_hash, sent_at, position, raw_data FROM messages JOIN users USING (tenant_id, user_id)",
    "memories": "SELECT memory_id, conversation_id, email, kind, memories.status, content, content_hash, day,"
    " source_message_ids, project FROM memories JOIN users USING (tenant_id, user_id)",
}
_EVENTS = "SELECT subject_id, detail FROM events"
State = dict[str, Counter[str]]


def said(name: str, content: str = "I moved to Lisbon.", **changes: Any) -> IncomingMessage:
    """A message; `name` is its source id."""
    fields: dict[str, Any] = {
        "source": "test",
        "source_message_id": name,
        "source_conversation_id": "c1",
        "role": Role.USER,
        "content": content,
        "sent_at": START,
        "position": 0,
        "origin": f"test, message {name}",
    }
    return IncomingMessage(**{**fields, **changes})


def talk(number: int, conversation: str = "c1", first: int = 0) -> list[IncomingMessage]:
    return [
        said(
            f"{conversation}-{place}",
            f"turn {place}",
            role=Role.USER if place % 2 == 0 else Role.ASSISTANT,
            source_conversation_id=conversation,
            position=place,
            sent_at=START + timedelta(minutes=place),
        )
        for place in range(first, first + number)
    ]


_worlds = count()


class Intake:
    """The tenants of one test, in a database that other tests use as well."""

    def __init__(self, urls: Urls, app: Database, pipeline: Database) -> None:
        self.urls = urls
        self.app = app
        self.pipeline = pipeline
        self._world = next(_worlds)

    def tenant(self, slug: str = "acme") -> UUID:
        with self.pipeline.transaction() as connection:
            return ensure_tenant(connection, f"{slug}-{self._world}")

    def take(
        self,
        records: Iterable[IncomingMessage | Rejection],
        tenant_id: UUID | None = None,
        *,
        user: str | None = USER,
        batch_messages: int = 100,
    ) -> tuple[IngestReport, list[Rejection]]:
        tenant_id = tenant_id or self.tenant()
        rejections: list[Rejection] = []
        report = ingest(
            self.app,
            tenant_id,
            UserDirectory(self.app, tenant_id, user),
            records,
            actor="test",
            on_reject=rejections.append,
            batch_messages=batch_messages,
        )
        assert report.rejected == len(rejections)
        return report, rejections

    def read(self, query: str, tenant_id: UUID | None = None) -> list[tuple[Any, ...]]:
        """Rows of one tenant, by row-level security."""
        with self.app.tenant_transaction(tenant_id or self.tenant()) as connection:
            return connection.execute(query.encode()).fetchall()

    def state(self, tenant_id: UUID | None = None) -> State:
        return {
            table: Counter(repr(row) for row in self.read(query, tenant_id))
            for table, query in {**_STATE, "events": _EVENTS}.items()
        }

    def contents(self, tenant_id: UUID | None = None) -> dict[str, str]:
        query = "SELECT source_message_id, content FROM messages"
        return dict(self.read(query, tenant_id))


@contextmanager
def opened(urls: Urls) -> Iterator[Intake]:
    with (
        Database(urls.app_url, role="memory_app") as app,
        Database(urls.pipeline_url, role="memory_pipeline", pool_size=2) as pipeline,
    ):
        yield Intake(urls, app, pipeline)


def counts(report: IngestReport) -> tuple[int, int, int]:
    return report.inserted, report.duplicates, report.rejected


tenant_numbers = count()
"""So that every example of a property has a tenant of its own."""

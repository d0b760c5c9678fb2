"""The whole chain, messages to DuckDB file: once, twice, by day out of order, or at once, it ends in one state.

Stores are compared row by row. Left out are times of writing, ids that are drawn by chance, and, where days come in
another order, versions: they count how often a row changed, which is history and not state.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import httpx
import msgspec
import psycopg
import pytest

from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline.model.window import DayWindow
from memory_pipeline.providers.extractive_summarizer import ExtractiveSummarizer
from memory_pipeline.providers.local_enricher.enricher import LocalEnricher
from memory_pipeline.serving.ingest import UserDirectory, ingest
from memory_pipeline.settings import Settings
from memory_pipeline.stages.audit import audit
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stages.index import index_memories
from memory_pipeline.stages.relate import relate
from memory_pipeline.stores.chroma.store import ChromaStore
from memory_pipeline.stores.duckdb.publish import ExportReport, publish_duckdb
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline_tests.stages.support import DIMENSION, MODEL, HashedEmbedder, embed, enrich, summarize

FIRST = date(2025, 12, 24)
WINDOW = DayWindow(FIRST, FIRST + timedelta(days=16))
"""Three weeks, across the end of a year."""

TENANTS = {"acme": UUID(int=1), "globex": UUID(int=2)}
USERS = [("acme", "ana"), ("acme", "bob"), ("globex", "ana")]

_SAYINGS = [
    "I live in {place}.",
    "I moved to {place}.",
    "I don't live in {place} anymore.",
    "I like coffee.",
    "I hate coffee.",
    "I work as a nurse.",
    "I work as a teacher at the school.",
    "My favourite colour is {colour}.",
    "I visited {place} and walked along the river for hours.",
    "ok",
    "Thank you!",
]

_CHANCE = {
    "event_id",
    "correlation_id",
    "generation_id",
    "collection_name",
    "collection_uuid",
    "audit_id",
    "finding_id",
}
_WHEN = {"created_at", "updated_at", "received_at", "occurred_at", "started_at", "finished_at"}

_FILLED = (
    "messages",
    "conversations",
    "events",
    "memories",
    "memory_embeddings",
    "memory_relationships",
    "index_generations",
    "index_entries",
)

Tables = dict[str, list[str]]


def conversations() -> list[tuple[str, IncomingMessage]]:
    """(tenant, message) of every message, in the order said."""
    chance = random.Random(20251224)
    messages = []
    for number in range(150):
        tenant, user = USERS[number % len(USERS)]
        sent_at = datetime(FIRST.year, FIRST.month, FIRST.day, 9, tzinfo=UTC) + timedelta(hours=2.5 * number)
        answers = number % 10 == 9
        text = chance.choice(_SAYINGS).format(
            place=chance.choice(["Lisbon", "Berlin", "Paris"]), colour=chance.choice(["blue", "green"])
        )
        message = IncomingMessage(
            source="test",
            source_message_id=f"m{number}",
            source_conversation_id=f"{user} {sent_at.date()}",
            role=Role.ASSISTANT if answers else Role.USER,
            content="I live in the cloud." if answers else text,
            sent_at=sent_at,
            position=number,
            user_email=f"{user}@{tenant}.test",
            speaker=None if answers else user.capitalize(),
        )
        messages.append((tenant, message))
    return messages


class Stores:
    """All stores of one test, which can be emptied; tenants and users keep their ids, so that derived ids agree."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        assert settings.postgres_pipeline_url
        assert settings.postgres_admin_url
        assert settings.chroma_url
        self.database = Database(settings.postgres_pipeline_url, pool_size=12).open()
        self.chroma = ChromaStore(settings.chroma_url, settings.chroma_database)
        self._admin = psycopg.connect(
            settings.postgres_admin_url, autocommit=True, options="-c search_path=memory,public -c timezone=UTC"
        )
        self._chroma_url = f"{settings.chroma_url}/api/v2/tenants/default_tenant/databases/{settings.chroma_database}"
        self._folder = folder
        self._emptied = 0
        self.embedder = HashedEmbedder()
        for slug, tenant_id in TENANTS.items():
            self._admin.execute(
                "INSERT INTO tenants (tenant_id, slug, name) VALUES (%s, %s, %s)", [tenant_id, slug, slug]
            )
        for number, (tenant, user) in enumerate(USERS):
            self._admin.execute(
                "INSERT INTO users (tenant_id, user_id, email, display_name) VALUES (%s, %s, %s, %s)",
                [TENANTS[tenant], UUID(int=100 + number), f"{user}@{tenant}.test", user.capitalize()],
            )

    def close(self) -> None:
        self._admin.close()
        self.chroma.close()
        self.database.close()

    def empty(self) -> None:
        self._admin.execute(
            "TRUNCATE conversations, messages, events, memories, memory_embeddings, memory_relationships,"
            " index_generations, index_entries, audit_runs, audit_findings"
        )
        self._emptied += 1

    @property
    def _data(self) -> Path:
        return self._folder / str(self._emptied)

    # -- the chain --

    def ingest(self, messages: Sequence[tuple[str, IncomingMessage]]) -> int:
        inserted = 0
        for tenant, tenant_id in TENANTS.items():
            mine = [message for owner, message in messages if owner == tenant]
            users = UserDirectory(self.database, tenant_id, None)
            inserted += ingest(self.database, tenant_id, users, mine, actor="test", on_reject=_refuse).inserted
        return inserted

    def derive(self, window: DayWindow) -> None:
        """Enrich, relate, summarize, embed, index."""
        enrich(self.database, LocalEnricher(), window, batch_episodes=20)
        relate(self.database, window)
        summarize(self.database, ExtractiveSummarizer(), window)
        embed(self.database, self.embedder, window, batch_texts=16)
        index_memories(self.database, self.chroma, MODEL, DIMENSION, window)

    def export(self, window: DayWindow = WINDOW) -> ExportReport:
        export_lake(self.database.url, window, self._data / "lake")
        return publish_duckdb(self._data / "lake", self._data / "exports", 2)

    def findings(self) -> list[object]:
        report = audit(self.database, self.chroma, MODEL, seed=1)
        assert len(report.listed) == report.findings
        return list(report.listed)

    # -- what they hold --

    def postgres(self, without: set[str]) -> Tables:
        """Rows of every table as text, sorted, without the columns named."""
        columns: dict[str, list[str]] = {}
        for table, column in self._admin.execute(
            "SELECT c.table_name, c.column_name FROM information_schema.columns c"
            " WHERE c.table_schema = 'memory' AND c.table_name NOT IN ('migration_history', 'audit_runs')"
            " ORDER BY c.table_name, c.ordinal_position"
        ).fetchall():
            if column not in without:
                columns.setdefault(table, []).append(column)
        rows: Tables = {}
        for table, names in columns.items():
            query = psycopg.sql.SQL("SELECT {} FROM {}").format(
                psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, names)), psycopg.sql.Identifier(table)
            )
            rows[table] = sorted(map(repr, self._admin.execute(query).fetchall()))
        # Messages taken in by other batches make other events, about as many messages in all.
        rows["events"] = sorted(
            repr(row)
            for row in self._admin.execute(
                "SELECT tenant_id, kind, actor, subject_id, sum((detail ->> 'messages')::integer)"
                " FROM events GROUP BY 1, 2, 3, 4"
            )
        )
        return rows

    def indexed(self, without: set[str]) -> Tables:
        """Everything in the live collections, over Chroma's HTTP, by tenant."""
        collections: Tables = {}
        for tenant_id, uuid in self._admin.execute("SELECT tenant_id, collection_uuid FROM index_generations"):
            answer = httpx.post(
                f"{self._chroma_url}/collections/{uuid}/get", json={"include": ["metadatas", "documents", "embeddings"]}
            )
            found: dict[str, Any] = answer.raise_for_status().json()
            collections[str(tenant_id)] = sorted(
                repr((vector_id, _without(metadata, without), _without(msgspec.json.decode(document), without), vector))
                for vector_id, metadata, document, vector in zip(
                    found["ids"], found["metadatas"], found["documents"], found["embeddings"], strict=True
                )
            )
        return collections

    def published(self, without: set[str]) -> Tables:
        """Rows of every table and mart of the served DuckDB file."""
        tables: Tables = {}
        with duckdb.connect(str(self._data / "exports" / "memory.duckdb"), read_only=True) as connection:
            tables_and_marts = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
            for (table,) in tables_and_marts:
                if table in _DONE:
                    continue
                relation = connection.table(table)
                names = [name for name in relation.columns if name not in without]
                quoted = ", ".join(f'"{name}"' for name in names)
                tables[table] = sorted(map(repr, relation.project(quoted).fetchall()))
        return tables

    def everything(self, without: set[str]) -> dict[str, Tables]:
        return {
            "postgres": self.postgres(without),
            "chroma": self.indexed(without),
            "duckdb": self.published(without),
        }


_DONE = {"events", "audit_runs", "mart_data_quality"}
"""Tables of the file that tell what was done, not what came of it; events are compared in Postgres, summed up."""
_NOT_SAID = {"profiles", "jobs", "job_days", "mart_pipeline_response"} | {
    "audit_findings",
    *("memory_access", "llm_usage", "mart_recall_use", "mart_cost_daily"),
}
"""What nothing in this test makes."""


def _refuse(rejection: object) -> None:
    pytest.fail(f"a message was rejected: {rejection}")


def _without(mapping: dict[str, Any], names: set[str]) -> list[tuple[str, Any]]:
    return sorted((key, value) for key, value in mapping.items() if key not in names)


@pytest.fixture
def stores(settings: Settings, tmp_path: Path) -> Iterator[Stores]:
    stores = Stores(settings, tmp_path)
    yield stores
    stores.close()


def assert_same(found: dict[str, Tables], expected: dict[str, Tables]) -> None:
    for store, tables in expected.items():
        assert found[store].keys() == tables.keys()
        for table, rows in tables.items():
            assert found[store][table] == rows, f"{store}, {table}"


def run_once(stores: Stores) -> dict[str, Tables]:
    """All in one go; returns what is there then, without history."""
    stores.ingest(conversations())
    stores.derive(WINDOW)
    stores.export()
    assert stores.findings() == []
    found = stores.everything(_CHANCE | _WHEN | {"version"})
    relations = found["postgres"]["memory_relationships"]
    assert all(any(kind in row for row in relations) for kind in ("supersedes", "supports"))
    assert all(found["postgres"][table] for table in _FILLED)
    assert {table for table, rows in found["duckdb"].items() if not rows} == _NOT_SAID
    return found


def test_running_twice_leaves_every_store_as_it_was_to_the_last_byte(stores: Stores) -> None:
    run_once(stores)
    first = stores.export()  # with the audit of this run
    before = stores.everything(set())
    embedded = len(stores.embedder.asked)
    assert stores.ingest(conversations()) == 0
    stores.derive(WINDOW)
    second = stores.export()
    assert_same(stores.everything(set()), before)
    assert len(stores.embedder.asked) == embedded
    assert (second.published, second.digest, second.path) == (False, first.digest, first.path)
    assert stores.findings() == []


@pytest.mark.nightly
def test_days_in_any_order_end_in_the_same_state(stores: Stores) -> None:
    expected = run_once(stores)
    stores.empty()
    days = list(WINDOW.days())
    random.Random(7).shuffle(days)
    for day in days:
        stores.ingest([(tenant, message) for tenant, message in conversations() if message.sent_at.date() == day])
        stores.derive(DayWindow.of_day(day))
        assert stores.findings() == []
    stores.export()
    assert_same(stores.everything(_CHANCE | _WHEN | {"version"}), expected)


def test_two_runs_at_once_end_in_the_same_state(stores: Stores) -> None:
    expected = run_once(stores)
    stores.empty()
    together = threading.Barrier(2)
    middle = FIRST + timedelta(days=6)

    def run(windows: list[DayWindow]) -> int:
        together.wait()
        inserted = stores.ingest(conversations())
        for window in windows:
            stores.derive(window)
        return inserted

    halves = [DayWindow(FIRST, middle), DayWindow(middle, WINDOW.end)]
    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(run, windows) for windows in (halves, halves[::-1])]
        assert sum(done.result() for done in runs) == len(conversations())
    stores.export()
    assert_same(stores.everything(_CHANCE | _WHEN | {"version"}), expected)
    assert stores.findings() == []

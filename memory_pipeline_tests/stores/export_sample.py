"""A small but complete database for export tests: two tenants, three days of messages, facts, a relation, a summary."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memory_pipeline.model import ids
from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline.model.window import DayWindow
from memory_pipeline.serving.ingest import UserDirectory, ingest
from memory_pipeline.stores.files import sha256_of
from memory_pipeline.stores.lake.manifest import LakeFile, read_manifest
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.tenants import ensure_tenant

FIRST_DAY = date(2025, 3, 1)
WINDOW = DayWindow(FIRST_DAY, FIRST_DAY + timedelta(days=5))
MESSAGES = 2 * 3 * 4
ROWS = {
    "tenants": 2,
    "users": 2,
    "conversations": 6,
    "messages": MESSAGES,
    "memories": MESSAGES + 6,
    "facts": 4,
    "memory_relationships": 2,
    "summaries": 2,
    "profiles": 0,
    "jobs": 0,
    "job_days": 0,
    "audit_runs": 0,
    "audit_findings": 0,
    "events": 6,
    "memory_access": 0,
    "llm_usage": 0,
}
"""Of every table of the lake, after `fill`."""

_FACT = """
INSERT INTO memories (tenant_id, memory_id, user_id, conversation_id, kind, status, content, content_hash, day,
                      source_message_ids, enricher, confidence, subject, predicate, object, slot, valid_from, valid_to,
                      superseded_by)
SELECT tenant_id, %(memory_id)s, user_id, conversation_id, 'fact', %(status)s, %(statement)s, %(hash)s,
       (sent_at AT TIME ZONE 'UTC')::date, ARRAY[message_id], 'test@1', 0.75, 'Ana', 'lives in', %(object)s, 'lives_in',
       sent_at, %(valid_to)s, %(superseded_by)s
FROM messages WHERE tenant_id = %(tenant_id)s AND source_message_id = %(source_message_id)s
"""
_SUMMARY = """
INSERT INTO memories (tenant_id, memory_id, user_id, kind, status, content, content_hash, day, source_message_ids)
SELECT tenant_id, gen_random_uuid(), user_id, 'summary', 'active', 'A week.', sha256('A week.'), '2025-03-01',
       array_agg(message_id)
FROM messages GROUP BY tenant_id, user_id
"""
# Two recalls of acme on the 1st, one of each tenant on the 4th; three batches, one of them without a price.
_USAGE = """
INSERT INTO memory_access_log (tenant_id, access_id, user_id, accessed_at, correlation_id, what, channel, query_hash,
                               memory_ids, turns, degraded_parts, from_cache, milliseconds)
SELECT tenant_id, %(id)s, user_id, %(at)s, %(id)s, 'recall', 'cli', sha256(%(question)s), array(
           SELECT memory_id FROM memories m WHERE m.tenant_id = u.tenant_id AND kind = 'fact' ORDER BY 1
           LIMIT %(memories)s), 2, %(degraded)s, %(cached)s, %(milliseconds)s
FROM users u JOIN tenants t USING (tenant_id)
WHERE slug = %(tenant)s
"""
_COST = """
INSERT INTO llm_usage (tenant_id, usage_id, used_at, correlation_id, plugin, model, what, requests, texts,
                       prompt_tokens, cost_usd)
SELECT tenant_id, %(id)s, %(at)s, %(id)s, 'embedder:openai', 'test-model', 'embedding', 1, %(texts)s, %(tokens)s,
       %(cost)s
FROM tenants
WHERE slug = %(tenant)s
"""


def message(tenant: str, name: str, sent_at: datetime, content: str = "I moved to Lisbon") -> IncomingMessage:
    return IncomingMessage(
        source="test",
        source_message_id=name,
        source_conversation_id=f"talk on {sent_at.date()}",
        role=Role.USER,
        content=content,
        sent_at=sent_at,
        position=sent_at.hour,
        user_email=f"ana@{tenant}.example",
        raw_data={"client": "test", "nested": [1, None]},
    )


def add_messages(pipeline_url: str, tenant: str, messages: list[IncomingMessage]) -> None:
    """Ingest messages as the pipeline does."""
    with Database(pipeline_url) as database:
        with database.transaction() as connection:
            tenant_id = ensure_tenant(connection, tenant)
        users = UserDirectory(database, tenant_id, None)
        report = ingest(database, tenant_id, users, messages, actor="test", on_reject=_refuse)
        assert report.inserted == len(messages)


def fill(pipeline_url: str) -> None:
    """Two tenants with four messages on each of three days (the 1st, 2nd and 4th), two facts and a summary each."""
    for tenant in ("acme", "globex"):
        moments = [
            datetime(2025, 3, day, hour, 59, 59, 999999, tzinfo=UTC) for day in (1, 2, 4) for hour in (0, 7, 12, 23)
        ]
        add_messages(
            pipeline_url,
            tenant,
            [message(tenant, f"m{n}", moment, f"{tenant} №{n}: naïve 🦊\ttext") for n, moment in enumerate(moments)],
        )
        with Database(pipeline_url) as database, database.transaction() as connection:
            tenant_id = ensure_tenant(connection, tenant)
            porto, lisbon = (UUID(ids.derive_hex(b"test", 0, tenant, place)) for place in ("Porto", "Lisbon"))
            for memory_id, place, source, status, later in (
                (porto, "Porto", "m0", "superseded", lisbon),
                (lisbon, "Lisbon", "m8", "active", None),
            ):
                statement = f"Ana lives in {place}."
                connection.execute(
                    _FACT,
                    {
                        "memory_id": memory_id,
                        "status": status,
                        "statement": statement,
                        "hash": ids.sha256(statement),
                        "object": place,
                        "valid_to": datetime(2025, 3, 4, tzinfo=UTC) if later else None,
                        "superseded_by": later,
                        "tenant_id": tenant_id,
                        "source_message_id": source,
                    },
                )
            connection.execute(
                "INSERT INTO memory_relationships (tenant_id, from_id, to_id, kind, confidence, detector, day)"
                " VALUES (%s, %s, %s, 'supersedes', 1, 'test@1', '2025-03-04')",
                [tenant_id, lisbon, porto],
            )
    with Database(pipeline_url) as database, database.transaction() as connection:
        connection.execute(_SUMMARY)


def lake_bytes(root: Path) -> dict[str, bytes]:
    """Return every Parquet file of a lake by its name."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.parquet")}


def rewrite(root: Path, table: str, day: date | None, rows: pa.Table) -> None:
    """Replace a day (None: all) of a lake's table by other rows, as an export that found them in Postgres would."""
    name = "part-0.parquet" if day is None else f"day={day}/part-0.parquet"
    path = root / table / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path)
    manifest = read_manifest(root)
    assert manifest is not None
    entry = manifest.tables[table]
    file = LakeFile(rows=rows.num_rows, bytes=path.stat().st_size, sha256=sha256_of(path), fingerprint="rewritten")
    files = dict(sorted({**entry.files, name: file}.items()))
    counted = {**(entry.counted or {}), name: rows.num_rows}
    tables = {**manifest.tables, table: msgspec.structs.replace(entry, files=files, counted=counted)}
    (root / "manifest.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, tables=tables)))


def _refuse(rejection: object) -> None:
    pytest.fail(f"a sample message was rejected: {rejection}")

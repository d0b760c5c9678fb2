"""Files for single consumers: only their tenant's rows, no texts where masked, no byte of others, their own folder."""

from __future__ import annotations

import hashlib
import hmac
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import duckdb
import psycopg
import pytest

from memory_pipeline.model.errors import ExportError
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores.duckdb.columns import exported_columns
from memory_pipeline.stores.duckdb.generations import manifest_of
from memory_pipeline.stores.duckdb.publish import ExportReport, Scope, current_export, publish_duckdb
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.stores.export_sample import MESSAGES, WINDOW, fill

KEY = b"a key for these tests alone"
CANARY = "CANARY"
CONSUMERS = {
    "acme": Scope(tenant="acme"),
    "acme-lab": Scope(tenant="acme", mask_key=KEY),
    "lab": Scope(mask_key=KEY),
}
# Whatever a person or a source may have written, one word for each column, so that a leak can be told by its place.
_FILL_TEXTS = """
UPDATE users SET display_name = %(mark)s || 'displayname' || email,
    preferences = jsonb_build_object('a', %(mark)s || 'preferences');
UPDATE conversations SET title = %(mark)s || 'title', project = %(mark)s || 'project1';
ALTER TABLE messages DISABLE TRIGGER ALL;
UPDATE messages SET speaker = %(mark)s || 'speaker', raw_data = jsonb_build_object('a', %(mark)s || 'raw1'),
    content = %(mark)s || 'content1' || content;
UPDATE memories SET content = %(mark)s || 'content2' || memory_id, project = %(mark)s || 'project2',
    raw_data = jsonb_build_object('a', %(mark)s || 'raw2');
UPDATE memories SET subject = %(mark)s || 'subject', object = %(mark)s || 'object', slot = %(mark)s || 'slot',
    predicate = %(mark)s || 'predicate' WHERE kind = 'fact';
INSERT INTO memories (tenant_id, memory_id, user_id, kind, status, content, content_hash, day, source_message_ids)
SELECT tenant_id, gen_random_uuid(), user_id, 'profile', 'active', %(mark)s || 'content3', sha256('p'), '2025-03-01',
       array_agg(message_id) FROM messages GROUP BY tenant_id, user_id;
INSERT INTO memory_jobs (tenant_id, job_type, state, day, user_id, correlation_id, error_class, error_text, payload,
                         attempts, created_at)
SELECT tenant_id, 'index', 'failed', '2025-03-01', user_id, gen_random_uuid(), 'TestError', %(mark)s || 'errortext',
       jsonb_build_object('a', %(mark)s || 'payload'), 2, '2025-03-01 12:00+00' FROM users;
INSERT INTO events (tenant_id, kind, actor, subject_id, correlation_id, detail, occurred_at)
SELECT tenant_id, 'test', %(mark)s || 'actor', user_id, gen_random_uuid(),
       jsonb_build_object('a', %(mark)s || 'detail1'), '2025-03-01 12:00+00' FROM users;
INSERT INTO audit_runs (started_at, finished_at, findings) VALUES ('2025-03-01 12:00+00', '2025-03-01 12:00+00', 1);
INSERT INTO audit_findings (tenant_id, audit_id, store, problem, subject_id, detail)
SELECT tenant_id, audit_id, 'chroma', 'vector_missing', user_id, jsonb_build_object('a', %(mark)s || 'detail2')
FROM users, audit_runs;
INSERT INTO memory_access_log (tenant_id, user_id, accessed_at, correlation_id, what, channel, query_hash, memory_ids,
                               turns, degraded_parts, from_cache, milliseconds)
SELECT u.tenant_id, u.user_id, '2025-03-01 12:00+00', gen_random_uuid(), 'recall', 'cli', sha256(user_id::text::bytea),
       array_agg(m.memory_id), 2, ARRAY['chroma'], false, 12.5
FROM users u JOIN memories m USING (tenant_id, user_id)
GROUP BY u.tenant_id, u.user_id;
INSERT INTO llm_usage (tenant_id, used_at, correlation_id, plugin, model, what, requests, texts, prompt_tokens,
                       cost_usd)
SELECT tenant_id, '2025-03-01 12:00+00', gen_random_uuid(), 'embedder:openai', 'test-model', 'embedding', 1, 4, 90, 0.5
FROM tenants;
"""

_VOCABULARY = {
    *("tenants.slug", "tenants.name", "conversations.source", "messages.source", "messages.role", "memories.kind"),
    *("memories.status", "memories.enricher", "memories.failure_class", "facts.status", "facts.enricher"),
    *("memory_relationships.kind", "memory_relationships.detector", "summaries.status", "profiles.status"),
    *(
        "jobs.job_type",
        "jobs.state",
        "jobs.error_class",
        "job_days.job_type",
        "audit_runs.model",
        "audit_findings.store",
        "audit_findings.problem",
    ),
    *("events.kind", "memory_access.what", "memory_access.channel"),
    *("llm_usage.plugin", "llm_usage.model", "llm_usage.what"),
}
"""Text columns with words of the program's own or of the tenant's name: masked files have them as they are."""
_CHECKED_APART = {
    "users.email",
    "conversations.source_conversation_id",
    "messages.source_message_id",
    "profiles.raw_data",
}
"""Told by other words than the mark, or without a value in the sample."""


@pytest.fixture(scope="module")
def filled(
    servers: Servers, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[UUID]]:
    """A lake with a marked word in every column that takes text, and the ids of its users."""
    root = tmp_path_factory.mktemp("consumers") / "lake"
    with fresh_database(servers, migrated_template) as database:
        fill(database.pipeline_url)
        with psycopg.connect(database.admin_url, options="-c search_path=memory,public") as connection:
            for statement in _FILL_TEXTS.split(";\n"):
                if statement.strip():
                    psycopg.ClientCursor(connection).execute(statement.encode(), {"mark": CANARY})
            users = connection.execute("SELECT user_id FROM users").fetchall()
        export_lake(database.pipeline_url, WINDOW, root)
    return root, [user for (user,) in users]


@pytest.fixture(scope="module")
def published(filled: tuple[Path, list[UUID]], tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    return publish_duckdb(filled[0], tmp_path_factory.mktemp("published"), 2, CONSUMERS)


def values_of(path: Path) -> Iterator[tuple[str, str]]:
    """Every value of every table as text, with its column's name: what compression hides from a look at the bytes."""
    with duckdb.connect(str(path), read_only=True) as connection:
        for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            rows = connection.execute("FROM query_table($1)", [table]).fetchall()
            names = [column[0] for column in connection.description or []]
            for row in rows:
                yield from ((f"{table}.{name}", str(value)) for name, value in zip(names, row, strict=True))


def columns_with(path: Path, word: str) -> set[str]:
    return {column for column, value in values_of(path) if word in value}


def test_a_tenants_file_has_that_tenants_rows_and_the_same_schema(published: ExportReport) -> None:
    report = published.consumers["acme"]
    assert published.rows["messages"] == MESSAGES
    assert report.rows.keys() == published.rows.keys()
    assert (report.rows["tenants"], report.rows["messages"], report.rows["mart_daily_activity"]) == (
        1,
        MESSAGES // 2,
        3,
    )
    with duckdb.connect(str(published.path), read_only=True) as connection:
        columns = "SELECT table_name, column_name, data_type, is_nullable, comment FROM duckdb_columns() ORDER BY ALL"
        expected = connection.execute(columns).fetchall()
    for other in published.consumers.values():
        with duckdb.connect(str(other.path), read_only=True) as connection:
            assert connection.execute(columns).fetchall() == expected


@pytest.mark.parametrize("consumer", ["acme", "acme-lab"])
def test_a_tenants_file_holds_no_byte_of_another_tenant(
    filled: tuple[Path, list[UUID]], published: ExportReport, consumer: str
) -> None:
    with duckdb.connect(str(published.path), read_only=True) as connection:
        query = (
            "SELECT tenant_id, message_id, user_id, conversation_id FROM messages JOIN tenants t USING (tenant_id)"
            " WHERE slug = 'globex'"
        )
        foreign = {id_ for row in connection.execute(query).fetchall() for id_ in row}
    path = published.consumers[consumer].path
    mine, everybody = path.read_bytes(), published.path.read_bytes()
    words = [b"globex", *(form for id_ in foreign for form in (str(id_).encode(), id_.bytes, duckdb_bytes(id_)))]
    assert [word for word in words if word in mine] == []
    # The same look does find them where they are.
    assert sum(word in everybody for word in words) > len(foreign)
    assert columns_with(path, "globex") == set()
    assert {value for id_ in foreign for value in columns_with(path, str(id_))} == set()
    assert columns_with(published.path, "globex")


def duckdb_bytes(id_: UUID) -> bytes:
    """A UUID as DuckDB writes it: a 128-bit integer with its highest bit flipped, lowest byte first."""
    return (id_.int ^ (1 << 127)).to_bytes(16, "little")


def test_a_masked_file_has_no_text_and_no_id_of_a_user(
    filled: tuple[Path, list[UUID]], published: ExportReport
) -> None:
    _, users = filled
    marked = {column for column in columns_with(published.path, CANARY) if not column.startswith("mart_")}
    texts = {
        f"{table}.{column.name}"
        for table, columns in exported_columns().items()
        for column in columns
        if column.type in ("VARCHAR", "JSON")
    }
    assert texts - marked == _VOCABULARY | _CHECKED_APART  # a new column has to be one or the other
    emails = {value for column, value in values_of(published.path) if column == "users.email"}
    for name in ("lab", "acme-lab"):
        path = published.consumers[name].path
        assert columns_with(path, CANARY) == set()
        content = path.read_bytes()
        secrets = [CANARY.encode(), KEY, *(email.encode() for email in emails)]
        secrets += [form for user in users for form in (str(user).encode(), user.bytes, duckdb_bytes(user))]
        assert [secret for secret in secrets if secret in content] == []
        for secret in [*emails, *map(str, users), "naïve", "Ana lives", "talk on"]:
            assert columns_with(path, secret) == set()
        sources = {value for column, value in values_of(path) if column == "messages.source_message_id"}
        assert sources
        assert not any(value.startswith("m") for value in sources)
    assert all(columns_with(published.path, str(user)) for user in users)


def test_pseudonyms_are_keyed_stable_and_join(filled: tuple[Path, list[UUID]], published: ExportReport) -> None:
    _, users = filled
    with duckdb.connect(str(published.consumers["lab"].path), read_only=True) as connection:
        found = {user for (user,) in connection.execute("SELECT user_id FROM users").fetchall()}
        joined = connection.execute(
            "SELECT count(*) FROM messages JOIN users USING (tenant_id, user_id)"
            " JOIN conversations USING (tenant_id, conversation_id)"
        ).fetchall()
        marts = connection.execute("SELECT sum(messages) FROM mart_user_daily").fetchall()
    assert found == {UUID(hmac.new(KEY, f"id {user}".encode(), hashlib.sha256).hexdigest()[:32]) for user in users}
    assert (joined, marts) == ([(MESSAGES,)], [(MESSAGES,)])


def test_consumers_have_folders_of_their_own_that_others_cannot_open(published: ExportReport) -> None:
    for name, report in published.consumers.items():
        assert report.path.parent.name == name
        assert stat.S_IMODE(report.path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(report.path.stat().st_mode) == 0o440
        assert stat.S_IMODE(report.path.with_suffix(".json").stat().st_mode) == 0o440
        assert current_export(report.path.parent) == report.path
        manifest = manifest_of(report.path)
        assert (manifest.tenant, manifest.masked) == (CONSUMERS[name].tenant, CONSUMERS[name].mask_key is not None)
    assert stat.S_IMODE(published.path.stat().st_mode) == 0o444


def test_nothing_changed_keeps_every_file_and_another_key_makes_other_masked_ones(
    filled: tuple[Path, list[UUID]], published: ExportReport, tmp_path: Path
) -> None:
    exports = tmp_path / "exports"
    shutil.copytree(published.path.parent, exports, symlinks=True)
    again = publish_duckdb(filled[0], exports, 2, CONSUMERS)
    assert not any(report.published for report in (again, *again.consumers.values()))
    other = publish_duckdb(filled[0], exports, 2, {**CONSUMERS, "lab": Scope(mask_key=b"another key altogether")})
    assert [name for name, report in other.consumers.items() if report.published] == ["lab"]
    assert other.consumers["lab"].digest != again.consumers["lab"].digest


def test_a_consumer_who_is_not_named_any_more_loses_the_folder(
    filled: tuple[Path, list[UUID]], published: ExportReport, tmp_path: Path
) -> None:
    exports = tmp_path / "exports"
    shutil.copytree(published.path.parent, exports, symlinks=True)
    publish_duckdb(filled[0], exports, 2, {"lab": CONSUMERS["lab"]})
    assert [path.name for path in (exports / "consumers").iterdir()] == ["lab"]


def test_an_unknown_tenant_is_named_and_leaves_the_others_served(
    filled: tuple[Path, list[UUID]], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"no tenant 'nobody'.*MEMORY_EXPORT_CONSUMERS"):
        publish_duckdb(filled[0], tmp_path, 2, {"acme": CONSUMERS["acme"], "x": Scope(tenant="nobody")})
    assert current_export(tmp_path).is_file()
    assert current_export(tmp_path / "consumers/acme").is_file()
    assert not (tmp_path / "consumers/x").exists()

"""Migrations: each applied once and whole, and nothing runs on a schema other than the one it ships."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from memory_pipeline.model.errors import MemoryPipelineError, SchemaVersionError, StoreUnavailableError
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.migrate import Migration, check_schema, migrate, shipped_migrations
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.local.inspect import until
from memory_pipeline_tests.stores.postgres.schema_snapshot import COMMAND, SNAPSHOT, dump_schema

STEPS = {
    "0001_first.sql": "CREATE TABLE one (a integer); CREATE TABLE two (b integer);",
    "0002_second.sql": "ALTER TABLE one ADD COLUMN c text DEFAULT '100 %s';",
    "0003_third.sql": "CREATE TABLE three (d integer);",
}

BEFORE_0007 = """
    SET search_path = memory, public;
    INSERT INTO tenants (tenant_id, slug, name)
    VALUES ('10000000-0000-4000-8000-000000000000', 'acme', 'A'),
           ('20000000-0000-4000-8000-000000000000', 'globex', 'G');
    INSERT INTO users (tenant_id, user_id, email, display_name)
    SELECT tenant_id, tenant_id, 'ana@example.org', 'ana' FROM tenants;
    INSERT INTO memories (tenant_id, memory_id, user_id, kind, status, content, content_hash, day, source_message_ids,
                          failure_class, failure_text, subject, predicate, object, confidence, enricher, valid_from)
    SELECT t.tenant_id, ('00000000-0000-4000-8000-00000000000' || m.number)::uuid, t.tenant_id, m.kind, m.status, 'x',
           sha256('x'), '2025-03-03', ARRAY[('00000000-0000-4000-9000-00000000000' || m.message)::uuid],
           m.failure_class, m.failure_text, m.said, m.said, m.said, length(m.said), m.said,
           CASE WHEN m.kind = 'fact' THEN now() END
    FROM tenants t
    JOIN (VALUES ('acme', 1, 'episode', 1, 'active', NULL, NULL, NULL),
                 ('acme', 2, 'fact', 1, 'failed', 'E1', 'of a fact', 'x'),
                 ('acme', 3, 'episode', 3, 'failed', 'E2', 'spoken for', NULL),
                 ('acme', 4, 'episode', 4, 'active', NULL, NULL, NULL),
                 ('globex', 1, 'episode', 1, 'failed', NULL, 'of a message', NULL))
        AS m (slug, number, kind, message, status, failure_class, failure_text, said) ON m.slug = t.slug;
    INSERT INTO memory_jobs (tenant_id, job_type, subject_id, day, correlation_id)
    VALUES ('10000000-0000-4000-8000-000000000000', 'enrich_and_embed', '00000000-0000-4000-8000-000000000003',
            '2025-03-03', gen_random_uuid());
"""


def folder_of(path: Path, steps: dict[str, str]) -> Path:
    """Write migrations of a program of its own (with a file that is none beside them)."""
    path.mkdir(exist_ok=True)
    (path / "__init__.py").write_text("", encoding="utf-8")
    for name, text in steps.items():
        (path / name).write_text(text, encoding="utf-8")
    return path


def some_steps(path: Path, count: int) -> Path:
    return folder_of(path, dict(list(STEPS.items())[:count]))


def execute(urls: Urls, statement: str) -> None:
    with psycopg.connect(urls.admin_url) as connection:
        connection.execute(statement.encode())


def history(urls: Urls) -> list[tuple[int, str, str]]:
    with psycopg.connect(urls.admin_url) as connection:
        return connection.execute(
            "SELECT version, name, sha256 FROM memory.migration_history ORDER BY version"
        ).fetchall()


def tables(urls: Urls) -> set[str]:
    with psycopg.connect(urls.admin_url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'memory'").fetchall()
    return {str(name) for (name,) in rows} - {"migration_history"}


def refused(urls: Urls) -> list[str]:
    """What opening as either role and migrating say, which all must refuse."""
    messages = []
    for url in (urls.app_url, urls.pipeline_url):
        with pytest.raises(SchemaVersionError) as opening:
            Database(url).open()
        messages.append(str(opening.value))
    with pytest.raises(SchemaVersionError) as migrating:
        migrate(urls.admin_url)
    return [*messages, str(migrating.value)]


def test_a_fresh_database_gets_all_migrations_and_a_second_run_none(empty_database: Urls) -> None:
    shipped = shipped_migrations()
    assert migrate(empty_database.admin_url) == [f"{m.version:04d}_{m.name}" for m in shipped]
    assert history(empty_database) == [tuple(migration) for migration in shipped]
    assert migrate(empty_database.admin_url) == []
    with Database(empty_database.app_url) as app, Database(empty_database.pipeline_url) as pipeline:
        for opened in (app, pipeline):
            with opened.transaction() as connection:
                assert connection.execute("SELECT count(*) FROM messages").fetchone() == (0,)


def test_the_schema_is_the_one_in_docs(database: Urls) -> None:
    assert dump_schema(database.admin_url) == SNAPSHOT.read_text(encoding="utf-8"), (
        f"docs/schema.sql is not what the migrations make. Rewrite it with `{COMMAND}`, and review the difference."
    )


def test_several_migrators_at_once_apply_each_migration_once(empty_database: Urls, tmp_path: Path) -> None:
    migrations = shipped_migrations(some_steps(tmp_path / "steps", 3))
    start = Barrier(4)

    def run() -> list[str]:
        start.wait(timeout=30)
        return migrate(empty_database.admin_url, migrations)

    with ThreadPoolExecutor(4) as pool:
        applied = [future.result() for future in [pool.submit(run) for _ in range(4)]]
    assert sorted(applied) == [[], [], [], ["0001_first", "0002_second", "0003_third"]]
    assert history(empty_database) == [tuple(migration) for migration in migrations]


def test_only_new_migrations_are_applied_to_an_older_schema(empty_database: Urls, tmp_path: Path) -> None:
    migrate(empty_database.admin_url, shipped_migrations(some_steps(tmp_path / "old", 1)))
    newer = shipped_migrations(some_steps(tmp_path / "new", 3))
    assert migrate(empty_database.admin_url, newer) == ["0002_second", "0003_third"]
    assert tables(empty_database) == {"one", "two", "three"}


def test_an_older_schema_is_refused_with_expected_and_found(empty_database: Urls, tmp_path: Path) -> None:
    newest = list(shipped_migrations())[-1]
    for url in (empty_database.app_url, empty_database.pipeline_url):
        with pytest.raises(SchemaVersionError, match=r"no memory schema; expected 0.*memory-pipeline migrate"):
            Database(url).open()

    migrate(empty_database.admin_url, {})
    for url in (empty_database.app_url, empty_database.pipeline_url):
        with pytest.raises(SchemaVersionError, match="older than this program") as refusal:
            Database(url).open()
        assert f"expected {newest}, found an empty history" in str(refusal.value)

    old = shipped_migrations(some_steps(tmp_path / "old", 2))
    new = shipped_migrations(some_steps(tmp_path / "new", 3))
    migrate(empty_database.admin_url, old)
    with (
        psycopg.connect(empty_database.pipeline_url) as connection,
        pytest.raises(SchemaVersionError) as refusal,
    ):
        check_schema(connection, new)
    assert f"expected {list(new)[2]}, found {list(old)[1]}" in str(refusal.value)
    assert "memory-pipeline migrate" in str(refusal.value)


def test_a_newer_schema_is_refused_with_expected_and_found(database: Urls) -> None:
    execute(database, "INSERT INTO memory.migration_history VALUES (9999, 'from_the_future', repeat('f', 64))")
    newest = list(shipped_migrations())[-1]
    for message in refused(database):
        assert "newer than this program" in message
        assert f"expected {newest}, found 9999_from_the_future (ffffffffffff)" in message


def test_an_edited_migration_is_refused_with_expected_and_found(database: Urls) -> None:
    execute(database, "UPDATE memory.migration_history SET sha256 = repeat('e', 64) WHERE version = 1")
    first = next(iter(shipped_migrations()))
    for message in refused(database):
        assert "was edited after it was applied" in message
        assert f"expected {first}, found 0001_{first.name} (eeeeeeeeeeee)" in message


def test_another_numbering_is_refused_with_expected_and_found(database: Urls) -> None:
    execute(database, "UPDATE memory.migration_history SET version = 0 WHERE version = 1")
    first = next(iter(shipped_migrations()))
    for message in refused(database):
        assert f"expected {first}, found 0000_{first.name}" in message


def test_editing_a_file_by_one_space_is_noticed(empty_database: Urls, tmp_path: Path) -> None:
    folder = some_steps(tmp_path / "steps", 2)
    migrate(empty_database.admin_url, shipped_migrations(folder))
    (folder / "0001_first.sql").write_text(STEPS["0001_first.sql"] + " ", encoding="utf-8")
    with pytest.raises(SchemaVersionError, match="0001 was edited"):
        migrate(empty_database.admin_url, shipped_migrations(folder))


def test_line_endings_of_a_checkout_are_no_edit(tmp_path: Path) -> None:
    (unix := tmp_path / "unix").mkdir()
    (windows := tmp_path / "windows").mkdir()
    (unix / "0001_first.sql").write_bytes(b"SELECT 1;\nSELECT 2;\n")
    (windows / "0001_first.sql").write_bytes(b"SELECT 1;\r\nSELECT 2;\r\n")
    assert shipped_migrations(unix) == shipped_migrations(windows)


def test_two_files_of_one_number_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "steps", {"0001_a.sql": "SELECT 1", "0001_b.sql": "SELECT 2"})
    with pytest.raises(SchemaVersionError, match=r"0001_b\.sql"):
        shipped_migrations(folder)


def test_a_migration_that_fails_in_the_middle_leaves_the_last_whole_one(empty_database: Urls, tmp_path: Path) -> None:
    broken = STEPS | {"0002_second.sql": "CREATE TABLE half (a integer); SELECT 1 / 0; CREATE TABLE rest (a integer);"}
    migrations = shipped_migrations(folder_of(tmp_path / "steps", broken))
    with pytest.raises(SchemaVersionError, match=r"0002_second .*rolled back.*division by zero"):
        migrate(empty_database.admin_url, migrations)
    assert tables(empty_database) == {"one", "two"}
    assert [version for version, _name, _hash in history(empty_database)] == [1]

    mended = shipped_migrations(folder_of(tmp_path / "steps", STEPS))
    assert migrate(empty_database.admin_url, mended) == ["0002_second", "0003_third"]


def test_a_migrator_that_dies_lets_the_next_one_go_on(empty_database: Urls, tmp_path: Path) -> None:
    dying = STEPS | {"0002_second.sql": "SELECT pg_terminate_backend(pg_backend_pid())"}
    with pytest.raises(MemoryPipelineError):
        migrate(empty_database.admin_url, shipped_migrations(folder_of(tmp_path / "steps", dying)))
    mended = shipped_migrations(folder_of(tmp_path / "steps", STEPS))
    assert migrate(empty_database.admin_url, mended) == ["0002_second", "0003_third"]


def test_everything_that_is_migrated_belongs_to_the_owner_role(database: Urls) -> None:
    with psycopg.connect(database.admin_url) as connection:
        owners = connection.execute(
            "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'memory'::regnamespace"
        ).fetchall()
    assert owners == [("memory_owner",)]


def test_a_limited_role_cannot_migrate(empty_database: Urls) -> None:
    migrate(empty_database.admin_url, {})
    with pytest.raises(MemoryPipelineError, match="MEMORY_POSTGRES_ADMIN_URL"):
        migrate(empty_database.app_url)


def test_a_server_that_is_away_is_told_apart_from_a_wrong_schema(tmp_path: Path) -> None:
    nowhere = f"postgresql://postgres@/postgres?host={tmp_path}"
    with pytest.raises(StoreUnavailableError, match="can't be reached"):
        migrate(nowhere)
    with pytest.raises(StoreUnavailableError, match="can't be reached"):
        Database(nowhere).open()


def test_what_failed_before_there_were_dead_jobs_for_it_has_one_after_the_migration(empty_database: Urls) -> None:
    shipped = shipped_migrations()
    before = {migration: text for migration, text in shipped.items() if migration.version <= 6}
    migrate(empty_database.admin_url, before)
    execute(empty_database, BEFORE_0007)
    assert migrate(empty_database.admin_url)[0] == "0007_dead_letters"
    with Database(empty_database.pipeline_url) as opened, opened.transaction() as connection:
        rows = connection.execute(
            "SELECT right(j.subject_id::text, 1), j.state, j.error_class, j.error_text, t.slug"
            " FROM memory_jobs j JOIN tenants t USING (tenant_id) ORDER BY 5, 1, 2"
        ).fetchall()
    assert rows == [
        ("1", "dead", "E1", "of a fact", "acme"),  # of the message that the fact was found in
        ("3", "pending", None, None, "acme"),  # was there, and speaks for it
        ("1", "dead", "Failed", "of a message", "globex"),
    ]


def before_0007(urls: Urls, tries: int = 20) -> dict[Migration, LiteralString]:
    """Have the schema that 0007 finds; return the shipped migrations, of which 0007 asks so often for its tables."""
    shipped = shipped_migrations()
    migrate(urls.admin_url, {migration: text for migration, text in shipped.items() if migration.version <= 6})
    execute(urls, BEFORE_0007)
    changed = {migration: text.replace("IN 1..20 LOOP", f"IN 1..{tries} LOOP") for migration, text in shipped.items()}
    assert sum("1..20" in text for text in shipped.values()) == 1
    return changed


def test_tables_that_are_in_use_all_the_time_are_told_with_what_to_do(empty_database: Urls) -> None:
    shipped = before_0007(empty_database, tries=1)
    with psycopg.connect(empty_database.admin_url) as holder:
        holder.execute("SELECT FROM memory.memory_jobs")
        with pytest.raises(SchemaVersionError, match=r"0007_dead_letters .*rolled back.*Stop the workers.*again"):
            migrate(empty_database.admin_url, shipped)
    assert migrate(empty_database.admin_url, shipped)[0] == "0007_dead_letters"


@pytest.mark.parametrize("order", [("memories", "memory_jobs"), ("memory_jobs", "memories")])
def test_traffic_that_locks_in_either_order_goes_on_during_the_migration(
    empty_database: Urls, order: tuple[str, str]
) -> None:
    shipped = before_0007(empty_database)
    one, other = (sql.Identifier("memory", name) for name in order)
    lock = sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE")
    with ThreadPoolExecutor(1) as threads, psycopg.connect(empty_database.admin_url) as traffic:
        traffic.execute(lock.format(one))
        migrating = threads.submit(migrate, empty_database.admin_url, shipped)
        waiting = "SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
        with psycopg.connect(empty_database.admin_url, autocommit=True) as watcher:
            until(lambda: watcher.execute(waiting).fetchone() is not None, "the migration waits for the table")
        traffic.execute(lock.format(other))
        assert not migrating.done()
        traffic.commit()
        assert migrating.result()[0] == "0007_dead_letters"


def test_leases_that_could_not_be_renewed_during_the_migration_hold_after_it(empty_database: Urls) -> None:
    shipped = before_0007(empty_database)
    execute(
        empty_database,
        "INSERT INTO memory.memory_jobs (tenant_id, job_type, state, subject_id, day, correlation_id, claim_token,"
        " lease_until) SELECT tenant_id, 'index', 'processing', uuidv7(), '2025-03-03', uuidv7(), uuidv7(),"
        " now() + make_interval(secs => seconds) FROM memory.tenants, (VALUES (15), (-15)) AS s (seconds)"
        " WHERE slug = 'acme'",
    )
    migrate(empty_database.admin_url, shipped)
    with psycopg.connect(empty_database.admin_url) as connection:
        rows = connection.execute(
            "SELECT lease_until > now() + interval '20 s', lease_until < now() FROM memory.memory_jobs"
            " WHERE state = 'processing' ORDER BY lease_until"
        ).fetchall()
    assert rows == [(False, True), (True, False)], "one that was over stays over"

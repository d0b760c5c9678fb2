"""Export from a real Postgres into the lake and the DuckDB file."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4

import duckdb
import msgspec
import psycopg
import pyarrow.parquet as pq
import pytest

from memory_pipeline.model.errors import ExportError, MemoryPipelineError, SettingsError, StoreUnavailableError
from memory_pipeline.model.window import DayWindow, no_progress
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.export import (
    consumer_scopes,
    export_dimensions,
    export_lake,
    export_lake_table,
    forget_in_exports,
    publish,
    publish_lake_at_url,
)
from memory_pipeline.stores.duckdb.generations import generations
from memory_pipeline.stores.duckdb.publish import Scope, publish_duckdb
from memory_pipeline.stores.lake import DAILY_TABLES, DIMENSIONS
from memory_pipeline.stores.lake.manifest import read_manifest
from memory_pipeline.stores.lake.published import published_generations, verify_published_lake
from memory_pipeline.stores.postgres.export import snapshot
from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.stores.export_sample import MESSAGES, ROWS, WINDOW, add_messages, fill, lake_bytes, message
from memory_pipeline_tests.stores.lake_places import Place
from memory_pipeline_tests.stores.s3_server import S3Server


@pytest.fixture
def source(database: Database) -> str:
    fill(database.pipeline_url)
    return database.pipeline_url


def digests(source: str, root: Path) -> dict[str, str]:
    return {report.table: report.digest for report in export_lake(source, WINDOW, root)}


def test_every_table_is_exported_with_the_rows_postgres_has(source: str, database: Database, tmp_path: Path) -> None:
    counted: list[int] = []
    reports = {report.table: report for report in export_lake(source, WINDOW, tmp_path, counted.append)}
    assert list(reports) == [*DIMENSIONS, *DAILY_TABLES]
    assert {table: report.rows for table, report in reports.items()} == ROWS
    assert sum(counted) == sum(report.rows for report in reports.values())
    assert [path.name for path in sorted((tmp_path / "messages").glob("day=*"))] == [
        "day=2025-03-01",
        "day=2025-03-02",
        "day=2025-03-04",
    ]
    file = pq.ParquetFile(tmp_path / "messages/day=2025-03-01/part-0.parquet").read()
    with psycopg.connect(database.admin_url, options="-c timezone=UTC") as connection:
        expected = connection.execute(
            "SELECT message_id, content, sent_at, content_hash FROM memory.messages"
            " WHERE sent_at < '2025-03-02 00:00:00+00' ORDER BY sent_at, tenant_id"
        ).fetchall()
    columns = [file[name].to_pylist() for name in ("message_id", "content", "sent_at", "content_hash")]
    assert list(zip(*columns, strict=True)) == expected


def test_exporting_twice_changes_nothing(source: str, tmp_path: Path) -> None:
    first = digests(source, tmp_path / "lake")
    published = publish_duckdb(tmp_path / "lake", tmp_path / "exports", 3)
    reports = export_lake(source, WINDOW, tmp_path / "lake")
    again = publish_duckdb(tmp_path / "lake", tmp_path / "exports", 3)
    assert {report.table: report.digest for report in reports} == first
    assert sum(report.written + report.removed for report in reports) == 0
    assert (published.published, again.published) == (True, False)
    assert (again.path, again.digest, again.rows) == (published.path, published.digest, published.rows)
    assert len(list((tmp_path / "exports").glob("memory-*.duckdb"))) == 1


def test_deleting_everything_and_exporting_again_gives_the_same_digests(source: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    consumers = {"acme": Scope(tenant="acme"), "lab": Scope(mask_key=b"a key for this test alone")}
    first = digests(source, data / "lake")
    published = publish_duckdb(data / "lake", data / "exports", 3, consumers)
    shutil.rmtree(data)
    assert digests(source, data / "lake") == first
    again = publish_duckdb(data / "lake", data / "exports", 3, consumers)
    for before, after in [(published, again), *((published.consumers[one], again.consumers[one]) for one in consumers)]:
        assert after.published
        assert (after.digest, after.path) == (before.digest, before.path)
    assert len({again.digest, *(one.digest for one in again.consumers.values())}) == 3


def test_a_late_message_rewrites_only_its_day(source: str, tmp_path: Path) -> None:
    export_lake(source, WINDOW, tmp_path)
    before = lake_bytes(tmp_path)
    for path in tmp_path.rglob("*.parquet"):
        os.utime(path, ns=(1, 1))
    add_messages(source, "acme", [message("acme", "late", datetime(2025, 3, 2, 12, tzinfo=UTC))])
    export_lake(source, WINDOW, tmp_path)
    after = lake_bytes(tmp_path)
    # The message, its episode memory, the event of its arrival; no conversation is new.
    expected = {f"{table}/day=2025-03-02/part-0.parquet" for table in ("messages", "memories")}
    expected |= {name for name in after if name.startswith("events/")}
    assert {name for name in after if after[name] != before.get(name)} == expected
    assert {name for name in after if (tmp_path / name).stat().st_mtime_ns != 1} == expected


def change(database: Database, statement: str, *values: object) -> int:
    """Change rows past every role; return how many."""
    with psycopg.connect(database.admin_url, options="-c search_path=memory,public") as connection:
        return connection.execute(statement.encode(), values).rowcount


def test_a_later_day_that_ends_a_fact_rewrites_the_day_of_the_fact_whatever_the_window(
    source: str, database: Database, tmp_path: Path
) -> None:
    export_lake(source, WINDOW, tmp_path / "lake")
    before = lake_bytes(tmp_path / "lake")
    end = "UPDATE memories SET valid_to = '2025-03-03', version = version + 1 WHERE kind = 'fact' AND object = 'Porto'"
    assert change(database, end) == 2
    today = DayWindow.of_day(date(2025, 3, 5))
    reports = {report.table: report for report in export_lake(source, today, tmp_path / "lake")}
    after = lake_bytes(tmp_path / "lake")
    assert {name for name in after if after[name] != before.get(name)} == {
        f"{table}/day=2025-03-01/part-0.parquet" for table in ("memories", "facts")
    }
    assert (reports["facts"].stale, reports["facts"].written, reports["facts"].rows) == (1, 1, 0)
    assert reports["messages"].stale == 0
    export_lake(source, WINDOW, tmp_path / "fresh")
    assert lake_bytes(tmp_path / "fresh") == after


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE memories SET status = 'failed', failure_text = 'x' WHERE day = '2025-03-02'",
        "DELETE FROM memory_relationships",
        "DELETE FROM messages WHERE source_message_id = 'm5'",
        "UPDATE users SET display_name = 'Other'",
        "UPDATE conversations SET title = 'Named later'",
        "INSERT INTO memory_jobs (tenant_id, job_type, day, correlation_id, created_at)"
        " SELECT tenant_id, 'index', '2020-01-01', gen_random_uuid(), '2025-03-03 10:00+00' FROM tenants",
        "INSERT INTO memories (tenant_id, memory_id, user_id, kind, status, content, content_hash, day,"
        " source_message_ids) SELECT tenant_id, gen_random_uuid(), user_id, 'profile', 'active', 'Ana', sha256('Ana'),"
        " '2025-03-03', ARRAY[gen_random_uuid()] FROM users",
    ],
)
def test_whatever_changes_the_next_export_equals_one_from_nothing(
    source: str, database: Database, tmp_path: Path, statement: str
) -> None:
    export_lake(source, WINDOW, tmp_path / "lake")
    before = lake_bytes(tmp_path / "lake")
    assert change(database, statement) > 0
    export_lake(source, None, tmp_path / "lake")
    export_lake(source, WINDOW, tmp_path / "fresh")
    assert lake_bytes(tmp_path / "fresh") == lake_bytes(tmp_path / "lake") != before


def test_a_transaction_that_began_before_the_export_and_ends_after_it_is_not_skipped(
    source: str, database: Database, tmp_path: Path
) -> None:
    """Its rows carry the time at which it began, so no watermark over times would find them."""
    with psycopg.connect(database.admin_url, options="-c search_path=memory,public") as slow:
        slow.execute(
            "UPDATE memories SET valid_to = now(), updated_at = now() WHERE kind = 'fact' AND object = 'Porto'"
        )
        assert change(database, "UPDATE memories SET updated_at = now() WHERE kind = 'summary'") == 2
        export_lake(source, WINDOW, tmp_path / "lake")
        slow.commit()
    reports = {report.table: report for report in export_lake(source, None, tmp_path / "lake")}
    assert (reports["facts"].stale, reports["facts"].written, reports["summaries"].stale) == (1, 1, 0)


def test_an_erased_user_is_in_no_file_that_is_kept(source: str, database: Database, tmp_path: Path) -> None:
    settings = load_settings(
        home=tmp_path,
        export_consumers={"acme": {"tenant": "acme"}, "lab": {"masked": True}},
        export_mask_key="a key for this test alone",
    )
    lake, exports = tmp_path / "lake", tmp_path / "exports"
    export_lake(source, WINDOW, lake)
    publish(settings, lake, exports)
    add_messages(source, "acme", [message("acme", "late", datetime(2025, 3, 2, 12, tzinfo=UTC))])
    export_lake(source, WINDOW, lake)
    publish(settings, lake, exports)
    assert len(generations(exports)) == 2
    with psycopg.connect(database.admin_url, options="-c search_path=memory,public") as connection:
        (user,) = connection.execute("SELECT user_id FROM users WHERE email = 'ana@acme.example'").fetchall()[0]
        words = {f"acme №{n}" for n in range(12)}
    with pytest.raises(ExportError, match=f"user {user} is still in .*messages/day=2025-03-01"):
        forget_in_exports(settings, source, lake, exports, user)
    for table in ("memories", "messages", "conversations", "users"):
        change(database, sql_for_erasing(table), user)
    shutil.copytree(lake / "messages", lake / ".pinned/messages")  # left by a publisher that was killed
    report = forget_in_exports(settings, source, lake, exports, user)
    assert report is not None
    assert generations(exports) == [report.path]
    assert report.rows["messages"] == MESSAGES // 2
    for path in (file for file in tmp_path.rglob("*") if file.is_file() and not file.is_symlink()):
        content = path.read_bytes()
        assert user.bytes not in content, path
        assert b"ana@acme.example" not in content, path
        assert [word for word in words if word.encode() in content] == [], path
    shutil.rmtree(lake)
    again = forget_in_exports(settings, source, lake, exports, user)
    assert again is not None
    assert again.rows == report.rows


def test_an_erased_user_is_in_no_object_of_the_published_lake(
    source: str, database: Database, lake_place: Place, tmp_path: Path
) -> None:
    settings = load_settings(home=tmp_path / "home", lake_url=lake_place.url)
    lake, exports = settings.data / "lake", settings.data / "exports"
    for number in range(2):
        add_messages(source, "acme", [message("acme", f"late{number}", datetime(2025, 3, 2, 12, tzinfo=UTC))])
        export_lake(source, WINDOW, lake)
        publish(settings, lake, exports)
        assert publish_lake_at_url(settings, lake) is not None
    with psycopg.connect(database.admin_url, options="-c search_path=memory,public") as connection:
        (user,) = connection.execute("SELECT user_id FROM users WHERE email = 'ana@acme.example'").fetchall()[0]
    # What a publisher left that was killed: named by no generation.
    lake_place.put(f"data/users/{'0' * 64}.parquet", b"ana@acme.example")
    assert objects_with(lake_place, user.bytes, b"ana@acme.example")
    for table in ("memories", "messages", "conversations", "users"):
        change(database, sql_for_erasing(table), user)
    forget_in_exports(settings, source, lake, exports, user)
    assert objects_with(lake_place, user.bytes, b"ana@acme.example", "acme №".encode()) == []
    (generation,) = published_generations(lake_place.url)
    assert (generation.served, generation.messages) == (True, MESSAGES // 2)
    assert verify_published_lake(lake, lake_place.url) == []
    published = {name: content for name, content in lake_place.files().items() if name.startswith("data/")}
    assert sorted(published.values()) == sorted(lake_bytes(lake).values())


def test_an_upload_keeps_no_export_waiting_and_does_not_overtake_an_erasure(
    source: str, database: Database, s3: S3Server, tmp_path: Path
) -> None:
    settings = load_settings(home=tmp_path / "home", lake_url=s3.url())
    lake, exports = settings.data / "lake", settings.data / "exports"
    export_lake(source, WINDOW, lake)
    before = read_manifest(lake)
    assert before is not None
    with psycopg.connect(database.admin_url, options="-c search_path=memory,public") as connection:
        (user,) = connection.execute("SELECT user_id FROM users WHERE email = 'ana@acme.example'").fetchall()[0]
    first, forgotten = threading.Lock(), list[bool]()

    def forget() -> None:
        for table in ("memories", "messages", "conversations", "users"):
            change(database, sql_for_erasing(table), user)
        forgotten.append(forget_in_exports(settings, source, lake, exports, user) is not None)

    eraser = threading.Thread(target=forget)
    exported: list[bool] = []

    def meanwhile(method: str, key: str) -> None:
        if method != "PUT" or "/data/" not in key or not first.acquire(blocking=False):
            return
        eraser.start()
        deadline = time.monotonic() + 60
        while (changed := read_manifest(lake) != before) is False and time.monotonic() < deadline:
            time.sleep(0.05)
        exported.append(changed)

    s3.before = meanwhile
    try:
        report = publish_lake_at_url(settings, lake)
    finally:
        eraser.join()
    assert (exported, report is not None and report.digest) == ([True], before.digest)
    assert forgotten == [True]
    assert [key for key, content in s3.objects.items() if user.bytes in content or b"ana@acme" in content] == []
    (generation,) = published_generations(s3.url())
    assert generation.messages == MESSAGES // 2
    assert verify_published_lake(lake, s3.url()) == []
    assert not (lake / ".pinned").exists()


def objects_with(place: Place, *texts: bytes) -> list[str]:
    return [name for name, content in place.files().items() if any(text in content for text in texts)]


def test_without_a_url_the_lake_is_published_nowhere(tmp_path: Path) -> None:
    assert publish_lake_at_url(load_settings(), tmp_path / "lake") is None


def sql_for_erasing(table: str) -> str:
    return {
        "memories": "DELETE FROM memories WHERE user_id = %s",
        "messages": "DELETE FROM messages WHERE user_id = %s",
        "conversations": "DELETE FROM conversations WHERE user_id = %s",
        "users": "DELETE FROM users WHERE user_id = %s",
    }[table]


def test_erasing_where_nothing_was_exported_has_nothing_to_do(source: str, tmp_path: Path) -> None:
    assert forget_in_exports(load_settings(), source, tmp_path / "lake", tmp_path / "exports", uuid4()) is None


def test_a_mask_without_its_key_is_a_sentence() -> None:
    with pytest.raises(SettingsError, match="MEMORY_EXPORT_MASK_KEY"):
        consumer_scopes(load_settings(export_consumers={"lab": {"masked": True}}))


def test_what_postgres_counted_is_kept_and_a_manifest_that_says_otherwise_is_mended(
    source: str, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    export_lake(source, DayWindow(date(2025, 3, 2), date(2025, 3, 5)), lake)
    manifest = read_manifest(lake)
    assert manifest is not None
    entry = manifest.tables["messages"]
    assert entry.counted == {f"day=2025-03-0{day}/part-0.parquet": 8 for day in (2, 4)}
    assert (entry.complete, manifest.tables["users"].counted) == (False, {"part-0.parquet": 2})
    export_lake(source, WINDOW, lake)
    before = lake_bytes(lake)
    manifest = read_manifest(lake)
    assert manifest is not None
    assert manifest.tables["messages"].complete
    (name, file), *others = manifest.tables["messages"].files.items()
    wrong = msgspec.structs.replace(
        manifest.tables["messages"], files=dict([(name, msgspec.structs.replace(file, rows=7)), *others])
    )
    tampered = msgspec.structs.replace(manifest, tables=manifest.tables | {"messages": wrong})
    (lake / "manifest.json").write_bytes(msgspec.json.encode(tampered))
    reports = {report.table: report for report in export_lake(source, None, lake)}
    assert (reports["messages"].stale, reports["memories"].stale) == (1, 0)
    mended = read_manifest(lake)
    assert mended is not None
    assert (mended.tables["messages"].files, lake_bytes(lake)) == (manifest.tables["messages"].files, before)


def test_an_edge_goes_when_a_memory_at_one_of_its_ends_is_deleted(
    source: str, database: Database, tmp_path: Path
) -> None:
    export_lake(source, WINDOW, tmp_path / "lake")
    assert publish_duckdb(tmp_path / "lake", tmp_path / "exports", 1).rows["memory_relationships"] == 2
    assert change(database, "UPDATE memories SET status = 'deleted' WHERE kind = 'fact' AND object = 'Porto'") == 2
    reports = {report.table: report for report in export_lake(source, None, tmp_path / "lake")}
    assert (reports["memory_relationships"].stale, reports["memory_relationships"].rows) == (1, 0)
    report = publish_duckdb(tmp_path / "lake", tmp_path / "exports", 1)
    assert (report.rows["memory_relationships"], report.rows["facts"]) == (0, 2)


def test_days_outside_the_window_are_left_alone(source: str, tmp_path: Path) -> None:
    report = export_lake_table(source, "messages", DayWindow.of_day(date(2025, 3, 2)), tmp_path)
    assert (report.rows, report.days) == (8, 1)
    export_lake_table(source, "messages", DayWindow.of_day(date(2025, 3, 3)), tmp_path)
    assert [path.parent.name for path in tmp_path.rglob("*.parquet")] == ["day=2025-03-02"]


def test_deleted_memories_are_not_exported(source: str, database: Database, tmp_path: Path) -> None:
    with psycopg.connect(database.admin_url) as connection:
        connection.execute("UPDATE memory.memories SET status = 'deleted' WHERE kind = 'fact' AND object = 'Porto'")
    rows = {report.table: report.rows for report in export_lake(source, WINDOW, tmp_path)}
    assert (rows["memories"], rows["facts"]) == (MESSAGES + 4, 2)


def test_all_tables_are_of_one_moment(source: str, database: Database, tmp_path: Path) -> None:
    """A message that arrives while the export runs is in none of its tables."""
    late = message("acme", "meanwhile", datetime(2025, 3, 2, 12, tzinfo=UTC))
    arrived: list[int] = []

    def progress(rows: int) -> None:
        if not arrived:
            add_messages(database.pipeline_url, "acme", [late])
        arrived.append(rows)

    rows = {report.table: report.rows for report in export_lake(source, WINDOW, tmp_path, progress)}
    assert arrived
    assert (rows["messages"], rows["memories"]) == (MESSAGES, MESSAGES + 6)
    assert export_lake_table(source, "messages", WINDOW, tmp_path).rows == MESSAGES + 1


def test_the_export_can_write_nothing_to_postgres(source: str) -> None:
    refused = pytest.raises(psycopg.errors.ReadOnlySqlTransaction)
    with snapshot(source) as reads, reads.connect() as connection, refused:
        connection.execute("INSERT INTO tenants (slug, name) VALUES ('intruder', 'Intruder')")


def test_a_server_that_drops_the_connection_is_a_sentence_and_leaves_the_lake(
    source: str, database: Database, tmp_path: Path
) -> None:
    export_lake(source, WINDOW, tmp_path)
    add_messages(source, "acme", [message("acme", "late", datetime(2025, 3, 2, 12, tzinfo=UTC))])
    before = lake_bytes(tmp_path)

    def progress(_rows: int) -> None:
        with psycopg.connect(database.admin_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    with pytest.raises(StoreUnavailableError, match="export again"):
        export_lake(source, WINDOW, tmp_path, progress)
    assert lake_bytes(tmp_path) == before


def test_a_server_that_is_away_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="MEMORY_POSTGRES_PIPELINE_URL"):
        export_dimensions(f"postgresql://memory_pipeline@/none?host={tmp_path}", tmp_path)


def test_an_unknown_table_is_named_with_those_there_are(source: str, tmp_path: Path) -> None:
    with pytest.raises(MemoryPipelineError, match=r"no lake table 'secrets'.*messages"):
        export_lake_table(source, "secrets", WINDOW, tmp_path)


def test_the_marts_agree_with_postgres(source: str, database: Database, tmp_path: Path) -> None:
    export_lake(source, WINDOW, tmp_path / "lake")
    report = publish_duckdb(tmp_path / "lake", tmp_path / "exports", 3)
    with psycopg.connect(database.admin_url, options="-c timezone=UTC -c search_path=memory") as postgres:
        activity = postgres.execute(
            "SELECT (sent_at AT TIME ZONE 'UTC')::date, slug, count(*), count(*) FILTER (WHERE role = 'user'),"
            " count(DISTINCT user_id), count(DISTINCT conversation_id)"
            " FROM messages JOIN tenants USING (tenant_id) GROUP BY 1, 2 ORDER BY 1, 2"
        ).fetchall()
        facts = postgres.execute(
            "SELECT slug, f.object, f.valid_from, f.valid_to, f.status = 'active', n.content"
            " FROM memories f JOIN tenants USING (tenant_id)"
            " LEFT JOIN memories n ON n.tenant_id = f.tenant_id AND n.memory_id = f.superseded_by"
            " WHERE f.kind = 'fact' ORDER BY 1, 2"
        ).fetchall()
    for connection in opened(report.path):
        assert (
            connection.execute(
                "SELECT day, tenant, messages, user_messages, users, conversations"
                " FROM mart_daily_activity ORDER BY ALL"
            ).fetchall()
            == activity
        )
        assert (
            connection.execute(
                "SELECT tenant, object, valid_from, valid_to, is_active, superseded_by_statement"
                " FROM mart_fact_catalogue ORDER BY 1, 2"
            ).fetchall()
            == facts
        )
        assert connection.execute(
            "SELECT day, email, messages, conversations, facts FROM mart_user_daily WHERE tenant = 'acme' ORDER BY day"
        ).fetchall() == [
            (date(2025, 3, 1), "ana@acme.example", 4, 1, 1),
            (date(2025, 3, 2), "ana@acme.example", 4, 1, 0),
            (date(2025, 3, 4), "ana@acme.example", 4, 1, 1),
        ]


def opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def test_progress_may_be_ignored(source: str, tmp_path: Path) -> None:
    assert [report.table for report in export_dimensions(source, tmp_path, no_progress)] == list(DIMENSIONS)

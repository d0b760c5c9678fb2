"""The published DuckDB file: what is served after success, failure, crashes and rivalry."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_pipeline import __version__
from memory_pipeline.model.errors import ExportError, NoExportError
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores import lake
from memory_pipeline.stores.duckdb import build, publish
from memory_pipeline.stores.duckdb import generations as folder
from memory_pipeline.stores.duckdb.generations import TableSummary
from memory_pipeline.stores.duckdb.marts import marts
from memory_pipeline.stores.duckdb.publish import ExportReport, current_export, generations, publish_duckdb
from memory_pipeline.stores.files import sha256_of
from memory_pipeline.stores.lake.manifest import LakeFile, TableManifest, read_manifest
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.stores.export_sample import MESSAGES, WINDOW, fill, rewrite

TABLES = {
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
    "dim_days": 4,
    "mart_cost_daily": 0,
    "mart_daily_activity": 6,
    "mart_data_quality": 0,
    "mart_fact_catalogue": 4,
    "mart_fact_churn": 4,
    "mart_hourly_activity": 24,
    "mart_memory_growth": 12,
    "mart_pipeline_response": 0,
    "mart_recall_use": 0,
    "mart_retention": 4,
    "mart_user_daily": 6,
    "mart_weekly_topics": 8,
}
LAST_DAY = date(2025, 3, 4)


@pytest.fixture(scope="module")
def sample_lake(servers: Servers, migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's lake, exported once; tests take a copy."""
    root = tmp_path_factory.mktemp("sample") / "lake"
    with fresh_database(servers, migrated_template) as database:
        fill(database.pipeline_url)
        export_lake(database.pipeline_url, WINDOW, root)
    return root


@pytest.fixture
def lake_root(sample_lake: Path, tmp_path: Path) -> Path:
    shutil.copytree(sample_lake, tmp_path / "lake")
    return tmp_path / "lake"


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    return tmp_path / "exports"


def change(lake_root: Path) -> None:
    """Drop one message and its episode from the lake, so that the next publication has something to do."""
    table = read_day(lake_root, "messages")
    (gone,) = table.column("message_id").slice(table.num_rows - 1).to_pylist()
    memories = read_day(lake_root, "memories")
    rests = [gone not in ids for ids in memories.column("source_message_ids").to_pylist()]
    rewrite(lake_root, "messages", LAST_DAY, table.slice(0, table.num_rows - 1))
    rewrite(lake_root, "memories", LAST_DAY, memories.take([n for n, stays in enumerate(rests) if stays]))


def read_day(lake_root: Path, table: str, day: date = LAST_DAY) -> pa.Table:
    return pq.ParquetFile(lake_root / table / f"day={day}/part-0.parquet").read()


def count_messages(path: Path) -> int:
    with duckdb.connect(str(path), read_only=True) as connection:
        (found,) = connection.execute("SELECT count(*) FROM messages").fetchall()[0]
        return int(found)


def litter(exports: Path) -> list[str]:
    """Names that belong to no generation, nor to what is there for good."""
    known = {"CURRENT", "memory.duckdb", ".publisher.lock"}
    known |= {name for path in generations(exports) for name in (path.name, path.with_suffix(".json").name)}
    return sorted(path.name for path in exports.iterdir() if path.name not in known)


def assert_served(exports: Path, report: ExportReport, messages: int = MESSAGES) -> None:
    """The generation of `report` is what CURRENT and the link lead to, and it is whole."""
    assert current_export(exports) == report.path
    assert os.readlink(exports / "memory.duckdb") == report.path.name
    assert count_messages(exports / "memory.duckdb") == messages


def test_the_published_file_is_complete_read_only_and_alone(lake_root: Path, exports: Path) -> None:
    report = publish_duckdb(lake_root, exports, 3)
    assert report.published
    assert report.rows == TABLES
    assert report.bytes == report.path.stat().st_size
    assert stat.S_IMODE(report.path.stat().st_mode) == 0o444
    assert report.path.name == f"memory-000001-{report.digest[:10]}.duckdb"
    assert_served(exports, report)
    assert litter(exports) == []
    assert not list(exports.glob("*.wal"))


# DuckDB's own conversion still says what pandas 3.1 deprecates.
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.drop")
def test_the_published_file_opens_in_plain_duckdb_and_pandas(lake_root: Path, exports: Path) -> None:
    publish_duckdb(lake_root, exports, 3)
    with duckdb.connect(str(exports / "memory.duckdb"), read_only=True) as connection:
        frame = connection.execute("SELECT day, content, sent_at, tenant_id FROM messages").df()
        with pytest.raises(duckdb.Error):
            connection.execute("DELETE FROM messages")
    assert frame.shape == (MESSAGES, 4)
    assert frame["content"].str.contains("naïve 🦊\ttext", regex=False).all()
    assert (frame["sent_at"].dt.tz_convert("UTC").dt.date == frame["day"].dt.date).all()


def test_the_lake_opens_in_pandas(lake_root: Path) -> None:
    import pandas as pd

    assert len(pd.read_parquet(lake_root / "messages")) == MESSAGES


def test_every_table_and_column_says_what_it_means(lake_root: Path, exports: Path) -> None:
    path = publish_duckdb(lake_root, exports, 3).path
    with duckdb.connect(str(path), read_only=True) as connection:
        tables = dict(connection.execute("SELECT table_name, comment FROM duckdb_tables()").fetchall())
        columns = connection.execute("SELECT table_name, column_name, comment FROM duckdb_columns()").fetchall()
    assert tables.keys() == TABLES.keys()
    assert [name for name, comment in tables.items() if not comment] == []
    assert [(table, column) for table, column, comment in columns if table in TABLES and not comment] == []


def test_tables_without_rows_are_there(tmp_path: Path, exports: Path) -> None:
    report = publish_duckdb(tmp_path / "lake", exports, 1)
    assert report.rows == dict.fromkeys(TABLES, 0)


def test_publishing_the_same_lake_again_keeps_the_file(lake_root: Path, exports: Path) -> None:
    first, second = publish_duckdb(lake_root, exports, 3), publish_duckdb(lake_root, exports, 3)
    assert (first.published, second.published) == (True, False)
    assert second.path == first.path
    assert generations(exports) == [first.path]


def test_a_changed_lake_gives_a_new_generation_and_old_ones_are_pruned(lake_root: Path, exports: Path) -> None:
    reports = [publish_duckdb(lake_root, exports, 2)]
    for _ in range(3):
        change(lake_root)
        reports.append(publish_duckdb(lake_root, exports, 2))
    assert len({report.digest for report in reports}) == 4
    assert generations(exports) == [reports[2].path, reports[3].path]
    assert litter(exports) == []
    assert_served(exports, reports[3], MESSAGES - 3)


def test_the_served_generation_is_never_pruned(lake_root: Path, exports: Path) -> None:
    report = publish_duckdb(lake_root, exports, 1)
    for number in (7, 8):  # moved into place by publishers that were killed before they switched
        shutil.copy(report.path, exports / f"memory-{number:06d}-0123456789.duckdb")
    again = publish_duckdb(lake_root, exports, 1)
    assert not again.published
    assert generations(exports) == [report.path]
    assert_served(exports, report)


def test_a_reader_of_the_old_file_goes_on_undisturbed(lake_root: Path, exports: Path) -> None:
    publish_duckdb(lake_root, exports, 1)
    with duckdb.connect(str(exports / "memory.duckdb"), read_only=True) as reader:
        change(lake_root)
        new = publish_duckdb(lake_root, exports, 1)
        assert reader.execute("SELECT count(*) FROM messages").fetchall() == [(MESSAGES,)]
        assert reader.execute("SELECT count(DISTINCT content) FROM messages").fetchall() == [(MESSAGES,)]
    assert_served(exports, new, MESSAGES - 1)


def add(lake_root: Path) -> None:
    """Add one message to the last day of the lake: something new, and nothing gone."""
    table = pq.ParquetFile(lake_root / "messages/day=2025-03-04/part-0.parquet").read()
    at = table.schema.get_field_index("message_id")
    one = table.slice(0, 1)
    fresh = pa.ExtensionArray.from_storage(one.schema.field(at).type, pa.array([uuid.uuid4().bytes], pa.binary(16)))
    one = one.set_column(at, one.schema.field(at), fresh)
    rewrite(lake_root, "messages", LAST_DAY, pa.concat_tables([table, one]))


def whole_digest(lake_root: Path, tmp_path: Path) -> str:
    return publish_duckdb(lake_root, tmp_path / f"whole{uuid.uuid4()}", 1).digest


def test_a_file_with_new_rows_is_made_from_the_last_and_equals_one_built_whole(
    lake_root: Path, exports: Path, tmp_path: Path
) -> None:
    first = publish_duckdb(lake_root, exports, 3)
    assert first.whole_because == "there was none to build upon"
    for number in (1, 2):
        add(lake_root)
        report = publish_duckdb(lake_root, exports, 3)
        assert report.whole_because is None
        assert (report.published, report.digest) == (True, whole_digest(lake_root, tmp_path))
        assert report.rows["messages"] == MESSAGES + number
        assert report.rows["mart_daily_activity"] == TABLES["mart_daily_activity"]
    assert count_messages(first.path) == MESSAGES
    assert litter(exports) == []


def test_a_row_that_changes_without_its_text_is_replaced_in_place(
    lake_root: Path, exports: Path, tmp_path: Path
) -> None:
    publish_duckdb(lake_root, exports, 2)
    table = pq.ParquetFile(lake_root / "facts/day=2025-03-01/part-0.parquet").read()
    at = table.schema.get_field_index("confidence")
    again = table.set_column(at, table.schema.field(at), pa.array([0.25] * table.num_rows, pa.float32()))
    rewrite(lake_root, "facts", date(2025, 3, 1), again)
    report = publish_duckdb(lake_root, exports, 2)
    assert (report.whole_because, report.digest) == (None, whole_digest(lake_root, tmp_path))
    with duckdb.connect(str(report.path), read_only=True) as connection:
        found = connection.execute("SELECT count(*) FROM mart_fact_catalogue WHERE confidence = 0.25").fetchall()
    assert found == [(table.num_rows,)]


def test_what_is_gone_leaves_no_byte_behind(lake_root: Path, exports: Path) -> None:
    """Replacing days would keep the old rows in the file's free space."""
    publish_duckdb(lake_root, exports, 1)
    table = pq.ParquetFile(lake_root / "messages/day=2025-03-04/part-0.parquet").read()
    at = table.schema.get_field_index("content")
    word = "a word that will be taken back"
    said = table.set_column(at, "content", pa.array([*table.column(at).to_pylist()[:-1], word]))
    rewrite(lake_root, "messages", LAST_DAY, said)
    assert word.encode() in publish_duckdb(lake_root, exports, 1).path.read_bytes()
    change(lake_root)
    report = publish_duckdb(lake_root, exports, 1)
    assert report.whole_because == "rows are gone, or say something else"
    assert [path for path in exports.iterdir() if path.is_file() and word.encode() in path.read_bytes()] == []


def test_a_damaged_last_file_is_not_built_upon(lake_root: Path, exports: Path, tmp_path: Path) -> None:
    first = publish_duckdb(lake_root, exports, 2)
    first.path.chmod(0o644)
    alter_a_row(first.path)
    manifest = folder.manifest_of(first.path)
    changed = msgspec.structs.replace(manifest, bytes=first.path.stat().st_size)
    first.path.with_suffix(".json").chmod(0o644)
    first.path.with_suffix(".json").write_bytes(msgspec.json.encode(changed))
    add(lake_root)
    report = publish_duckdb(lake_root, exports, 2)
    assert "could not be built upon" in str(report.whole_because)
    assert report.digest == whole_digest(lake_root, tmp_path)
    assert_served(exports, report, MESSAGES + 1)


@pytest.mark.nightly
@settings(deadline=None, max_examples=15)
@given(steps=st.lists(st.sampled_from(["add", "change", "nothing"]), min_size=1, max_size=4))
def test_whatever_happened_in_between_the_content_is_that_of_a_file_built_whole(
    sample_lake: Path, tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    root = tmp_path_factory.mktemp("steps")
    shutil.copytree(sample_lake, root / "lake")
    publish_duckdb(root / "lake", root / "exports", 1)
    for step in steps:
        if step == "add":
            add(root / "lake")
        elif step == "change":
            change(root / "lake")
        report = publish_duckdb(root / "lake", root / "exports", 1)
    assert report.digest == whole_digest(root / "lake", root)


def test_the_manifest_says_what_the_file_is_and_of_which_moment(lake_root: Path, exports: Path) -> None:
    report = publish_duckdb(lake_root, exports, 1)
    manifest = folder.manifest_of(report.path)
    assert (manifest.name, manifest.bytes, manifest.digest) == (report.path.name, report.bytes, report.digest)
    assert {name: table.rows for name, table in manifest.tables.items()} == TABLES
    assert (manifest.tenant, manifest.masked, manifest.code_version) == (None, False, __version__)
    assert manifest.source is not None
    assert manifest.source.snapshot.count(":") == 2
    assert manifest.source.taken_at < manifest.published_at
    assert manifest.source.schema_version >= 3
    assert manifest.made_of["messages"].keys() == {f"day=2025-03-0{day}/part-0.parquet" for day in (1, 2, 4)}


@pytest.mark.parametrize(
    ("table", "day", "message"),
    [
        ("messages", date(2025, 4, 1), "keys of messages come more than once"),
        ("facts", date(2025, 4, 1), "keys of facts come more than once"),
    ],
)
def test_keys_that_come_twice_are_refused_before_the_switch(
    lake_root: Path, exports: Path, table: str, day: date, message: str
) -> None:
    report = publish_duckdb(lake_root, exports, 3)
    again = pq.ParquetFile(lake_root / table / "day=2025-03-04/part-0.parquet").read()
    rewrite(lake_root, table, day, again)
    with pytest.raises(ExportError, match=message):
        publish_duckdb(lake_root, exports, 3)
    assert_served(exports, report)


def test_rows_whose_user_is_missing_are_refused_before_the_switch(lake_root: Path, exports: Path) -> None:
    report = publish_duckdb(lake_root, exports, 3)
    table = pq.ParquetFile(lake_root / "messages/day=2025-03-04/part-0.parquet").read()
    at = table.schema.get_field_index("user_id")
    stranger = pa.ExtensionArray.from_storage(
        table.schema.field(at).type, pa.array([uuid.uuid4().bytes] * table.num_rows, pa.binary(16))
    )
    rewrite(lake_root, "messages", LAST_DAY, table.set_column(at, table.schema.field(at), stranger))
    with pytest.raises(ExportError, match=r"8 rows of messages.user_id name no row of users"):
        publish_duckdb(lake_root, exports, 3)
    assert_served(exports, report)


def tamper(lake_root: Path, table: str, rows: pa.Table, day: date = LAST_DAY) -> None:
    """Replace a day by other rows, in the manifest too, but for what Postgres counted."""
    counted = entry_of(lake_root, table).counted
    rewrite(lake_root, table, day, rows)
    restate(lake_root, table, counted=counted)


def entry_of(lake_root: Path, table: str) -> TableManifest:
    manifest = read_manifest(lake_root)
    assert manifest is not None
    return manifest.tables[table]


def restate(lake_root: Path, table: str, **changes: object) -> None:
    """Say something else of a table in the lake's manifest."""
    manifest = read_manifest(lake_root)
    assert manifest is not None
    entry = msgspec.structs.replace(manifest.tables[table], **changes)
    manifest = msgspec.structs.replace(manifest, tables=manifest.tables | {table: entry})
    (lake_root / "manifest.json").write_bytes(msgspec.json.encode(manifest))


def lose_a_message(lake_root: Path) -> None:
    tamper(lake_root, "messages", read_day(lake_root, "messages").slice(1))


def repeat_a_message(lake_root: Path) -> None:
    rows = read_day(lake_root, "messages")
    tamper(lake_root, "messages", pa.concat_tables([rows, rows.slice(0, 1)]))


def lose_a_day(lake_root: Path) -> None:
    files = {name: file for name, file in entry_of(lake_root, "messages").files.items() if str(LAST_DAY) not in name}
    restate(lake_root, "messages", files=files)


def lose_a_user(lake_root: Path) -> None:
    name = "part-0.parquet"
    path = lake_root / "users" / name
    pq.write_table(pq.ParquetFile(path).read().slice(1), path)
    file = LakeFile(rows=1, bytes=path.stat().st_size, sha256=sha256_of(path), fingerprint="tampered")
    restate(lake_root, "users", files={name: file})


def state_another_count(lake_root: Path) -> None:
    (name, file), *others = entry_of(lake_root, "messages").files.items()
    changed = msgspec.structs.replace(file, rows=file.rows + 1)
    restate(lake_root, "messages", files=dict([(name, changed), *others]))


def lose_a_memory(lake_root: Path) -> None:
    """Of the first day: the fact that another one of the last day supersedes."""
    facts = read_day(lake_root, "facts", date(2025, 3, 1)).column("fact_id").to_pylist()
    rows = read_day(lake_root, "memories", date(2025, 3, 1))
    ids = rows.column("memory_id").to_pylist()
    rewrite(lake_root, "memories", date(2025, 3, 1), rows.take([n for n, one in enumerate(ids) if one != facts[0]]))


def orphan_an_episode(lake_root: Path) -> None:
    rewrite(lake_root, "messages", LAST_DAY, read_day(lake_root, "messages").slice(0, 7))


def alter_a_file(lake_root: Path) -> None:
    path = lake_root / f"messages/day={LAST_DAY}/part-0.parquet"
    rows = read_day(lake_root, "messages")
    at = rows.schema.get_field_index("content")
    pq.write_table(rows.set_column(at, "content", pa.array(["another text"] * rows.num_rows)), path)


def remove_a_file(lake_root: Path) -> None:
    (lake_root / f"messages/day={LAST_DAY}/part-0.parquet").unlink()


def forget_the_counts(lake_root: Path) -> None:
    restate(lake_root, "messages", counted=None)


@pytest.fixture(scope="module")
def sample_exports(sample_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, published by another version of this program: the next publication reads all of the lake."""
    exports = tmp_path_factory.mktemp("sample") / "exports"
    file = publish_duckdb(sample_lake, exports, 3).path
    described = msgspec.structs.replace(folder.manifest_of(file), recipe="of another version")
    file.with_suffix(".json").chmod(0o644)
    file.with_suffix(".json").write_bytes(msgspec.json.encode(described))
    return exports


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lose_a_message, r"table messages, 2025-03-04: 7 rows in the file, Postgres counted 8 at 20\d\d-"),
        (repeat_a_message, r"table messages, 2025-03-04: 9 rows in the file, Postgres counted 8 at 20\d\d-"),
        (lose_a_day, r"table messages, 2025-03-04: 0 rows in the file, Postgres counted 8 at 20\d\d-"),
        (lose_a_user, r"table users: 1 rows in the file, Postgres counted 2 at 20\d\d-"),
        (state_another_count, r"table messages: 24 rows arrived of the lake's 25"),
        (
            lose_a_memory,
            r"1 rows of facts.fact_id name no row of memories, the first on 2025-03-01.*relationships.to_id",
        ),
        (orphan_an_episode, r"1 rows of memories.source_message_ids name no row of messages, the first on 2025-03-04"),
        (alter_a_file, r"table messages, 2025-03-04: .* has the SHA-256 [0-9a-f]{16}…, [0-9a-f]{16}… was exported"),
        (remove_a_file, r"table messages, 2025-03-04: .* is missing"),
        (forget_the_counts, r"table messages was exported by an older version.*materialize lake_dimensions"),
    ],
)
def test_a_lake_that_is_not_as_postgres_was_is_refused_before_the_switch(
    lake_root: Path, sample_exports: Path, exports: Path, damage: Callable[[Path], None], told: str
) -> None:
    shutil.copytree(sample_exports, exports, symlinks=True)
    served = {path.name: path.read_bytes() for path in exports.iterdir() if path.is_file()}
    damage(lake_root)
    with pytest.raises(ExportError, match=told):
        publish_duckdb(lake_root, exports, 3)
    assert {path.name: path.read_bytes() for path in exports.iterdir() if path.is_file()} == served


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (repeat_a_message, r"table messages, 2025-03-04: 9 rows in the file, Postgres counted 8 at 20\d\d-"),
        (state_another_count, r"table messages, 2025-03-01: 9 rows in the lake, Postgres counted 8"),
    ],
)
def test_a_file_made_from_the_last_is_compared_with_postgres_too(
    lake_root: Path, sample_exports: Path, tmp_path: Path, damage: Callable[[Path], None], told: str
) -> None:
    last = folder.served_manifest(sample_exports)
    assert last is not None
    damage(lake_root)
    manifest = read_manifest(lake_root)
    assert manifest is not None
    base, path = sample_exports / last.name, tmp_path / "memory.duckdb"
    with pytest.raises(ExportError, match=told):
        build.build_from(base, last.tables, last.made_of, lake_root, manifest, path)


def test_every_mart_says_where_each_of_its_columns_comes_from(lake_root: Path, exports: Path) -> None:
    path = publish_duckdb(lake_root, exports, 3).path
    with duckdb.connect(str(path), read_only=True) as connection:
        found = connection.execute(
            "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() ORDER BY table_name, column_index"
        ).fetchall()
        real = {table: {name: (kind, comment) for t, name, kind, comment in found if t == table} for table, *_ in found}
        for mart in marts():
            stated = {column.name: (_TYPES.get(column.type, column.type), column.comment) for column in mart.columns}
            assert list(stated.items()) == list(real[mart.name].items())
            assert mart.description.endswith(".")
            sources = {source for column in mart.columns for source in column.sources}
            assert [f"{t}.{c}" for t, c in sources if c not in real[t]] == []
            # What it reads is what its lineage says, so that it is made again when that changes.
            named = {name for name in real if re.search(rf"(?:FROM|JOIN) {name}\b", mart.statement)}
            assert named == mart.reads
            rows = connection.execute("FROM query_table($1)", [mart.name]).fetchall()
            at = [[column.name for column in mart.columns].index(name) for name in mart.key]
            assert len({tuple(row[n] for n in at) for row in rows}) == len(rows)


_TYPES = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}


def test_a_build_that_fails_in_the_middle_leaves_the_old_file_served(lake_root: Path, exports: Path) -> None:
    report = publish_duckdb(lake_root, exports, 3)
    change(lake_root)
    whole = read_day(lake_root, "summaries", date(2025, 3, 1))
    at = whole.schema.get_field_index("status")
    broken = whole.set_column(at, "another_name", whole.column(at))
    rewrite(lake_root, "summaries", date(2025, 3, 1), broken)
    with pytest.raises(ExportError, match="not built"):
        publish_duckdb(lake_root, exports, 3)
    assert_served(exports, report)
    assert litter(exports) == []
    rewrite(lake_root, "summaries", date(2025, 3, 1), whole)
    assert_served(exports, publish_duckdb(lake_root, exports, 3), MESSAGES - 1)


def test_a_null_where_none_may_be_is_refused(lake_root: Path, exports: Path) -> None:
    report = publish_duckdb(lake_root, exports, 3)
    file = lake_root / "messages/day=2025-03-04/part-0.parquet"
    table = pq.ParquetFile(file).read()
    at = table.schema.get_field_index("content")
    nulls = table.set_column(at, "content", pa.nulls(table.num_rows, pa.string()))
    rewrite(lake_root, "messages", LAST_DAY, nulls)
    with pytest.raises(ExportError, match=r"NOT NULL.*content"):
        publish_duckdb(lake_root, exports, 3)
    assert_served(exports, report)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_last_byte(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def leave_wal(path: Path) -> None:
    path.with_name(path.name + ".wal").write_bytes(b"stale")


def leave_wal_of_a_checkpoint(path: Path) -> None:
    path.with_name(path.name + ".wal.checkpoint").write_bytes(b"stale")


def leave_wal_of_a_recovery(path: Path) -> None:
    path.with_name(path.name + ".wal.recovery").write_bytes(b"stale")


def lose_a_row(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM messages WHERE message_id = (SELECT min(message_id) FROM messages)")


def alter_a_row(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "UPDATE messages SET content = 'x' WHERE message_id = (SELECT min(message_id) FROM messages)"
        )


def drop_a_table(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("DROP TABLE mart_user_daily")


@pytest.mark.parametrize(
    "damage",
    [
        *(truncate, cut_last_byte, lose_a_row, alter_a_row, drop_a_table),
        *(leave_wal, leave_wal_of_a_checkpoint, leave_wal_of_a_recovery),
    ],
)
def test_a_damaged_build_is_refused_before_the_switch(
    lake_root: Path, exports: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    report = publish_duckdb(lake_root, exports, 3)
    change(lake_root)

    def damaged_build(
        root: Path, manifest: lake.LakeManifest | None, path: Path, scope: build.Scope
    ) -> dict[str, TableSummary]:
        tables = build.build(root, manifest, path, scope)
        damage(path)
        return tables

    with monkeypatch.context() as patch:
        patch.setattr(publish, "build", damaged_build)
        with pytest.raises(ExportError, match="refused before the switch"):
            publish_duckdb(lake_root, exports, 3)
    assert_served(exports, report)
    assert generations(exports) == [report.path]
    assert litter(exports) == []
    assert_served(exports, publish_duckdb(lake_root, exports, 3), MESSAGES - 1)


@pytest.mark.parametrize(
    ("call", "nth"),
    [
        *(("flush", nth) for nth in range(1, 7)),
        *(("os.replace", nth) for nth in range(1, 5)),
        *((step, 1) for step in ("build", "verify_in_fresh_process", "place", "switch", "prune")),
    ],
)
def test_a_publisher_killed_at_any_step_leaves_a_whole_file_served(
    lake_root: Path, exports: Path, call: str, nth: int
) -> None:
    old = publish_duckdb(lake_root, exports, 2)
    change(lake_root)
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_AT, str(lake_root), str(exports), call, str(nth)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    served = current_export(exports)
    assert count_messages(served) == (MESSAGES if served == old.path else MESSAGES - 1)
    assert count_messages(exports / "memory.duckdb") in (MESSAGES, MESSAGES - 1)
    report = publish_duckdb(lake_root, exports, 2)
    assert_served(exports, report, MESSAGES - 1)
    assert litter(exports) == []
    assert len(generations(exports)) == 2


_KILLED_AT = """
import os, signal, sys
from pathlib import Path
from memory_pipeline.stores import files
from memory_pipeline.stores.duckdb import generations, publish

lake, exports, call, nth = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
calls = 0

def killing(function):
    def counted(*arguments, **named):
        global calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return counted

if call == "os.replace":
    os.replace = killing(os.replace)
elif call == "flush":
    generations.flush = files.flush = killing(files.flush)
else:
    setattr(publish, call, killing(getattr(publish, call)))
publish.publish_duckdb(lake, exports, 2)
"""


def test_two_publishers_at_once_make_one_generation(lake_root: Path, exports: Path) -> None:
    reports: list[ExportReport] = []
    threads = [threading.Thread(target=lambda: reports.append(publish_duckdb(lake_root, exports, 3))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.published for report in reports) == [False, True]
    assert generations(exports) == [reports[0].path]
    assert_served(exports, reports[0])
    assert litter(exports) == []


def test_a_served_file_that_was_damaged_is_replaced(lake_root: Path, exports: Path) -> None:
    first = publish_duckdb(lake_root, exports, 2)
    truncate(first.path)
    second = publish_duckdb(lake_root, exports, 2)
    assert second.published
    assert second.digest == first.digest
    assert_served(exports, second)


def test_a_stale_wal_beside_the_link_or_a_generation_is_removed(lake_root: Path, exports: Path) -> None:
    report = publish_duckdb(lake_root, exports, 2)
    for leave in (leave_wal, leave_wal_of_a_checkpoint, leave_wal_of_a_recovery):
        leave(report.path)
        leave(exports / "memory.duckdb")
    publish_duckdb(lake_root, exports, 2)
    assert litter(exports) == []
    assert_served(exports, report)


def test_asking_before_the_first_export_is_a_sentence(exports: Path) -> None:
    with pytest.raises(NoExportError, match="memory-pipeline materialize"):
        current_export(exports)
    exports.mkdir()
    (exports / "CURRENT").write_text("../../etc/passwd\n")
    with pytest.raises(ExportError, match="export again"):
        current_export(exports)

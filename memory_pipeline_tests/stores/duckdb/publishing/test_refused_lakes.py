"""The published DuckDB file: a lake that is not as Postgres was is refused before the switch."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from datetime import date
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memory_pipeline.model.errors import ExportError
from memory_pipeline.stores.duckdb import build
from memory_pipeline.stores.duckdb import generations as folder
from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline.stores.files import sha256_of
from memory_pipeline.stores.lake.manifest import LakeFile, TableManifest, read_manifest
from memory_pipeline_tests.stores.duckdb.publishing.support import LAST_DAY, assert_served, read_day
from memory_pipeline_tests.stores.export_sample import rewrite


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

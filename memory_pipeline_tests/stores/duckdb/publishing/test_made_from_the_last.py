"""The DuckDB file that is made from the last one: as if it had been built whole."""

from __future__ import annotations

import shutil
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

from memory_pipeline.stores.duckdb import generations as folder
from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline_tests.stores.duckdb.publishing.support import (
    LAST_DAY,
    TABLES,
    alter_a_mart,
    alter_a_row,
    assert_served,
    change,
    count_messages,
    litter,
)
from memory_pipeline_tests.stores.export_sample import MESSAGES, rewrite


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


@pytest.mark.parametrize("damage", [alter_a_row, alter_a_mart])
def test_a_damaged_last_file_is_not_built_upon(
    lake_root: Path, exports: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    first = publish_duckdb(lake_root, exports, 2)
    first.path.chmod(0o644)
    damage(first.path)
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

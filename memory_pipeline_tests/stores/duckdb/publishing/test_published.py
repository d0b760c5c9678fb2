"""The published DuckDB file: what it holds and says, and which generations of it are kept."""

from __future__ import annotations

import re
import shutil
import stat
from pathlib import Path

import duckdb
import pytest

from memory_pipeline import __version__
from memory_pipeline.stores.duckdb import generations as folder
from memory_pipeline.stores.duckdb.marts import marts
from memory_pipeline.stores.duckdb.publish import generations, publish_duckdb
from memory_pipeline_tests.stores.duckdb.publishing.support import TABLES, assert_served, change, litter
from memory_pipeline_tests.stores.export_sample import MESSAGES


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

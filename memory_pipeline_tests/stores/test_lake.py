"""The lake: what the same rows, other rows and failures do to its files."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_pipeline.model.errors import ExportError
from memory_pipeline.model.window import DayWindow, no_progress
from memory_pipeline.stores import lake
from memory_pipeline_tests.stores.export_sample import lake_bytes

START = date(2024, 2, 28)
WINDOW = DayWindow(START, START + timedelta(days=4))
SCHEMA = pa.schema([("day", pa.date32()), ("id", pa.int64()), ("content", pa.string())])

rows_by_day = st.lists(st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=12), min_size=4, max_size=4)


def reader(rows: Sequence[tuple[int, int, str | None]], cuts: list[int] | None = None) -> pa.RecordBatchReader:
    """Rows of (days after START, id, content), in batches that end at `cuts`."""
    days, numbers, contents = zip(*rows, strict=True) if rows else ((), (), ())
    whole = pa.record_batch([[START + timedelta(days=day) for day in days], numbers, contents], schema=SCHEMA)
    bounds = sorted({0, len(rows), *(cut % (len(rows) + 1) for cut in cuts or [])})
    batches = [whole.slice(start, end - start) for start, end in pairwise(bounds)]
    return pa.RecordBatchReader.from_batches(SCHEMA, batches)


def write(root: Path, rows: Sequence[tuple[int, int, str | None]], cuts: list[int] | None = None) -> lake.LakeReport:
    return lake.write_days(root, "messages", WINDOW, reader(rows, cuts), no_progress)


def numbered(contents: list[list[str | None]]) -> Sequence[tuple[int, int, str | None]]:
    return [(day, n, content) for day, column in enumerate(contents) for n, content in enumerate(column)]


@settings(deadline=None, max_examples=60)  # the disk may be slow
@given(
    contents=rows_by_day,
    cuts=st.lists(st.integers(0, 50), max_size=6),
    group=st.integers(1, 7),
    room=st.integers(1, 60),
)
def test_the_same_rows_give_the_same_bytes_in_whatever_batches_they_come(
    tmp_path_factory: pytest.TempPathFactory, contents: list[list[str | None]], cuts: list[int], group: int, room: int
) -> None:
    rows = numbered(contents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lake, "_GROUP_ROWS", group)
        patch.setattr(lake, "_GROUP_BYTES", room)
        one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
        first, second = write(one, rows), write(other, rows, cuts)
    assert lake_bytes(one) == lake_bytes(other)
    assert first.digest == second.digest
    read = [
        (day, row["id"], row["content"])
        for day in range(4)
        if (file := one / f"messages/day={START + timedelta(days=day)}/part-0.parquet").exists()
        for row in pq.ParquetFile(file).read().to_pylist()
    ]
    assert read == rows
    assert first.rows == len(rows)
    assert first.days == sum(bool(column) for column in contents)


def test_where_a_batch_ends_does_not_show_in_the_pages_of_a_larger_file(tmp_path: Path) -> None:
    rows = [(0, n, f"{n:0100}") for n in range(20_000)]
    write(tmp_path / "one", rows)
    write(tmp_path / "other", rows, [777, 15_000])
    assert lake_bytes(tmp_path / "one") == lake_bytes(tmp_path / "other")


def test_a_row_group_is_cut_before_its_text_outgrows_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake, "_GROUP_BYTES", 1000)
    write(tmp_path, [(0, n, "x" * 400) for n in range(5)] + [(0, 5, "x" * 5000), (0, 6, "x")])
    metadata = pq.read_metadata(tmp_path / f"messages/day={START}/part-0.parquet")
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [2, 2, 1, 1, 1]


def test_a_late_row_rewrites_only_its_day(tmp_path: Path) -> None:
    write(tmp_path, [(0, 1, "a"), (1, 2, "b"), (2, 3, "c")])
    for path in tmp_path.rglob("*.parquet"):
        os.utime(path, ns=(1, 1))
    before = lake_bytes(tmp_path)
    report = write(tmp_path, [(0, 1, "a"), (1, 2, "b"), (1, 4, "late"), (2, 3, "c")])
    after = lake_bytes(tmp_path)
    late = f"messages/day={START + timedelta(days=1)}/part-0.parquet"
    assert {name for name in after if after[name] != before[name]} == {late}
    assert {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.parquet") if path.stat().st_mtime_ns != 1
    } == {late}
    assert (report.written, report.removed, report.rows) == (1, 0, 4)


def test_a_day_that_lost_its_rows_loses_its_file_and_days_outside_the_window_stay(tmp_path: Path) -> None:
    write(tmp_path, [(0, 1, "a"), (1, 2, "b"), (2, 3, "c")])
    second = DayWindow.of_day(START + timedelta(days=1))
    report = lake.write_days(tmp_path, "messages", second, reader([]), no_progress)
    assert (report.removed, report.days, report.rows) == (1, 0, 0)
    assert sorted(path.name for path in (tmp_path / "messages").glob("day=*")) == ["day=2024-02-28", "day=2024-03-01"]


def test_a_row_outside_the_window_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="2024-03-03"):
        write(tmp_path, [(0, 1, "a"), (4, 2, "b")])


def test_a_source_that_fails_leaves_whole_files_and_no_litter(tmp_path: Path) -> None:
    write(tmp_path, [(0, 1, "old"), (1, 2, "old"), (2, 3, "old")])
    before = lake_bytes(tmp_path)

    def batches() -> Iterator[pa.RecordBatch]:
        yield from reader([(0, 1, "new"), (1, 2, "new")], [1])
        raise RuntimeError("the source went away")

    with pytest.raises(RuntimeError, match="the source went away"):
        lake.write_days(tmp_path, "messages", WINDOW, pa.RecordBatchReader.from_batches(SCHEMA, batches()), no_progress)
    after = lake_bytes(tmp_path)
    changed = [name for name in after if after[name] != before[name]]
    assert before.keys() == after.keys()
    assert changed in ([], [f"messages/day={START}/part-0.parquet"])
    assert [path.name for path in (tmp_path / "messages").iterdir() if not path.name.startswith("day=")] == [".lock"]


def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path: Path) -> None:
    litter = tmp_path / "messages/.writing/day=2024-02-28_part-0.parquet"
    litter.parent.mkdir(parents=True)
    litter.write_bytes(b"half a file")
    write(tmp_path, [(0, 1, "a")])
    assert not litter.parent.exists()


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "messages").mkdir()
    (tmp_path / f"messages/day={START}").write_text("a file where a folder belongs")
    with pytest.raises(ExportError, match="mend the disk"):
        write(tmp_path, [(0, 1, "a")])


def test_a_writer_waits_for_readers_of_the_lake(tmp_path: Path) -> None:
    write(tmp_path, [(0, 1, "a")])
    writer = threading.Thread(target=write, args=(tmp_path, [(0, 1, "b")]))
    with lake.reading(tmp_path), lake.reading(tmp_path):
        before = lake_bytes(tmp_path)
        writer.start()
        writer.join(0.2)
        assert writer.is_alive()
        assert lake_bytes(tmp_path) == before
    writer.join()
    assert lake_bytes(tmp_path) != before


def test_a_dimension_is_one_file_and_none_without_rows(tmp_path: Path) -> None:
    written = lake.write_whole(tmp_path, "users", reader([(0, 1, "a"), (1, 2, "b")], [1]), no_progress)
    assert (written.rows, written.days, written.written) == (2, 1, 1)
    assert [path.name for path in lake.lake_files(tmp_path, "users")] == ["part-0.parquet"]
    assert lake.write_whole(tmp_path, "users", reader([]), no_progress).removed == 1
    assert lake.lake_files(tmp_path, "users") == []


def test_the_lake_is_a_hive_dataset_to_others(tmp_path: Path) -> None:
    write(tmp_path, [(0, 1, "a"), (2, 3, "c")])
    hive = ds.partitioning(pa.schema([("day", pa.date32())]), flavor="hive")
    table = ds.dataset(tmp_path / "messages", partitioning=hive).to_table()
    assert sorted(zip(table["day"].to_pylist(), table["id"].to_pylist(), strict=True)) == [
        (START, 1),
        (START + timedelta(days=2), 3),
    ]

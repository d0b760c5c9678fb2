"""The lake: what the same rows, other rows, failures and a killed exporter do to its files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_pipeline.model.errors import ExportError
from memory_pipeline.model.snapshot import Fingerprint, Source
from memory_pipeline.model.window import DayWindow, no_progress
from memory_pipeline.stores import lake
from memory_pipeline.stores.lake import writer
from memory_pipeline.stores.lake.manifest import merged, ranges, read_manifest
from memory_pipeline_tests.stores.export_sample import lake_bytes

START = date(2024, 2, 28)
WINDOW = DayWindow(START, START + timedelta(days=4))
SCHEMA = pa.schema([("day", pa.date32()), ("id", pa.int64()), ("content", pa.string())])
SOURCE = Source(
    installation_id=UUID(int=1),
    database="1/1/x",
    schema_version=3,
    snapshot="1:1:",
    taken_at=datetime(2024, 3, 1, tzinfo=UTC),
)
Row = tuple[int, int, str | None]
"""Days after START, id, content."""

rows_by_day = st.lists(st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=12), min_size=4, max_size=4)


def reader(rows: Sequence[Row], cuts: list[int] | None = None) -> pa.RecordBatchReader:
    """Rows in batches that end at `cuts`."""
    days, numbers, contents = zip(*rows, strict=True) if rows else ((), (), ())
    whole = pa.record_batch([[START + timedelta(days=day) for day in days], numbers, contents], schema=SCHEMA)
    bounds = sorted({0, len(rows), *(cut % (len(rows) + 1) for cut in cuts or [])})
    batches = [whole.slice(start, end - start) for start, end in pairwise(bounds)]
    return pa.RecordBatchReader.from_batches(SCHEMA, batches)


def fingerprints(rows: Sequence[Row]) -> dict[date | None, Fingerprint]:
    by_day: dict[date | None, list[Row]] = {}
    for row in rows:
        by_day.setdefault(START + timedelta(days=row[0]), []).append(row)
    return {day: Fingerprint(len(found), repr(found)) for day, found in by_day.items()}


def stage(
    export: lake.Export,
    rows: Sequence[Row],
    cuts: list[int] | None = None,
    *,
    window: DayWindow | None = WINDOW,
    source: Source = SOURCE,
    made_by: str = "test",
    table: str = "messages",
    read: list[DayWindow | None] | None = None,
) -> lake.LakeReport:
    @contextmanager
    def opened(part: DayWindow | None) -> Iterator[pa.RecordBatchReader]:
        if read is not None:
            read.append(part)
        yield reader(
            [row for row in rows if part is None or part.start <= START + timedelta(days=row[0]) < part.end], cuts
        )

    present = fingerprints(rows)
    if table in lake.DIMENSIONS:
        present = {None: Fingerprint(len(rows), repr(rows))} if rows else {}
    return export.write(table, source, made_by, present, window, opened, no_progress)


def write(root: Path, rows: Sequence[Row], cuts: list[int] | None = None, **more: object) -> lake.LakeReport:
    """Export rows as the only ones there are."""
    with lake.exporting(root) as export:
        report = stage(export, rows, cuts, **more)  # type: ignore[arg-type]  # the keywords of `stage`
        export.commit()
    return report


def numbered(contents: list[list[str | None]]) -> Sequence[Row]:
    return [(day, n, content) for day, column in enumerate(contents) for n, content in enumerate(column)]


def names(root: Path) -> list[str]:
    """Everything in the folder of the lake but its files, locks and manifest."""
    known = {".lock", ".export.lock", "manifest.json", *lake.TABLES}
    return [path.name for path in root.iterdir() if path.name not in known]


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
        patch.setattr(writer, "_GROUP_ROWS", group)
        patch.setattr(writer, "_GROUP_BYTES", room)
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
    monkeypatch.setattr(writer, "_GROUP_BYTES", 1000)
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
    assert (report.stale, report.written, report.removed, report.rows) == (1, 1, 0, 4)


def test_a_day_that_lost_its_rows_loses_its_file(tmp_path: Path) -> None:
    write(tmp_path, [(0, 1, "a"), (1, 2, "b"), (2, 3, "c")])
    report = write(tmp_path, [(0, 1, "a"), (2, 3, "c")], window=DayWindow.of_day(START))
    assert (report.removed, report.days, report.rows, report.written) == (1, 1, 1, 0)
    assert sorted(path.name for path in (tmp_path / "messages").glob("day=*")) == ["day=2024-02-28", "day=2024-03-01"]


def test_days_exported_before_are_written_again_when_they_change_whatever_the_window(tmp_path: Path) -> None:
    write(tmp_path, [(0, 1, "a"), (2, 3, "c")], window=DayWindow(START, START + timedelta(days=3)))
    read: list[DayWindow | None] = []
    # Day 0 changed, day 1 was empty and is not any more, day 3 was never asked for.
    rows = [(0, 1, "other"), (1, 2, "late"), (2, 3, "c"), (3, 4, "new")]
    report = write(tmp_path, rows, window=None, read=read)
    assert (report.stale, report.written) == (2, 2)
    assert read == [DayWindow(START, START + timedelta(days=2))]
    assert [path.parent.name for path in sorted(tmp_path.rglob("*.parquet"))] == [
        "day=2024-02-28",
        "day=2024-02-29",
        "day=2024-03-01",
    ]


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_an_export_of_what_changed_equals_an_export_of_everything(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root, fresh = tmp_path_factory.mktemp("changed"), tmp_path_factory.mktemp("fresh")
    rows: Sequence[Row] = []
    for _ in range(data.draw(st.integers(1, 4))):
        rows = numbered(data.draw(rows_by_day))
        write(root, rows, window=data.draw(st.sampled_from([WINDOW, None])))
    # What was never asked for is not there; now it is.
    write(root, rows)
    write(fresh, rows)
    assert lake_bytes(root) == lake_bytes(fresh)
    one, other = read_manifest(root), read_manifest(fresh)
    assert one is not None
    assert other is not None
    assert one.digest == other.digest
    assert lake.verify_lake(root) == []


def test_rows_of_another_server_or_another_statement_are_all_read_again(tmp_path: Path) -> None:
    rows: Sequence[Row] = [(0, 1, "a"), (1, 2, "b")]
    write(tmp_path, rows)
    elsewhere = Source(
        installation_id=SOURCE.installation_id,
        database="2/1/x",
        schema_version=3,
        snapshot="1:1:",
        taken_at=SOURCE.taken_at,
    )
    assert write(tmp_path, rows, source=elsewhere).stale == 2
    assert write(tmp_path, rows, source=elsewhere).stale == 0
    report = write(tmp_path, rows, source=elsewhere, made_by="another statement")
    assert (report.stale, report.written) == (2, 0)


def test_a_file_that_is_gone_or_cut_is_written_again(tmp_path: Path) -> None:
    rows: Sequence[Row] = [(0, 1, "a"), (1, 2, "b"), (2, 3, "c")]
    write(tmp_path, rows)
    before = lake_bytes(tmp_path)
    files = sorted(tmp_path.rglob("*.parquet"))
    files[0].unlink()
    os.truncate(files[1], 10)
    assert len(lake.verify_lake(tmp_path)) == 2
    report = write(tmp_path, rows, window=None)
    assert (report.stale, report.written) == (2, 2)
    assert lake_bytes(tmp_path) == before
    assert lake.verify_lake(tmp_path) == []


def test_verifying_tells_what_was_altered_and_what_was_added(tmp_path: Path) -> None:
    write(tmp_path, [(0, 1, "a")])
    (file,) = tmp_path.rglob("*.parquet")
    added = file.parent.parent / "day=2020-01-01/part-0.parquet"
    added.parent.mkdir()
    shutil.copy(file, added)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert lake.verify_lake(tmp_path) == [
        f"{file} is not the file that was exported",
        f"{added} belongs to no export",
    ]
    assert lake.verify_lake(tmp_path / "none") == [f"there is no lake in {tmp_path / 'none'}"]


def test_rows_that_postgres_did_not_count_are_refused(tmp_path: Path) -> None:
    write(tmp_path, [(0, 1, "a")])
    before = lake_bytes(tmp_path)

    @contextmanager
    def two_rows(_part: DayWindow | None) -> Iterator[pa.RecordBatchReader]:
        yield reader([(0, 1, "a"), (0, 2, "b")])

    with pytest.raises(ExportError, match=r"2 rows arrived.*Postgres counted 3"), lake.exporting(tmp_path) as export:
        export.write("messages", SOURCE, "test", {START: Fingerprint(3, "3")}, WINDOW, two_rows, no_progress)
    assert lake_bytes(tmp_path) == before


def test_a_row_outside_what_was_asked_for_is_refused(tmp_path: Path) -> None:
    @contextmanager
    def elsewhere(_part: DayWindow | None) -> Iterator[pa.RecordBatchReader]:
        yield reader([(0, 1, "a"), (4, 2, "b")])

    with pytest.raises(ExportError, match="2024-03-03"), lake.exporting(tmp_path) as export:
        export.write("messages", SOURCE, "test", fingerprints([(0, 1, "a")]), WINDOW, elsewhere, no_progress)


def test_a_source_that_fails_leaves_the_lake_as_it_was_and_no_litter(tmp_path: Path) -> None:
    write(tmp_path, [(0, 1, "old"), (1, 2, "old"), (2, 3, "old")])
    before = lake_bytes(tmp_path)
    rows: Sequence[Row] = [(0, 1, "new"), (1, 2, "new"), (2, 3, "new")]

    def batches() -> Iterator[pa.RecordBatch]:
        yield from reader(rows, [1, 2])
        raise RuntimeError("the source went away")

    @contextmanager
    def failing(_part: DayWindow | None) -> Iterator[pa.RecordBatchReader]:
        yield pa.RecordBatchReader.from_batches(SCHEMA, batches())

    with pytest.raises(RuntimeError, match="the source went away"), lake.exporting(tmp_path) as export:
        export.write("messages", SOURCE, "test", fingerprints(rows), WINDOW, failing, no_progress)
    assert lake_bytes(tmp_path) == before
    assert names(tmp_path) == []


def test_several_tables_are_switched_together_or_not_at_all(tmp_path: Path) -> None:
    rows: Sequence[Row] = [(0, 1, "a")]
    with lake.exporting(tmp_path) as export:
        stage(export, rows)
        stage(export, rows, table="users")
    assert lake_bytes(tmp_path) == {}
    with lake.exporting(tmp_path) as export:
        stage(export, rows)
        stage(export, rows, table="users")
        export.commit()
    assert sorted(lake_bytes(tmp_path)) == ["messages/day=2024-02-28/part-0.parquet", "users/part-0.parquet"]


def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path: Path) -> None:
    litter = tmp_path / ".staging/messages/day=2024-02-28_part-0.parquet"
    litter.parent.mkdir(parents=True)
    litter.write_bytes(b"half a file")
    write(tmp_path, [(0, 1, "a")])
    assert names(tmp_path) == []
    assert lake.verify_lake(tmp_path) == []


_KILLED_AT = """
import os, signal, sys
from pathlib import Path
from memory_pipeline.stores import files
from memory_pipeline.stores.lake import switch, writer
from memory_pipeline_tests.stores.test_lake import write

root, call, nth = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
calls = 0

def killing(function):
    def counted(*arguments, **named):
        global calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return counted

switch._FLUSHERS = 1
if call == "os.replace":
    os.replace = killing(os.replace)
elif call == "flush":
    writer.flush = switch.flush = killing(files.flush)
else:
    setattr(switch, call, killing(getattr(switch, call)))
write(root, [(0, 1, "new"), (1, 2, "new"), (3, 4, "new")])
"""


@pytest.mark.parametrize(
    ("call", "nth", "holds"),
    [
        ("flush", 1, False),
        ("flush", 6, False),
        ("os.replace", 1, False),
        ("flush", 7, True),
        *(("os.replace", nth, True) for nth in range(2, 6)),
        ("_remove", 1, True),
        ("_roll_forward", 2, True),
    ],
)
def test_an_exporter_killed_at_any_step_leaves_the_lake_of_before_or_after(
    tmp_path: Path, call: str, nth: int, holds: bool
) -> None:
    root = tmp_path / "lake"
    new: Sequence[Row] = [(0, 1, "new"), (1, 2, "new"), (3, 4, "new")]
    write(root, [(0, 1, "old"), (1, 2, "old"), (2, 3, "old")])
    old = lake_bytes(root)
    write(tmp_path / "expected", new)
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_AT, str(root), call, str(nth)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    with lake.reading(root) as manifest:
        assert manifest is not None
        served = {f"messages/{name}" for name in manifest.tables["messages"].files}
        assert lake_bytes(root).keys() - {name for name in lake_bytes(root) if name.startswith(".")} == served
    assert {name: content for name, content in lake_bytes(root).items() if not name.startswith(".")} == (
        lake_bytes(tmp_path / "expected") if holds else old
    )
    assert lake.verify_lake(root) == []
    write(root, new)
    assert lake_bytes(root) == lake_bytes(tmp_path / "expected")
    assert names(root) == []


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "messages").mkdir()
    (tmp_path / f"messages/day={START}").write_text("a file where a folder belongs")
    with pytest.raises(ExportError, match="mend the disk"):
        write(tmp_path, [(0, 1, "a")])


def test_a_damaged_manifest_is_a_sentence(tmp_path: Path) -> None:
    write(tmp_path, [(0, 1, "a")])
    os.truncate(tmp_path / "manifest.json", 20)
    with pytest.raises(ExportError, match="is damaged"):
        write(tmp_path, [(0, 1, "a")])


def test_a_switch_waits_for_readers_of_the_lake(tmp_path: Path) -> None:
    write(tmp_path, [(0, 1, "a")])
    exporter = threading.Thread(target=write, args=(tmp_path, [(0, 1, "b")]))
    with lake.reading(tmp_path), lake.reading(tmp_path):
        before = (tmp_path / f"messages/day={START}/part-0.parquet").read_bytes()
        exporter.start()
        exporter.join(0.2)
        assert exporter.is_alive()
        assert (tmp_path / f"messages/day={START}/part-0.parquet").read_bytes() == before
    exporter.join()
    assert (tmp_path / f"messages/day={START}/part-0.parquet").read_bytes() != before


def test_a_dimension_is_one_file_and_none_without_rows(tmp_path: Path) -> None:
    written = write(tmp_path, [(0, 1, "a"), (1, 2, "b")], [1], table="users")
    assert (written.rows, written.days, written.written) == (2, 1, 1)
    with lake.reading(tmp_path) as manifest:
        assert [path.name for path in lake.lake_files(tmp_path, manifest, "users")] == ["part-0.parquet"]
    assert write(tmp_path, [], table="users").removed == 1
    with lake.reading(tmp_path) as manifest:
        assert lake.lake_files(tmp_path, manifest, "users") == []
    assert lake_bytes(tmp_path) == {}


def test_windows_are_joined_where_they_meet_and_days_where_they_are_close(tmp_path: Path) -> None:
    days = [START + timedelta(days=n) for n in (0, 1, 3, 9)]
    assert ranges(days) == [DayWindow(days[0], START + timedelta(days=4)), DayWindow.of_day(days[3])]
    assert merged([WINDOW], DayWindow(WINDOW.end, WINDOW.end + timedelta(days=1))) == [
        DayWindow(START, WINDOW.end + timedelta(days=1))
    ]
    later = DayWindow(WINDOW.end + timedelta(days=1), WINDOW.end + timedelta(days=2))
    assert merged([later, WINDOW], DayWindow.of_day(START)) == [WINDOW, later]


def test_the_lake_is_a_hive_dataset_to_others(tmp_path: Path) -> None:
    write(tmp_path, [(0, 1, "a"), (2, 3, "c")])
    hive = ds.partitioning(pa.schema([("day", pa.date32())]), flavor="hive")
    table = ds.dataset(tmp_path / "messages", partitioning=hive).to_table()
    assert sorted(zip(table["day"].to_pylist(), table["id"].to_pylist(), strict=True)) == [
        (START, 1),
        (START + timedelta(days=2), 3),
    ]

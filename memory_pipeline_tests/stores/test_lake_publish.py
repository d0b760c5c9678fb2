"""The lake at a URL, in a folder and in an S3-compatible store: what is there after publications, and failed ones."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from uuid import UUID

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
import pytest

from memory_pipeline.model.errors import ExportError, SettingsError, StoreUnavailableError
from memory_pipeline.model.snapshot import Source
from memory_pipeline.stores.lake import TABLES
from memory_pipeline.stores.lake.manifest import read_manifest
from memory_pipeline.stores.lake.publish import publish_lake
from memory_pipeline.stores.lake.published import PublishedManifest, published_generations, verify_published_lake
from memory_pipeline.stores.lake.target import open_target
from memory_pipeline_tests.stores.export_sample import FIRST_DAY, MESSAGES, lake_bytes, rewrite
from memory_pipeline_tests.stores.lake_places import Place, S3Place
from memory_pipeline_tests.stores.s3_server import S3Server

_PUBLISH = """
import sys
from pathlib import Path
from memory_pipeline.stores.lake.publish import publish_lake
publish_lake(Path(sys.argv[1]), sys.argv[2], 1)
"""
SECOND_DAY = date(2025, 3, 2)


@pytest.fixture
def lake(sample_lake: Path, tmp_path: Path) -> Path:
    shutil.copytree(sample_lake, tmp_path / "lake")
    return tmp_path / "lake"


def say(lake: Path, content: str, day: date = SECOND_DAY) -> None:
    """Give every message of a day another text, as an export that found it in Postgres would."""
    path = lake / f"messages/day={day}/part-0.parquet"
    rows = pa.parquet.ParquetFile(path).read()
    texts = pa.array([content] * rows.num_rows, rows.schema.field("content").type)
    rewrite(lake, "messages", day, rows.set_column(rows.schema.get_field_index("content"), "content", texts))


def served(lake_place: Place) -> PublishedManifest:
    return msgspec.json.decode(lake_place.files()["manifest.json"], type=PublishedManifest)


def assert_whole(files: dict[str, bytes]) -> None:
    """Every file that the served manifest names is there, with its bytes."""
    manifest = msgspec.json.decode(files["manifest.json"], type=PublishedManifest)
    for table in manifest.tables.values():
        for file in table.files:
            assert hashlib.sha256(files[file.path]).hexdigest() == file.sha256
            assert len(files[file.path]) == file.bytes


def is_whole(files: dict[str, bytes]) -> bool:
    manifest = msgspec.json.decode(files["manifest.json"], type=PublishedManifest)
    return all(len(files.get(name, b"")) == size for name, size in manifest.sizes.items())


def data_files(lake_place: Place) -> set[str]:
    return {name for name in lake_place.files() if name.startswith("data/")}


def test_what_is_published_reads_as_the_lake_does(lake: Path, lake_place: Place) -> None:
    report = publish_lake(lake, lake_place.url, 3)
    manifest = served(lake_place)
    assert set(manifest.tables) == set(TABLES)
    for name, table in manifest.tables.items():
        local = [str(path) for path in sorted((lake / name).rglob("*.parquet"))]
        assert len(table.files) == len(local)
        if not local:
            continue
        published = ds.dataset(
            [f"{lake_place.root}/{file.path}" for file in table.files], filesystem=lake_place.filesystem()
        )
        with duckdb.connect() as connection:
            connection.register("published", published)
            connection.register("local", ds.dataset(local))
            digests = [
                connection.execute("SELECT count(*), sum(hash(t)) FROM query_table($1) AS t", [one]).fetchall()
                for one in ("published", "local")
            ]
        assert digests[0] == digests[1]
        assert digests[0][0][0] == table.rows == sum(file.rows for file in table.files) > 0
    assert manifest.tables["messages"].rows == MESSAGES
    assert sorted(file for name, file in lake_place.files().items() if name.startswith("data/")) == sorted(
        lake_bytes(lake).values()
    )
    assert (report.published, report.generation, report.newer_served) == (True, 1, False)
    assert report.files == report.files_copied == len(lake_bytes(lake))
    assert report.bytes == report.bytes_copied == sum(map(len, lake_bytes(lake).values()))
    local_manifest = read_manifest(lake)
    assert local_manifest is not None
    assert report.digest == manifest.digest == local_manifest.digest
    assert verify_published_lake(lake, lake_place.url) == []


def test_plain_sql_finds_the_files_by_the_manifest(lake: Path, tmp_path: Path) -> None:
    publish_lake(lake, f"file://{tmp_path}/published", 3)
    with duckdb.connect() as connection:
        connection.execute("SET VARIABLE lake = ?", [f"{tmp_path}/published"])
        connection.execute(
            "SET VARIABLE files = (SELECT list(getvariable('lake') || '/' || file.path) FROM ("
            "SELECT unnest(tables.messages.files) AS file FROM read_json(getvariable('lake') || '/manifest.json')))"
        )
        counted = "SELECT count(*), count(DISTINCT day) FROM read_parquet(getvariable('files'))"
        assert connection.execute(counted).fetchall() == [(MESSAGES, 3)]
        one_day = f"{counted} WHERE day = '2025-03-02'"
        assert connection.execute(one_day).fetchall() == [(MESSAGES // 3, 1)]


def test_publishing_twice_writes_nothing(lake: Path, s3: S3Server) -> None:
    first = publish_lake(lake, s3.url(), 3)
    before = s3.objects
    s3.requests.clear()
    again = publish_lake(lake, s3.url(), 3)
    assert {method for method, _ in s3.requests} <= {"GET", "HEAD"}
    assert s3.objects == before
    assert (again.published, again.files_copied, again.files_removed) == (False, 0, 0)
    assert (again.generation, again.digest, again.files) == (first.generation, first.digest, first.files)


def test_only_files_that_changed_travel(lake: Path, lake_place: Place) -> None:
    publish_lake(lake, lake_place.url, 3)
    before = lake_place.files()
    say(lake, "changed")
    report = publish_lake(lake, lake_place.url, 3)
    assert (report.published, report.generation, report.files_copied, report.files_removed) == (True, 2, 1, 0)
    (new,) = data_files(lake_place) - before.keys()
    assert new.startswith("data/messages/day=2025-03-02/")
    assert {name: lake_place.files()[name] for name in before if name != "manifest.json"} == {
        name: content for name, content in before.items() if name != "manifest.json"
    }
    assert_whole(lake_place.files())


def test_generations_are_kept_by_number_and_whole_and_nothing_else_is(lake: Path, lake_place: Place) -> None:
    for number in range(4):
        say(lake, f"text {number}")
        report = publish_lake(lake, lake_place.url, 2)
        assert report.generation == number + 1
        assert report.files_removed == (number > 1)
    kept = published_generations(lake_place.url)
    assert [(one.served, one.url.rpartition("/")[2][:7]) for one in kept] == [(True, "000004-"), (False, "000003-")]
    files = lake_place.files()
    named: set[str] = set()
    for one in kept:
        content = files[one.url.removeprefix(f"{lake_place.url.partition('?')[0]}/")]
        assert_whole(files | {"manifest.json": content})
        named |= msgspec.json.decode(content, type=PublishedManifest).sizes.keys()
    assert data_files(lake_place) == named
    assert publish_lake(lake, lake_place.url, 1).files_removed == 1
    assert data_files(lake_place) == served(lake_place).sizes.keys()
    assert [one.served for one in published_generations(lake_place.url)] == [True]


def test_files_of_others_beside_it_are_left_alone(lake: Path, lake_place: Place) -> None:
    others = {"notes.txt": b"mine", "data/notes.txt": b"mine", "data/messages/mine.parquet": b"x", "manifests/x": b"x"}
    for name, content in others.items():
        lake_place.put(name, content)
    for text in ("one", "two"):
        say(lake, text)
        publish_lake(lake, lake_place.url, 1)
    assert others.items() <= lake_place.files().items()


def test_a_file_that_arrived_by_half_or_is_missing_is_copied_again(lake: Path, lake_place: Place) -> None:
    publish_lake(lake, lake_place.url, 3)
    whole = lake_place.files()
    half, missing, *_ = sorted(data_files(lake_place))
    lake_place.put(half, whole[half][: len(whole[half]) // 2])
    lake_place.remove(missing)
    lake_place.put(f"{missing}.12345678.part", b"begun")
    problems = verify_published_lake(lake, lake_place.url)
    assert [problem.partition(f"{lake_place.url.partition('?')[0]}/")[2] for problem in problems] == [
        f"{half} is not whole: materialize published_lake",
        f"{missing} is missing: materialize published_lake",
        f"{missing}.12345678.part belongs to no generation",
    ]
    report = publish_lake(lake, lake_place.url, 3)
    assert (report.published, report.files_copied, report.files_removed) == (False, 2, 1)
    assert lake_place.files() == whole
    assert verify_published_lake(lake, lake_place.url) == []


def test_a_damaged_or_missing_manifest_is_replaced(lake: Path, lake_place: Place) -> None:
    publish_lake(lake, lake_place.url, 3)
    for damaged in (b'{"generation": 1', None):
        if damaged is None:
            lake_place.remove("manifest.json")
        else:
            lake_place.put("manifest.json", damaged)
        assert verify_published_lake(lake, lake_place.url)[0].endswith(
            "/manifest.json is missing or damaged: materialize published_lake"
        )
        assert publish_lake(lake, lake_place.url, 3).published
        assert verify_published_lake(lake, lake_place.url) == []
    lake_place.remove(served(lake_place).name)
    assert publish_lake(lake, lake_place.url, 3).published
    assert verify_published_lake(lake, lake_place.url) == []


def test_a_damaged_file_is_found_by_reading(lake: Path, lake_place: Place) -> None:
    publish_lake(lake, lake_place.url, 3)
    name = min(data_files(lake_place))
    content = lake_place.files()[name]
    lake_place.put(name, content[:-1] + bytes([content[-1] ^ 1]))
    (problem,) = verify_published_lake(lake, lake_place.url)
    assert problem.endswith(f"{name} is damaged: delete it, then materialize published_lake")
    lake_place.remove(name)
    publish_lake(lake, lake_place.url, 3)
    assert lake_place.files()[name] == content


def test_a_damaged_file_of_the_local_lake_is_not_published(lake: Path, lake_place: Place) -> None:
    publish_lake(lake, lake_place.url, 3)
    before = lake_place.files()
    say(lake, "changed")
    path = lake / f"messages/day={SECOND_DAY}/part-0.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ExportError, match=rf"{path} is not the file that was exported"):
        publish_lake(lake, lake_place.url, 3)
    assert lake_place.files() == before


def with_sources(lake: Path, change: Callable[[Source], Source]) -> None:
    """Let the lake have been read from another moment, or another Postgres."""
    manifest = read_manifest(lake)
    assert manifest is not None
    tables = {
        name: msgspec.structs.replace(table, source=change(table.source)) for name, table in manifest.tables.items()
    }
    (lake / "manifest.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, tables=tables)))


def test_the_lake_of_another_installation_is_not_overwritten(lake: Path, lake_place: Place) -> None:
    publish_lake(lake, lake_place.url, 3)
    before = lake_place.files()
    with_sources(lake, lambda source: msgspec.structs.replace(source, installation_id=UUID(int=7)))
    say(lake, "of another")
    with pytest.raises(ExportError, match="lake of another installation"):
        publish_lake(lake, lake_place.url, 3)
    assert lake_place.files() == before


def test_an_older_working_copy_leaves_a_newer_lake_served(lake: Path, lake_place: Place, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(lake, older)
    with_sources(lake, lambda source: msgspec.structs.replace(source, snapshot="900000000:900000001:"))
    say(lake, "newer")
    publish_lake(lake, lake_place.url, 1)
    before = lake_place.files()
    report = publish_lake(older, lake_place.url, 1)
    assert (report.newer_served, report.published, report.files_copied) == (True, False, 0)
    assert lake_place.files() == before
    # Of another timeline, moments can't be compared: the server was restored, and this is what it has now.
    with_sources(older, lambda source: msgspec.structs.replace(source, database="1/2/x"))
    assert publish_lake(older, lake_place.url, 1).published


def test_a_publisher_that_fails_at_any_request_leaves_a_whole_lake(lake: Path, s3: S3Server) -> None:
    """Whatever it wrote last, the manifest that is served names files that are there, and the next one finishes."""
    publish_lake(lake, s3.url(), 1)
    say(lake, "new")
    say(lake, "new", FIRST_DAY)
    start, failures = dict(s3.buckets["bucket"]), 0
    while True:
        s3.buckets["bucket"] = dict(start)
        writes = 0

        def refuse_after(method: str, key: str, allowed: int = failures) -> None:
            nonlocal writes
            writes += method in ("PUT", "DELETE")
            s3.refused = {"PUT", "DELETE"} if writes > allowed else set()

        s3.before = refuse_after
        try:
            publish_lake(lake, s3.url(), 1)
        except StoreUnavailableError:
            failures += 1
        else:
            break
        finally:
            s3.before, s3.refused = lambda method, key: None, set()
        assert_whole(files_below(s3))
        publish_lake(lake, s3.url(), 1)
        assert data_keys(s3) == served(S3Place(s3)).sizes.keys()
        assert verify_published_lake(lake, s3.url()) == []
    # Two files, the generation and the manifest, then a generation and two files that go.
    assert failures >= 7


def files_below(s3: S3Server) -> dict[str, bytes]:
    return {key.removeprefix("lake/"): content for key, content in s3.objects.items()}


def data_keys(s3: S3Server) -> set[str]:
    return {name for name in files_below(s3) if name.startswith("data/")}


def publishing(lake: Path, url: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Publish in another process, keeping one generation."""
    return subprocess.run(
        [sys.executable, "-c", _PUBLISH, str(lake), url],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("moment", "generation", "litter"),
    [
        ("after_lake_copies", 1, 1),  # a file that no manifest names
        ("before_lake_manifest", 1, 1),
        ("after_lake_manifest", 2, 1),  # a file of the generation before
        ("before_lake_removals", 2, 1),
    ],
)
def test_a_publisher_that_is_killed_leaves_a_whole_lake(
    lake: Path, lake_place: Place, moment: str, generation: int, litter: int
) -> None:
    publish_lake(lake, lake_place.url, 1)
    say(lake, "changed")
    killed = publishing(lake, lake_place.url, MEMORY_FAILPOINTS=f"{moment}:kill")
    assert killed.returncode == -signal.SIGKILL
    assert served(lake_place).generation == generation
    assert_whole(lake_place.files())
    assert len(data_files(lake_place) - served(lake_place).sizes.keys()) == litter
    publish_lake(lake, lake_place.url, 1)
    assert served(lake_place).generation >= 2
    assert data_files(lake_place) == served(lake_place).sizes.keys()
    assert [one.served for one in published_generations(lake_place.url)] == [True]
    assert verify_published_lake(lake, lake_place.url) == []


@pytest.mark.parametrize("moment", ["lake/data/", "lake/manifests/", "lake/manifest.json"])
def test_another_generation_in_between_ends_with_one_whole_lake(
    lake: Path, s3: S3Server, tmp_path: Path, moment: str
) -> None:
    """Another working copy publishes, and removes all but its own, while this one is about to write."""
    other = tmp_path / "other"
    shutil.copytree(lake, other)
    publish_lake(lake, s3.url(), 1)
    say(lake, "of this one")
    say(other, "of the other")
    say(other, "of the other", FIRST_DAY)  # so that it removes a file that this one found there
    calls: list[str] = []
    whole: list[bool] = []

    def meanwhile(method: str, key: str) -> None:
        if method == "PUT" and key.startswith(moment) and not calls:
            calls.append(key)
            publishing(other, s3.url()).check_returncode()
        elif calls and moment == "lake/data/":
            # It came before this one had looked whether its files arrived: what is served is whole all the time.
            whole.append(is_whole(files_below(s3)))

    s3.before = meanwhile
    report = publish_lake(lake, s3.url(), 1)
    assert calls
    assert all(whole)
    assert report.published
    assert_whole(files_below(s3))
    manifest = read_manifest(lake)
    assert manifest is not None
    assert served(S3Place(s3)).digest == report.digest == manifest.digest
    assert data_keys(s3) == served(S3Place(s3)).sizes.keys()
    assert verify_published_lake(lake, s3.url()) == []


def test_two_at_once_end_with_the_whole_lake_of_one(lake: Path, lake_place: Place, tmp_path: Path) -> None:
    lakes = [lake, tmp_path / "other"]
    shutil.copytree(lake, lakes[1])

    def publish(which: int) -> None:
        for number in range(4):
            say(lakes[which], f"text {number} of {which}")
            publish_lake(lakes[which], lake_place.url, 1 + number % 2)

    with ThreadPoolExecutor(2) as publishers:
        for done in [publishers.submit(publish, which) for which in range(2)]:
            done.result()
    assert_whole(lake_place.files())
    digests = {manifest.digest for lake in lakes if (manifest := read_manifest(lake)) is not None}
    assert served(lake_place).digest in digests
    publish_lake(lake, lake_place.url, 1)
    assert data_files(lake_place) == served(lake_place).sizes.keys()
    assert verify_published_lake(lake, lake_place.url) == []


@pytest.mark.parametrize("fault", ["may not write", "may not read", "no bucket", "away"])
def test_a_server_that_refuses_or_is_away_is_a_sentence_and_leaves_everything(
    lake: Path, s3: S3Server, fault: str
) -> None:
    url = s3.url()
    publish_lake(lake, url, 3)
    say(lake, "changed")
    local, published = lake_bytes(lake), s3.objects
    buckets = dict(s3.buckets)
    match fault:
        case "may not write":
            s3.refused.add("PUT")
        case "may not read":
            s3.refused.add("GET")
        case "no bucket":
            s3.buckets.clear()
        case _:
            s3.shutdown()
            s3.server_close()
    with pytest.raises(StoreUnavailableError, match=r"can't be published at s3://bucket/lake: .*AWS_\*"):
        publish_lake(lake, url, 3)
    if fault in ("may not read", "away"):
        with pytest.raises(StoreUnavailableError, match=r"can't be read at s3://bucket/lake: .*AWS_\*"):
            verify_published_lake(lake, url)
    s3.buckets.update(buckets)
    assert lake_bytes(lake) == local
    assert s3.objects == published


def test_where_nothing_was_exported_there_is_nothing_to_publish(lake_place: Place, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="materialize the lake's tables first"):
        publish_lake(tmp_path / "none", lake_place.url, 3)
    assert lake_place.files() == {}
    assert published_generations(lake_place.url) == []
    (problem,) = verify_published_lake(tmp_path / "none", lake_place.url)
    assert "missing" in problem


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://bucket.example/lake", "no place for a lake"),
        ("s3:///prefix", "no place for a lake"),
        ("file://host/folder", "no place for a lake"),
        ("file:///", "no place for a lake"),
        ("lake", "no place for a lake"),
        ("s3://bucket/lake?regoin=x", "options that there are not: regoin"),
        ("file:///srv/lake?region=x", "options that there are not: region"),
    ],
)
def test_a_url_that_leads_nowhere_is_a_sentence(url: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        open_target(url)


def test_credentials_do_not_belong_into_the_url_and_are_not_repeated() -> None:
    with pytest.raises(SettingsError, match="AWS_SECRET_ACCESS_KEY") as refused:
        open_target("s3://key:terribly-secret@bucket/lake")
    assert "terribly" not in str(refused.value)


def test_a_folder_in_the_lake_is_refused(lake: Path) -> None:
    with pytest.raises(SettingsError, match="lies in the lake itself"):
        publish_lake(lake, f"file://{lake}/published", 3)


def test_a_file_in_several_parts_arrives_whole(s3: S3Server, tmp_path: Path) -> None:
    """Above 10 MB the client sends parts."""
    content = bytes(range(256)) * 100_000
    (tmp_path / "large").write_bytes(content)
    target = open_target(s3.url())
    target.upload(tmp_path / "large", "data/large")
    assert s3.objects == {"lake/data/large": content}
    assert target.sizes("data") == {"data/large": len(content)}
    assert b"".join(target.blocks("data/large")) == content
    assert any(method == "POST" for method, _ in s3.requests)


def test_the_manifest_says_what_a_reader_needs(lake: Path, lake_place: Place) -> None:
    publish_lake(lake, lake_place.url, 3)
    manifest = json.loads(lake_place.files()["manifest.json"])
    assert manifest["generation"] == 1
    table = manifest["tables"]["messages"]
    assert table["source"]["taken_at"]
    assert [sorted(file) for file in table["files"]] == [["bytes", "path", "rows", "sha256"]] * 3
    assert [file["path"].split("/")[2] for file in table["files"]] == [
        "day=2025-03-01",
        "day=2025-03-02",
        "day=2025-03-04",
    ]

"""Who may open what is exported: groups under any umask, accounts that publish nothing, folders half-made."""

from __future__ import annotations

import grp
import json
import os
import shutil
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from memory_pipeline.commands.exporting import export_list_command, export_prune_command, export_verify_command
from memory_pipeline.model.errors import ExportError, ForbiddenError
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.export import export_lake, publish, publish_lake_at_url
from memory_pipeline.stores import files
from memory_pipeline.stores.duckdb import overview
from memory_pipeline.stores.duckdb.fresh_reader import read_in_fresh_process
from memory_pipeline.stores.duckdb.generations import CURRENT, LINK, TableSummary, current_export, generations
from memory_pipeline.stores.duckdb.overview import (
    closed_folders,
    prune_exports,
    published_files,
    tenant_export,
    verify_exports,
)
from memory_pipeline.stores.duckdb.publish import Scope, publish_duckdb
from memory_pipeline.stores.duckdb.query import query
from memory_pipeline.stores.lake import target as lake_target
from memory_pipeline.stores.lake import verify_lake
from memory_pipeline.stores.lake.publish import publish_lake
from memory_pipeline.stores.lake.published import published_generations, verify_published_lake
from memory_pipeline_tests.accounts import NOBODY, as_another_account, open_folder, umask  # noqa: F401  # a fixture
from memory_pipeline_tests.conftest import Database, fresh_database
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.stores.export_sample import MESSAGES, WINDOW, add_messages, fill, message

CONSUMERS = {"acme": Scope(tenant="acme"), "lab": Scope(mask_key=b"a key for these tests alone")}


@pytest.fixture(scope="module")
def exported(servers: Servers, migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake, exported where the umask closes everything to others."""
    root = tmp_path_factory.mktemp("exported") / "lake"
    with fresh_database(servers, migrated_template) as database, umask(0o077):
        fill(database.pipeline_url)
        export_lake(database.pipeline_url, WINDOW, root)
    return root


@pytest.fixture
def data(exported: Path, open_folder: Path) -> Path:  # noqa: F811
    """A data folder that others may pass, with a lake."""
    shutil.copytree(exported, open_folder / "lake")
    return open_folder


@pytest.fixture
def hardened() -> Iterator[None]:
    with umask(0o027):
        yield


@pytest.fixture
def readers_of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes that read files be those of root: another account may not have the interpreter."""

    def read_as_root(path: Path) -> dict[str, TableSummary]:
        path.open("rb").close()  # by whoever asks
        account = os.geteuid()
        os.seteuid(os.getuid())
        try:
            return read_in_fresh_process(path)
        finally:
            os.seteuid(account)

    monkeypatch.setattr(overview, "read_in_fresh_process", read_as_root)


def another_group() -> grp.struct_group:
    """A group that this process may give files to: that of the other account where there is a choice."""
    for gid in (NOBODY, *(entry.gr_gid for entry in grp.getgrall())):
        if gid != os.getegid() and (os.geteuid() == 0 or gid in os.getgroups()):
            try:
                return grp.getgrgid(gid)
            except KeyError:
                continue
    pytest.skip("this account is in one group only")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes_below(root: Path) -> set[tuple[bool, int]]:
    """Whether it is a folder, and its mode, of everything below that is no lock."""
    return {(path.is_dir(), mode(path)) for path in root.rglob("*") if not path.name.endswith(".lock")}


def test_a_group_opens_its_files_whatever_the_umask(data: Path, hardened: None) -> None:
    group, exports = another_group(), data / "exports"
    settings = load_settings(
        data_dir=data,
        export_group=group.gr_name,
        export_consumers={"acme": {"tenant": "acme", "group": group.gr_name}, "globex": {"tenant": "globex"}},
    )
    for _ in "ab":  # what is kept is as open as what is new
        publish(settings, data / "lake", exports)
        for folder in (exports, exports / "consumers/acme"):
            assert mode(folder / CURRENT) == 0o440
            assert (folder / CURRENT).stat().st_gid == group.gr_gid
        (exports / CURRENT).chmod(0o600)
    publish(settings, data / "lake", exports)
    assert mode(exports / "consumers/globex") == 0o700
    assert mode(data / "lake") == 0o750
    with as_another_account():
        assert query(current_export(exports), "SELECT count(*) FROM messages").rows == [(MESSAGES,)]
        assert query(exports / LINK, "SELECT count(*) FROM messages").rows == [(MESSAGES,)]
        assert query(tenant_export(exports, "acme", ["acme"]), "SELECT count(*) FROM messages").rows == [
            (MESSAGES // 2,)
        ]
        with pytest.raises(ForbiddenError):
            tenant_export(exports, "globex", ["globex"])
        assert pq.read_table(data / "lake/messages").num_rows == MESSAGES
        assert verify_lake(data / "lake") == []


def test_the_lake_has_modes_of_its_own_below_a_folder_that_is_closed(database: Database, data: Path) -> None:
    for mask in (0, 0o077):
        fill_or_add(database, mask)
        with umask(mask):
            export_lake(database.pipeline_url, WINDOW, data / "new")
        assert mode(data / "new") == 0o700
        assert modes_below(data / "new") == {(True, 0o755), (False, 0o644)}


def fill_or_add(database: Database, mask: int) -> None:
    from datetime import UTC, datetime

    if mask == 0:
        fill(database.pipeline_url)
    else:
        late = message("acme", "late", datetime(2025, 3, 3, 12, tzinfo=UTC))
        add_messages(database.pipeline_url, "acme", [late])


def test_a_lake_of_an_earlier_version_is_opened_to_the_group(data: Path) -> None:
    group = another_group()
    for path in (data / "lake").rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    publish(load_settings(data_dir=data, export_group=group.gr_name), data / "lake", data / "exports")
    assert modes_below(data / "lake") == {(True, 0o755), (False, 0o644)}
    assert all(mode(path) == 0o600 for path in (data / "lake").glob(".*lock"))


def test_other_accounts_list_and_verify_what_they_may_open(
    data: Path, readers_of_root: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exports = data / "exports"
    report = publish_duckdb(data / "lake", exports, 3, CONSUMERS)
    monkeypatch.setenv("MEMORY_DATA_DIR", str(data))
    with as_another_account():
        assert [file.path for file in published_files(exports)] == [report.path]
        assert closed_folders(exports) == [exports / "consumers"]
        assert closed_folders(exports, ["acme"]) == [exports / "consumers", exports / "consumers/acme"]
        assert verify_exports(exports) == []
        assert export_list_command(json=True) == 0
        told = capsys.readouterr()
        assert [one["path"] for one in json.loads(told.out)] == [str(report.path)]
        assert f"not listed: {exports}/consumers, which this account may not open" in told.err
        assert export_verify_command(json=False) == 0
        told = capsys.readouterr()
        assert told.out == "every file that this account may open is as it was written\n"
        assert f"not verified: {exports}/consumers" in told.err
        assert f"may not open the lake in {data}/lake" in told.err
        with pytest.raises(ForbiddenError, match="only whoever publishes may remove"):
            export_prune_command(1, json=False)
    monkeypatch.setenv("MEMORY_LAKE_URL", f"file://{data}/published")
    publish_lake(data / "lake", f"file://{data}/published", 3)
    with as_another_account():
        assert export_list_command(json=True) == 0
        assert export_verify_command(json=True) == 0
        told = capsys.readouterr()
        assert f"not listed: the published lake can't be listed at file://{data}/published" in told.err
        assert f"not verified: the published lake can't be read at file://{data}/published" in told.err
    assert closed_folders(exports) == []
    assert len(published_files(exports)) == 3
    data.chmod(0o700)
    with as_another_account():
        for command in (export_list_command, export_verify_command, partial(export_prune_command, None)):
            with pytest.raises(ForbiddenError):
                command(json=False)


def test_the_group_of_a_consumer_lists_and_verifies_the_folder_that_it_can_name(
    data: Path, readers_of_root: None
) -> None:
    group, exports = another_group(), data / "exports"
    other = grp.getgrgid(os.getegid()).gr_name
    report = publish_duckdb(data / "lake", exports, 3, CONSUMERS, group=other, consumer_groups={"acme": group.gr_name})
    with as_another_account():
        (file,) = published_files(exports, ["acme"])
        assert (file.consumer, file.path, file.served) == ("acme", report.consumers["acme"].path, True)
        assert verify_exports(exports, ["acme"]) == []
        assert closed_folders(exports, ["acme", "lab"]) == [
            exports / "consumers",
            exports,
            exports / "consumers/lab",
        ]
        for names in ([], ["lab"]):
            for look in (published_files, verify_exports):
                with pytest.raises(ForbiddenError, match=rf"none of the exports in {exports}.*MEMORY_EXPORT_GROUP"):
                    look(exports, names)


def test_other_accounts_look_again_at_what_is_half_done(
    data: Path, readers_of_root: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They can't hold the publisher's lock; nothing stays half-done for as long as they wait."""
    exports = data / "exports"
    report = publish_duckdb(data / "lake", exports, 3)
    report.path.rename(exports / "aside")
    moments: list[float] = []

    def meanwhile(seconds: float) -> None:
        moments.append(seconds)
        os.seteuid(0)
        (exports / "aside").rename(report.path)
        os.seteuid(NOBODY)

    monkeypatch.setattr(overview, "sleep", meanwhile)
    with as_another_account():
        assert verify_exports(exports) == []
    assert moments


def leave_unserved(exports: Path, folder: Path) -> None:
    """As a publisher does that is killed before it serves a folder's first generation."""
    (folder / CURRENT).unlink()
    (folder / LINK).unlink()


def test_a_consumer_of_whom_nothing_is_served_yet_keeps_nobody_from_listing_pruning_and_asking(data: Path) -> None:
    exports = data / "exports"
    report = publish_duckdb(data / "lake", exports, 3, CONSUMERS)
    leave_unserved(exports, exports / "consumers/lab")
    served = {file.consumer: file.served for file in published_files(exports)}
    assert served == {None: True, "acme": True, "lab": False}
    assert tenant_export(exports, "acme") == report.consumers["acme"].path
    assert prune_exports(exports, 1) == []
    assert generations(exports / "consumers/lab") == [report.consumers["lab"].path]
    (problem,) = verify_exports(exports)
    assert "nothing has been exported to" in problem
    publish_duckdb(data / "lake", exports, 3, CONSUMERS)
    assert {file.consumer for file in published_files(exports) if file.served} == {None, "acme", "lab"}


def test_the_old_generations_of_others_are_pruned_beside_it(data: Path) -> None:
    exports = data / "exports"
    first = publish_duckdb(data / "lake", exports, 3, CONSUMERS)
    second = exports / "memory-000002-0123456789.duckdb"
    shutil.copy(first.path, second)
    shutil.copy(first.path.with_suffix(".json"), second.with_suffix(".json"))
    (exports / CURRENT).chmod(0o644)
    (exports / CURRENT).write_text(second.name)
    leave_unserved(exports, exports / "consumers/acme")
    assert prune_exports(exports, 1) == [first.path]
    assert prune_exports(data / "none", 1) == []
    assert not (data / "none").exists()


def test_consumers_are_rid_of_rows_where_the_disk_refuses_the_file_of_all_tenants(data: Path) -> None:
    exports = data / "exports"
    (exports / ".building").parent.mkdir()
    (exports / ".building").write_text("in the way")
    with pytest.raises(ExportError, match=rf"can't be written under {exports}: .*mend the disk"):
        publish_duckdb(data / "lake", exports, 3, CONSUMERS)
    for name in CONSUMERS:
        assert current_export(exports / "consumers" / name).is_file()


@pytest.mark.parametrize("mask", [0, 0o027])
def test_a_published_lake_is_for_whoever_publishes_alone(data: Path, mask: int) -> None:
    with umask(mask):
        publish_lake(data / "lake", f"file://{data}/above/published", 3)
    root = data / "above/published"
    assert (mode(data / "above"), mode(root)) == (0o711, 0o700)
    assert modes_below(root) == {(True, 0o755), (False, 0o644)}
    assert mode(root / ".lock") == 0o600
    with as_another_account():
        with pytest.raises(PermissionError):
            (root / "manifest.json").read_bytes()
        for look in (
            lambda: published_generations(f"file://{root}"),
            lambda: verify_published_lake(root, f"file://{root}"),
        ):
            with pytest.raises(ForbiddenError, match=r"MEMORY_EXPORT_GROUP"):
                look()


def test_a_published_lake_is_for_the_group_that_may_open_everything(data: Path, hardened: None) -> None:
    group = another_group()
    root = data / "published"
    settings = load_settings(data_dir=data, lake_url=f"file://{root}", export_group=group.gr_name)
    publish_lake_at_url(settings, data / "lake")
    assert (mode(root), root.stat().st_gid) == (0o750, group.gr_gid)
    with as_another_account():
        names = [
            file["path"]
            for table in json.loads((root / "manifest.json").read_bytes())["tables"].values()
            for file in table["files"]
        ]
        assert all((root / name).read_bytes() for name in names)
        assert [one.served for one in published_generations(f"file://{root}")] == [True]
        assert verify_published_lake(data / "lake", f"file://{root}") == []
        with pytest.raises(PermissionError):
            (root / ".lock").open()


def test_a_folder_that_is_there_is_published_into_as_it_is_unless_a_group_is_named(data: Path) -> None:
    group = another_group()
    root = data / "published"
    root.mkdir()
    root.chmod(0o755)
    url = f"file://{root}"
    publish_lake(data / "lake", url, 3)
    assert mode(root) == 0o755
    for path in root.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    publish_lake(data / "lake", url, 3, group.gr_name)
    assert (mode(root), root.stat().st_gid) == (0o750, group.gr_gid)
    assert modes_below(root) == {(True, 0o755), (False, 0o644)}
    assert mode(root / ".lock") == 0o600


def test_folders_that_a_manifest_names_files_in_are_durable_before_it_is(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder's name is durable once the folder that it is in was flushed after it was made."""
    root = data / "above/published"
    done: list[tuple[str, Path]] = []
    flush, replace = files.flush, os.replace

    def noted_flush(path: Path) -> None:
        flush(path)
        done.append(("flushed", path))

    def noted_replace(source: Path, target: Path) -> None:
        replace(source, target)
        done.append(("replaced", Path(target)))

    monkeypatch.setattr(lake_target, "flush", noted_flush)
    monkeypatch.setattr(os, "replace", noted_replace)
    (data / "above").mkdir()
    # What a publisher made that was killed may not be durable either.
    (root / "data/messages").mkdir(parents=True)
    publish_lake(data / "lake", f"file://{root}", 3)
    served = done.index(("replaced", root / "manifest.json"))
    flushed = {path for what, path in done[:served] if what == "flushed"}
    folders = [path for path in root.rglob("*") if path.is_dir()]
    assert len(folders) > 10
    assert {folder.parent for folder in folders} - flushed == set()
    done.clear()
    publish_lake(data / "lake", f"file://{data}/other/published", 3)
    assert {data, data / "other"} <= {path for what, path in done if what == "flushed"}

"""A consumer's folder shows what the consumer may see now: nothing of an earlier scope or of other tenants' days."""

from __future__ import annotations

import grp
import json
import os
import shutil
import stat
from datetime import date
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from memory_pipeline.model.errors import ExportError, NoExportError
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.export import export_lake, publish
from memory_pipeline.stores.duckdb.generations import generations, manifest_of, manifest_path
from memory_pipeline.stores.duckdb.publish import Scope, current_export, publish_duckdb
from memory_pipeline.stores.lake.manifest import read_manifest
from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.stores.export_sample import WINDOW, fill, rewrite

KEY = b"a key for these tests alone"
OTHER_KEY = b"another key, of these tests"
ACME, GLOBEX = Scope(tenant="acme"), Scope(tenant="globex")


def change_rows(lake_root: Path, tenant: str) -> None:
    """Let the messages of a tenant on one day have other places; those of others in the same file stay."""
    day = date(2025, 3, 2)
    path = lake_root / "messages" / f"day={day}" / "part-0.parquet"
    tenants = pq.read_table(lake_root / "tenants" / "part-0.parquet").to_pylist()
    (tenant_id,) = [row["tenant_id"] for row in tenants if row["slug"] == tenant]
    rows = pq.ParquetFile(path).read()
    positions = [row["position"] + 100 * (row["tenant_id"] == tenant_id) for row in rows.to_pylist()]
    at = rows.schema.get_field_index("position")
    changed = rows.set_column(at, rows.schema.field(at), pa.array(positions, rows.schema.field(at).type))
    rewrite(lake_root, "messages", day, changed)


def remove_tenant(lake_root: Path, slug: str) -> None:
    """Let a tenant have another name, so that nobody has this one."""
    path = lake_root / "tenants" / "part-0.parquet"
    rows = pq.read_table(path)
    names = pc.if_else(pc.equal(rows["slug"], slug), "renamed", rows["slug"])
    slug_at = rows.schema.get_field_index("slug")
    rewrite(lake_root, "tenants", None, rows.set_column(slug_at, rows.schema.field("slug"), names))


def texts(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize(
    ("before", "after", "canary"),
    [
        (ACME, GLOBEX, b"acme"),
        (Scope(), GLOBEX, b"acme"),
        (ACME, Scope(tenant="acme", mask_key=KEY), b"ana@acme.example"),
        (Scope(tenant="acme", mask_key=KEY), Scope(tenant="acme", mask_key=OTHER_KEY), None),
    ],
    ids=["another tenant", "one tenant of all", "masked", "another key"],
)
def test_nothing_of_an_earlier_scope_stays_in_the_folder(
    lake_root: Path, tmp_path: Path, before: Scope, after: Scope, canary: bytes | None
) -> None:
    folder = tmp_path / "exports/consumers/x"
    old = publish_duckdb(lake_root, tmp_path / "exports", 3, {"x": before}).consumers["x"].path
    word = canary if canary is not None else old.name.encode()
    assert word in texts(folder)
    new = publish_duckdb(lake_root, tmp_path / "exports", 3, {"x": after}).consumers["x"].path
    assert generations(folder) == [new]
    assert new != old
    assert word not in texts(folder)


def test_a_scope_that_cannot_be_built_leaves_nothing_of_the_earlier_one(lake_root: Path, tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    publish_duckdb(lake_root, exports, 3, {"x": ACME})
    for path in (lake_root / "facts").rglob("*.parquet"):
        path.write_bytes(b"no Parquet")
    with pytest.raises(ExportError, match="lake can't be read"):
        publish_duckdb(lake_root, exports, 3, {"x": Scope(tenant="acme", mask_key=KEY)})
    assert b"ana@acme.example" not in texts(exports / "consumers")
    with pytest.raises(ExportError):
        current_export(exports / "consumers/x")


def test_a_file_without_a_readable_manifest_goes(lake_root: Path, tmp_path: Path) -> None:
    path = publish_duckdb(lake_root, tmp_path / "exports", 3, {"x": ACME}).consumers["x"].path
    manifest_path(path).unlink()
    again = publish_duckdb(lake_root, tmp_path / "exports", 3, {"x": ACME}).consumers["x"]
    assert again.published
    assert generations(path.parent) == [again.path]


def test_a_consumer_whose_tenant_is_gone_keeps_nobody_else_from_a_new_file(lake_root: Path, tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    consumers = {"a-bad": ACME, "b-group": Scope(mask_key=KEY), "z-good": GLOBEX}
    first = publish_duckdb(lake_root, exports, 3, consumers)
    change_rows(lake_root, "globex")
    remove_tenant(lake_root, "acme")
    with pytest.raises(ExportError, match=r"a-bad: there is no tenant 'acme'") as refusal:
        publish_duckdb(lake_root, exports, 3, consumers, consumer_groups={"b-group": "no-such-group"})
    assert "b-group: there is no group 'no-such-group'" in str(refusal.value)
    assert not (exports / "consumers/a-bad").exists()
    assert current_export(exports / "consumers/b-group") == first.consumers["b-group"].path
    assert current_export(exports / "consumers/z-good") != first.consumers["z-good"].path
    assert current_export(exports) != first.path


def as_older_version(path: Path) -> None:
    """Let the manifest beside a consumer's file be one of the versions that said nothing of its scope."""
    said = json.loads(manifest_path(path).read_bytes())
    for name in ("scope", "tenant_id", "rows_digest"):
        del said[name]
    manifest_path(path).chmod(0o640)
    manifest_path(path).write_text(json.dumps(said), encoding="utf-8")


def test_the_file_of_an_older_version_stays_served_until_there_is_a_new_one(lake_root: Path, tmp_path: Path) -> None:
    exports, consumers = tmp_path / "exports", {"acme": ACME, "lab": Scope(mask_key=KEY), "moved": ACME}
    first = publish_duckdb(lake_root, exports, 3, consumers).consumers
    for report in first.values():
        as_older_version(report.path)
    consumers["moved"] = GLOBEX
    whole = {path: path.read_bytes() for path in (lake_root / "facts").rglob("*.parquet")}
    for path in whole:
        path.write_bytes(b"no Parquet")
    with pytest.raises(ExportError):
        publish_duckdb(lake_root, exports, 3, consumers)
    assert [current_export(first[name].path.parent) for name in ("acme", "lab")] == [
        first[name].path for name in ("acme", "lab")
    ]
    assert not first["moved"].path.exists()
    for path, content in whole.items():
        path.write_bytes(content)
    second = publish_duckdb(lake_root, exports, 3, consumers).consumers
    for name, report in second.items():
        assert generations(report.path.parent) == [report.path]
        assert report.path != first[name].path


def test_consumers_get_their_files_where_that_of_all_tenants_cannot_be_made(lake_root: Path, tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    with pytest.raises(ExportError, match="there is no group 'no-such-group'"):
        publish_duckdb(lake_root, exports, 3, {"acme": ACME}, group="no-such-group")
    assert current_export(exports / "consumers/acme").is_file()
    with pytest.raises(NoExportError):
        current_export(exports)


def test_a_tenants_file_is_not_made_of_a_lake_with_other_rows_than_postgres_counted(
    lake_root: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(lake_root)
    assert manifest is not None
    messages = manifest.tables["messages"]
    counted = dict(messages.counted or {})
    counted["day=2025-03-02/part-0.parquet"] += 1
    tables = manifest.tables | {"messages": msgspec.structs.replace(messages, counted=counted)}
    wrong = msgspec.structs.replace(manifest, tables=tables)
    (lake_root / "manifest.json").write_bytes(msgspec.json.encode(wrong))
    with pytest.raises(ExportError, match=r"acme: the DuckDB file was refused: .*8 rows in the lake, .* counted 9"):
        publish_duckdb(lake_root, tmp_path / "exports", 3, {"acme": ACME})
    with pytest.raises(NoExportError):
        current_export(tmp_path / "exports/consumers/acme")


@pytest.mark.parametrize("missing", [None, "messages", "tenants"])
def test_where_the_lake_is_gone_everything_published_stays_served(
    lake_root: Path, tmp_path: Path, missing: str | None
) -> None:
    exports, consumers = tmp_path / "exports", {"acme": ACME, "lab": Scope(mask_key=KEY)}
    first = publish_duckdb(lake_root, exports, 3, consumers)
    if missing is None:
        shutil.rmtree(lake_root)
    else:
        manifest = read_manifest(lake_root)
        assert manifest is not None
        tables = {name: table for name, table in manifest.tables.items() if name != missing}
        rest = msgspec.structs.replace(manifest, tables=tables)
        (lake_root / "manifest.json").write_bytes(msgspec.json.encode(rest))
    why = "there is no lake in" if missing is None else f"lacks {missing}"
    with pytest.raises(ExportError, match=why) as refusal:
        publish_duckdb(lake_root, exports, 3, consumers)
    assert "materialize lake_dimensions" in str(refusal.value)
    for report in (first, *first.consumers.values()):
        assert generations(report.path.parent) == [report.path]
        assert current_export(report.path.parent) == report.path


def test_where_nothing_was_exported_yet_an_empty_file_is_published_again_and_again(tmp_path: Path) -> None:
    reports = [publish_duckdb(tmp_path / "lake", tmp_path / "exports", 3, {"lab": Scope(mask_key=KEY)}) for _ in "ab"]
    assert [one.published for one in reports] == [True, False]
    with pytest.raises(ExportError, match=r"acme: the lake has no tenants"):
        publish_duckdb(tmp_path / "lake", tmp_path / "exports", 3, {"acme": ACME})


def test_a_tenant_is_told_nothing_of_other_tenants_and_has_a_new_file_for_its_own_changes_alone(
    lake_root: Path, tmp_path: Path
) -> None:
    exports = tmp_path / "exports"
    consumers = {"acme": ACME, "acme-lab": Scope(tenant="acme", mask_key=KEY), "lab": Scope(mask_key=KEY)}
    publish_duckdb(lake_root, exports, 3, consumers)
    change_rows(lake_root, "globex")
    second = publish_duckdb(lake_root, exports, 3, consumers)
    assert {name for name, one in second.consumers.items() if one.published} == {"lab"}
    change_rows(lake_root, "acme")
    third = publish_duckdb(lake_root, exports, 3, consumers)
    assert all(one.published for one in third.consumers.values())
    lake_files = manifest_of(third.path).made_of
    names = {name for files in lake_files.values() for name in files}
    digests = {digest for files in lake_files.values() for digest in files.values()}
    assert len(digests) > 10
    for one in third.consumers.values():
        told = manifest_path(one.path).read_text(encoding="utf-8")
        assert [word for word in names | digests if word in told] == []


def test_a_new_tenant_of_an_old_name_gets_no_file_of_the_old_one(lake_root: Path, tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    old = publish_duckdb(lake_root, exports, 3, {"x": ACME}).consumers["x"].path
    path = lake_root / "tenants" / "part-0.parquet"
    rows = pq.read_table(path)
    names = pc.if_else(pc.equal(rows["slug"], "acme"), "globex", "acme")
    slug_at = rows.schema.get_field_index("slug")
    rewrite(lake_root, "tenants", None, rows.set_column(slug_at, rows.schema.field("slug"), names))
    new = publish_duckdb(lake_root, exports, 3, {"x": ACME}).consumers["x"].path
    assert generations(new.parent) == [new]
    assert old.name != new.name
    assert b"ana@acme.example" not in texts(new.parent)


def test_a_group_may_open_its_files_and_no_others_may(lake_root: Path, tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    # Any other group that this process may give files to.
    group = next(grp.getgrgid(gid) for gid in other_groups())
    consumers = {"acme": ACME, "globex": GLOBEX}
    publish_duckdb(lake_root, exports, 3, consumers)
    report = publish_duckdb(
        lake_root, exports, 3, consumers, group=group.gr_name, consumer_groups={"acme": group.gr_name}
    )
    assert not report.published
    acme, globex = (report.consumers[name].path for name in consumers)
    modes = {
        path: (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid == group.gr_gid)
        for path in (exports, report.path, exports / "consumers", acme.parent, acme, globex.parent, globex)
    }
    assert modes == {
        exports: (0o751, True),
        report.path: (0o440, True),
        exports / "consumers": (0o711, False),
        acme.parent: (0o750, True),
        acme: (0o440, True),
        globex.parent: (0o700, False),
        globex: (0o440, False),
    }
    again = publish_duckdb(lake_root, exports, 3, consumers)
    assert stat.S_IMODE(acme.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(again.path.stat().st_mode) == 0o444


def other_groups() -> list[int]:
    known = [entry.gr_gid for entry in grp.getgrall() if entry.gr_gid != os.getegid()]
    if os.geteuid() != 0:
        known = [gid for gid in known if gid in os.getgroups()]
    if not known:
        pytest.skip("this account is in one group only")
    return known


def test_the_lake_is_for_whoever_exports_and_the_group_that_may_open_everything(
    database: Database, tmp_path: Path
) -> None:
    group = grp.getgrgid(other_groups()[0])
    settings = load_settings(home=tmp_path / "home", export_group=group.gr_name)
    fill(database.pipeline_url)
    export_lake(database.pipeline_url, WINDOW, settings.data / "lake")
    assert stat.S_IMODE((settings.data / "lake").stat().st_mode) == 0o700
    publish(settings, settings.data / "lake", settings.data / "exports")
    status = (settings.data / "lake").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o750, group.gr_gid)
    assert stat.S_IMODE((settings.data / "exports").stat().st_mode) == 0o751
    publish(load_settings(home=tmp_path / "home"), settings.data / "lake", settings.data / "exports")
    assert stat.S_IMODE((settings.data / "lake").stat().st_mode) == 0o700

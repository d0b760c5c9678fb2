"""Looking for a user in exported files finds them in every column with ids, and by the pseudonym in masked files."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import duckdb
import psycopg
import pytest

from memory_pipeline.model.errors import ExportError
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.export import export_lake, forget_in_exports, publish
from memory_pipeline.stores.duckdb.publish import CONSUMERS, Scope, current_export, publish_duckdb
from memory_pipeline.stores.duckdb.traces import files_naming
from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.stages.test_export import sql_for_erasing
from memory_pipeline_tests.stores.export_sample import WINDOW, fill

KEY = b"a key for these tests alone"
_EVENT = """
INSERT INTO events (tenant_id, kind, actor, subject_id, correlation_id, detail, occurred_at)
SELECT tenant_id, 'test', {actor}, {subject}, gen_random_uuid(), {detail}, '2025-03-01 12:00+00'
FROM tenants WHERE slug = 'acme'
"""
_AUDIT = """
WITH run AS (INSERT INTO audit_runs (started_at) VALUES ('2025-03-01 12:00+00') RETURNING audit_id)
INSERT INTO audit_findings (tenant_id, audit_id, store, problem, subject_id, detail)
SELECT tenant_id, audit_id, 'chroma', 'vector_missing', {subject}, {detail} FROM run, tenants WHERE slug = 'acme'
"""
TRACES = {
    "the actor of an event": (
        "events",
        _EVENT.format(actor="'user:' || %s::text", subject="NULL", detail="'{}'"),
        True,
    ),
    "the subject of an event": ("events", _EVENT.format(actor="'cli'", subject="%s::uuid", detail="'{}'"), True),
    "the detail of an event": (
        "events",
        _EVENT.format(actor="'cli'", subject="NULL", detail="jsonb_build_object('who', %s::text)"),
        False,
    ),
    "the subject of a finding": ("audit_findings", _AUDIT.format(subject="%s::uuid", detail="'{}'"), True),
    "the detail of a finding": (
        "audit_findings",
        _AUDIT.format(subject="NULL", detail="jsonb_build_object('who', %s::text)"),
        False,
    ),
    "the subject of a job": (
        "jobs",
        "INSERT INTO memory_jobs (tenant_id, job_type, state, day, subject_id, correlation_id, created_at)"
        " SELECT tenant_id, 'index', 'pending', '2025-03-01', %s::uuid, gen_random_uuid(), '2025-03-01 12:00+00'"
        " FROM tenants WHERE slug = 'acme'",
        True,
    ),
}
"""Where the id of somebody who has no row of their own is left: the table, the statement, and whether masked files
have the pseudonym there (or nothing)."""


def execute(database: Database, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    with psycopg.connect(database.admin_url, options="-c search_path=memory,public") as connection:
        cursor = connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def source(database: Database) -> str:
    fill(database.pipeline_url)
    return database.pipeline_url


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "lake", tmp_path / "exports"


@pytest.mark.parametrize("place", TRACES)
def test_a_user_is_found_in(source: str, database: Database, folders: tuple[Path, Path], place: str) -> None:
    table, statement, in_masked = TRACES[place]
    lake, exports = folders
    user, other = uuid4(), uuid4()
    execute(database, statement, str(user))
    export_lake(source, WINDOW, lake)
    consumers = {"globex": Scope(tenant="globex"), "lab": Scope(mask_key=KEY)}
    report = publish_duckdb(lake, exports, 1, consumers)
    expected = [lake / table / "day=2025-03-01" / "part-0.parquet", report.path]
    expected += [report.consumers["lab"].path] if in_masked else []
    assert files_naming(lake, exports, user, consumers) == expected
    assert files_naming(lake, exports, other, consumers) == []


def test_a_masked_file_is_asked_by_the_pseudonym_or_not_trusted(
    source: str, database: Database, folders: tuple[Path, Path]
) -> None:
    lake, exports = folders
    export_lake(source, WINDOW, lake)
    consumers = {"globex-lab": Scope(tenant="globex", mask_key=KEY), "lab": Scope(mask_key=KEY)}
    report = publish_duckdb(lake, exports, 1, consumers)
    ((user,),) = execute(database, "SELECT user_id FROM users WHERE email = 'ana@acme.example'")
    assert isinstance(user, UUID)
    masked = [report.consumers[name].path for name in ("globex-lab", "lab")]
    found = files_naming(lake, exports, user, consumers)
    assert [path for path in found if path.is_relative_to(exports)] == [report.path, masked[1]]
    # Without the key nobody could tell.
    assert files_naming(lake, exports, uuid4(), {}) == masked


def test_an_erased_user_is_gone_from_the_other_files_where_one_cannot_be_made(
    source: str, database: Database, tmp_path: Path
) -> None:
    settings = load_settings(
        home=tmp_path,
        lake_url=f"file://{tmp_path}/published",
        export_mask_key=KEY.decode(),
        export_consumers={"a": {"tenant": "acme"}, "lab": {"masked": True}},
    )
    lake, exports = settings.data / "lake", settings.data / "exports"
    export_lake(source, WINDOW, lake)
    publish(settings, lake, exports)
    ((user,),) = execute(database, "SELECT user_id FROM users WHERE email = 'ana@acme.example'")
    assert isinstance(user, UUID)
    for table in ("memories", "messages", "conversations", "users"):
        execute(database, sql_for_erasing(table), user)
    wrong = {"a": {"tenant": "nobody"}, "lab": {"masked": True}}
    broken = load_settings(**{**settings.model_dump(), "export_consumers": wrong})
    with pytest.raises(ExportError, match="no tenant 'nobody'") as refusal:
        forget_in_exports(broken, source, lake, exports, user)
    assert "is still in" not in str(refusal.value)
    assert not (exports / CONSUMERS / "a").exists()
    for path in (file for file in tmp_path.rglob("*") if file.is_file() and not file.is_symlink()):
        content = path.read_bytes()
        assert user.bytes not in content, path
        assert (user.int ^ (1 << 127)).to_bytes(16, "little") not in content, path
        assert b"ana@acme.example" not in content, path
    with duckdb.connect(str(current_export(exports / CONSUMERS / "lab")), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchall() == [(1,)]

"""Pseudonyms: one word of the key's owner for each value, and no text that can pass for an id."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import msgspec
import psycopg
import pytest

from memory_pipeline.importers import chatgpt, locomo, slack
from memory_pipeline.serving.posted_messages import positions_from
from memory_pipeline.serving.transcript import API_SOURCE
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores.duckdb.publish import Scope, publish_duckdb
from memory_pipeline.stores.duckdb.traces import pseudonym
from memory_pipeline.synthetic.generate import SOURCE as GENERATED
from memory_pipeline.synthetic.sample import SOURCE as SAMPLE
from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.stores.duckdb.conftest import SampleExport
from memory_pipeline_tests.stores.export_sample import WINDOW, add_messages, fill, message

KEY = b"a key for these tests alone"
KNOWN = {
    *(API_SOURCE, chatgpt.SOURCE, GENERATED, locomo.SOURCE, SAMPLE, slack.SOURCE),
    "jsonl",
}
ORDER = {
    "users": "tenant_id, user_id",
    "conversations": "tenant_id, conversation_id",
    "messages": "day, tenant_id, conversation_id, message_id",
    "memories": "day, tenant_id, user_id, memory_id",
    "facts": "day, tenant_id, user_id, fact_id",
    "memory_relationships": "day, tenant_id, from_id, to_id, kind",
    "summaries": "day, tenant_id, user_id, summary_id",
    "jobs": "day, tenant_id, job_id",
    "audit_runs": "day, tenant_id, audit_id",
    "audit_findings": "day, tenant_id, audit_id, finding_id",
    "events": "day, tenant_id, event_id",
}
"""The columns by which the rows of a masked table are in order; of tables with rows in the sample."""
EXACT = {"tenants.created_at", "jobs.available_at", "jobs.finished_at"}
"""Times that masked files do not cut, beside those of audits. Jobs have them as if asked for at midnight."""


def ask(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(statement).fetchall()


def test_a_text_that_somebody_chose_never_has_the_pseudonym_of_an_id(database: Database, tmp_path: Path) -> None:
    fill(database.pipeline_url)
    with psycopg.connect(database.admin_url, options="-c search_path=memory,public") as connection:
        ((user,),) = connection.execute("SELECT user_id FROM users WHERE email = 'ana@acme.example'").fetchall()
    moment = datetime(2025, 3, 2, 12, tzinfo=UTC)
    add_messages(
        database.pipeline_url,
        "acme",
        [message("acme", name, moment) for name in (f"id {user}", f"text {user}", "digest 00")],
    )
    export_lake(database.pipeline_url, WINDOW, tmp_path / "lake")
    path = (
        publish_duckdb(tmp_path / "lake", tmp_path / "exports", 1, {"lab": Scope(mask_key=KEY)}).consumers["lab"].path
    )
    users = {str(one).replace("-", "") for (one,) in ask(path, "SELECT user_id FROM users")}
    assert pseudonym(KEY, user).hex in users
    texts = {one for (one,) in ask(path, "SELECT source_message_id FROM messages")}
    assert not {text[:32] for text in texts} & users
    hashes = {one.hex() for (one,) in ask(path, "SELECT content_hash FROM messages")}
    assert not texts & hashes


def test_a_source_that_somebody_named_is_masked_and_those_of_our_importers_are_not(
    database: Database, tmp_path: Path
) -> None:
    moment = datetime(2025, 3, 2, 12, tzinfo=UTC)
    sources = sorted({*KNOWN, "ana@acme.example"})
    add_messages(
        database.pipeline_url,
        "acme",
        [msgspec.structs.replace(message("acme", "m", moment), source=source) for source in sources],
    )
    export_lake(database.pipeline_url, WINDOW, tmp_path / "lake")
    path = (
        publish_duckdb(tmp_path / "lake", tmp_path / "exports", 1, {"lab": Scope(mask_key=KEY)}).consumers["lab"].path
    )
    for statement in ("SELECT source FROM messages", "SELECT source FROM conversations"):
        found = {source for (source,) in ask(path, statement)}
        (other,) = found - KNOWN
        assert found > KNOWN
        assert len(other) == 64


@pytest.mark.parametrize("table", ORDER)
def test_rows_of_masked_files_are_in_the_order_of_pseudonyms(sample_export: SampleExport, table: str) -> None:
    """Else whoever has the real ids sorts them, and has the pseudonym of each."""
    columns = ORDER[table]
    rows = ask(sample_export.masked, f"SELECT {columns} FROM {table} ORDER BY rowid")  # noqa: S608
    assert rows
    assert rows == ask(sample_export.masked, f"SELECT {columns} FROM {table} ORDER BY {columns}")  # noqa: S608


def test_every_table_with_pseudonyms_in_the_sample_is_looked_at(sample_export: SampleExport) -> None:
    changed = set()
    for (table,) in ask(
        sample_export.path, "SELECT table_name FROM duckdb_tables() WHERE table_name NOT LIKE 'mart_%'"
    ):
        ids = {one for row in ask(sample_export.path, f"FROM {table}") for one in row if isinstance(one, UUID)}
        masked = {one for row in ask(sample_export.masked, f"FROM {table}") for one in row if isinstance(one, UUID)}
        if ids != masked:
            changed.add(table)
    assert changed == ORDER.keys()


def test_no_time_of_a_masked_file_is_as_exact_as_those_inside_ids(sample_export: SampleExport) -> None:
    times = ask(
        sample_export.masked,
        "SELECT table_name, column_name FROM duckdb_columns()"
        " WHERE data_type = 'TIMESTAMP WITH TIME ZONE' AND table_name NOT LIKE 'audit_%' ORDER BY ALL",
    )
    assert len(times) > 20
    hours = set()
    for table, column in times:
        if f"{table}.{column}" in EXACT:
            continue
        values = ask(sample_export.masked, f"SELECT {column} FROM {table}")  # noqa: S608
        found = {moment for (moment,) in values if moment}
        assert {(moment.minute, moment.second, moment.microsecond) for moment in found} <= {(0, 0, 0)}, (table, column)
        if {moment.astimezone(UTC).hour for moment in found} - {0}:
            hours.add(column)
    assert hours - {"valid_to"} == {"sent_at", "valid_from"}


def test_jobs_of_a_masked_file_begin_at_midnight_and_take_as_long_as_they_took(sample_export: SampleExport) -> None:
    columns = "SELECT job_id, created_at, available_at, finished_at FROM jobs"
    masked = {row[0]: row[1:] for row in ask(sample_export.masked, columns)}
    real = {pseudonym(KEY, row[0]): row[1:] for row in ask(sample_export.path, columns)}
    assert masked.keys() == real.keys()
    assert any(finished is not None for _, _, finished in real.values())
    for job, (created, available, finished) in real.items():
        began = created.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        ended = None if finished is None else began + (finished - created)
        assert masked[job] == (began, began + (available - created), ended)


def test_positions_of_a_masked_file_keep_the_order_of_turns_and_no_time_of_arrival(
    database: Database, tmp_path: Path
) -> None:
    """What comes by the API has the microsecond of its arrival as its position."""
    arrived = datetime(2025, 3, 2, 12, 34, 56, 789, tzinfo=UTC)
    said = {
        ("noon", minute): msgspec.structs.replace(
            message("acme", f"noon {minute}", arrived.replace(minute=minute)),
            position=positions_from(arrived) + minute % 2,
            source_conversation_id="noon",
        )
        for minute in (5, 3, 8)
    }
    said |= {
        ("same time", n): msgspec.structs.replace(
            message("acme", f"same time {n}", arrived),
            position=positions_from(arrived) + n,
            source_conversation_id="same time",
        )
        for n in (2, 0, 1)
    }
    add_messages(database.pipeline_url, "acme", list(said.values()))
    export_lake(database.pipeline_url, WINDOW, tmp_path / "lake")
    report = publish_duckdb(tmp_path / "lake", tmp_path / "exports", 1, {"lab": Scope(mask_key=KEY)})
    names = dict(ask(report.path, "SELECT message_id, source_message_id FROM messages"))
    by_pseudonym = {pseudonym(KEY, one): name for one, name in names.items()}
    found = ask(report.consumers["lab"].path, "SELECT message_id, position FROM messages")
    assert {by_pseudonym[one]: position for one, position in found} == {
        **{"noon 3": 0, "noon 5": 1, "noon 8": 2},
        **{f"same time {n}": n for n in range(3)},
    }


def test_messages_that_a_masked_summary_rests_on_are_not_listed_by_time(sample_export: SampleExport) -> None:
    lists = [ids for (ids,) in ask(sample_export.masked, "SELECT source_message_ids FROM memories")]
    assert max(map(len, lists)) > 2
    assert all(ids == sorted(ids) for ids in lists)


def test_two_spellings_of_an_object_have_one_pseudonym_and_are_one_entity(database: Database, tmp_path: Path) -> None:
    fill(database.pipeline_url)
    with psycopg.connect(database.admin_url, options="-c search_path=memory,public") as connection:
        connection.execute("UPDATE memories SET object = 'LISBON', day = '2025-03-04' WHERE object = 'Porto'")
        connection.execute(
            "UPDATE memories SET source_message_ids = (SELECT m.source_message_ids FROM memories m"
            " WHERE m.tenant_id = memories.tenant_id AND m.object = 'Lisbon') WHERE object = 'LISBON'"
        )
    export_lake(database.pipeline_url, WINDOW, tmp_path / "lake")
    report = publish_duckdb(tmp_path / "lake", tmp_path / "exports", 1, {"lab": Scope(mask_key=KEY)})
    masked = report.consumers["lab"].path
    assert ask(report.path, "SELECT count(DISTINCT object) FROM facts") == [(2,)]
    assert ask(masked, "SELECT count(DISTINCT object) FROM facts") == [(1,)]
    entities = "SELECT tenant, rank, facts, users FROM mart_weekly_topics WHERE kind = 'entity' ORDER BY tenant"
    assert ask(masked, entities) == ask(report.path, entities) == [("acme", 1, 2, 1), ("globex", 1, 2, 1)]

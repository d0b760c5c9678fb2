"""Pseudonyms: one word of the key's owner for each value, and no text that can pass for an id."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import psycopg

from memory_pipeline.importers import chatgpt, locomo, slack
from memory_pipeline.serving.transcript import API_SOURCE
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stores.duckdb.publish import Scope, publish_duckdb
from memory_pipeline.stores.duckdb.traces import pseudonym
from memory_pipeline.synthetic.generate import SOURCE as GENERATED
from memory_pipeline.synthetic.sample import SOURCE as SAMPLE
from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.stores.export_sample import WINDOW, add_messages, fill, message

KEY = b"a key for these tests alone"
KNOWN = {
    *(API_SOURCE, chatgpt.SOURCE, GENERATED, locomo.SOURCE, SAMPLE, slack.SOURCE),
    "jsonl",
}


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

"""Hostile and unusual texts in every field of a message: stored as they are, or refused alone; nothing else moves."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from psycopg import sql

from memory_pipeline.model import ids
from memory_pipeline.model.records import IncomingMessage, Rejection
from memory_pipeline.serving.ingest import IngestReport, UserDirectory, ingest
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.messages import ConversationTurn, last_turns
from memory_pipeline.stores.postgres.tenants import ensure_tenant
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.faults.messages import message
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.stores.postgres.schema_snapshot import dump_schema

USER = "ana@acme.example"
_tenants = count()

INJECTIONS = [
    "'",
    "''",
    '"',
    "\\",
    "\\'; --",
    "' OR '1'='1",
    "' OR 1=1 --",
    "') OR ('a'='a",
    "1; DROP TABLE messages; --",
    "'; DROP TABLE memory.messages; --",
    "Robert'); DROP TABLE users; --",
    "' UNION SELECT tenant_id::text FROM memory.tenants --",
    "'; SELECT set_config('app.tenant_id', '00000000-0000-0000-0000-000000000000', false); --",
    "' || set_config('app.tenant_id', '', false) || '",
    "'; SET ROLE memory_pipeline; --",
    "'; RESET ROLE; --",
    "'; COMMIT; DELETE FROM memory.messages; --",
    "'; COPY memory.messages TO PROGRAM 'true'; --",
    "'; SELECT pg_sleep(600); --",
    "' AND (SELECT count(*) FROM generate_series(1, 1000000000)) > 0 --",
    "$$; DROP SCHEMA memory CASCADE; $$",
    "$tag$ x $tag$",
    "E'\\x27'",
    "\\x27",
    "U&'\\0027'",
    "/* comment */ --",
    "%s %(tenant_id)s %% %",
    "{} {0} {name}",
    "$1 $2 :name ?",
    "\\N",
    "\\.",
    "\n\\.\n",
    "a\tb\nc\rd\\te\\nf",
    "\ufeff' OR 1=1",
    "\u02bc OR 1=1",
    "\uff07 OR 1=1 --",
    '{"$ne": null}',
    "${jndi:ldap://127.0.0.1/a}",
    "<script>alert('1')</script>",
    "=cmd|' /C calc'!A0",
]
"""Quotes and what ends a statement, a COPY line, a placeholder, a dollar quote, or a JSON text."""

UNUSUAL = [
    "שלום עולם, مرحبا بالعالم",
    "\u202eright to left override\u202c and \u2067isolate\u2069",
    "👩\u200d👩\u200d👧\u200d👦 joined, 👩👩👧👦 apart",
    "🏳️\u200d🌈 🏳\ufe0e 🏳\ufe0f ☎︎ ☎️",
    "🇵🇹🇩🇪 \U0001f9d1\U0001f3fd \U0001f9d1\U0001f3ff",
    unicodedata.normalize("NFC", "Å é ñ ệ ṩ 한국어"),
    unicodedata.normalize("NFD", "Å é ñ ệ ṩ 한국어"),
    "ﬁ ℌ ① ﷺ and their compatibility forms fi H 1",
    "zero\u200bwidth\u200cand\u200djoin\u2060\ufeff",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́O",
    "\u2028line\u2029paragraph\x85next\x0bvertical\x0cform\x1cfile\x1f",
    "\x01\x02\x07\x08\x1b[31m\x7f\x80\x9f",
    "\U0001f600\U0010ffff\ufffe\uffff\ue000\U000f0000",
    "İstanbul ıI ß ẞ ſ",
    " leading, trailing \t\n",
]

FIELDS = [
    "source",
    "source_message_id",
    "source_conversation_id",
    "speaker",
    "content",
    "conversation_title",
    "project",
    "user_email",
    "raw_data",
]
"""Every field of an IncomingMessage that holds text of the sender's and is stored."""

_STORED = """
SELECT m.source, m.source_message_id, c.source_conversation_id, m.speaker, m.content, c.title, c.project, u.email,
       m.raw_data, m.content_hash, e.content
FROM messages m
JOIN conversations c USING (tenant_id, conversation_id)
JOIN users u ON u.tenant_id = m.tenant_id AND u.user_id = m.user_id
JOIN memories e ON e.tenant_id = m.tenant_id AND e.source_message_ids = ARRAY[m.message_id]
"""


class Tenant:
    """A tenant of one test, in a database that it shares with a bystander."""

    def __init__(self, app: Database, tenant_id: UUID) -> None:
        self.app = app
        self.tenant_id = tenant_id
        self.rejections: list[Rejection] = []

    def take(self, messages: list[IncomingMessage]) -> IngestReport:
        users = UserDirectory(self.app, self.tenant_id, USER)
        return ingest(self.app, self.tenant_id, users, messages, actor="test", on_reject=self.rejections.append)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.app.tenant_transaction(self.tenant_id) as connection:
            return connection.execute(query.encode()).fetchall()

    def turns(self, conversation: str) -> list[ConversationTurn]:
        conversation_id = ids.conversation_id(self.tenant_id, "test", conversation)
        with self.app.tenant_transaction(self.tenant_id) as connection:
            return last_turns(connection, self.tenant_id, conversation_id, 1000)


@pytest.fixture(scope="module")
def urls(servers: Servers, migrated_template: str) -> Iterator[Urls]:
    with fresh_database(servers, migrated_template) as urls:
        yield urls


@pytest.fixture(scope="module")
def app(urls: Urls) -> Iterator[Database]:
    with Database(urls.app_url, role="memory_app") as app:
        yield app


@pytest.fixture(scope="module")
def new_tenant(urls: Urls, app: Database) -> Iterator[Callable[[], Tenant]]:
    with Database(urls.pipeline_url, pool_size=1) as pipeline:

        def make() -> Tenant:
            with pipeline.transaction() as connection:
                return Tenant(app, ensure_tenant(connection, f"tenant-{next(_tenants)}"))

        yield make


@pytest.fixture
def tenant(new_tenant: Callable[[], Tenant]) -> Tenant:
    return new_tenant()


def with_text(number: int, field: str, text: str) -> IncomingMessage:
    """A message whose every other field is plain and its own."""
    plain = message(f"m{number}", f"turn {number}", position=number)
    plain = msgspec.structs.replace(
        plain, source_conversation_id=f"c{number}", speaker="Ana", conversation_title="A title", project="a project"
    )
    value: object = {text: [text, {"deep": text}]} if field == "raw_data" else text
    if field == "user_email":
        value = f"{text}@acme.example"
    return msgspec.structs.replace(plain, **{field: value})


def everything_of(urls: Urls, tenant_id: UUID) -> dict[str, object]:
    """Every row of a tenant in every table, and what belongs to none, as one hash for each table."""
    hashes: dict[str, object] = {}
    with psycopg.connect(urls.admin_url) as connection:
        tables = connection.execute(
            "SELECT c.relname, bool_or(a.attname = 'tenant_id')"
            " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relnamespace = 'memory'::regnamespace AND c.relkind = 'r' GROUP BY c.relname"
        ).fetchall()
        for table, has_tenant in tables:
            query = sql.SQL("SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM memory.{} t").format(
                sql.Identifier(table)
            )
            if has_tenant:
                query += sql.SQL(" WHERE tenant_id = {}").format(sql.Literal(tenant_id))
            hashes[table] = connection.execute(query).fetchone()
        hashes["roles"] = connection.execute("SELECT rolname FROM pg_roles ORDER BY rolname").fetchall()
    return hashes


@pytest.mark.parametrize("texts", [INJECTIONS, UNUSUAL], ids=["injections", "unusual"])
def test_any_text_in_any_field_is_stored_byte_for_byte_and_nothing_else_changes(
    urls: Urls, tenant: Tenant, new_tenant: Callable[[], Tenant], texts: list[str]
) -> None:
    bystander = new_tenant()
    bystander.take([message(f"m{number}", "I was here.", position=number) for number in range(3)])
    before, schema = everything_of(urls, bystander.tenant_id), dump_schema(urls.admin_url)
    assert before["messages"] != everything_of(urls, tenant.tenant_id)["messages"]

    places = [(field, text) for field in FIELDS for text in texts]
    sent = [with_text(number, field, text) for number, (field, text) in enumerate(places)]
    report = tenant.take(sent)
    assert tenant.rejections == []
    assert report.inserted == len(sent) == len(FIELDS) * len(texts)

    stored = {(row[0], row[1]): row[2:] for row in tenant.rows(_STORED)}
    assert len(stored) == len(sent)
    for expected in sent:
        conversation, speaker, content, title, project, email, raw_data, content_hash, episode = stored[
            expected.source, expected.source_message_id
        ]
        assert (conversation, speaker, content, title, project, raw_data) == (
            expected.source_conversation_id,
            expected.speaker,
            expected.content,
            expected.conversation_title,
            expected.project,
            expected.raw_data,
        )
        assert email == (lowered(urls, expected.user_email) if expected.user_email else USER)
        assert bytes(content_hash) == ids.message_hash("user", expected.speaker, expected.content)
        assert episode == f"{expected.speaker}: {expected.content}"
    for expected in sent:
        if expected.source == "test":
            (turn,) = tenant.turns(expected.source_conversation_id)
            assert (turn.content.encode(), turn.speaker) == (expected.content.encode(), expected.speaker)

    assert everything_of(urls, bystander.tenant_id) == before
    assert dump_schema(urls.admin_url) == schema
    assert tenant.take(sent).duplicates == len(sent)


def lowered(urls: Urls, email: str) -> str:
    """An address as Postgres writes it in small letters."""
    with psycopg.connect(urls.admin_url) as connection:
        row = connection.execute('SELECT lower(%s COLLATE "default")', [email]).fetchone()
    assert row is not None
    return str(row[0])


def test_both_normal_forms_of_a_text_are_two_texts(tenant: Tenant) -> None:
    """Also as ids: nothing is normalised on its way."""
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    assert tenant.take([message(composed, composed), message(decomposed, decomposed, position=1)]).inserted == 2
    assert [turn.content.encode() for turn in tenant.turns("c1")] == [b"\xc3\xa9", b"e\xcc\x81"]


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1))
def test_whatever_is_said_comes_back_as_it_was_said(new_tenant: Callable[[], Tenant], texts: list[str]) -> None:
    tenant = new_tenant()
    tenant.take([message(f"m{number}", text, position=number) for number, text in enumerate(texts)])
    assert [turn.content.encode() for turn in tenant.turns("c1")] == [text.encode() for text in texts]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    "poison", ["a\0b", "\ud800", "x\udfffy", b"caf\xe9".decode(errors="surrogateescape")], ids=repr
)
def test_what_can_not_be_stored_is_refused_alone_wherever_it_stands(tenant: Tenant, field: str, poison: str) -> None:
    good = [message(f"good {number}", f"turn {number}", position=number) for number in range(20)]
    bad = msgspec.structs.replace(with_text(99, field, poison), origin="line 11")
    report = tenant.take([*good[:10], bad, *good[10:]])
    assert (report.inserted, report.rejected) == (20, 1)
    (rejection,) = tenant.rejections
    assert rejection.origin == "line 11"
    assert [turn.content for turn in tenant.turns("c1")] == [record.content for record in good]
    assert tenant.rows("SELECT count(*) FROM messages") == [(20,)]


def test_a_new_user_whose_name_can_not_be_stored_takes_nobody_along(tenant: Tenant) -> None:
    named = msgspec.structs.replace(message("bad", "Hello."), user_email="bob@acme.example", speaker="B\0b")
    assert tenant.take([message("m1", "one"), named, message("m2", "two", position=1)]).inserted == 2
    assert [rejection.origin for rejection in tenant.rejections] == ["bad"]
    assert tenant.rows("SELECT email FROM users") == [(USER,)]

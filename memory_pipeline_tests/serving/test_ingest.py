"""Taking messages in: repeated, contradicting, concurrent, interrupted, and whatever characters they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import Barrier
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from memory_pipeline.model import ids
from memory_pipeline.model.errors import MemoryPipelineError, StoreUnavailableError
from memory_pipeline.model.records import IncomingMessage, Rejection, Role
from memory_pipeline.serving import ingest as ingesting
from memory_pipeline.serving.ingest import IngestReport, UserDirectory, ingest
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.messages import last_turns, message_days
from memory_pipeline.stores.postgres.tenants import ensure_tenant
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.local.host import Servers

START = datetime(2025, 3, 1, 12, tzinfo=UTC)
USER = "ana@acme.example"

# Everything of a tenant but what the database makes up: generated ids and the time of arrival.
_STATE = {
    "users": "SELECT email, display_name FROM users",
    "conversations": "SELECT conversation_id, email, source, source_conversation_id, title, project"
    " FROM conversations JOIN users USING (tenant_id, user_id)",
    "messages": "SELECT message_id, conversation_id, email, source, source_message_id, role, speaker, content,"
    " content_hash, sent_at, position, raw_data FROM messages JOIN users USING (tenant_id, user_id)",
    "memories": "SELECT memory_id, conversation_id, email, kind, memories.status, content, content_hash, day,"
    " source_message_ids, project FROM memories JOIN users USING (tenant_id, user_id)",
}
_EVENTS = "SELECT subject_id, detail FROM events"

State = dict[str, Counter[str]]


def said(name: str, content: str = "I moved to Lisbon.", **changes: Any) -> IncomingMessage:
    """A message; `name` is its source id."""
    fields: dict[str, Any] = {
        "source": "test",
        "source_message_id": name,
        "source_conversation_id": "c1",
        "role": Role.USER,
        "content": content,
        "sent_at": START,
        "position": 0,
        "origin": f"test, message {name}",
    }
    return IncomingMessage(**{**fields, **changes})


def talk(number: int, conversation: str = "c1", first: int = 0) -> list[IncomingMessage]:
    return [
        said(
            f"{conversation}-{place}",
            f"turn {place}",
            role=Role.USER if place % 2 == 0 else Role.ASSISTANT,
            source_conversation_id=conversation,
            position=place,
            sent_at=START + timedelta(minutes=place),
        )
        for place in range(first, first + number)
    ]


_worlds = count()


class Intake:
    """The tenants of one test, in a database that other tests use as well."""

    def __init__(self, urls: Urls, app: Database, pipeline: Database) -> None:
        self.urls = urls
        self.app = app
        self.pipeline = pipeline
        self._world = next(_worlds)

    def tenant(self, slug: str = "acme") -> UUID:
        with self.pipeline.transaction() as connection:
            return ensure_tenant(connection, f"{slug}-{self._world}")

    def take(
        self,
        records: Iterable[IncomingMessage | Rejection],
        tenant_id: UUID | None = None,
        *,
        user: str | None = USER,
        batch_messages: int = 100,
    ) -> tuple[IngestReport, list[Rejection]]:
        tenant_id = tenant_id or self.tenant()
        rejections: list[Rejection] = []
        report = ingest(
            self.app,
            tenant_id,
            UserDirectory(self.app, tenant_id, user),
            records,
            actor="test",
            on_reject=rejections.append,
            batch_messages=batch_messages,
        )
        assert report.rejected == len(rejections)
        return report, rejections

    def read(self, query: str, tenant_id: UUID | None = None) -> list[tuple[Any, ...]]:
        """Rows of one tenant, by row-level security."""
        with self.app.tenant_transaction(tenant_id or self.tenant()) as connection:
            return connection.execute(query.encode()).fetchall()

    def state(self, tenant_id: UUID | None = None) -> State:
        return {
            table: Counter(repr(row) for row in self.read(query, tenant_id))
            for table, query in {**_STATE, "events": _EVENTS}.items()
        }

    def contents(self, tenant_id: UUID | None = None) -> dict[str, str]:
        query = "SELECT source_message_id, content FROM messages"
        return dict(self.read(query, tenant_id))


@contextmanager
def opened(urls: Urls) -> Iterator[Intake]:
    with (
        Database(urls.app_url, role="memory_app") as app,
        Database(urls.pipeline_url, role="memory_pipeline", pool_size=2) as pipeline,
    ):
        yield Intake(urls, app, pipeline)


@pytest.fixture(scope="module")
def shared(servers: Servers, migrated_template: str) -> Iterator[Intake]:
    with fresh_database(servers, migrated_template) as urls, opened(urls) as intake:
        yield intake


@pytest.fixture
def intake(shared: Intake) -> Intake:
    return Intake(shared.urls, shared.app, shared.pipeline)


@pytest.fixture
def lone_intake(database: Urls) -> Iterator[Intake]:
    """For tests that change the schema or look at every tenant."""
    with opened(database) as intake:
        yield intake


def counts(report: IngestReport) -> tuple[int, int, int]:
    return report.inserted, report.duplicates, report.rejected


# -- the same again --


def test_importing_twice_adds_nothing(intake: Intake) -> None:
    messages = [*talk(25, "c1"), *talk(25, "c2")]
    assert counts(intake.take(messages, batch_messages=7)[0]) == (50, 0, 0)
    before = intake.state()
    assert sum(before["messages"].values()) == sum(before["memories"].values()) == 50
    for batch_messages in (7, 50, 1000):
        assert counts(intake.take(messages, batch_messages=batch_messages)[0]) == (0, 50, 0)
        assert counts(intake.take(reversed(messages), batch_messages=batch_messages)[0]) == (0, 50, 0)
    assert intake.state() == before


@pytest.mark.parametrize("batch_messages", [1, 9, 10, 11, 19, 20, 21])
def test_where_batches_end_does_not_show(intake: Intake, batch_messages: int) -> None:
    messages = talk(20)
    intake.take(messages, intake.tenant("whole"), batch_messages=1000)
    tenant_id = intake.tenant("parts")
    assert counts(intake.take(messages, tenant_id, batch_messages=batch_messages)[0]) == (20, 0, 0)
    assert intake.contents(tenant_id) == intake.contents(intake.tenant("whole"))
    (conversation,) = intake.read("SELECT title, project FROM conversations", tenant_id)
    assert conversation == (None, None)


def test_long_messages_end_a_batch_early(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingesting, "BATCH_CHARACTERS", 100)
    intake.take([said(f"m{n}", "x" * 60) for n in range(6)])
    assert [detail for (detail,) in intake.read("SELECT detail FROM events")] == [{"messages": 2}] * 3


def test_the_same_message_at_another_time_is_there_already(intake: Intake) -> None:
    intake.take([said("m1")])
    before = intake.state()
    later = said("m1", sent_at=START + timedelta(days=1), position=7)
    assert counts(intake.take([later, later])[0]) == (0, 2, 0)
    assert intake.state() == before


def test_the_same_id_of_another_source_or_tenant_is_another_message(intake: Intake) -> None:
    intake.take([said("m1"), said("m1", "Something else.", source="other")])
    intake.take([said("m1", "Globex said this.")], intake.tenant("globex"))
    query = "SELECT message_id FROM messages"
    assert len({*intake.read(query), *intake.read(query, intake.tenant("globex"))}) == 3
    assert intake.contents(intake.tenant("globex")) == {"m1": "Globex said this."}


# -- the same id, another message --


@pytest.mark.parametrize(
    "changed",
    [
        said("m1", "I moved to Porto."),
        said("m1", role=Role.ASSISTANT),
        said("m1", speaker="Bea"),
        said("m1", "I moved to Lisbon. "),
        said("m1", source_conversation_id="c2"),
        said("m1", user_email="bob@acme.example"),
    ],
    ids=["content", "role", "speaker", "space", "conversation", "user"],
)
def test_another_message_under_a_taken_id_is_refused_by_name_and_the_good_ones_are_kept(
    intake: Intake, changed: IncomingMessage
) -> None:
    intake.take([said("m1")])
    changed = msgspec.structs.replace(changed, origin="chat.jsonl:7")
    report, (rejection,) = intake.take([said("m0"), changed, said("m2")])
    assert counts(report) == (2, 0, 1)
    assert rejection.origin == "chat.jsonl:7"
    assert "'m1' is taken by another message (other content, conversation or user)" in rejection.reason
    assert rejection.remedy
    report, (rejection,) = intake.take([said("m1"), changed, said("m1")])  # judged within the batch
    assert counts(report) == (0, 2, 1)
    assert rejection.origin == "chat.jsonl:7"
    report, (rejection,) = intake.take([said("m1"), changed, said("m1")], intake.tenant("globex"))
    assert counts(report) == (1, 1, 1)
    assert rejection.origin == "chat.jsonl:7"
    assert intake.contents() == dict.fromkeys(["m0", "m1", "m2"], "I moved to Lisbon.")


def test_a_separator_within_a_speaker_does_not_make_two_messages_look_alike(intake: Intake) -> None:
    intake.take([said("m1", "b\x1fc", speaker="a")])
    assert counts(intake.take([said("m1", "c", speaker="a\x1fb")])[0]) == (0, 0, 1)


def test_a_refused_or_repeated_message_leaves_no_empty_conversation(intake: Intake) -> None:
    intake.take([said("m1"), said("m2")])
    elsewhere = [said("m1", "Other.", source_conversation_id="c2"), said("m2", source_conversation_id="c3")]
    assert counts(intake.take(elsewhere)[0]) == (0, 0, 2)
    assert intake.read("SELECT source_conversation_id FROM conversations") == [("c1",)]


def test_of_two_records_under_one_id_the_first_is_kept(intake: Intake) -> None:
    first, same, other = said("m1"), said("m1", origin="same"), said("m1", "Other.", origin="other")
    for n, batch_messages in enumerate((1, 2, 3, 100)):
        tenant_id = intake.tenant(f"tenant-{n}")
        report, (rejection,) = intake.take([first, same, other, same], tenant_id, batch_messages=batch_messages)
        assert counts(report) == (1, 2, 1)
        assert rejection.origin == "other"
        assert intake.contents(tenant_id) == {"m1": "I moved to Lisbon."}


def test_repeats_within_a_batch_are_judged_by_what_is_stored(intake: Intake) -> None:
    intake.take([said("m1", "Stored.")])
    records = [said("m1", "Wrong.", origin="a"), said("m1", "Stored."), said("m1", "Wrong.", origin="b")]
    report, rejections = intake.take(records)
    assert counts(report) == (0, 1, 2)
    assert [rejection.origin for rejection in rejections] == ["a", "b"]


_tenants = count()


def slow_down_the_first(intake: Intake) -> None:
    """Let the batch with the content "first" take so long that the next one overtakes it, unless it waits."""
    with psycopg.connect(intake.urls.admin_url, options="-c search_path=memory") as connection:
        connection.execute(
            "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END$$"
        )
        connection.execute(
            "CREATE TRIGGER linger BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.content = 'first')"
            " EXECUTE FUNCTION linger()"
        )


def test_the_first_is_kept_even_where_a_later_batch_is_faster(lone_intake: Intake) -> None:
    slow_down_the_first(lone_intake)
    report, (rejection,) = lone_intake.take(
        [said("m1", "first"), said("m1", "second", origin="second")], batch_messages=1
    )
    assert (counts(report), rejection.origin) == ((1, 0, 1), "second")
    assert lone_intake.contents()["m1"] == "first"


def test_a_conversation_is_described_by_its_first_turn_even_where_a_later_batch_is_faster(lone_intake: Intake) -> None:
    slow_down_the_first(lone_intake)
    later = START + timedelta(minutes=1)
    lone_intake.take(
        [
            said("m1", "first", user_email="bob@acme.example", conversation_title="First", project="one"),
            said("m2", "second", sent_at=later, conversation_title="Second", project="two"),
            said("m3", "third", sent_at=later, conversation_title="Third", project="three"),
        ],
        batch_messages=1,
    )
    query = "SELECT email, title, project FROM conversations JOIN users USING (tenant_id, user_id)"
    assert lone_intake.read(query) == [("bob@acme.example", "First", "one")]


_Variant = tuple[str, str, str]
"""Content, conversation and user: what is another message where one of them is another."""

_variants: st.SearchStrategy[_Variant] = st.sampled_from(
    [("x", "c1", USER), ("y", "c1", USER), ("x", "c2", USER), ("x", "c1", "bob@acme.example")]
)


def variant(name: str, found: _Variant) -> IncomingMessage:
    content, conversation, user = found
    return said(name, content, source_conversation_id=conversation, user_email=user)


@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(
    stored=st.lists(st.tuples(st.sampled_from("abc"), _variants), max_size=2),
    records=st.lists(st.tuples(st.sampled_from("abcd"), _variants), max_size=14),
    batch_messages=st.integers(1, 6),
)
def test_any_batches_end_as_one_record_after_the_other_would(
    intake: Intake, stored: list[tuple[str, _Variant]], records: list[tuple[str, _Variant]], batch_messages: int
) -> None:
    tenant_id = intake.tenant(f"example-{next(_tenants)}")
    intake.take([variant(name, found) for name, found in stored], tenant_id)
    expected: dict[str, _Variant] = {}
    for name, found in stored:
        expected.setdefault(name, found)
    already = len(expected)
    duplicates = rejected = 0
    for name, found in records:
        if expected.setdefault(name, found) != found:
            rejected += 1
        else:
            duplicates += 1
    inserted = len(expected) - already
    messages = [variant(name, found) for name, found in records]
    report, _rejections = intake.take(messages, tenant_id, batch_messages=batch_messages)
    assert counts(report) == (inserted, duplicates - inserted, rejected)
    query = (
        "SELECT source_message_id, content, source_conversation_id, email FROM messages m"
        " JOIN conversations USING (tenant_id, conversation_id)"
        " JOIN users u ON u.tenant_id = m.tenant_id AND u.user_id = m.user_id"
    )
    assert {name: tuple(found) for name, *found in intake.read(query, tenant_id)} == expected


# -- what is made of a message --


def test_system_and_tool_messages_get_no_episode(intake: Intake) -> None:
    intake.take([said(role.value, f"I am {role}.", role=role) for role in Role])
    assert intake.read("SELECT content FROM memories ORDER BY content") == [
        ("Assistant: I am assistant.",),
        ("ana: I am user.",),
    ]
    assert set(intake.contents()) == {"user", "assistant", "system", "tool"}


def test_an_episode_rests_on_its_message(intake: Intake) -> None:
    intake.take([said("m1", project="trip", sent_at=datetime(2025, 3, 1, 23, 59, 59, 999_999, UTC))])
    ((memory,),) = intake.read(
        "SELECT to_jsonb(m) - 'created_at' - 'updated_at' FROM memories m"
        " JOIN messages s ON s.tenant_id = m.tenant_id AND m.source_message_ids = ARRAY[s.message_id]"
        " AND m.user_id = s.user_id AND m.conversation_id = s.conversation_id"
    )
    assert (memory["kind"], memory["status"], memory["day"]) == ("episode", "pending_enrichment", "2025-03-01")
    assert (memory["project"], memory["enricher"], memory["version"]) == ("trip", None, 1)
    assert bytes.fromhex(memory["content_hash"][2:]) == ids.sha256("ana: I moved to Lisbon.")


def test_who_spoke_is_the_speaker_else_the_user_else_the_role(intake: Intake) -> None:
    intake.take(
        [
            said("m1", "one", speaker="Ana Silva", user_email=USER),
            said("m2", "two"),
            said("m3", "three", role=Role.ASSISTANT),
            said("m4", "four", role=Role.ASSISTANT, speaker="Claude"),
            said("m5", "five", user_email="bob.b@acme.example"),
        ]
    )
    assert {content for (content,) in intake.read("SELECT content FROM memories")} == {
        "Ana Silva: one",
        "Ana Silva: two",
        "Assistant: three",
        "Claude: four",
        "bob.b: five",
    }


def test_a_user_who_is_there_already_keeps_their_name(intake: Intake) -> None:
    intake.take([said("m1", "one", speaker="Ana Silva", user_email=USER)])
    intake.take([said("m2", "two"), said("m3", "three", speaker="Dr. Silva", user_email=USER), said("m4", "four")])
    assert intake.read("SELECT email, display_name FROM users") == [(USER, "Ana Silva")]
    assert {content for (content,) in intake.read("SELECT content FROM memories")} == {
        "Ana Silva: one",
        "Ana Silva: two",
        "Dr. Silva: three",
        "Ana Silva: four",
    }


def test_what_an_assistant_is_called_is_not_what_the_user_is_called(intake: Intake) -> None:
    intake.take([said("m1", "Hi.", role=Role.ASSISTANT, speaker="Claude", user_email=USER), said("m2", "Hello.")])
    assert intake.read("SELECT display_name FROM users") == [("ana",)]


def test_an_address_in_another_case_is_the_same_user(intake: Intake) -> None:
    intake.take([said("m1", user_email="ANA@Acme.Example"), said("m2", user_email=USER), said("m3")])
    assert intake.read("SELECT email, (SELECT count(*) FROM messages) FROM users") == [(USER, 3)]


def test_a_message_without_a_user_is_refused_by_name_and_the_others_are_kept(intake: Intake) -> None:
    for missing in (None, ""):
        records = [
            said("m1", user_email="bob@acme.example"),
            said("m2", origin="chat.jsonl:2", user_email=missing),
            said("m3", user_email="bob@acme.example"),
        ]
        report, (rejection,) = intake.take(records, user=missing)
        assert report.rejected == 1
        assert rejection.origin == "chat.jsonl:2"
        assert "names no user" in rejection.reason
        assert "--user" in rejection.remedy
        assert set(intake.contents()) == {"m1", "m3"}


def test_rejections_of_the_importer_are_passed_on(intake: Intake) -> None:
    bad = Rejection(origin="chat.jsonl:1", reason="no", remedy="yes")
    report, rejections = intake.take([bad, said("m1"), bad])
    assert counts(report) == (1, 0, 2)
    assert rejections == [bad, bad]
    assert counts(intake.take([bad] * 3)[0]) == (0, 0, 3)
    assert counts(intake.take([])[0]) == (0, 0, 0)


@pytest.mark.parametrize(
    "bad",
    [
        said("bad", "a\0b"),
        said("bad", "\ud800"),
        said("b\udfffd"),
        said("bad", speaker="\ud800"),
        said("bad", raw_data={"deep": "\0"}),
        said("".join(ids.sha256(str(n)).hex() for n in range(200))),  # too long for an index, even compressed
        said("bad", position=2**63),
    ],
    ids=["NUL", "surrogate", "id", "speaker", "raw data", "long id", "position"],
)
def test_what_postgres_cannot_store_is_refused_alone(intake: Intake, bad: IncomingMessage) -> None:
    """The importers catch these; should one get through, it must not take good ones with it."""
    records = [*talk(5), msgspec.structs.replace(bad, origin="chat.jsonl:6"), *talk(5, first=5)]
    report, (rejection,) = intake.take(records)
    assert counts(report) == (10, 0, 1)
    assert rejection.origin == "chat.jsonl:6"
    assert len(rejection.reason) < 300
    assert len(intake.contents()) == 10
    assert counts(intake.take(talk(10))[0]) == (0, 10, 0)


# -- conversations and events --


def test_a_conversation_of_several_batches_is_one(intake: Intake) -> None:
    messages = [msgspec.structs.replace(message, conversation_title="Lisbon", project="trip") for message in talk(10)]
    intake.take(messages, batch_messages=3)
    assert intake.read("SELECT source_conversation_id, title, project FROM conversations") == [("c1", "Lisbon", "trip")]
    (conversation_id,) = {row[0] for row in intake.read("SELECT conversation_id FROM messages")}
    assert conversation_id == ids.conversation_id(intake.tenant(), "test", "c1")


def test_a_conversation_belongs_to_who_took_part_first_however_it_is_cut(intake: Intake) -> None:
    messages = [
        msgspec.structs.replace(message, user_email=f"user{place % 3}@acme.example")
        for place, message in enumerate(talk(12))
    ]
    for n in range(12):
        tenant_id = intake.tenant(f"tenant-{n}")
        intake.take(messages, tenant_id, batch_messages=n + 1)
        owner = intake.read("SELECT email FROM conversations JOIN users USING (tenant_id, user_id)", tenant_id)
        assert owner == [("user0@acme.example",)]


def test_events_are_written_once_for_each_conversation_and_batch(intake: Intake) -> None:
    messages = [*talk(4, "c1"), *talk(2, "c2"), *talk(3, "c1", first=4)]
    intake.take(messages, batch_messages=5)
    tenant_id = intake.tenant()
    expected = Counter(
        [
            (ids.conversation_id(tenant_id, "test", "c1"), 4),
            (ids.conversation_id(tenant_id, "test", "c2"), 1),
            (ids.conversation_id(tenant_id, "test", "c2"), 1),
            (ids.conversation_id(tenant_id, "test", "c1"), 3),
        ]
    )
    query = "SELECT subject_id, (detail ->> 'messages')::int FROM events"
    assert Counter(intake.read(query)) == expected
    assert len({row[0] for row in intake.read("SELECT correlation_id FROM events")}) == 1
    assert intake.read("SELECT DISTINCT kind, actor FROM events") == [("messages_ingested", "test")]

    intake.take([*messages, *talk(1, "c3")], batch_messages=5)
    assert Counter(intake.read(query)) == expected + Counter([(ids.conversation_id(tenant_id, "test", "c3"), 1)])


def test_events_hold_no_text(intake: Intake) -> None:
    intake.take([said("m1", "a secret", speaker="Ana Secret", user_email="secret@acme.example")])
    ((event,),) = intake.read("SELECT to_jsonb(e)::text FROM events e")
    assert "ecret" not in event


def test_last_turns_come_by_time_then_position(intake: Intake) -> None:
    later = START + timedelta(seconds=1)
    intake.take(
        [
            said("m4", "four", sent_at=later, position=0, role=Role.ASSISTANT),
            said("m1", "one", position=2),
            said("m3", "three", position=10),
            said("m2", "two", position=9, speaker="Bea"),
            said("x", "elsewhere", source_conversation_id="c2", sent_at=later),
        ]
    )
    conversation_id = ids.conversation_id(intake.tenant(), "test", "c1")
    with intake.app.tenant_transaction(intake.tenant()) as connection:
        turns = last_turns(connection, intake.tenant(), conversation_id, 10)
        assert last_turns(connection, intake.tenant(), conversation_id, 2) == turns[-2:]
    assert [(turn.speaker, turn.content) for turn in turns] == [
        ("ana", "one"),
        ("Bea", "two"),
        ("ana", "three"),
        ("Assistant", "four"),
    ]
    with intake.app.tenant_transaction(intake.tenant("globex")) as connection:
        assert last_turns(connection, intake.tenant(), conversation_id, 10) == []


def test_turns_of_the_same_time_and_position_have_one_order(intake: Intake) -> None:
    def made_id(message: IncomingMessage) -> UUID:
        return ids.message_id(intake.tenant(), "test", message.source_message_id, message.sent_at)

    messages = sorted((said(f"m{n}", str(n)) for n in range(20)), key=made_id)
    intake.take(reversed(messages), batch_messages=1)
    conversation_id = ids.conversation_id(intake.tenant(), "test", "c1")
    with intake.app.tenant_transaction(intake.tenant()) as connection:
        turns = last_turns(connection, intake.tenant(), conversation_id, 20)
        assert [turn.content for turn in turns] == [message.content for message in messages]
        for shown in (1, 7, 19):
            assert last_turns(connection, intake.tenant(), conversation_id, shown) == turns[-shown:]


def test_days_are_those_of_utc(lone_intake: Intake) -> None:
    lone_intake.take([said("m1", sent_at=datetime.fromisoformat("2025-03-02T00:30:00+02:00")), said("m2")])
    lone_intake.take([said("m1", sent_at=START + timedelta(days=1))], lone_intake.tenant("globex"))
    with lone_intake.pipeline.transaction() as connection:
        days = message_days(connection)
    assert [(str(day.day), day.messages, day.tenants) for day in days] == [("2025-03-01", 2, 1), ("2025-03-02", 1, 1)]
    assert len(lone_intake.read("SELECT FROM memories WHERE day = '2025-03-01'")) == 2


# -- what messages hold --

TEXTS = {
    "combining": "e\u0301 is not é",
    "right to left": "שלום \u202eabc\u202c مرحبا",
    "joined": "👩‍👩‍👧‍👦 🏳️‍🌈 🇵🇹",
    "astral": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \U0010ffff",
    "control": "tab\tnewline\nreturn\rbell\x07escape\x1b\x7f\x85\u2028",
    "copy": "\\N \\. \\\\ \\t \\x41\n\\.\n",
    "spaces": "  leading and trailing \u00a0\u3000\ufeff ",
    "injection": "'); DROP TABLE memory.messages; -- ${x} %s %(name)s $1 {0}",
    "hidden": "\u200b\ufffe\uffff",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_texts_come_back_byte_for_byte(intake: Intake, text: str) -> None:
    name = f"id {text}".strip()
    intake.take(
        [
            said(
                name,
                text,
                speaker=text,
                source="source " + text[:40],
                source_conversation_id=text,
                conversation_title=text,
                project=text,
                raw_data={text: [text, {"a": text}], "n": [1, 1.5, None, True]},
            )
        ]
    )
    query = (
        "SELECT m.source_message_id, m.source, m.content, m.speaker, c.source_conversation_id, c.title, c.project,"
        " e.content, e.project, m.raw_data, m.content_hash FROM messages m JOIN conversations c USING (conversation_id)"
        " JOIN memories e ON e.source_message_ids[1] = m.message_id"
    )
    assert intake.read(query) == [
        (
            name,
            "source " + text[:40],
            *[text] * 5,
            f"{text}: {text}",
            text,
            {text: [text, {"a": text}], "n": [1, 1.5, None, True]},
            ids.message_hash("user", text, text),
        ),
    ]


@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50),
            st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
            st.sampled_from(Role),
        ),
        min_size=1,
        max_size=10,
    )
)
def test_any_text_is_stored_as_it_is_with_the_hash_that_python_computes(
    intake: Intake, texts: Sequence[tuple[str, str | None, Role]]
) -> None:
    tenant_id = intake.tenant(f"example-{next(_tenants)}")
    intake.take(
        [said(str(n), text, speaker=speaker, role=role) for n, (text, speaker, role) in enumerate(texts)], tenant_id
    )
    rows = intake.read(
        "SELECT content, speaker, role, content_hash FROM messages ORDER BY source_message_id::int",
        tenant_id,
    )
    assert rows == [(text, speaker, role, ids.message_hash(role, speaker, text)) for text, speaker, role in texts]


def test_a_message_of_a_megabyte_is_stored_whole(intake: Intake) -> None:
    text = "".join(chr(0x4E00 + n % 20_000) for n in range(333_333))
    assert len(text.encode()) == 999_999
    intake.take([said("m1", text), *talk(3, "c2")])
    assert intake.contents()["m1"] == text
    assert intake.read("SELECT octet_length(content) FROM memories ORDER BY 1 DESC LIMIT 1") == [(1_000_004,)]


# -- at once --


def at_once(intake: Intake, tenant_id: UUID, *imports: Sequence[IncomingMessage], batch_messages: int) -> IngestReport:
    """Run imports at the same time, each on connections of its own; return the sum of their reports."""
    start = Barrier(len(imports))

    def run(messages: Sequence[IncomingMessage]) -> IngestReport:
        with Database(intake.urls.app_url) as app:
            own = Intake(intake.urls, app, intake.pipeline)
            start.wait(timeout=30)
            return own.take(messages, tenant_id, batch_messages=batch_messages)[0]

    with ThreadPoolExecutor(len(imports)) as pool:
        reports = [future.result() for future in [pool.submit(run, messages) for messages in imports]]
    return IngestReport(*(sum(values) for values in zip(*map(counts, reports), strict=True)))


@pytest.mark.parametrize("batch_messages", [7, 40])
def test_imports_of_the_same_messages_at_once_end_as_one_alone(intake: Intake, batch_messages: int) -> None:
    messages = [message for pair in zip(talk(60, "c1"), talk(60, "c2"), strict=True) for message in pair]
    alone = intake.tenant("alone")
    intake.take(messages, alone, batch_messages=batch_messages)
    together = intake.tenant("together")
    report = at_once(intake, together, messages, messages, messages, batch_messages=batch_messages)
    assert counts(report) == (120, 240, 0)
    assert intake.contents(together) == intake.contents(alone)
    assert len(intake.read("SELECT FROM memories", together)) == 120
    total = "SELECT sum((detail ->> 'messages')::int) FROM events"
    assert intake.read(total, together) == [(120,)]


def test_overlapping_imports_at_once_end_as_one_after_the_other(intake: Intake) -> None:
    first = [*talk(40, "c1"), *talk(40, "c2")]
    second = [*talk(40, "c2", first=20), *talk(40, "c1", first=20)]
    tenant_id = intake.tenant()
    report = at_once(intake, tenant_id, first, second[::-1], batch_messages=16)
    assert counts(report) == (120, 40, 0)
    assert len(intake.contents(tenant_id)) == 120
    before = intake.state(tenant_id)
    assert counts(intake.take([*first, *second], tenant_id)[0]) == (0, 160, 0)
    assert intake.state(tenant_id) == before


def test_imports_that_disagree_on_the_order_of_messages_do_not_fail_by_deadlock(intake: Intake) -> None:
    tenant_id = intake.tenant()
    intake.take(talk(1), tenant_id)  # the conversation is there, so nothing but messages makes the two wait

    def timed(step: int) -> list[IncomingMessage]:
        return [said(f"m{n}", f"turn {n}", sent_at=START + timedelta(hours=step * n)) for n in range(1000)]

    report = at_once(intake, tenant_id, timed(1), timed(-1), batch_messages=1000)
    assert counts(report) == (1000, 1000, 0)
    assert len(intake.contents(tenant_id)) == 1001


# -- half --


def test_a_writer_that_fails_leaves_whole_batches_and_its_error_surfaces(lone_intake: Intake) -> None:
    with psycopg.connect(lone_intake.urls.admin_url, options="-c search_path=memory") as connection:
        connection.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN IF NEW.content LIKE '%turn 33' THEN RAISE EXCEPTION 'disk full' USING ERRCODE = 'disk_full';"
            " END IF; RETURN NEW; END$$"
        )
        connection.execute("CREATE TRIGGER fail BEFORE INSERT ON memories FOR EACH ROW EXECUTE FUNCTION fail()")
    with pytest.raises(StoreUnavailableError, match="disk full"):
        lone_intake.take(talk(100), batch_messages=10)
    stored = {int(name.removeprefix("c1-")) for name in lone_intake.contents()}
    assert stored >= set(range(20))
    assert not stored & set(range(30, 40))
    assert all(set(range(n - n % 10, n - n % 10 + 10)) <= stored for n in stored)
    assert len(lone_intake.read("SELECT FROM memories")) == len(stored)
    assert lone_intake.read("SELECT sum((detail ->> 'messages')::int) FROM events") == [(len(stored),)]

    with psycopg.connect(lone_intake.urls.admin_url, options="-c search_path=memory") as connection:
        connection.execute("DROP TRIGGER fail ON memories")
    assert counts(lone_intake.take(talk(100), batch_messages=10)[0]) == (100 - len(stored), len(stored), 0)
    assert len(lone_intake.contents()) == 100


def test_an_importer_that_fails_leaves_whole_batches_and_its_error_surfaces(intake: Intake) -> None:
    def broken() -> Iterator[IncomingMessage]:
        yield from talk(25)
        raise MemoryPipelineError("the file ends in the middle of a record.")

    with pytest.raises(MemoryPipelineError, match="in the middle of a record"):
        intake.take(broken(), batch_messages=10)
    assert len(intake.contents()) == 20
    assert counts(intake.take(talk(25))[0]) == (5, 20, 0)


def test_progress_is_told_after_every_batch(intake: Intake) -> None:
    seen: list[int] = []
    tenant_id = intake.tenant()
    ingest(
        intake.app,
        tenant_id,
        UserDirectory(intake.app, tenant_id, USER),
        talk(25),
        actor="test",
        on_reject=lambda rejection: pytest.fail(f"{rejection}"),
        on_batch=lambda report: seen.append(report.seen),
        batch_messages=10,
    )
    assert seen == [10, 20, 25]

"""Taking messages in: conversations, their turns, and the events that tell of them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from memory_pipeline.model import ids
from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline.stores.postgres.messages import last_turns, message_days
from memory_pipeline_tests.serving.ingest.support import START, Intake, said, talk


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

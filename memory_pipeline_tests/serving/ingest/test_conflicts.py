"""Taking messages in: of several messages under one id the first is kept, and the others are refused by name."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline_tests.serving.ingest.support import START, USER, Intake, counts, said, tenant_numbers


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
    tenant_id = intake.tenant(f"example-{next(tenant_numbers)}")
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

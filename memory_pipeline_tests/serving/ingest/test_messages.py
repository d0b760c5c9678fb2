"""Taking messages in: episodes, users, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from memory_pipeline.model import ids
from memory_pipeline.model.records import IncomingMessage, Rejection, Role
from memory_pipeline_tests.serving.ingest.support import USER, Intake, counts, said, talk


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

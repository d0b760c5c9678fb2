"""Taking messages in: what was taken in before adds nothing, however batches are cut."""

from __future__ import annotations

from datetime import timedelta

import pytest

from memory_pipeline.serving import ingest as ingesting
from memory_pipeline_tests.serving.ingest.support import START, Intake, counts, said, talk


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

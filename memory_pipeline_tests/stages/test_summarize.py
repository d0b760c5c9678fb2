"""The summarize stage on real Postgres: one summary per user and week, resting on that user's own messages."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest

from memory_pipeline.model.errors import ProviderError
from memory_pipeline.model.records import Role, Turn
from memory_pipeline.model.window import DayWindow
from memory_pipeline.providers.extractive_summarizer import ExtractiveSummarizer
from memory_pipeline.stages.summarize import SummarizeReport, weeks_of
from memory_pipeline_tests.stages.support import (
    MARCH,
    ScriptedEnricher,
    World,
    at,
    day_window,
    draft,
    enrich,
    summarize,
)

WEEK = DayWindow(date(2026, 3, 2), date(2026, 3, 9))


class Told:
    """Answers with what it was told: every turn and fact. It rests on the turns with these indexes."""

    name = "told"
    version = "1"

    def __init__(self, *indexes: int) -> None:
        self._indexes = list(indexes)

    def summarize(self, turns: Sequence[Turn], facts: Sequence[str]) -> tuple[str, list[int]]:
        said = "; ".join(f"{turn.speaker}: {turn.content}" for turn in turns)
        return f"{said} | {'; '.join(facts)}", self._indexes


def run(speech: World, summarizer: Any = None, window: DayWindow = MARCH) -> SummarizeReport:
    return summarize(speech.database, summarizer or Told(), window)


def summaries(speech: World) -> dict[str, dict[str, Any]]:
    return {content: row for content, row in speech.memories("summary").items() if row["status"] == "active"}


def test_a_user_gets_one_summary_of_each_week_with_words_in_it(speech: World) -> None:
    speech.say("monday", at(2, 0))
    speech.say("sunday", at(8, 23, 59))
    speech.say("next monday", at(9, 0))
    speech.say("from the assistant", at(4), role=Role.ASSISTANT)
    report = run(speech)
    assert (report.weeks, report.summaries, report.changed, report.withdrawn) == (6, 2, 2, 0)
    found = summaries(speech)
    assert set(found) == {"Ana: monday; Ana: sunday | ", "Ana: next monday | "}
    first = found["Ana: monday; Ana: sunday | "]
    assert (first["day"], first["enricher"]) == (date(2026, 3, 2), "told@1")
    assert (first["valid_from"], first["valid_to"]) == (at(2, 0), at(9, 0))
    assert first["search_vector"]


def test_summarizing_twice_changes_nothing(speech: World) -> None:
    speech.say("a walk by the river", at(3))
    run(speech, ExtractiveSummarizer())
    before = speech.execute("SELECT memory_id, version, xmin::text FROM memories ORDER BY memory_id")
    again = run(speech, ExtractiveSummarizer())
    assert (again.summaries, again.changed, again.withdrawn) == (1, 0, 0)
    assert speech.execute("SELECT memory_id, version, xmin::text FROM memories ORDER BY memory_id") == before


def test_a_week_in_which_more_is_said_gets_a_new_version_of_its_summary(speech: World) -> None:
    speech.say("one", at(3))
    run(speech)
    [before] = summaries(speech).values()
    speech.say("two", at(4))
    assert run(speech).changed == 1
    [(content, after)] = summaries(speech).items()
    assert content == "Ana: one; Ana: two | "
    assert (after["memory_id"], after["version"]) == (before["memory_id"], 2)


def test_a_summary_rests_on_the_named_turns_and_on_the_messages_of_its_facts(speech: World) -> None:
    said = [speech.say(text, at(day)) for text, day in (("one", 3), ("two", 4), ("three", 5), ("four", 6))]
    enrich(speech.database, ScriptedEnricher({"three": [draft("Lisbon", statement="lives in Lisbon")]}), MARCH)
    run(speech, Told(1))
    [(content, summary)] = summaries(speech).items()
    assert content.endswith("| lives in Lisbon")
    assert summary["source_message_ids"] == [said[1], said[2]]
    assert summary["day"] == date(2026, 3, 4)


def test_a_summary_belongs_to_the_day_of_the_first_message_behind_it_be_it_a_facts(speech: World) -> None:
    said = [speech.say(text, at(day)) for text, day in (("one", 3), ("two", 4))]
    enrich(speech.database, ScriptedEnricher({"one": [draft("Lisbon")]}), MARCH)
    run(speech, Told(1))
    [summary] = summaries(speech).values()
    assert (summary["source_message_ids"], summary["day"]) == (said, date(2026, 3, 3))


def test_a_summary_that_names_no_turn_rests_on_all_unless_facts_are_behind_it(speech: World) -> None:
    said = [speech.say(text, at(day)) for text, day in (("one", 3), ("two", 4))]
    run(speech)
    assert [row["source_message_ids"] for row in summaries(speech).values()] == [said]
    enrich(speech.database, ScriptedEnricher({"two": [draft("Lisbon")]}), MARCH)
    run(speech)
    assert [row["source_message_ids"] for row in summaries(speech).values()] == [[said[1]]]


@pytest.mark.parametrize("index", [2, -1])
def test_a_turn_that_is_not_there_is_an_error_that_names_the_week(speech: World, index: int) -> None:
    speech.say("one", at(3))
    with pytest.raises(ProviderError, match=r"told .* 2026-03-02 .* only 1"):
        run(speech, Told(index))
    assert summaries(speech) == {}


def test_users_and_tenants_are_kept_apart(speech: World) -> None:
    for tenant, user in (("acme", "ana"), ("acme", "bob"), ("globex", "ana")):
        speech.say(f"I am {user} of {tenant}", at(3), user=user, tenant=tenant)
    enrich(
        speech.database,
        ScriptedEnricher(lambda turn: [draft(turn.content, slot=None, statement=f"fact: {turn.content}")]),
        MARCH,
    )
    run(speech)
    found = summaries(speech)
    assert len(found) == 3
    for content, row in found.items():
        [(message, owner, tenant)] = speech.execute(
            "SELECT content, user_id, tenant_id FROM messages WHERE message_id = %s", *row["source_message_ids"]
        )
        assert content == f"{row['content'].split(':')[0]}: {message} | fact: {message}"
        assert (row["user_id"], row["tenant_id"]) == (owner, tenant)


def test_withdrawn_facts_are_not_told_and_ended_ones_are(speech: World) -> None:
    speech.say("one", at(3))
    facts = [draft(place, slot=None, statement=place) for place in ("kept", "ended", "withdrawn", "failed")]
    enrich(speech.database, ScriptedEnricher({"one": facts}), MARCH)
    for name, status in (("ended", "superseded"), ("withdrawn", "deleted"), ("failed", "failed")):
        speech.execute("UPDATE memories SET status = %s, failure_text = 'x' WHERE content = %s", status, name)
    run(speech)
    [content] = summaries(speech)
    assert sorted(content.partition("| ")[2].split("; ")) == ["ended", "kept"]


# -- withdrawal --


def test_the_summary_of_a_week_whose_messages_are_gone_is_withdrawn_and_comes_back_with_them(speech: World) -> None:
    gone = speech.say("one", at(3))
    speech.say("two", at(3), user="bob")
    run(speech)
    speech.execute("UPDATE messages SET sent_at = sent_at + interval '7 days' WHERE message_id = %s", gone)
    assert run(speech, window=WEEK).withdrawn == 1
    row = speech.memories("summary")["Ana: one | "]
    assert (row["status"], row["version"]) == ("deleted", 2)
    assert set(summaries(speech)) == {"Bob: two | "}
    assert run(speech, window=WEEK).withdrawn == 0
    speech.execute("UPDATE messages SET sent_at = sent_at - interval '7 days' WHERE message_id = %s", gone)
    assert run(speech, window=WEEK).changed == 1
    row = speech.memories("summary")["Ana: one | "]
    assert (row["status"], row["version"], row["raw_data"]) == ("active", 3, {})


class _Silent(Told):
    def summarize(self, turns: Sequence[Turn], facts: Sequence[str]) -> tuple[str, list[int]]:
        return "", []


def test_a_week_with_nothing_worth_a_summary_has_none(speech: World) -> None:
    speech.say("one", at(3))
    run(speech)
    report = run(speech, _Silent())
    assert (report.summaries, report.withdrawn) == (0, 1)
    assert summaries(speech) == {}


def test_a_summary_that_a_person_deleted_stays_deleted(speech: World) -> None:
    speech.say("one", at(3))
    run(speech)
    speech.execute("UPDATE memories SET status = 'deleted' WHERE kind = 'summary'")
    speech.say("two", at(4))
    assert run(speech).changed == 0
    assert summaries(speech) == {}


def test_a_summary_in_the_dead_letters_stays_there_until_it_says_something_else(speech: World) -> None:
    speech.say("one", at(3))
    run(speech)
    speech.execute("UPDATE memories SET status = 'failed', failure_text = 'too long' WHERE kind = 'summary'")
    assert run(speech).changed == 0
    speech.say("two", at(4))
    assert run(speech).changed == 1
    [row] = summaries(speech).values()
    assert row["failure_text"] is None


# -- weeks --


def test_a_week_across_the_end_of_a_year_is_one(speech: World) -> None:
    speech.say("old year", datetime(2025, 12, 31, 23, 59, tzinfo=UTC))
    speech.say("new year", datetime(2026, 1, 1, tzinfo=UTC))
    run(speech, window=DayWindow(date(2026, 1, 1), date(2026, 1, 2)))
    [(content, row)] = summaries(speech).items()
    assert content == "Ana: old year; Ana: new year | "
    assert row["valid_from"] == datetime(2025, 12, 29, tzinfo=UTC)


def test_a_window_covers_every_week_it_touches() -> None:
    mondays = [week.start.day for week in weeks_of(DayWindow(date(2026, 3, 8), date(2026, 3, 17)))]
    assert mondays == [2, 9, 16]
    assert [week.start.day for week in weeks_of(WEEK)] == [2]
    assert list(weeks_of(DayWindow(WEEK.start, WEEK.start))) == []
    assert all(week.end.toordinal() - week.start.toordinal() == 7 for week in weeks_of(MARCH))


def test_summarizers_at_once_end_in_the_same_summaries(speech: World) -> None:
    for number in range(30):
        speech.say(f"number {number}", at(2 + number % 20, 12, number), user=f"user{number % 5}")
    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(run, speech) for _ in range(3)]:
            done.result()
    once = {content: row["version"] for content, row in summaries(speech).items()}
    assert set(once.values()) == {1}
    assert run(speech).changed == 0
    assert set(summaries(speech)) == set(once)


def test_one_week_of_many_users_is_not_held_in_memory(speech: World) -> None:
    speech.say("x", at(3))
    speech.execute(
        "INSERT INTO users (tenant_id, email, display_name)"
        " SELECT tenant_id, n || '@acme.test', 'U' || n FROM tenants, generate_series(1, 60) AS n"
    )
    speech.execute(
        "INSERT INTO messages (tenant_id, message_id, conversation_id, user_id, source, source_message_id, role,"
        " content, content_hash, sent_at, position)"
        " SELECT m.tenant_id, gen_random_uuid(), conversation_id, u.user_id, source, u.email || n, role,"
        " repeat('x', 10000), content_hash, sent_at, n"
        " FROM messages m, users u, generate_series(1, 100) AS n WHERE u.email <> 'ana@acme.test'"
    )
    tracemalloc.start()
    try:
        report = run(speech, _Counts(), day_window(3))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report.summaries == 61
    assert peak < 15_000_000  # all of them are 60 MB


class _Counts(Told):
    def summarize(self, turns: Sequence[Turn], facts: Sequence[str]) -> tuple[str, list[int]]:
        return f"{turns[0].speaker} said {len(turns)} things", []


def test_sources_are_messages_that_exist(speech: World) -> None:
    for number in range(40):
        speech.say(
            f"I went to place number {number} and enjoyed it", at(2 + number % 7, 9, number), user=f"u{number % 3}"
        )
    run(speech, ExtractiveSummarizer())
    for row in summaries(speech).values():
        owners: set[UUID] = {
            owner
            for (owner,) in speech.execute(
                "SELECT user_id FROM messages WHERE message_id = ANY (%s)", row["source_message_ids"]
            )
        }
        assert owners == {row["user_id"]}
        assert len(set(row["source_message_ids"])) == len(row["source_message_ids"])


SUMMARIZER = "summarizer:extractive"


def test_summaries_of_a_tenant_that_does_not_permit_the_summarizer_stay_as_they_are_until_it_does(
    speech: World,
) -> None:
    speech.say("one", at(3))
    speech.say("theirs", at(3), tenant="globex")
    run(speech)
    globex = speech.tenant("globex")
    speech.uninstall(SUMMARIZER, "globex")
    speech.say("two", at(4))
    speech.say("theirs again", at(4), tenant="globex")
    report = run(speech)
    assert (report.summaries, report.changed, report.withdrawn, report.refused_tenants) == (1, 1, 0, [globex])
    assert set(summaries(speech)) == {"Ana: one; Ana: two | ", "Ana: theirs | "}
    assert speech.refusals() == [(globex, "stage:summarize", SUMMARIZER)]
    assert run(speech, window=DayWindow(date(2026, 3, 16), date(2026, 3, 23))).refused_tenants == []
    speech.install(SUMMARIZER, "globex")
    report = run(speech)
    assert (report.summaries, report.changed, report.refused_tenants) == (2, 1, [])
    assert set(summaries(speech)) == {"Ana: one; Ana: two | ", "Ana: theirs; Ana: theirs again | "}

"""The enrich stage on real Postgres: what becomes of facts and messages, whatever the enricher does."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from memory_pipeline.model.errors import ProviderError, ProviderUnavailableError
from memory_pipeline.model.records import FactDraft, Role, Turn
from memory_pipeline.providers.local_enricher.enricher import LocalEnricher
from memory_pipeline_tests.stages.support import MARCH, ScriptedEnricher, World, at, day_window, draft, enrich

LISBON = draft("Lisbon")
COFFEE = draft("coffee", "likes", slot="preference:coffee")


def test_a_message_becomes_facts_that_name_it(speech: World) -> None:
    message = speech.say("I live in Lisbon.", at(5))
    report = enrich(speech.database, LocalEnricher(), MARCH)
    assert (report.messages, report.facts_written, report.failed) == (1, 1, 0)
    fact = speech.memories("fact")["Ana lives in Lisbon."]
    assert fact["source_message_ids"] == [message]
    assert (fact["status"], fact["enricher"], fact["day"]) == ("active", "local@1", at(5).date())
    assert (fact["subject"], fact["predicate"], fact["object"]) == ("Ana", "lives_in", "Lisbon")
    assert speech.statuses("episode") == {"Ana: I live in Lisbon.": "active"}


def test_a_second_enrichment_finds_nothing_to_do(speech: World) -> None:
    for place in ("Lisbon", "Porto", "Berlin"):
        speech.say(f"I moved to {place}.")
    enrich(speech.database, LocalEnricher(), MARCH)
    before = speech.execute("SELECT memory_id, version, status, xmin::text FROM memories ORDER BY memory_id")
    again = enrich(speech.database, LocalEnricher(), MARCH)
    assert (again.messages, again.facts_written, again.facts_withdrawn) == (0, 0, 0)
    assert speech.execute("SELECT memory_id, version, status, xmin::text FROM memories ORDER BY memory_id") == before


def test_what_the_assistant_says_gives_no_facts_but_is_remembered(speech: World) -> None:
    speech.say("I live in Lisbon.", role=Role.ASSISTANT)
    enrich(speech.database, LocalEnricher(), MARCH)
    assert speech.statuses() == {"Assistant: I live in Lisbon.": "active"}


def test_a_window_touches_its_days_alone(speech: World) -> None:
    for day in (4, 5, 6):
        speech.say(f"I moved to City{day}.", at(day, 23, 59))
    enrich(speech.database, LocalEnricher(), day_window(5))
    assert speech.statuses("episode") == {
        "Ana: I moved to City4.": "pending_enrichment",
        "Ana: I moved to City5.": "active",
        "Ana: I moved to City6.": "pending_enrichment",
    }
    assert set(speech.memories("fact")) == {"Ana moved to City5."}


def _raise(error: Exception) -> Callable[[Turn], list[FactDraft]]:
    def answer(turn: Turn) -> list[FactDraft]:
        if turn.content == "bad":
            raise error
        return [draft(turn.content, statement=f"says {turn.content}")]

    return answer


@pytest.mark.parametrize(
    ("error", "failure_class", "failure_text"),
    [
        (ValueError("no such word"), "ValueError", "no such word"),
        (KeyError("x"), "KeyError", "'x'"),
        (RuntimeError(), "RuntimeError", "no text"),
        (ProviderError("the answer was no JSON"), "ProviderError", "the answer was no JSON"),
        (ValueError("a \0 and \ud800"), "ValueError", "a \N{REPLACEMENT CHARACTER} and ?"),
    ],
)
def test_a_message_that_the_enricher_chokes_on_fails_alone(
    speech: World, error: Exception, failure_class: str, failure_text: str
) -> None:
    for text in ("one", "bad", "two"):
        speech.say(text)
    report = enrich(speech.database, ScriptedEnricher(_raise(error)), MARCH)
    assert (report.messages, report.failed) == (2, 1)
    episodes = speech.memories("episode")
    assert episodes["Ana: bad"]["status"] == "failed"
    assert episodes["Ana: bad"]["failure_class"] == failure_class
    assert episodes["Ana: bad"]["failure_text"] == failure_text
    assert (episodes["Ana: bad"]["attempts"], episodes["Ana: bad"]["version"]) == (1, 2)
    assert {episodes[name]["status"] for name in ("Ana: one", "Ana: two")} == {"active"}
    assert set(speech.memories("fact")) == {"says one", "says two"}


def test_a_message_that_failed_is_not_read_again_by_itself(speech: World) -> None:
    speech.say("bad")
    enricher = ScriptedEnricher(_raise(ValueError("no")))
    enrich(speech.database, enricher, MARCH)
    assert enrich(speech.database, enricher, MARCH).failed == 0
    assert enricher.asked == ["bad"]


@pytest.mark.parametrize(
    ("unstorable", "reason"),
    [
        ({"statement": "a \0"}, "NUL"),
        ({"statement": "half \ud800"}, "surrogate"),
        ({"subject": ""}, "the subject is empty"),
        ({"confidence": 1.5}, "confidence 1.5"),
        ({"confidence": float("nan")}, "confidence nan"),
        ({"valid_from": datetime(2026, 3, 1)}, "no time zone"),  # noqa: DTZ001 - that is the point
        ({"valid_from": at(5), "valid_to": at(5) - timedelta(microseconds=1)}, "ends before it begins"),
    ],
)
def test_a_fact_that_cannot_be_stored_fails_its_message_alone(
    speech: World, unstorable: dict[str, Any], reason: str
) -> None:
    speech.say("good")
    speech.say("bad")
    answers = {"good": [LISBON], "bad": [COFFEE, draft("Rome", **unstorable)]}
    report = enrich(speech.database, ScriptedEnricher(answers), MARCH)
    assert (report.messages, report.failed) == (1, 1)
    assert reason in speech.memories("episode")["Ana: bad"]["failure_text"]
    assert set(speech.memories("fact")) == {LISBON.statement}


def test_an_unavailable_enricher_leaves_its_batch_pending_and_keeps_the_ones_before(speech: World) -> None:
    def answer(turn: Turn) -> list[FactDraft]:
        if turn.content == "3":
            raise ProviderUnavailableError("the endpoint is away")
        return [draft(turn.content)]

    for number in range(6):
        speech.say(str(number), at(2, 12, number))
    with pytest.raises(ProviderUnavailableError, match="the endpoint is away"):
        enrich(speech.database, ScriptedEnricher(answer), MARCH, batch_episodes=2)
    statuses = speech.statuses("episode")
    assert [statuses[f"Ana: {number}"] for number in range(6)] == ["active"] * 2 + ["pending_enrichment"] * 4
    assert len(speech.memories("fact")) == 2
    report = enrich(speech.database, ScriptedEnricher({}), MARCH)
    assert report.messages == 4
    assert set(speech.statuses("episode").values()) == {"active"}


def test_a_new_version_reads_again_withdraws_revives_and_leaves_equal_facts_alone(speech: World) -> None:
    speech.say("I said things")
    better = draft("Lisbon", statement="Ana lives in Lisbon since 2020")

    def read(version: str, *facts: FactDraft) -> tuple[int, int]:
        report = enrich(speech.database, ScriptedEnricher({"I said things": facts}, version), MARCH)
        assert report.messages == 1
        return report.facts_written, report.facts_withdrawn

    assert read("1", LISBON, COFFEE) == (2, 0)
    assert read("2", LISBON) == (0, 1)
    facts = speech.memories("fact")
    assert (facts[LISBON.statement]["version"], facts[LISBON.statement]["enricher"]) == (1, "scripted@1")
    assert (facts[COFFEE.statement]["status"], facts[COFFEE.statement]["version"]) == ("deleted", 2)
    assert read("3", LISBON) == (0, 0)
    assert speech.memories("fact")[COFFEE.statement]["version"] == 2
    assert read("4", better, COFFEE) == (2, 0)
    facts = speech.memories("fact")
    assert set(facts) == {better.statement, COFFEE.statement}
    assert (facts[better.statement]["version"], facts[better.statement]["status"]) == (2, "active")
    assert (facts[COFFEE.statement]["version"], facts[COFFEE.statement]["status"]) == (3, "active")
    assert facts[COFFEE.statement]["raw_data"] == {}
    assert set(speech.versions().values()) == {1, 2, 3}


def test_a_fact_that_a_person_deleted_stays_deleted_whatever_is_found_later(speech: World) -> None:
    speech.say("I said things")
    enrich(speech.database, ScriptedEnricher({"I said things": [LISBON]}), MARCH)
    speech.execute("UPDATE memories SET status = 'deleted', version = 2 WHERE kind = 'fact'")
    other = draft("Lisbon", statement="Ana lives in Lisbon now")
    report = enrich(speech.database, ScriptedEnricher({"I said things": [other]}, "2"), MARCH)
    assert report.facts_written == 0
    assert speech.statuses("fact") == {LISBON.statement: "deleted"}


def test_two_plugins_do_not_withdraw_each_others_facts(speech: World) -> None:
    speech.say("I said things")
    enrich(speech.database, ScriptedEnricher({"I said things": [LISBON]}), MARCH)
    other = ScriptedEnricher({})
    other.name = "other"
    assert enrich(speech.database, other, MARCH).facts_withdrawn == 0
    assert speech.statuses("fact") == {LISBON.statement: "active"}


def test_a_fact_found_twice_in_a_message_is_one(speech: World) -> None:
    speech.say("twice")
    assert enrich(speech.database, ScriptedEnricher({"twice": [LISBON, LISBON]}), MARCH).facts_written == 1


def test_enrichers_at_once_read_each_message_once(speech: World) -> None:
    for number in range(120):
        speech.say(f"I moved to City{number}.", at(1 + number % 9, 12, number // 9))
    together = threading.Barrier(3)
    local = LocalEnricher()
    enricher = ScriptedEnricher(local.enrich)

    def run() -> int:
        together.wait()
        return enrich(speech.database, enricher, MARCH, batch_episodes=7).messages

    with ThreadPoolExecutor(3) as threads:
        read = sum(run.result() for run in [threads.submit(run) for _ in range(3)])
    assert read == 120
    assert sorted(enricher.asked) == sorted(f"I moved to City{number}." for number in range(120))
    assert set(speech.statuses("episode").values()) == {"active"}
    assert len(speech.memories("fact")) == 120


def test_a_message_of_100_kilobytes_is_read_and_found_by_its_words(speech: World) -> None:
    filler = " ".join(f"word{number}" for number in range(11_000))
    speech.say(f"I live in Lisbon. {filler}")
    enrich(speech.database, LocalEnricher(), MARCH)
    assert set(speech.memories("fact")) == {"Ana lives in Lisbon."}
    found = speech.execute("SELECT count(*) FROM memories WHERE search_vector @@ to_tsquery('english', 'word5000')")
    assert found == [(1,)]


def test_long_messages_are_taken_in_small_batches_so_that_memory_stays_flat(speech: World) -> None:
    speech.say("x", at(1))
    speech.execute(
        "INSERT INTO messages (tenant_id, message_id, conversation_id, user_id, source, source_message_id, role,"
        " speaker, content, content_hash, sent_at, position)"
        " SELECT tenant_id, gen_random_uuid(), conversation_id, user_id, source, 'big' || n, role,"
        " speaker, repeat('x', 1000000), content_hash, sent_at + n * interval '1 s', n"
        " FROM messages, generate_series(1, 100) AS n"
    )
    speech.execute(
        "INSERT INTO memories (tenant_id, memory_id, user_id, kind, status, content, content_hash, day,"
        " source_message_ids)"
        " SELECT tenant_id, gen_random_uuid(), user_id, 'episode', 'pending_enrichment', content, content_hash,"
        " '2026-03-01', ARRAY[message_id] FROM messages WHERE source_message_id LIKE 'big%%'"
    )
    enricher = ScriptedEnricher(lambda _turn: [])
    enricher.asked = _Forgetful()
    tracemalloc.start()
    try:
        report = enrich(speech.database, enricher, MARCH)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report.messages == 101
    assert peak < 60_000_000  # all of them are 100 MB


class _Forgetful(list[str]):
    def append(self, _text: str) -> None:
        pass


def test_a_run_that_holds_messages_does_not_keep_another_from_the_rest(speech: World) -> None:
    for number in range(4):
        speech.say(str(number), at(2) + timedelta(minutes=number))
    with speech.database.transaction() as connection:
        connection.execute("SELECT FROM memories WHERE content = 'Ana: 1' FOR NO KEY UPDATE")
        assert enrich(speech.database, ScriptedEnricher({}), MARCH).messages == 3
    assert speech.statuses("episode")["Ana: 1"] == "pending_enrichment"
    assert enrich(speech.database, ScriptedEnricher({}), MARCH).messages == 1


# -- plugins --

ENRICHER = "enricher:local"


def test_messages_of_a_tenant_that_does_not_permit_the_enricher_stay_pending_until_it_does(speech: World) -> None:
    speech.say("I live in Lisbon.")
    speech.say("I live in Porto.", tenant="globex")
    speech.tenant("initech")  # does not permit it either, but has nothing to read
    globex = speech.tenant("globex")
    for tenant in ("globex", "initech"):
        speech.uninstall(ENRICHER, tenant)
    enricher = ScriptedEnricher(LocalEnricher().enrich)
    report = enrich(speech.database, enricher, MARCH)
    assert (report.messages, report.failed, report.refused_tenants) == (1, 0, [globex])
    assert enricher.asked == ["I live in Lisbon."]
    assert speech.statuses("episode") == {
        "Ana: I live in Lisbon.": "active",
        "Ana: I live in Porto.": "pending_enrichment",
    }
    assert speech.refusals() == [(globex, "stage:enrich", ENRICHER)]
    assert enrich(speech.database, enricher, day_window(9)).refused_tenants == []
    speech.install(ENRICHER, "globex")
    report = enrich(speech.database, enricher, MARCH)
    assert (report.messages, report.refused_tenants) == (1, [])
    assert set(speech.memories("fact")) == {"Ana lives in Lisbon.", "Ana lives in Porto."}
    assert len(speech.refusals()) == 1


@pytest.mark.parametrize(
    "barrier",
    [
        "UPDATE plugin_registry SET enabled = {} WHERE plugin = 'enricher:local'",
        "UPDATE role_permissions SET role = CASE WHEN {} THEN 'pipeline' ELSE 'reader' END"
        " WHERE permission = 'plugins:run:enricher:local' AND role IN ('pipeline', 'reader')",
    ],
)
def test_a_plugin_that_is_disabled_or_denied_to_the_stages_reads_for_nobody(speech: World, barrier: str) -> None:
    speech.say("one")
    speech.say("two", tenant="globex")
    speech.execute(barrier.format("false"))
    try:
        report = enrich(speech.database, ScriptedEnricher({}), MARCH)
    finally:
        speech.execute(barrier.format("true"))
    assert report.messages == 0
    assert set(report.refused_tenants) == {speech.tenant(), speech.tenant("globex")}
    assert enrich(speech.database, ScriptedEnricher({}), MARCH).messages == 2


def test_a_permission_that_ends_during_a_run_ends_the_reading(speech: World) -> None:
    def answer(_turn: Turn) -> list[FactDraft]:
        speech.uninstall(ENRICHER)
        return []

    for number in range(3):
        speech.say(str(number))
    enricher = ScriptedEnricher(answer)
    assert enrich(speech.database, enricher, MARCH, batch_episodes=1).messages == 1
    assert enricher.asked == ["0"]
    assert sorted(speech.statuses("episode").values()) == ["active", "pending_enrichment", "pending_enrichment"]


def test_no_plugin_runs_under_a_name_that_is_not_registered(speech: World) -> None:
    speech.say("one")
    report = enrich(speech.database, ScriptedEnricher({}), MARCH, plugin="enricher:unheard-of")
    assert (report.messages, report.refused_tenants) == (0, [speech.tenant()])

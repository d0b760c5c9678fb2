"""The relate stage on real Postgres: which facts hold, until when, and what ended them, in whatever order they came."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory_pipeline.model.errors import BusyError
from memory_pipeline.model.records import FactDraft
from memory_pipeline.providers.local_enricher.enricher import LocalEnricher
from memory_pipeline.stages.relate import relate
from memory_pipeline.stores.postgres import due
from memory_pipeline_tests.stages.support import MARCH, ScriptedEnricher, World, at, day_window, draft, enrich

State = dict[str, tuple[str, str | None, datetime | None]]
"""Status, what ended it and valid_to of every fact, by its content."""


def state(speech: World) -> State:
    return {
        content: (status, ender, valid_to)
        for content, status, ender, valid_to in speech.execute(
            "SELECT f.content, f.status, e.content, f.valid_to FROM memories f"
            " LEFT JOIN memories e ON e.tenant_id = f.tenant_id AND e.memory_id = f.superseded_by"
            " WHERE f.kind = 'fact'"
        )
    }


def remember(speech: World, *drafts: FactDraft, tenant: str = "acme", user: str = "ana") -> None:
    """Each draft as found in a message of its own, said when the fact begins, and related."""
    for fact in drafts:
        speech.say(fact.statement, fact.valid_from, tenant=tenant, user=user)
    enrich(speech.database, ScriptedEnricher({fact.statement: [fact] for fact in drafts}), MARCH)
    relate(speech.database, MARCH)


def lives(place: str, day: int, *, negated: bool = False, until: datetime | None = None) -> FactDraft:
    statement = f"{'not ' if negated else ''}{place} {day}"
    return draft(place, valid_from=at(day), valid_to=until, negated=negated, statement=statement)


def taste(thing: str, day: int, predicate: str = "likes", *, negated: bool = False) -> FactDraft:
    statement = f"{'not ' if negated else ''}{predicate} {thing} {day}"
    return draft(thing, predicate, slot="preference:coffee", valid_from=at(day), negated=negated, statement=statement)


# -- what ends what --


def test_moving_there_and_back_gives_three_intervals(speech: World) -> None:
    speech.say("I live in Lisbon.", at(2))
    speech.say("I moved to Berlin.", at(10))
    speech.say("I moved to Lisbon.", at(20))
    enrich(speech.database, LocalEnricher(), MARCH)
    report = relate(speech.database, MARCH)
    assert (report.facts_changed, report.relations_written) == (2, 2)
    assert state(speech) == {
        "Ana lives in Lisbon.": ("superseded", "Ana moved to Berlin.", at(10)),
        "Ana moved to Berlin.": ("superseded", "Ana moved to Lisbon.", at(20)),
        "Ana moved to Lisbon.": ("active", None, None),
    }
    assert speech.relations() == {
        ("Ana moved to Berlin.", "supersedes", "Ana lives in Lisbon."),
        ("Ana moved to Lisbon.", "supersedes", "Ana moved to Berlin."),
    }


def test_relating_twice_changes_nothing(speech: World) -> None:
    remember(speech, lives("Lisbon", 2), lives("Berlin", 3), lives("Berlin", 4))
    before = speech.execute("SELECT memory_id, version, xmin::text FROM memories ORDER BY memory_id")
    again = relate(speech.database, MARCH)
    assert (again.facts_changed, again.relations_written) == (0, 0)
    assert speech.execute("SELECT memory_id, version, xmin::text FROM memories ORDER BY memory_id") == before


def test_the_same_again_supports_the_first_and_is_ended_with_it(speech: World) -> None:
    remember(speech, lives("Lisbon", 2), lives("lisbon", 3), lives("Lisbon", 4), lives("Porto", 5))
    assert state(speech) == {
        **{f"{place}": ("superseded", "Porto 5", at(5)) for place in ("Lisbon 2", "lisbon 3", "Lisbon 4")},
        "Porto 5": ("active", None, None),
    }
    assert speech.relations() == {
        ("lisbon 3", "supports", "Lisbon 2"),
        ("Lisbon 4", "supports", "Lisbon 2"),
        *(("Porto 5", "supersedes", place) for place in ("Lisbon 2", "lisbon 3", "Lisbon 4")),
    }


def test_a_denial_of_another_place_does_not_end_where_someone_lives(speech: World) -> None:
    speech.say("I live in Paris.", at(2))
    speech.say("I moved to Lisbon.", at(5))
    speech.say("I don't live in Paris anymore.", at(8))
    enrich(speech.database, LocalEnricher(), MARCH)
    relate(speech.database, MARCH)
    assert state(speech) == {
        "Ana lives in Paris.": ("superseded", "Ana moved to Lisbon.", at(5)),
        "Ana moved to Lisbon.": ("active", None, None),
        "Ana no longer lives in Paris.": ("active", None, None),
    }


def test_a_denial_ends_what_it_denies_and_is_ended_by_its_return(speech: World) -> None:
    remember(speech, lives("Paris", 2), lives("paris", 4, negated=True), lives("Rome", 6), lives("Paris", 8))
    assert state(speech) == {
        "Paris 2": ("superseded", "not paris 4", at(4)),
        "not paris 4": ("superseded", "Paris 8", at(8)),
        "Rome 6": ("superseded", "Paris 8", at(8)),
        "Paris 8": ("active", None, None),
    }


def test_a_preference_ends_where_it_is_denied_or_turned_round_however_it_is_worded(speech: World) -> None:
    remember(speech, taste("drinking coffee", 2), taste("Coffee", 4, negated=True))
    assert state(speech)["likes drinking coffee 2"] == ("superseded", "not likes Coffee 4", at(4))
    remember(speech, taste("coffee", 6), taste("the coffee", 8, "dislikes"))
    assert state(speech)["likes coffee 6"] == ("superseded", "dislikes the coffee 8", at(8))


def test_liking_and_drinking_the_same_thing_support_each_other(speech: World) -> None:
    remember(speech, taste("coffee", 2), taste("coffee every day", 4, "consumes"))
    assert {status for status, _, _ in state(speech).values()} == {"active"}
    assert speech.relations() == {("consumes coffee every day 4", "supports", "likes coffee 2")}


def test_not_liking_and_disliking_support_each_other(speech: World) -> None:
    remember(speech, taste("coffee", 2, negated=True), taste("coffee", 4, "dislikes"))
    assert speech.relations() == {("dislikes coffee 4", "supports", "not likes coffee 2")}


def test_another_favourite_of_a_kind_takes_the_place_of_the_first(speech: World) -> None:
    first = draft("blue", "favourite", slot="favourite:colour", valid_from=at(2))
    second = draft("green", "favourite", slot="favourite:colour", valid_from=at(3))
    remember(speech, first, second)
    assert state(speech)[first.statement] == ("superseded", second.statement, at(3))


def test_a_stated_end_is_kept_and_an_earlier_ending_comes_before_it(speech: World) -> None:
    remember(speech, lives("Rome", 2, until=at(20)))
    assert state(speech)["Rome 2"] == ("active", None, at(20))
    remember(speech, lives("Berlin", 10))
    assert state(speech)["Rome 2"] == ("superseded", "Berlin 10", at(10))
    remember(speech, lives("Oslo", 12, until=at(14)), lives("Bonn", 16))
    assert state(speech)["Oslo 12"] == ("superseded", "Bonn 16", at(14))


def test_facts_without_a_slot_stand_beside_each_other(speech: World) -> None:
    first, second = (
        draft(place, "visited", slot=None, valid_from=at(day)) for day, place in ((2, "Rome"), (3, "Oslo"))
    )
    remember(speech, first, second)
    assert {status for status, _, _ in state(speech).values()} == {"active"}
    assert speech.relations() == set()


def test_slots_of_other_tenants_users_and_subjects_are_not_touched(speech: World) -> None:
    remember(speech, lives("Lisbon", 2))
    before = speech.versions()
    remember(speech, lives("Berlin", 3), user="bob")
    remember(speech, lives("Porto", 4), tenant="globex")
    remember(speech, draft("Rome", valid_from=at(5), subject="Ana's sister"))
    assert {status for status, _, _ in state(speech).values()} == {"active"}
    assert speech.versions().items() >= before.items()


# -- when facts come and go --


def test_a_fact_of_another_day_is_ended_by_relating_the_new_day_alone(speech: World) -> None:
    remember(speech, lives("Lisbon", 2))
    speech.say("Berlin 20", at(20))
    enrich(speech.database, ScriptedEnricher({"Berlin 20": [lives("Berlin", 20)]}), day_window(20))
    relate(speech.database, day_window(20))
    assert state(speech)["Lisbon 2"] == ("superseded", "Berlin 20", at(20))


def test_a_withdrawn_fact_leaves_its_neighbours_as_if_it_had_never_been(speech: World) -> None:
    drafts = [lives("Lisbon", 2), lives("Berlin", 5), lives("Lisbon", 8)]
    remember(speech, *drafts)
    answers = {fact.statement: [fact] for fact in drafts if fact.object == "Lisbon"}
    enrich(speech.database, ScriptedEnricher(answers, "2"), day_window(5))
    relate(speech.database, day_window(5))
    assert state(speech)["Lisbon 2"] == state(speech)["Lisbon 8"] == ("active", None, None)
    assert state(speech)["Berlin 5"][0] == "deleted"
    assert speech.relations() == {("Lisbon 8", "supports", "Lisbon 2")}
    enrich(speech.database, ScriptedEnricher({"Berlin 5": [drafts[1]]}, "3"), day_window(5))
    relate(speech.database, day_window(5))
    assert state(speech) == {
        "Lisbon 2": ("superseded", "Berlin 5", at(5)),
        "Berlin 5": ("superseded", "Lisbon 8", at(8)),
        "Lisbon 8": ("active", None, None),
    }


def test_a_fact_that_a_new_version_puts_into_another_slot_lets_go_of_the_first(speech: World) -> None:
    remember(speech, lives("Lisbon", 2), lives("Berlin", 5), lives("Berlin", 6))
    moved = draft("Berlin", slot="works_in", valid_from=at(5), statement="works in Berlin 5")
    enrich(speech.database, ScriptedEnricher({"Berlin 5": [moved]}, "2"), day_window(5))
    relate(speech.database, day_window(5))
    found = state(speech)
    assert found["Lisbon 2"] == ("superseded", "Berlin 6", at(6))
    assert found["works in Berlin 5"] == found["Berlin 6"] == ("active", None, None)
    assert speech.relations() == {("Berlin 6", "supersedes", "Lisbon 2")}


def test_relating_does_not_bring_back_a_fact_that_was_deleted_meanwhile(speech: World) -> None:
    remember(speech, lives("Lisbon", 2), lives("Berlin", 5))
    speech.execute("UPDATE memories SET status = 'deleted' WHERE content = 'Lisbon 2'")
    relate(speech.database, MARCH)
    assert state(speech)["Lisbon 2"][0] == "deleted"
    assert speech.relations() == set()


def test_relating_and_enriching_at_once_end_in_one_state(speech: World) -> None:
    drafts = [lives(place, day) for day, place in zip(range(2, 28), itertools.cycle(("Lisbon", "Berlin", "Rome")))]
    for fact in drafts:
        speech.say(fact.statement, fact.valid_from)
    answers = {fact.statement: [fact] for fact in drafts}

    def run(days: Sequence[int]) -> None:
        for version in ("1", "2"):
            for day in days:
                enrich(speech.database, ScriptedEnricher(answers, version), day_window(day))
                relate(speech.database, day_window(day))

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(run, days) for days in (range(2, 28), range(27, 1, -1), range(2, 28, 2))]:
            done.result()
    assert state(speech) == expected([Said(fact, fact.valid_from) for fact in drafts])[0]


# -- any facts, in any order --


class Said(NamedTuple):
    fact: FactDraft
    sent_at: datetime


def expected(said: Iterable[Said]) -> tuple[State, set[tuple[str, str, str]]]:
    """What should come out, worked out pair by pair from the rule as told in FactDraft."""
    facts = sorted((fact for fact, _ in said), key=lambda fact: fact.valid_from)
    states: State = {}
    relations = set()
    firsts: dict[tuple[str | None, str, bool, str | None], str] = {}
    for place, fact in enumerate(facts):
        ender = next((later for later in facts[place + 1 :] if _ends(later, fact)), None)
        ends = [moment for moment in (fact.valid_to, ender and ender.valid_from) if moment]
        states[fact.statement] = (
            "superseded" if ender else "active",
            ender.statement if ender else None,
            min(ends, default=None),
        )
        key = (fact.slot, _value(fact), _denies(fact), ender.statement if ender else None)
        first = firsts.setdefault(key, fact.statement)
        if first != fact.statement:
            relations.add((fact.statement, "supports", first))
        if ender:
            relations.add((ender.statement, "supersedes", fact.statement))
    return states, relations


def _ends(later: FactDraft, fact: FactDraft) -> bool:
    if later.slot != fact.slot:
        return False
    if _value(later) == _value(fact):
        return _denies(later) != _denies(fact)
    return not _denies(later) and not _denies(fact)


def _value(fact: FactDraft) -> str:
    return "" if fact.slot == "preference:coffee" else fact.object.lower()


def _denies(fact: FactDraft) -> bool:
    return fact.negated != (fact.predicate == "dislikes")


_START = datetime(2026, 3, 3, tzinfo=UTC)
_KINDS = st.one_of(
    st.tuples(st.just("lives_in"), st.just("lives_in"), st.sampled_from(("Lisbon", "lisbon", "Berlin", "Rome"))),
    st.tuples(
        st.just("preference:coffee"), st.sampled_from(("likes", "dislikes")), st.sampled_from(("coffee", "a coffee"))
    ),
)


@st.composite
def _said(draw: st.DrawFn) -> list[Said]:
    """Facts with distinct beginnings, said on any of four days."""
    hours = draw(st.lists(st.integers(0, 24 * 20), min_size=1, max_size=9, unique=True))
    said = []
    for number, hour in enumerate(hours):
        slot, predicate, object_ = draw(_KINDS)
        begins = _START + timedelta(hours=hour)
        ends = draw(st.none() | st.integers(1, 400))
        fact = draft(
            object_,
            predicate,
            slot=slot,
            negated=draw(st.booleans()),
            valid_from=begins,
            valid_to=None if ends is None else begins + timedelta(hours=ends),
            statement=f"fact {number}",
        )
        said.append(Said(fact, at(draw(st.integers(5, 8)), 12, number)))
    return said


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(said=_said(), data=st.data())
def test_one_state_comes_out_in_whatever_order_and_portions_facts_arrive_and_go(
    speech: World, said: list[Said], data: st.DataObject
) -> None:
    speech.execute("DELETE FROM memory_relationships")
    speech.execute("DELETE FROM memories")
    speech.execute("DELETE FROM messages")
    arrival = data.draw(st.permutations(said))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(said)), max_size=3)))
    enricher = ScriptedEnricher({fact.statement: [fact] for fact, _ in said})
    for start, end in itertools.pairwise([0, *cuts, len(said)]):
        portion = arrival[start:end]
        for fact, sent_at in portion:
            speech.say(fact.statement, sent_at, name=fact.statement)
        days = [day_window(day) for day in sorted({sent_at.day for _, sent_at in portion})]
        named = speech.named(*(f"Ana: {fact.statement}" for fact, _ in portion))
        for selection in [named] if data.draw(st.booleans()) else data.draw(st.permutations(days)):
            enrich(speech.database, enricher, selection)
            relate(speech.database, selection)
    assert (state(speech), speech.relations()) == expected(said)

    kept = [one for one in said if data.draw(st.booleans())]
    better = ScriptedEnricher({fact.statement: [fact] for fact, _ in kept}, "2")
    for day in data.draw(st.permutations(range(5, 9))):
        enrich(speech.database, better, day_window(day))
        relate(speech.database, day_window(day))
    present = {content: found for content, found in state(speech).items() if found[0] != "deleted"}
    assert (present, speech.relations()) == expected(kept)


def test_named_memories_order_their_slots_and_no_others(speech: World) -> None:
    for fact in (lives("Lisbon", 2), lives("Berlin", 10), taste("coffee", 3), taste("coffee", 4, "dislikes")):
        speech.say(fact.statement, fact.valid_from)
    facts = [lives("Lisbon", 2), lives("Berlin", 10), taste("coffee", 3), taste("coffee", 4, "dislikes")]
    enrich(speech.database, ScriptedEnricher({fact.statement: [fact] for fact in facts}), MARCH)
    report = relate(speech.database, speech.named("Ana: Lisbon 2"))
    assert (report.facts_changed, report.relations_written) == (1, 1)
    assert speech.relations() == {("Berlin 10", "supersedes", "Lisbon 2")}
    report = relate(speech.database, speech.named("dislikes coffee 4"))  # a fact by itself
    assert (report.facts_changed, report.relations_written) == (1, 1)
    assert relate(speech.database, MARCH).facts_changed == 0


def test_named_memories_do_not_wait_for_long_while_other_facts_are_ordered(
    speech: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "NAMED_WAIT_SECONDS", 0.05)
    remember(speech, lives("Lisbon", 2))
    with speech.database.transaction() as connection:
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('relate_facts'))")
        with pytest.raises(BusyError, match="run it again"):
            relate(speech.database, speech.named())

"""What holds for every text and every rule of the local enricher."""

from __future__ import annotations

import string
from datetime import UTC, datetime
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_pipeline.model.records import Role, Turn
from memory_pipeline.providers.local_enricher import LocalEnricher
from memory_pipeline.providers.local_enricher.predicates import PREDICATES, normalise_thing, slot_of
from memory_pipeline.providers.local_enricher.rules import Rule, RuleTable
from memory_pipeline.providers.local_enricher.rules_events import EVENTS
from memory_pipeline.providers.local_enricher.rules_person import PERSON
from memory_pipeline.providers.local_enricher.rules_tastes import TASTES
from memory_pipeline.providers.local_enricher.rules_work import WORK

FRAGMENTS = [
    "I",
    "we",
    "My sister",
    "my dog Rex",
    "Ana",
    "she",
    "I'm",
    "I've",
    "don't",
    "used to",
    "live in",
    "love",
    "work as a",
    "went to",
    "bought a",
    "have a",
    "am going to",
    "will",
    "moved to",
    "like",
    "Lisbon",
    "nurse",
    "car",
    "coffee",
    "my",
    "me",
    "us",
    "and",
    ",",
    ".",
    "?",
    "!",
    "\n",
    "yesterday",
    "last Saturday",
    "in May",
    "two weeks ago",
    "since 2016",
    "any more",
    "because",
    "if",
    "favourite colour is",
    "is",
    "allergic to",
    "every morning",
    '"',
    "(",
    "-",
    "\x00",
    "\u2028",
    "🎉",
    "it",
    "that",
    "was",
    "born",
    "12 March",
    "switched from",
    "to",
    "a",
    "the",
    "been",
    "Gonna",
    "named",
    "called Miso",
]

wild = st.one_of(
    st.text(),
    st.builds(
        "I {} {}.".format, st.sampled_from(["love", "live in", "visited", "am allergic to"]), st.text(max_size=12)
    ),
    st.builds("My sister {} likes {}.".format, st.text(max_size=6), st.characters()),
    st.lists(st.sampled_from(FRAGMENTS), max_size=40).map(" ".join),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=8)), max_size=20).map(" ".join),
)


def turn(content: str, speaker: str, sent_at: datetime) -> Turn:
    return Turn(
        message_id=UUID(int=1),
        conversation_id=UUID(int=2),
        role=Role.USER,
        speaker=speaker,
        content=content,
        sent_at=sent_at,
    )


@given(content=wild, speaker=st.text(min_size=1, max_size=200), sent_at=st.datetimes(timezones=st.just(UTC)))
def test_any_message_gives_well_formed_facts_and_the_same_ones_again(
    content: str, speaker: str, sent_at: datetime
) -> None:
    message = turn(content, speaker, sent_at)
    facts = LocalEnricher().enrich(message)
    assert facts == LocalEnricher().enrich(message)
    keys = [(fact.subject, fact.predicate, fact.object, fact.negated) for fact in facts]
    assert len(keys) == len(set(keys))
    for fact in facts:
        assert 0.0 <= fact.confidence <= 1.0
        assert 0 < len(fact.statement) < 400
        assert fact.object.strip()
        assert fact.subject.strip()
        assert fact.predicate in PREDICATES
        for text in (fact.subject, fact.object, fact.statement, fact.slot or "-"):
            assert text.isprintable(), text
        assert fact.valid_from.tzinfo is not None


HOSTILE = {
    "one letter": "a",
    "one space": " ",
    "dots": ". ",
    "newlines": "\n",
    "subjects": "I ",
    "adverbs": "I really really very ",
    "nested clauses": "I live in Rome and I love that my sister said I ",
    "commas": "I, my, we, ",
    "quotes": '"I ',
    "fences": "``` a",
    "ticks": "`",
    "brackets": "((I ",
    "links": "<@<http://:a:",
    "dates": "I went on 12 March 2020 in May last week two weeks ago ",
    "lists": "I love a, b, c, d, ",
    "names": "my friend Ana Bob ",
    "articles": "I went to the to the ",
    "ends": "I left with and or the a of ",
    "favourites": "my favourite a a ",
    "digits": "1",
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("ending", ["", ". ", "\n"], ids=["endless", "sentences", "lines"])
def test_a_hundred_kilobytes_of_anything_end_soon(piece: str, ending: str) -> None:
    sentence = piece * max(1, 390 // len(piece)) if ending else piece
    content = (sentence + ending) * (100_000 // len(sentence + ending))
    facts = LocalEnricher().enrich(turn(content, "Nora", datetime(2024, 5, 16, tzinfo=UTC)))
    assert all(len(fact.statement) < 400 for fact in facts)


@pytest.mark.timeout(10)
def test_many_people_in_one_message_end_soon() -> None:
    letters = string.ascii_lowercase
    names = [f"Q{a}{b}{c}" for a in letters[:5] for b in letters for c in letters]
    content = "\n".join(f"My friend {name} likes tea." for name in names)
    facts = LocalEnricher().enrich(turn(content, "Nora", datetime(2024, 5, 16, tzinfo=UTC)))
    assert facts[1].statement == "Qaaa likes tea."


def _rules() -> list[tuple[str, Rule]]:
    tables: list[RuleTable] = [PERSON, WORK, TASTES, EVENTS]
    return [(head, rule) for table in tables for head, rules in table.items() for rule in rules]


def test_every_rule_states_a_predicate_of_the_vocabulary_in_words_it_has() -> None:
    always = {"head", "base", "rest", "title", "pet", "named", "object"}
    for head, rule in _rules():
        assert rule.predicate in PREDICATES, head
        assert "object" in rule.pattern.groupindex, head
        for template in (rule.say, rule.slot_thing, rule.object_is):
            fields = {field for _, field, _, _ in string.Formatter().parse(template) if field}
            assert fields <= always | set(rule.pattern.groupindex), (head, template)


@pytest.mark.parametrize(
    ("predicate", "thing", "slot"),
    [
        ("lives_in", "Rome", "lives_in"),
        ("favourite", "colour", "favourite:colour"),
        ("likes", "The Coffee", "preference:coffee"),
        ("dislikes", "drinking coffee", "preference:coffee"),
        ("consumes", "my coffee", "preference:coffee"),
        ("has_habit", "play the cello", "habit:cello"),
        ("did", "ran", None),
    ],
)
def test_a_slot_is_named_after_what_can_hold_only_once(predicate: str, thing: str, slot: str | None) -> None:
    assert slot_of(predicate, thing) == slot


@given(thing=st.text(min_size=1))
def test_a_normalised_thing_is_never_empty_and_normal_already(thing: str) -> None:
    key = normalise_thing(thing)
    assert key
    assert normalise_thing(key) == key


def test_confidence_falls_from_set_phrase_to_loose_wish() -> None:
    said = ["I'm allergic to kiwi.", "I live in Rome.", "I love kiwi.", "I swim every day.", "I want to visit Rome."]
    scale = [
        LocalEnricher().enrich(turn(text, "Nora", datetime(2024, 5, 16, tzinfo=UTC)))[0].confidence for text in said
    ]
    assert all(stronger > weaker for stronger, weaker in pairwise(scale)), scale

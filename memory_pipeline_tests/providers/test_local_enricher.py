"""What the local enricher finds in messages, sentence by sentence, and what it must leave alone."""

from __future__ import annotations

from datetime import UTC, date, datetime
from uuid import UUID

import pytest

from memory_pipeline.model.records import FactDraft, Role, Turn
from memory_pipeline.providers.base import Enricher
from memory_pipeline.providers.local_enricher import LocalEnricher

THURSDAY = datetime(2024, 5, 16, 9, 30, tzinfo=UTC)


def turn(content: str, role: Role = Role.USER, sent_at: datetime = THURSDAY, speaker: str = "Nora") -> Turn:
    return Turn(
        message_id=UUID(int=1),
        conversation_id=UUID(int=2),
        role=role,
        speaker=speaker,
        content=content,
        sent_at=sent_at,
    )


def facts(content: str) -> list[FactDraft]:
    return LocalEnricher().enrich(turn(content))


# text, statement, predicate, object, slot
STATES = [
    ("My name is Nora Lind.", "Nora is called Nora Lind.", "has_name", "Nora Lind", "has_name"),
    ("I'm 41 years old.", "Nora is 41 years old.", "age", "41", "age"),
    ("I turned 41 last week", "Nora turned 41 in the week of 6 May 2024.", "age", "41", "age"),
    ("My birthday is on the 3rd of June.", "Nora's birthday is 3 June.", "born_on", "3 June", "born_on"),
    ("I was born in Bergen in 1983.", "Nora was born in Bergen in 1983.", "born_in", "Bergen", "born_in"),
    ("I'm originally from Norway, you know", "Nora is from Norway.", "from", "Norway", "from"),
    ("i live in utrecht", "Nora lives in Utrecht.", "lives_in", "Utrecht", "lives_in"),
    ("I've lived in Ghent for three years.", "Nora has lived in Ghent since 2021.", "lives_in", "Ghent", "lives_in"),
    ("We moved to Turin two years ago.", "Nora moved to Turin in 2022.", "lives_in", "Turin", "lives_in"),
    ("I used to live in Malmö.", "Nora used to live in Malmö.", "lived_in", "Malmö", None),
    ("I work as a florist.", "Nora works as a florist.", "works_as", "florist", "works_as"),
    ("I'm a paediatric nurse", "Nora is a paediatric nurse.", "works_as", "paediatric nurse", "works_as"),
    ("I work for Halden Shipping", "Nora works at Halden Shipping.", "works_at", "Halden Shipping", "works_at"),
    (
        "I started a new job at Volta on Monday!",
        "Nora started working at Volta on 13 May 2024.",
        "works_at",
        "Volta",
        "works_at",
    ),
    (
        "I'm studying marine biology at Aarhus",
        "Nora is studying marine biology.",
        "studies",
        "marine biology",
        "studies",
    ),
    ("I speak Dutch and Turkish.", "Nora speaks Dutch and Turkish.", "speaks", "Dutch and Turkish", None),
    ("I'm married to Ivo", "Nora is married.", "relationship_status", "married", "relationship_status"),
    ("We have two kids.", "Nora has two kids.", "has_relative", "two kids", None),
    ("I love aniseed tea", "Nora loves aniseed tea.", "likes", "aniseed tea", "preference:aniseed tea"),
    ("Honestly, I hate the cold", "Nora hates the cold.", "dislikes", "the cold", "preference:cold"),
    ("I'm really into bouldering.", "Nora is into bouldering.", "likes", "bouldering", "preference:bouldering"),
    ("I prefer trains to planes", "Nora prefers trains to planes.", "prefers", "trains", "preference:trains"),
    (
        "My favorite colour is teal, by the way",
        "Nora's favourite colour is teal.",
        "favourite",
        "teal",
        "favourite:colour",
    ),
    ("Chess is my passion.", "Chess is Nora's passion.", "likes", "Chess", "preference:chess"),
    (
        "I'm allergic to walnuts.",
        "Nora is allergic to walnuts.",
        "allergic_to",
        "walnuts",
        "allergic_to:walnuts",
    ),
    ("I'm vegan and proud of it", "Nora is vegan.", "diet", "vegan", "diet"),
    ("I have asthma.", "Nora has asthma.", "health_condition", "asthma", None),
    ("I play the cello.", "Nora plays the cello.", "has_habit", "the cello", "habit:cello"),
    ("I swim twice a week", "Nora swims twice a week.", "has_habit", "swim twice a week", "habit:swim"),
    ("I own a small bakery in Lyon", "Nora owns a small bakery.", "runs", "a small bakery", None),
]


@pytest.mark.parametrize(("text", "statement", "predicate", "thing", "slot"), STATES)
def test_what_a_person_is_and_likes_becomes_one_fact(
    text: str, statement: str, predicate: str, thing: str, slot: str | None
) -> None:
    (fact,) = facts(text)
    assert (fact.subject, fact.statement, fact.predicate, fact.object, fact.slot) == (
        "Nora",
        statement,
        predicate,
        thing,
        slot,
    )
    assert not fact.negated


# text, statement, predicate, first day
EVENTS = [
    ("I ran a half marathon last Saturday.", "Nora ran a half marathon on 11 May 2024.", "did", date(2024, 5, 11)),
    ("We went kayaking two weekends ago", "Nora went kayaking on the weekend of 4 May 2024.", "did", date(2024, 5, 4)),
    (
        "I signed up for a welding class yesterday",
        "Nora signed up for a welding class on 15 May 2024.",
        "did",
        date(2024, 5, 15),
    ),
    ("Last month I adopted a greyhound.", "Nora adopted a greyhound in April 2024.", "did", date(2024, 4, 1)),
    (
        "I bought a tandem this morning!",
        "Nora bought a tandem on the morning of 16 May 2024.",
        "bought",
        date(2024, 5, 16),
    ),
    ("We visited Lake Bled last summer.", "Nora visited Lake Bled in summer 2023.", "visited", date(2023, 6, 1)),
    ("I flew to Quito on 2 February", "Nora flew to Quito on 2 February 2024.", "visited", date(2024, 2, 2)),
    (
        "Took my nephews to the planetarium on Sunday",
        "Nora took their nephews to the planetarium on 12 May 2024.",
        "did",
        date(2024, 5, 12),
    ),
    ("I painted that old barn last year", "Nora painted an old barn in 2023.", "did", date(2023, 1, 1)),
    ("I'm going to Lisbon in July", "Nora plans to go to Lisbon in July 2024.", "plans", date(2024, 7, 1)),
    (
        "I'll start my new course next Monday.",
        "Nora will start their new course on 20 May 2024.",
        "plans",
        date(2024, 5, 20),
    ),
    ("We're getting married in September", "Nora is getting married in September 2024.", "plans", date(2024, 9, 1)),
    (
        "I have a dentist appointment tomorrow",
        "Nora has a dentist appointment on 17 May 2024.",
        "plans",
        date(2024, 5, 17),
    ),
    ("We are planning to adopt a cat.", "Nora is planning to adopt a cat.", "plans", date(2024, 5, 16)),
    (
        "I've been learning Finnish since January",
        "Nora has been learning Finnish since January 2024.",
        "is_doing",
        date(2024, 1, 1),
    ),
    ("I want to open a pottery studio", "Nora wants to open a pottery studio.", "wants", date(2024, 5, 16)),
]


@pytest.mark.parametrize(("text", "statement", "predicate", "first_day"), EVENTS)
def test_what_happened_or_is_planned_is_told_with_its_date(
    text: str, statement: str, predicate: str, first_day: date
) -> None:
    (fact,) = facts(text)
    assert (fact.statement, fact.predicate, fact.valid_from.date()) == (statement, predicate, first_day)


# text, statement, predicate, slot
CHANGES = [
    ("I don't like coffee any more.", "Nora no longer likes coffee.", "likes", "preference:coffee"),
    ("I don't drink coffee anymore", "Nora no longer drinks coffee.", "consumes", "preference:coffee"),
    (
        "I stopped drinking coffee in March",
        "Nora stopped drinking coffee in March 2024.",
        "consumes",
        "preference:coffee",
    ),
    ("I used to love horror films", "Nora used to love horror films.", "likes", "preference:horror films"),
    ("I don't live in Ghent any more", "Nora no longer lives in Ghent.", "lives_in", "lives_in"),
    ("I no longer work at Volta.", "Nora no longer works at Volta.", "works_at", "works_at"),
    ("I quit my job at Volta yesterday", "Nora quit their job at Volta on 15 May 2024.", "works_at", "works_at"),
    ("I lost my job as a cashier", "Nora lost their job as a cashier.", "works_as", "works_as"),
    ("I'm not vegetarian any more", "Nora is no longer vegetarian.", "diet", "diet"),
    ("I quit smoking three months ago", "Nora quit smoking in February 2024.", "has_habit", "habit:smoking"),
]


@pytest.mark.parametrize(("text", "statement", "predicate", "slot"), CHANGES)
def test_a_change_is_a_negated_fact_in_the_slot_of_what_it_ends(
    text: str, statement: str, predicate: str, slot: str
) -> None:
    (fact,) = facts(text)
    assert (fact.statement, fact.predicate, fact.slot, fact.negated) == (statement, predicate, slot, True)


def test_liking_and_no_longer_liking_share_a_slot() -> None:
    (before,) = facts("I love drinking coffee.")
    (after,) = facts("I don't like coffee any more.")
    assert before.slot == after.slot == "preference:coffee"


def test_switching_ends_one_preference_and_begins_another() -> None:
    assert [(fact.object, fact.negated, fact.statement) for fact in facts("I switched from cola to kefir.")] == [
        ("cola", True, "Nora gave up cola for kefir."),
        ("kefir", False, "Nora switched from cola to kefir."),
    ]


# text, all statements
SEVERAL = [
    ("I'm 29 and I live in Graz.", ["Nora is 29 years old.", "Nora lives in Graz."]),
    ("I live in Graz and work as a tailor", ["Nora lives in Graz.", "Nora works as a tailor."]),
    (
        "I'm a data engineer at Kestrel.",
        ["Nora is a data engineer at Kestrel.", "Nora works at Kestrel."],
    ),
    ("I love rowing, opera and quince jam.", ["Nora loves rowing.", "Nora loves opera.", "Nora loves quince jam."]),
    (
        "I sold my boat and bought a canoe last month",
        ["Nora sold their boat in April 2024.", "Nora bought a canoe in April 2024."],
    ),
    (
        "My sister Ana lives in Porto. She works as a pilot.",
        ["Ana is Nora's sister.", "Ana lives in Porto.", "Ana works as a pilot."],
    ),
    ("Ivo, my husband, is a baker", ["Ivo is Nora's husband.", "Ivo is a baker."]),
    ("Our dog Biscuit loves carrots", ["Nora has a dog called Biscuit.", "Biscuit loves carrots."]),
    ("My kids love volcanoes.", ["Nora's kids love volcanoes."]),
    ("My brother doesn't eat fish.", ["Nora's brother does not eat fish."]),
    ("My best friend Zoë moved to Cork in March", ["Zoë is Nora's friend.", "Zoë moved to Cork in March 2024."]),
    ("My aunt visited us yesterday", ["Nora's aunt visited Nora on 15 May 2024."]),
]


@pytest.mark.parametrize(("text", "statements"), SEVERAL)
def test_a_message_gives_each_of_its_facts_about_its_own_subject(text: str, statements: list[str]) -> None:
    assert [fact.statement for fact in facts(text)] == statements


NOTHING = [
    "Do I live in Graz?",
    "I live in Graz, don't I?",
    "If I lived in Graz I would eat strudel.",
    "I wish I had a horse.",
    "I would love to visit Peru.",
    "I might move to Spain next year.",
    "I almost bought a yacht yesterday.",
    "Imagine I own a castle.",
    "Let's say I live in Texas.",
    'My boss said "I live in Oslo".',
    "He said he lives in Oslo.",
    "She told me I live in a bubble.",
    "You live in Oslo and you love skiing.",
    "Your sister Mia lives in Oslo.",
    "Write me an email saying I live in Oslo.",
    "Translate the following: I live in Oslo. I love skiing.",
    "Pretend you are me. I live in Oslo and I work as a spy.",
    "> I live in Oslo",
    "```\nI live in Oslo\n```",
    "`I live in Oslo`",
    "I live in constant fear.",
    "I'm a bit tired.",
    "I'm a huge mess today.",
    "I'm 15 minutes late.",
    "I love it!",
    "I love how you did that.",
    "I like you.",
    "I'm going to try the new version.",
    "I'm gonna keep going.",
    "I didn't go to work yesterday.",
    "I have a question.",
    "I get an error when I run the script.",
    "In the story, I live in Oslo.",
    "Ok, thanks! See you tomorrow.",
    "",
]


@pytest.mark.parametrize("text", NOTHING)
def test_what_is_not_a_statement_of_fact_gives_none(text: str) -> None:
    assert facts(text) == []


@pytest.mark.parametrize("role", [Role.ASSISTANT, Role.SYSTEM, Role.TOOL])
def test_only_people_speak_about_themselves(role: Role) -> None:
    assert LocalEnricher().enrich(turn("I live in Oslo.", role=role)) == []


def test_an_undated_fact_holds_from_when_it_was_said_in_utc() -> None:
    said = datetime.fromisoformat("2024-05-16T23:30:00-05:00")
    (fact,) = LocalEnricher().enrich(turn("I live in Oslo.", sent_at=said))
    assert fact.valid_from == said
    assert fact.valid_from.utcoffset() == UTC.utcoffset(None)


def test_relative_days_count_from_the_day_in_utc() -> None:
    said = datetime.fromisoformat("2024-05-16T23:30:00-05:00")
    (fact,) = LocalEnricher().enrich(turn("I ran a relay yesterday.", sent_at=said))
    assert fact.statement == "Nora ran a relay on 16 May 2024."


def test_said_twice_is_found_once() -> None:
    assert len(facts("I love rhubarb. Yes, I love rhubarb!")) == 1


def test_leaving_out_i_costs_confidence() -> None:
    (whole,) = facts("I lost my job at Volta yesterday.")
    (short,) = facts("Lost my job at Volta yesterday.")
    assert short.statement == whole.statement
    assert short.confidence < whole.confidence


def test_it_is_an_enricher_with_a_name_and_a_version() -> None:
    enricher: Enricher = LocalEnricher()
    assert (enricher.name, enricher.version) == ("local", "1")

"""The closed vocabulary of predicates, the slot each fills, and the scale of confidence.

A slot names what can hold only once at a time for a subject (see `FactDraft`). Three kinds of predicate exist:
single-valued ones fill a slot of their own name, those about a thing fill a slot per thing, the rest fill none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# How likely a person who read the message would agree with the statement.
CERTAIN = 0.95
"""A set phrase that means one thing: "my name is", "I was born in", "I'm allergic to"."""
EXPLICIT = 0.9
"""A verb of state said outright: "I live in", "I work as", "my sister Ana"."""
CLEAR = 0.8
"""A preference, or an event with a date."""
LIKELY = 0.7
"""A plan, a habit, or a strong event verb without a date."""
LOOSE = 0.6
"""A current activity, a wish, a weak event verb without a date."""
IMPLIED_SUBJECT_PENALTY = 0.1
"""Taken off where the message leaves out its "I" ("Lost my job yesterday")."""


@dataclass(frozen=True)
class Predicate:
    """One kind of statement. `family` prefixes the slot of a predicate that holds once per thing."""

    name: str
    single_valued: bool = False
    family: str | None = None


RELATIONS = {
    "mother": "mother mom mum mommy mummy mama ma",
    "father": "father dad daddy papa",
    "parent": "parent parents folks",
    "sister": "sister sis sisters",
    "brother": "brother bro brothers",
    "sibling": "sibling siblings",
    "daughter": "daughter daughters",
    "son": "son sons",
    "child": "child children kid kids toddler baby",
    "husband": "husband hubby",
    "wife": "wife",
    "partner": "partner",
    "spouse": "spouse",
    "fiancé": "fiancé fiance",
    "fiancée": "fiancée fiancee",
    "boyfriend": "boyfriend bf",
    "girlfriend": "girlfriend gf",
    "grandmother": "grandmother grandma granny nana gran",
    "grandfather": "grandfather grandpa granddad grandad",
    "grandparent": "grandparents",
    "grandchild": "grandchildren grandkids granddaughter grandson",
    "aunt": "aunt auntie",
    "uncle": "uncle",
    "cousin": "cousin cousins",
    "niece": "niece",
    "nephew": "nephew",
    "friend": "friend friends buddy bestie",
    "colleague": "colleague colleagues coworker coworkers co-worker co-workers teammate",
    "boss": "boss manager supervisor",
    "roommate": "roommate roommates flatmate housemate",
    "neighbour": "neighbour neighbor neighbours neighbors",
    "mentor": "mentor coach",
    "mother-in-law": "mother-in-law",
    "father-in-law": "father-in-law",
    "sister-in-law": "sister-in-law",
    "brother-in-law": "brother-in-law",
    "in-law": "in-laws",
    "stepmother": "stepmother stepmom stepmum",
    "stepfather": "stepfather stepdad",
}
"""Canonical relation → the words people use for it."""

_SINGLE_VALUED = (
    "has_name",
    "age",
    "born_on",
    "born_in",
    "from",
    "grew_up_in",
    "lives_in",
    "works_as",
    "works_at",
    "works_in",
    "employment_status",
    "studies",
    "relationship_status",
    "diet",
)
_MANY_VALUED = (
    "nationality",
    "lived_in",
    "worked_as",
    "worked_at",
    "teaches",
    "graduated_from",
    "runs",
    "has_relative",
    "health_condition",
    "speaks",
    "owns",
    "has_pet",
    "bought",
    "visited",
    "did",
    "is_doing",
    "plans",
    "wants",
)
_PER_THING = {
    "likes": "preference",
    "dislikes": "preference",
    "prefers": "preference",
    "consumes": "preference",
    "favourite": "favourite",
    "allergic_to": "allergic_to",
    "has_habit": "habit",
}

PREDICATES: dict[str, Predicate] = {
    **{name: Predicate(name, single_valued=True) for name in _SINGLE_VALUED},
    **{name: Predicate(name) for name in _MANY_VALUED},
    **{name: Predicate(name, family=family) for name, family in _PER_THING.items()},
    **{f"{name.replace('-', '_')}_of": Predicate(f"{name.replace('-', '_')}_of") for name in RELATIONS},
}

_LEADING = re.compile(
    r"^(?:(?:a|an|the|my|our|their|some|any|all|both|all kinds of|to|playing|drinking|eating|having|going|doing|"
    r"watching|listening to|cooking with|play|drink|eat|watch|do)\s+)+(?=\S)"
)
_PUNCTUATION = re.compile(r"[^\w\s'+#&-]")


def normalise_thing(thing: str) -> str:
    """Return the key under which two mentions of a thing meet: "drinking the Coffee" and "coffee" give "coffee"."""
    key = " ".join(_PUNCTUATION.sub(" ", thing.lower()).split())
    return _LEADING.sub("", key) or key or thing


def slot_of(predicate: str, thing: str) -> str | None:
    """Return the slot that a statement about `thing` fills. For `favourite`, `thing` is the kind ("colour")."""
    entry = PREDICATES[predicate]
    if entry.single_valued:
        return entry.name
    return f"{entry.family}:{normalise_thing(thing)}" if entry.family else None

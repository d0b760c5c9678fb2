"""Facts that hang on a noun rather than a verb: "my favourite ... is", "my sister Ana", "my name is"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from memory_pipeline.providers.local_enricher import lexicon
from memory_pipeline.providers.local_enricher.people import KIN, NAME, PeopleSeen, Person, possessive
from memory_pipeline.providers.local_enricher.periods import MONTHS
from memory_pipeline.providers.local_enricher.predicates import CERTAIN, CLEAR, EXPLICIT, LOOSE
from memory_pipeline.providers.local_enricher.rules import is_short_thing
from memory_pipeline.providers.local_enricher.trimming import tidy


@dataclass(frozen=True)
class NounFact:
    """A fact found on a noun. `say` is the statement's verb phrase, or all after the subject's name."""

    subject: str
    predicate: str
    object: str
    statement: str
    confidence: float
    slot_thing: str | None = None


_MONTH = "(?:" + "|".join(MONTHS) + ")"
_DATE = (
    rf"(?:the )?(?:\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?)(?:,? (?:19|"
    rf"20)\d\d)?"
)
_FAVOURITE = r"my (?:all[- ]time |absolute )?fav(?:ou?rite|e)?"
_END = (
    r"(?=$|[,.;:!()]| (?:and (?:i|it|my|we|the|that|he|she)\b|but|because|since|so|from|when|though|especially|by far|"
    r"with|at the moment|right now)\b)"
)

_NAME_IS = re.compile(
    rf"\b(?:my name is|my name's|call me|calls me|i go by|my friends call me) (?P<name>(?-i:{NAME}(?: "
    rf"{NAME})?)){_END}",
    re.IGNORECASE,
)
_I_AM_NAME = re.compile(
    rf"^(?:(?:hi|hey|hello|good morning|good evening)(?: (?:all|everyone|there|team|guys))?[,!. ]*)?i'?(?: a)?m "
    rf"(?P<name>(?-i:{NAME}))(?=,? (?:and I\b|nice to|from |an? |the |\d)|, I)",
    re.IGNORECASE,
)
_BORN_ON = re.compile(
    rf"\b(?:i was born (?:on |in )?|my birthday(?: is|'s) (?:on )?)(?P<date>{_DATE}|(?:19|20)\d\d\b)", re.IGNORECASE
)
_FAVOURITE_IS = re.compile(
    rf"\b{_FAVOURITE} (?P<kind>(?:[a-z]+ ){{0,3}}?[a-z]+)(?: (?:is|are|was|has to be|would be|will always be)|'s) "
    rf"(?:definitely |probably |still |always |the )?(?P<object>[^,.;:!]{{2,60}}?){_END}",
    re.IGNORECASE,
)
_IS_FAVOURITE = re.compile(
    rf"^(?:(?:yeah|yes|and|but|so|well|oh)[, ]+)*(?P<object>[^,.;:!]{{2,50}}?)(?: (?:is|are)|'s) {_FAVOURITE} "
    rf"(?P<kind>(?:[a-z]+ ){{0,2}}[a-z]+){_END}",
    re.IGNORECASE,
)
_KIN_NAMED = re.compile(
    rf"\b(?:my|our) {KIN}(?:,? (?:is )?(?:called |named )?|'s (?:name is |called |named )|'s name's "
    rf")(?P<name>(?-i:{NAME}))\b(?!-)",
    re.IGNORECASE,
)
_NAME_MY_KIN = re.compile(
    rf"(?:^|[,.] |\b(?:with|and|is|met|to|by) )(?P<name>(?-i:{NAME})), (?:my|our) {KIN}(?=$|[,.!])", re.IGNORECASE
)
_NAME_IS_MY_KIN = re.compile(rf"^(?P<name>(?-i:{NAME})) is (?:my|our) {KIN}(?=$|[,.!]| and\b)", re.IGNORECASE)
_AS_A = re.compile(
    rf"^as an? (?:(?P<diet>{lexicon.DIETS})|(?P<job>(?:[a-z-]+ ){{0,3}}(?:{'|'.join(sorted(lexicon.OCCUPATIONS))})))"
    r"(?: (?:at|in|for) [^,]{2,40})?,? i(?:'m|'ve)? ",
    re.IGNORECASE,
)
_NAMED_PET = re.compile(
    rf"\b(?P<kin>{'|'.join(sorted(lexicon.PETS, key=len, reverse=True))}),? (?:named|called) "
    rf"(?P<name>(?-i:{NAME}))\b",
    re.IGNORECASE,
)
_GOAL = re.compile(
    r"\bmy (?P<what>(?:main |biggest |ultimate |big )?(?:dream|goal|aim|ambition))(?: is|'s|'s always been| has "
    r"always been) to (?P<object>[a-z]+ [^,.;:!]{2,80}?)(?=$|[,.;:!()]| (?:so|but|because|and i)\b)",
    re.IGNORECASE,
)
_PASSION = re.compile(
    rf"^(?:(?:yeah|yes|and|but|so|well|oh)[, ]+)*(?P<object>[a-z][a-z' -]{{2,40}}?)(?: is| are|'s) (?:really |"
    rf"always |definitely |pretty much |mostly |just )?"
    r"(?P<what>(?:my (?:(?:true |biggest |big |main |real |greatest )?passion|hobby|fav(?:e|ou?rite)?|stress[- "
    r"]relief|stress[- ]buster|go-to|thing|"
    r"happy place|jam|escape))|one of my (?:favs|fave?s|favou?rites|passions|hobbies)|"
    rf"a (?:big|huge|major|important) part of my life){_END}",
    re.IGNORECASE,
)
_HOBBY = re.compile(
    rf"\bmy (?P<what>passion|hobby|hobbies|main hobby)(?: is|'s| are) (?P<object>[a-z][^,.;:!]{{2,40}}?){_END}",
    re.IGNORECASE,
)
_WORTHLESS_KINDS = lexicon.words("part one thing way time moment memory place things person of")


_MARKS = ("my ", "our ", "i'm ", "im ", "i am ", "called", "named", "born", "call", "go by", "as a")


def noun_facts(piece: str, people: PeopleSeen, speaker: Person) -> Iterator[NounFact]:
    """Yield what the nouns of an asserting `piece` tell; people named are remembered in `people`."""
    lower = piece.lower()
    if not any(mark in lower for mark in _MARKS):
        return
    yield from _identity(piece, speaker)
    for match in _NAMED_PET.finditer(piece):
        people.refer(match["kin"], match["name"])
    yield from _named_people(piece, people, speaker)
    if "fav" in lower:
        yield from _favourites(piece, speaker)
    yield from _goals(piece, speaker)


def _identity(piece: str, speaker: Person) -> Iterator[NounFact]:
    match = _NAME_IS.search(piece) or _I_AM_NAME.search(piece)
    if match and match["name"] not in lexicon.NOT_NAMES and match["name"] != speaker.name.split()[0]:
        name = match["name"]
        confidence = CERTAIN if match.re is _NAME_IS else CLEAR
        yield NounFact(speaker.name, "has_name", name, f"{speaker.name} is called {name}.", confidence)
    match = _AS_A.match(piece)
    if match:
        predicate, thing = ("diet", match["diet"]) if match["diet"] else ("works_as", match["job"])
        article = "an" if thing[0].lower() in "aeiou" else "a"
        yield NounFact(speaker.name, predicate, thing, f"{speaker.name} is {article} {thing}.", CLEAR)
    match = _BORN_ON.search(piece)
    if match:
        day = _day_first(match["date"])
        if day.isdecimal():
            statement = f"{speaker.name} was born in {day}."
        elif day[-4:].isdecimal():
            statement = f"{speaker.name} was born on {day}."
        else:
            statement = f"{possessive(speaker.name)} birthday is {day}."
        yield NounFact(speaker.name, "born_on", day, statement, CERTAIN)


def _day_first(said: str) -> str:
    """Write "July 4th, 1990" and "the 4th of July 1990" as "4 July 1990"."""
    numbers = re.findall(r"\d+", said)
    month = re.search(_MONTH, said, re.IGNORECASE)
    if month is None:
        return said
    return " ".join((numbers[0].lstrip("0") or numbers[0], month[0].capitalize(), *numbers[1:]))


def _named_people(piece: str, people: PeopleSeen, speaker: Person) -> Iterator[NounFact]:
    for pattern in (_KIN_NAMED, _NAME_MY_KIN, _NAME_IS_MY_KIN):
        for match in pattern.finditer(piece):
            name = match["name"]
            if name not in lexicon.NOT_NAMES and name != speaker.name:
                yield _relation(people.refer(match["kin"], name), speaker)


def _relation(person: Person, speaker: Person) -> NounFact:
    relation = person.relation or "friend"
    if relation in lexicon.PERSON_WORDS.values():
        predicate = f"{relation.replace('-', '_')}_of"
        return NounFact(
            person.name, predicate, speaker.name, f"{person.name} is {possessive(speaker.name)} {relation}.", EXPLICIT
        )
    singular = relation.removesuffix("s")
    return NounFact(
        speaker.name,
        "has_pet",
        f"{singular} {person.name}",
        f"{speaker.name} has a {singular} called {person.name}.",
        EXPLICIT,
    )


def _favourites(piece: str, speaker: Person) -> Iterator[NounFact]:
    for pattern in (_FAVOURITE_IS, _IS_FAVOURITE):
        match = pattern.search(piece)
        if not match:
            continue
        kind, thing = match["kind"].lower(), tidy(match["object"])
        if (
            is_short_thing(thing)
            and not _WORTHLESS_KINDS & set(kind.split())
            and not thing.lower().startswith(("my ", "when ", "to "))
        ):
            verb = "are" if kind.endswith("s") and not kind.endswith("ss") else "is"
            statement = f"{possessive(speaker.name)} favourite {kind} {verb} {thing}."
            one_kind = kind[:-1] if verb == "are" else kind
            yield NounFact(speaker.name, "favourite", thing, statement, EXPLICIT, one_kind)
            return


def _goals(piece: str, speaker: Person) -> Iterator[NounFact]:
    match = _GOAL.search(piece)
    if match:
        yield NounFact(
            speaker.name,
            "wants",
            match["object"],
            f"{possessive(speaker.name)} {match['what'].lower()} is to {match['object']}.",
            LOOSE,
        )
    match = _HOBBY.search(piece)
    if match and is_short_thing(match["object"]):
        what = match["what"].lower()
        statement = f"{possessive(speaker.name)} {what} {'are' if what == 'hobbies' else 'is'} {match['object']}."
        yield NounFact(speaker.name, "likes", match["object"], statement, CLEAR)
    match = _PASSION.search(piece)
    if (
        match
        and is_short_thing(match["object"])
        and match["object"].split()[0].lower() not in ("my", "our", "the", "a")
    ):
        thing = match["object"]
        what = re.sub(r"\bmy\b", possessive(speaker.name), match["what"].lower())
        what = re.sub(r"\bfav(?:e|orite|ourite)?(s?)\b", r"favourite\1", what)
        plural = (" and " in thing or thing.endswith("s")) and not re.match(r"\w+ing\b", thing)
        yield NounFact(
            speaker.name, "likes", thing, f"{thing[0].upper()}{thing[1:]} {'are' if plural else 'is'} {what}.", CLEAR
        )

"""What a rule is: a pattern over the words after a verb, and the fact it makes; `rules_*` hold the tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from memory_pipeline.providers.local_enricher import lexicon

Check = Callable[[str], bool]


@dataclass(frozen=True)
class Rule:
    """One way to say a fact.

    `pattern` must match the whole of a clause's rest and has a group `object`; `say` is the verb phrase of the
    statement, beginning with a verb in the third person singular or the past, with the pattern's groups by name and
    `{head}` and `{rest}` of the clause.
    """

    predicate: str
    pattern: re.Pattern[str]
    say: str
    confidence: float
    check: Check
    slot_thing: str = "{object}"
    """What the slot is about, where it is not the object ("favourite" things)."""
    negated: bool = False
    """The fact is a negation although the verb is not ("I quit my job at ...")."""
    negatable: bool = False
    dated: bool = False
    """Only with a date (any tense), which for plans must lie ahead."""
    more: bool = False
    """Further rules of the same verb are tried as well."""
    object_is: str = "{object}"
    """The fact's object, where it is more than the pattern's group ("ran a race")."""


RuleTable = dict[str, list[Rule]]

FREQUENCY = (
    r"(?:every (?:single )?(?:other )?(?:day|morning|evening|night|week|weekend|month|year|afternoon|lunchtime|"
    r"summer|winter|monday|tuesday|wednesday|thursday|friday|saturday|sunday)s?(?: (?:morning|evening|night|"
    r"afternoon)s?)?|each (?:day|morning|week|evening|night)|(?:once|twice|(?:two|three|four|five|\d) times) (?:a|"
    r"per) (?:day|week|month|year)|daily|weekly|on (?:mon|tues|wednes|thurs|fri|satur|sun)days|on weekends|at "
    r"weekends|before work|after work)"
)
"""How often: what makes "I run" a habit."""


def rule(
    heads: str,
    pattern: str,
    predicate: str,
    say: str,
    confidence: float,
    check: Check | None = None,
    **flags: bool | str,
) -> tuple[str, Rule]:
    compiled = re.compile(pattern, re.IGNORECASE)
    return heads, Rule(predicate, compiled, say, confidence, check or is_thing, **flags)  # type: ignore[arg-type]


def table(rules: Iterable[tuple[str, Rule]]) -> RuleTable:
    """Index rules by the verb that begins them, keeping their order."""
    by_head: RuleTable = {}
    for heads, entry in rules:
        for head in heads.split():
            by_head.setdefault(head, []).append(entry)
    return by_head


_NO_PLACE = lexicon.words(
    """fear peace hope hell denial poverty luxury pain silence moment world bubble past present future
dream fantasy harmony constant tears action tomorrow time way shadow box mess chaos my our a an
another same shoes style comfort love trouble general person theory progress line charge touch sync
awe shape college school work life bed motion hurry"""
)
_A_PLACE = re.compile(
    r"^(?:an?|the|another) (?:[a-z]+ ){0,2}(?:city|town|village|suburbs?|countryside|country|island|coast|mountains|"
    r"us|uk|usa|states|netherlands|philippines|area|apartment|flat|house|condo|studio|south|north|east|west|"
    r"neighbou?rhood|farm|cabin|dorm|place|uae|bay)\b",
    re.IGNORECASE,
)


_NOTHING = frozenset(("a ton", "a lot", "so much", "a bit", "much", "well", "good", "to", "lots", "more", "up", "on"))


def is_thing(text: str) -> bool:
    """Whether an object stands on its own: short, and without words that only the message explains."""
    words = text.lower().split()
    return (
        0 < len(words) <= 14
        and any(character.isalnum() for character in text)
        and " ".join(words) not in _NOTHING
        and not any(word.strip("'\",.!-&/") in lexicon.UNRESOLVED for word in words)
    )


def is_short_thing(text: str) -> bool:
    return is_thing(text) and len(text.split()) <= 6


def is_liked(text: str) -> bool:
    """What people like for good; not "how you did it" or "the way it looks"."""
    words = text.lower().split()
    return (
        is_thing(text)
        and (words[0] not in _NOT_LIKED or (words[0] == "to" and len(words) > 1))
        and words[:2] != ["the", "way"]
    )


def is_liked_title(text: str) -> bool:
    """A work called by its name: what someone loved without saying when."""
    return is_short_thing(text) and text.startswith(('"', "'"))


_NOT_LIKED = lexicon.words("how what when where why who seeing hearing knowing being to")


def is_place(text: str) -> bool:
    words = text.lower().split()
    if not is_thing(text) or len(words) > 6:
        return False
    if _A_PLACE.match(text):
        return True
    return len(words) <= 4 and not any(word in _NO_PLACE for word in words) and not words[0].endswith("ing")


def is_proper_place(text: str) -> bool:
    return (is_place(text) and text[0].isupper() and text not in lexicon.NOT_NAMES) or bool(_A_PLACE.match(text))


def is_name(text: str) -> bool:
    return text[0].isupper() and text not in lexicon.NOT_NAMES and len(text.split()) <= 3


def is_occupation(text: str) -> bool:
    words = text.lower().split()
    return is_thing(text) and len(words) <= 5 and words[-1] in lexicon.OCCUPATIONS


def is_job(text: str) -> bool:
    """After "work as", any short noun phrase with an article is a job, and any known occupation."""
    return is_occupation(text) or (
        is_thing(text) and len(text.split()) <= 5 and text.lower().startswith(("a ", "an ", "the "))
    )


def is_employer(text: str) -> bool:
    words = text.lower().split()
    return (
        is_thing(text)
        and len(words) <= 6
        and (text[0].isupper() or words[0] in ("a", "an", "the", "my"))
        and words[-1]
        not in ("moment", "time", "pace", "level", "best", "home", "night", "nights", "weekend", "day", "same")
    )


def is_age(text: str) -> bool:
    return text.isdecimal() and len(text) <= 3 and 0 < int(text) <= 120


def is_possession(text: str) -> bool:
    words = text.lower().split()
    return is_thing(text) and len(words) <= 6 and any(word in lexicon.POSSESSIONS for word in words)


def is_business(text: str) -> bool:
    words = text.lower().split()
    return is_thing(text) and len(words) <= 7 and any(word in lexicon.BUSINESSES for word in words)


def is_activity(text: str) -> bool:
    """What a plan or event is about: words that stand alone and are more than a verb like "keep"."""
    words = text.lower().split()
    return (
        is_thing(text)
        and len(words) > 1
        and words[0] not in lexicon.UNPLANNED
        and (words[0] in lexicon.THIRD or words[0].endswith("ing"))
    )


def is_rhythm(text: str) -> bool:
    """The words before "every morning": none ("I run every morning"), or a thing."""
    return not text or is_short_thing(text)

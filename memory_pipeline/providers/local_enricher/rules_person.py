"""Rules for who someone is and where they live."""

from __future__ import annotations

from memory_pipeline.providers.local_enricher import lexicon
from memory_pipeline.providers.local_enricher.predicates import CERTAIN, CLEAR, EXPLICIT
from memory_pipeline.providers.local_enricher.rules import (
    RuleTable,
    is_age,
    is_name,
    is_place,
    is_proper_place,
    rule,
    table,
)

_PLACE = r"(?P<object>.+?)(?: (?:with|for|and|near|next to|by|together|to|alone|full[- ]time)\b.*)?"
_LANGUAGE = rf"(?P<object>(?:{lexicon.LANGUAGES})(?:(?:,| and|, and) (?:{lexicon.LANGUAGES}))*)"
_KIN_COUNT = (
    r"(?P<object>(?:an?|one|two|three|four|five|six|\d) (?:[a-z-]+ ){0,2}"
    rf"(?:{'|'.join(word for word, relation in lexicon.PERSON_WORDS.items() if relation not in ('boss', 'mentor'))})s?)"
)
_KIN_END = r"(?: (?:named|called|aged?|in|and|who|together|at|living)\b.*)?"
_IDENTITY = (
    rule("is", r"(?P<object>\d{1,3})(?: years? old| yo| y/o)?", "age", "is {object} years old", EXPLICIT, is_age),
    rule("turned", r"(?P<object>\d{1,3})(?: years? old)?", "age", "turned {object}", EXPLICIT, is_age),
    rule("turns", r"(?P<object>\d{1,3})", "age", "turns {object}", CLEAR, is_age),
    rule("is", r"(?:called|named) (?P<object>.+)", "has_name", "is called {object}", CERTAIN, is_name),
    rule("goes", r"by (?P<object>.+)", "has_name", "goes by {object}", CERTAIN, is_name),
    rule("was", rf"born(?: and raised)? in {_PLACE}", "born_in", "was born in {object}", CERTAIN, is_place),
    rule("was", r"raised in (?P<object>.+)", "grew_up_in", "was raised in {object}", CERTAIN, is_place),
    rule("grew", rf"up in {_PLACE}", "grew_up_in", "grew up in {object}", CERTAIN, is_place),
    rule("is comes", rf"from {_PLACE}", "from", "is from {object}", EXPLICIT, is_proper_place),
    rule("is", rf"(?P<object>(?-i:{lexicon.NATIONALITIES}))", "nationality", "is {object}", EXPLICIT),
    rule(
        "speaks",
        rf"(?:fluent |some |a little |a bit of )?{_LANGUAGE}.*",
        "speaks",
        "speaks {object}",
        EXPLICIT,
        negatable=True,
    ),
    rule(
        "is",
        r"(?P<object>married|engaged|divorced|single|widowed|separated)(?: (?:to|with)\b.*| for\b.*)?",
        "relationship_status",
        "is {object}",
        EXPLICIT,
        negatable=True,
    ),
    rule(
        "has",
        r"been (?P<object>married|engaged|divorced|single|widowed|separated)(?: (?:to|with)\b.*| for\b.*)?",
        "relationship_status",
        "has been {object}",
        EXPLICIT,
    ),
    rule(
        "got",
        r"(?P<object>married|engaged|divorced)(?P<more> to .+| in .+| at .+)?",
        "relationship_status",
        "got {object}{more}",
        EXPLICIT,
    ),
    rule("has", rf"(?:got )?{_KIN_COUNT}{_KIN_END}", "has_relative", "has {object}", EXPLICIT),
    rule(
        "is",
        r"(?P<object>an? (?:[a-z-]+ )?(?:mom|mother|mum|dad|father|parent|grandmother|grandfather|grandma|grandpa|"
        r"twin|widow|widower)(?: of (?:one|two|three|four|five|six|\d|twins|triplets))?)(?: (?:and|who|in|"
        r"with)\b.*)?",
        "has_relative",
        "is {object}",
        EXPLICIT,
    ),
)
_PLACES = (
    rule("lives", rf"(?:right )?in {_PLACE}", "lives_in", "lives in {object}", EXPLICIT, is_place, negatable=True),
    rule("is", rf"(?:living|based) in {_PLACE}", "lives_in", "lives in {object}", EXPLICIT, is_place, negatable=True),
    rule("has", rf"(?:lived|been living) in {_PLACE}", "lives_in", "has lived in {object}", EXPLICIT, is_place),
    rule("has", rf"moved (?:back )?to {_PLACE}", "lives_in", "has moved to {object}", EXPLICIT, is_proper_place),
    rule(
        "moved relocated emigrated immigrated",
        r"(?:back |over |out |down |up )?(?:here )?(?:from (?P<old>.+?) )?to "
        r"(?P<object>.+?)(?: (?:from|with|for|and|near|because|to|after)\b.*)?",
        "lives_in",
        "moved to {object}",
        EXPLICIT,
        is_proper_place,
    ),
    rule("lived", rf"in {_PLACE}", "lived_in", "lived in {object}", CLEAR, is_proper_place),
)

PERSON: RuleTable = table((*_IDENTITY, *_PLACES))

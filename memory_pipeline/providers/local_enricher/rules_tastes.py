"""Rules for tastes, diet, health, pets and belongings."""

from __future__ import annotations

from memory_pipeline.providers.local_enricher import lexicon
from memory_pipeline.providers.local_enricher.predicates import CERTAIN, CLEAR, EXPLICIT, LIKELY, LOOSE
from memory_pipeline.providers.local_enricher.rules import (
    FREQUENCY,
    RuleTable,
    is_liked,
    is_liked_title,
    is_possession,
    is_short_thing,
    rule,
    table,
)

_ALLERGY = r"(?P<object>.+?)(?: (?:and|so|but)\b(?=.*\b(?:i|cannot|can't|have)\b).*)?"
_PREFERENCES = (
    rule(
        "likes loves enjoys adores cherishes treasures",
        r"(?P<object>.+)",
        "likes",
        "{head} {object}",
        CLEAR,
        is_liked,
        negatable=True,
    ),
    rule("hates dislikes", r"(?P<object>.+)", "dislikes", "{head} {object}", CLEAR, is_liked),
    rule(
        "prefers",
        r"(?P<object>.+?) (?:to|over|rather than) (?P<other>.+)",
        "prefers",
        "prefers {object} to {other}",
        EXPLICIT,
        is_short_thing,
    ),
    rule("prefers", r"(?P<object>.+)", "prefers", "prefers {object}", CLEAR, is_short_thing),
    rule(
        "is",
        r"(?:really |so |very )?(?:into|passionate about|obsessed with|fond of|keen on|crazy about|mad about|hooked "
        r"on|addicted to|an? (?:[a-z]+ )?(?:fan|lover) of) (?P<object>.+)",
        "likes",
        "is {rest}",
        CLEAR,
        is_liked,
        negatable=True,
    ),
    rule("loved liked enjoyed", r"(?P<object>.+)", "likes", "{head} {object}", LOOSE, is_liked_title),
    rule("loved liked enjoyed", r"(?P<object>.+)", "likes", "{head} {object}", LIKELY, is_short_thing, dated=True),
    rule(
        "has",
        r"(?:always )?(?:had )?a (?:(?:real|deep|huge|great|strong) )?(?:love|passion) (?:for|of) (?P<object>.+)",
        "likes",
        "has a passion for {object}",
        CLEAR,
    ),
    rule(
        "drinks eats smokes",
        rf"(?P<object>.+?)(?: {FREQUENCY})?",
        "consumes",
        "{head} {rest}",
        CLEAR,
        is_short_thing,
        negatable=True,
    ),
    rule(
        "stopped quit",
        r"(?:drinking|eating|smoking|using) (?P<object>.+)",
        "consumes",
        "{head} {rest}",
        EXPLICIT,
        is_short_thing,
        negated=True,
    ),
    rule(
        "smokes",
        r"(?P<object>)",
        "has_habit",
        "smokes",
        CLEAR,
        lambda _: True,
        object_is="smoking",
        slot_thing="smoking",
        negatable=True,
    ),
    rule(
        "stopped quit", r"(?P<object>smoking|drinking|vaping)", "has_habit", "{head} {object}", EXPLICIT, negated=True
    ),
    rule(
        "gave",
        r"up (?:on )?(?:drinking |eating )?(?P<object>.+)",
        "consumes",
        "gave up {object}",
        CLEAR,
        is_short_thing,
        negated=True,
    ),
    rule(
        "switched",
        r"(?:over )?from (?P<object>.+?) to (?P<other>.+)",
        "prefers",
        "gave up {object} for {other}",
        EXPLICIT,
        is_short_thing,
        negated=True,
        more=True,
    ),
    rule(
        "switched",
        r"(?:over )?from (?P<other>.+?) to (?P<object>.+)",
        "prefers",
        "switched from {other} to {object}",
        EXPLICIT,
        is_short_thing,
    ),
    rule(
        "is",
        rf"allergic to {_ALLERGY}",
        "allergic_to",
        "is allergic to {object}",
        CERTAIN,
        is_short_thing,
        negatable=True,
    ),
    rule(
        "is",
        rf"(?:an? )?(?:strict |strictly )?(?P<object>{lexicon.DIETS})(?: (?:and|so|for|since)\b.*)?",
        "diet",
        "is {object}",
        CERTAIN,
        negatable=True,
    ),
    rule("became went", rf"(?:an? )?(?P<object>{lexicon.DIETS})", "diet", "{head} {object}", EXPLICIT),
    rule("has", rf"(?:been )?(?P<object>{lexicon.DIETS})(?: for\b.*)?", "diet", "has been {object}", EXPLICIT),
)
_HEALTH_AND_THINGS = (
    rule("has", rf"(?:got )?(?P<object>{lexicon.CONDITIONS})", "health_condition", "has {object}", EXPLICIT),
    rule(
        "was",
        r"diagnosed with (?P<object>.+)",
        "health_condition",
        "was diagnosed with {object}",
        EXPLICIT,
        is_short_thing,
    ),
    rule(
        "got",
        r"diagnosed with (?P<object>.+)",
        "health_condition",
        "was diagnosed with {object}",
        EXPLICIT,
        is_short_thing,
    ),
    rule(
        "has owns adopted got rescued bought",
        r"(?:got )?(?P<object>(?:an?|another|one|two|three|four|\d) (?:[a-z-]+ ){0,3}"
        rf"(?P<kin>{'|'.join(sorted(lexicon.PETS, key=len, reverse=True))})s?)(?:,? (?:named|called) "
        rf"(?P<name>(?-i:[A-Z][a-z]+)))?"
        r"(?: (?:and|with|from|who|at|for|in|that)\b.*)?",
        "has_pet",
        "{head} {object}{named}",
        EXPLICIT,
        object_is="{pet}",
        negatable=True,
    ),
    rule(
        "has owns",
        r"(?:got )?(?P<object>(?:an?|my own|two) .+?)(?: (?:in|and|with|from|for|at|that)\b.*)?",
        "owns",
        "{head} {object}",
        CLEAR,
        is_possession,
        negatable=True,
    ),
    rule(
        "drives rides", r"(?P<object>an? .+?)(?: (?:to|and|for)\b.*)?", "owns", "{head} {object}", LOOSE, is_possession
    ),
    rule(
        "bought purchased",
        r"(?:myself |ourselves )?(?P<object>(?:an?|my|our|some|new|the|two|three) .+)",
        "bought",
        "{head} {object}",
        CLEAR,
    ),
    rule(
        "plays",
        rf"(?P<object>(?:the |a bit of |some |bass |electric |acoustic |classical "
        rf")?(?:{lexicon.INSTRUMENTS_AND_SPORTS})\b.*?)"
        rf"(?: {FREQUENCY})?",
        "has_habit",
        "plays {rest}",
        EXPLICIT,
        is_short_thing,
        negatable=True,
    ),
)


TASTES: RuleTable = table((*_PREFERENCES, *_HEALTH_AND_THINGS))

"""Rules for what is lastingly so: who someone is, their work, home, tastes, health and belongings."""

from __future__ import annotations

from memory_pipeline.providers.local_enricher import lexicon
from memory_pipeline.providers.local_enricher.predicates import CERTAIN, CLEAR, EXPLICIT, LIKELY, LOOSE
from memory_pipeline.providers.local_enricher.rules import (
    FREQUENCY,
    RuleTable,
    is_age,
    is_business,
    is_employer,
    is_job,
    is_liked,
    is_name,
    is_occupation,
    is_place,
    is_possession,
    is_proper_place,
    is_short_thing,
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
_OCCUPATION = r"(?:an? )?(?P<object>.+?)"
_TITLE = rf"an? .{{0,40}}?(?:{'|'.join(sorted(lexicon.OCCUPATIONS))})"

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
    rule("speaks", rf"(?:fluent |some |a little |a bit of )?{_LANGUAGE}.*", "speaks", "speaks {object}", EXPLICIT,
         negatable=True),
    rule("is", r"(?P<object>married|engaged|divorced|single|widowed|separated)(?: (?:to|with)\b.*| for\b.*)?",
         "relationship_status", "is {object}", EXPLICIT, negatable=True),
    rule("got", r"(?P<object>married|engaged|divorced)(?P<more> to .+| in .+| at .+)?", "relationship_status",
         "got {object}{more}", EXPLICIT),
    rule("has", rf"(?:got )?{_KIN_COUNT}{_KIN_END}", "has_relative", "has {object}", EXPLICIT),
    rule("is", r"(?P<object>an? (?:[a-z-]+ )?(?:mom|mother|mum|dad|father|parent|grandmother|grandfather|grandma|grandpa|"
         r"twin|widow|widower)(?: of (?:one|two|three|four|five|six|\d|twins|triplets))?)(?: (?:and|who|in)\b.*)?",
         "has_relative", "is {object}", EXPLICIT),
)
_WORK = (
    rule("is", rf"{_OCCUPATION} (?:at|for|with) (?P<place>.+)", "works_as", "is {a_object} at {place}", EXPLICIT,
         is_occupation, more=True, negatable=True, object_is="{title}"),
    rule("is", rf"{_TITLE} (?:at|for|with) (?P<object>.+)",
         "works_at", "works at {object}", EXPLICIT, is_employer),
    rule("is", rf"{_OCCUPATION}(?: (?:and|by|in|who|from|based|with|for)\b.*)?", "works_as", "is {a_object}", EXPLICIT,
         is_occupation, negatable=True, object_is="{title}"),
    rule("works", r"as (?P<object>.+?)(?: (?:at|for|in|with|from|on|and|to)\b.*)?", "works_as", "works as {object}",
         EXPLICIT, is_job, more=True, negatable=True, object_is="{title}"),
    rule("works", r"(?:.{0,60}? )?(?:at|for) (?P<object>.+?)(?: (?:as|in|and|on|full[- ]time|part[- ]time|with|doing|to)\b.*)?",
         "works_at", "works at {object}", EXPLICIT, is_employer, negatable=True),
    rule("works", r"in (?P<object>.+?)(?: (?:at|for|and|with|from)\b.*)?", "works_in", "works in {object}", CLEAR,
         is_short_thing),
    rule("is", r"working (?:as (?P<object>.+?))(?: (?:at|for|in|with|from|and|to)\b.*)?", "works_as",
         "is working as {object}", EXPLICIT, is_job, negatable=True, object_is="{title}"),
    rule("is", r"working (?:at|for) (?P<object>.+?)(?: (?:as|in|and|on|with|to)\b.*)?", "works_at", "is working at {object}",
         EXPLICIT, is_employer, negatable=True),
    rule("has", r"(?:been working|worked) (?:at|for) (?P<object>.+?)(?: (?:as|in|and|on|with|to)\b.*)?", "works_at",
         "has worked at {object}", EXPLICIT, is_employer),
    rule("has", r"(?:been working|worked) as (?P<object>.+?)(?: (?:at|for|in|with|from|and|to)\b.*)?", "works_as",
         "has worked as {object}", EXPLICIT, is_job, object_is="{title}"),
    rule("worked", r"as (?P<object>.+?)(?: (?:at|for|in|with|from|and|to)\b.*)?", "worked_as", "worked as {object}", CLEAR,
         is_job, object_is="{title}"),
    rule("worked", r"(?:at|for) (?P<object>.+?)(?: (?:as|in|and|on|with|to)\b.*)?", "worked_at", "worked at {object}",
         CLEAR, is_employer),
    rule("started", r"(?:working )?(?:an? |my )?(?:new )?(?:job|position|role|working) (?:at|with|for) (?P<object>.+?)(?: as\b.*)?",
         "works_at", "started working at {object}", EXPLICIT, is_employer),
    rule("started", r"(?:work|working|a (?:new )?job) as (?P<object>.+?)(?: (?:at|for|in)\b.*)?", "works_as",
         "started working as {object}", EXPLICIT, is_job, object_is="{title}"),
    rule("got landed", r"(?:an? |the )?(?:new )?(?:job|position|role) (?:at|with) (?P<object>.+?)(?: as\b.*)?", "works_at",
         "got a job at {object}", EXPLICIT, is_employer),
    rule("got landed", r"(?:an? |the )?(?:new )?(?:job|position|role) as (?P<object>.+?)(?: (?:at|for|in)\b.*)?", "works_as",
         "got a job as {object}", EXPLICIT, is_job, object_is="{title}"),
    rule("got", r"(?:hired|a job offer) (?:at|by|from) (?P<object>.+)", "works_at", "was hired by {object}", CLEAR, is_employer),
    rule("got was", r"promoted to (?P<object>.+)", "works_as", "was promoted to {object}", EXPLICIT, is_short_thing, object_is="{title}"),
    rule("quit left lost", r"(?:my|a|the) (?:old )?job as (?P<object>.+?)(?: (?:at|for|in)\b.*)?", "works_as",
         "{head} their job as {object}", EXPLICIT, is_job, negated=True, object_is="{title}"),
    rule("quit left lost", r"(?:my|a|the) (?:old )?job (?:at|with) (?P<object>.+?)(?: as\b.*)?", "works_at",
         "{head} their job at {object}", EXPLICIT, is_employer, negated=True),
    rule("quit left lost", r"(?P<object>my (?:[a-z0-9-]+ )?job)(?: to .*)?", "did", "{head} {object}", CLEAR,
         object_is="{head} {object}"),
    rule("got was", r"(?:laid off|fired|let go) (?:from|by) (?P<object>.+)", "works_at", "was laid off by {object}", EXPLICIT,
         is_employer, negated=True),
    rule("got was", r"(?P<object>laid off|fired)", "did", "was {object}", CLEAR),
    rule("is", r"(?P<object>unemployed|retired|self[- ]employed|between jobs|on maternity leave|on parental leave)(?: (?:and|from)\b.*)?",
         "employment_status", "is {object}", EXPLICIT, negatable=True),
    rule("studies", r"(?P<object>[a-z].+?)(?: (?:at|in|for|with)\b.*)?", "studies", "studies {object}", EXPLICIT,
         is_short_thing),
    rule("is", r"studying (?P<object>(?!for|to|at|hard|a lot).+?)(?: (?:at|in|for|with|to)\b.*)?", "studies",
         "is studying {object}", EXPLICIT, is_short_thing),
    rule("is", r"(?:majoring in|doing (?:a|my) (?:phd|master'?s|degree|bachelor'?s) in) (?P<object>.+?)(?: at\b.*)?", "studies",
         "is studying {object}", EXPLICIT, is_short_thing),
    rule("is", r"(?P<object>an? (?:[a-z-]+ ){0,3}student(?: (?:at|in) .+)?)", "studies", "is {object}", EXPLICIT),
    rule("graduated", r"(?:from|with) (?P<object>.+)", "graduated_from", "graduated {rest}", EXPLICIT),
    rule("runs owns has", r"(?:my|our)? ?(?P<object>(?:an?|own|the) .+?)(?: (?:with|in|and|called|named)\b.*)?", "runs",
         "{head} {object}", CLEAR, is_business, negatable=True),
    rule("teaches coaches mentors tutors", r"(?P<object>.+)", "teaches", "{head} {object}", LIKELY, is_short_thing),
)
_PLACES = (
    rule("lives", rf"(?:right )?in {_PLACE}", "lives_in", "lives in {object}", EXPLICIT, is_place, negatable=True),
    rule("is", rf"(?:living|based) in {_PLACE}", "lives_in", "lives in {object}", EXPLICIT, is_place, negatable=True),
    rule("has", rf"(?:lived|been living) in {_PLACE}", "lives_in", "has lived in {object}", EXPLICIT, is_place),
    rule("has", rf"moved (?:back )?to {_PLACE}", "lives_in", "has moved to {object}", EXPLICIT, is_proper_place),
    rule("moved relocated emigrated immigrated", r"(?:back |over |out |down |up )?(?:here )?(?:from (?P<old>.+?) )?to "
         r"(?P<object>.+?)(?: (?:from|with|for|and|near|because|to|after)\b.*)?", "lives_in", "moved to {object}", EXPLICIT,
         is_proper_place),
    rule("lived", rf"in {_PLACE}", "lived_in", "lived in {object}", CLEAR, is_proper_place),
)
_ALLERGY = r"(?P<object>.+?)(?: (?:and|so|but)\b(?=.*\b(?:i|cannot|can't|have)\b).*)?"
_PREFERENCES = (
    rule("likes loves enjoys adores", r"(?P<object>.+)", "likes", "{head} {object}", CLEAR, is_liked, negatable=True),
    rule("hates dislikes", r"(?P<object>.+)", "dislikes", "{head} {object}", CLEAR, is_liked),
    rule("prefers", r"(?P<object>.+?) (?:to|over|rather than) (?P<other>.+)", "prefers", "prefers {object} to {other}", EXPLICIT,
         is_short_thing),
    rule("prefers", r"(?P<object>.+)", "prefers", "prefers {object}", CLEAR, is_short_thing),
    rule("is", r"(?:really |so |very )?(?:into|passionate about|obsessed with|fond of|keen on|crazy about|mad about|hooked on|"
         r"addicted to|an? (?:[a-z]+ )?(?:fan|lover) of) (?P<object>.+)", "likes", "is {rest}", CLEAR, is_liked, negatable=True),
    rule("loved liked enjoyed", r"(?P<object>(?:playing |doing )?[a-z].*)", "likes", "{head} {object}", LIKELY, is_short_thing,
         dated=True),
    rule("drinks eats smokes", rf"(?P<object>.+?)(?: {FREQUENCY})?", "consumes", "{head} {rest}", CLEAR, is_short_thing, negatable=True),
    rule("stopped quit", r"(?:drinking|eating|smoking|using) (?P<object>.+)", "consumes", "{head} {rest}", EXPLICIT,
         is_short_thing, negated=True),
    rule("stopped quit", r"(?P<object>smoking|drinking|vaping)", "has_habit", "{head} {object}", EXPLICIT, negated=True),
    rule("gave", r"up (?:on )?(?:drinking |eating )?(?P<object>.+)", "consumes", "gave up {object}", CLEAR, is_short_thing,
         negated=True),
    rule("switched", r"(?:over )?from (?P<object>.+?) to (?P<other>.+)", "prefers", "gave up {object} for {other}", EXPLICIT,
         is_short_thing, negated=True, more=True),
    rule("switched", r"(?:over )?from (?P<other>.+?) to (?P<object>.+)", "prefers", "switched from {other} to {object}", EXPLICIT,
         is_short_thing),
    rule("is", rf"allergic to {_ALLERGY}", "allergic_to", "is allergic to {object}", CERTAIN, is_short_thing, negatable=True),
    rule("is", rf"(?:an? )?(?:strict |strictly )?(?P<object>{lexicon.DIETS})(?: (?:and|so|for|since)\b.*)?", "diet",
         "is {object}", CERTAIN, negatable=True),
    rule("became went", rf"(?:an? )?(?P<object>{lexicon.DIETS})", "diet", "{head} {object}", EXPLICIT),
    rule("has", rf"(?:been )?(?P<object>{lexicon.DIETS})(?: for\b.*)?", "diet", "has been {object}", EXPLICIT),
)
_HEALTH_AND_THINGS = (
    rule("has", rf"(?:got )?(?P<object>{lexicon.CONDITIONS})", "health_condition", "has {object}", EXPLICIT),
    rule("was", rf"diagnosed with (?P<object>.+)", "health_condition", "was diagnosed with {object}", EXPLICIT, is_short_thing),
    rule("got", rf"diagnosed with (?P<object>.+)", "health_condition", "was diagnosed with {object}", EXPLICIT, is_short_thing),
    rule("has owns adopted got rescued bought", r"(?:got )?(?P<object>(?:an?|another|one|two|three|four|\d) (?:[a-z-]+ ){0,3}"
         rf"(?P<kin>{'|'.join(sorted(lexicon.PETS, key=len, reverse=True))})s?)(?:,? (?:named|called) (?P<name>(?-i:[A-Z][a-z]+)))?"
         r"(?: (?:and|with|from|who|at|for|in|that)\b.*)?", "has_pet", "{head} {object}{named}", EXPLICIT, object_is="{pet}", negatable=True),
    rule("has owns", r"(?:got )?(?P<object>(?:an?|my own|two) .+?)(?: (?:in|and|with|from|for|at|that)\b.*)?", "owns",
         "{head} {object}", CLEAR, is_possession, negatable=True),
    rule("drives rides", r"(?P<object>an? .+?)(?: (?:to|and|for)\b.*)?", "owns", "{head} {object}", LOOSE, is_possession),
    rule("bought purchased", r"(?:myself |ourselves )?(?P<object>(?:an?|my|our|some|new|the|two|three) .+)", "bought",
         "{head} {object}", CLEAR),
    rule("plays", rf"(?P<object>(?:the |a bit of |some |bass |electric |acoustic |classical )?(?:{lexicon.INSTRUMENTS_AND_SPORTS})\b.*)",
         "has_habit", "plays {object}", EXPLICIT, is_short_thing, negatable=True),
)

STATES: RuleTable = table((*_IDENTITY, *_WORK, *_PLACES, *_PREFERENCES, *_HEALTH_AND_THINGS))

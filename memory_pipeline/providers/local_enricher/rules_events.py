"""Rules for what happened, what is going on, habits and plans. They are tried after those for states."""

from __future__ import annotations

from memory_pipeline.providers.local_enricher import lexicon
from memory_pipeline.providers.local_enricher.predicates import CLEAR, EXPLICIT, LIKELY, LOOSE
from memory_pipeline.providers.local_enricher.rules import (
    FREQUENCY,
    RuleTable,
    is_activity,
    is_proper_place,
    is_rhythm,
    is_short_thing,
    rule,
    table,
)

_ONGOING = (
    "learning|studying|training|working on|working towards?|writing|taking|teaching|building|renovating|saving|"
    "looking for|looking into|researching|volunteering|mentoring|practicing|practising|preparing|recovering|"
    "expecting|running|designing|planning|organizing|organising|launching|starting|opening|developing|creating|"
    "painting|recording|rehearsing|applying|remodeling|attending|hosting|growing|restoring|fostering|caring for|"
    "coaching|prepping|going to therapy|exploring|composing|dating|trying out|getting into|seeing a|knitting|reading"
)
_VERB = "|".join(sorted(set(lexicon.THIRD) - lexicon.UNPLANNED, key=len, reverse=True))
_WISH = "|".join(sorted(lexicon.WISHES))
_FUTURE_GERUND = (
    "going|having|moving|starting|getting|taking|visiting|flying|travel(?:l)?ing|leaving|meeting|hosting|running|"
    "doing|throwing|performing|attending|heading|driving|celebrating|opening|launching|putting together|giving|"
    "joining|presenting|playing|organi[sz]ing|graduating|marrying|seeing|competing|buying|spending|making|holding|"
    "teaching|turning|speaking|volunteering"
)

_PLACES_BEEN = (
    rule(
        "went travelled traveled flew drove headed",
        r"(?:back |over |up |down |away |on (?:a|an) (?:[a-z-]+ ){0,3}(?:trip|vacation|holiday) )?to "
        r"(?P<object>(?-i:[A-Z])[^\s]*(?: (?:and |de |of |the )?(?-i:[A-Z])[^\s]*)*)(?P<more> .+)?",
        "visited",
        "{head} {rest}",
        CLEAR,
        is_proper_place,
    ),
    rule(
        "took",
        r"(?:my |our |the )?.{0,40}?(?:trip|vacation|holiday|flight|train) .*?to (?P<object>(?-i:[A-Z])[^\s]*(?: "
        r"(?-i:[A-Z])[^\s]*)*)(?P<more> .+)?",
        "visited",
        "{head} {rest}",
        CLEAR,
        is_proper_place,
    ),
    rule("visited", r"(?P<object>.+)", "visited", "visited {object}", CLEAR),
    rule(
        "has",
        r"been to (?P<object>(?-i:[A-Z])\S*(?: (?-i:[A-Z])\S*)*)(?P<more> .+)?",
        "visited",
        "was in {object}",
        CLEAR,
        is_proper_place,
        dated=True,
    ),
    rule(
        "has",
        r"been to (?P<object>(?-i:[A-Z])\S*(?: (?-i:[A-Z])\S*)*)(?P<more> .+)?",
        "visited",
        "has been to {object}",
        CLEAR,
        is_proper_place,
    ),
    rule("has", r"visited (?P<object>.+)", "visited", "has visited {object}", CLEAR),
    rule("got came", r"back from (?P<object>.+)", "visited", "{head} back from {object}", CLEAR, is_short_thing),
)
_PLANS = (
    rule("is", rf"going to (?P<object>(?:{_VERB}) .+)", "plans", "plans to {object}", LIKELY, is_activity),
    rule(
        "is",
        r"going to (?P<object>(?:(?-i:[A-Z])|an? |the |my ).+)",
        "plans",
        "plans to go to {object}",
        LIKELY,
        dated=True,
        object_is="go to {object}",
    ),
    rule(
        "is",
        r"going to (?P<object>(?-i:[A-Z])\S*(?: (?-i:[A-Z])\S*)*)(?P<more> (?:with|for) .+)?",
        "plans",
        "plans to go to {object}{more}",
        LIKELY,
        is_proper_place,
        object_is="go to {object}",
    ),
    rule("is", rf"planning to (?P<object>(?:{_VERB}) .+)", "plans", "is planning to {object}", LIKELY, is_activity),
    rule("is", r"planning (?:on )?(?P<object>[a-z]+ing\b.*)", "plans", "is planning on {object}", LIKELY),
    rule("is", r"planning (?P<object>(?:an? |my |our |the ).+)", "plans", "is planning {object}", LIKELY),
    rule("plans", r"(?:to|on) (?P<object>.+)", "plans", "{head} {rest}", LIKELY, is_activity),
    rule(
        "will",
        rf"(?:be )?(?P<object>(?:(?:{_VERB})\b|[a-z]+ing\b).*)",
        "plans",
        "will {rest}",
        LIKELY,
        is_activity,
        dated=True,
    ),
    rule(
        "is",
        r"(?:thinking (?:of|about)|considering) (?P<object>[a-z]+ing .+)",
        "plans",
        "is considering {object}",
        LOOSE,
    ),
    rule("is", rf"(?P<object>(?:{_FUTURE_GERUND})\b.*)", "plans", "is {object}", CLEAR, dated=True),
    rule("is", rf"off to (?P<object>(?:{_VERB})\b.*)", "plans", "is off to {object}", LIKELY, is_short_thing),
    rule(
        "is",
        rf"(?:hoping|aiming|looking|trying|determined) to (?P<object>(?:{_WISH}) .+)",
        "wants",
        "is {rest}",
        LOOSE,
        is_activity,
    ),
    rule("is", r"(?P<object>moving to .+)", "plans", "is {object}", LIKELY, is_short_thing),
    rule("is", r"(?P<object>getting married.*)", "plans", "is {object}", CLEAR),
    rule(
        "has",
        r"(?P<object>(?:an?|my|the|our) (?!cold|headache|fever|cough|question|problem|bug|issue|feeling).+)",
        "plans",
        "has {object}",
        LIKELY,
        dated=True,
    ),
    rule("leaves flies starts", r"(?P<object>.+)", "plans", "{head} {object}", LIKELY, dated=True),
    rule("booked", r"(?P<object>(?:an?|my|our|some|the|tickets|flights) .+)", "plans", "booked {object}", LIKELY),
    rule(
        "wants", rf"to (?P<object>(?:{_WISH}) (?!better\b|best\b).+)", "wants", "wants to {object}", LOOSE, is_activity
    ),
    rule("hopes", rf"to (?P<object>(?:{_WISH}|build|create) .+)", "wants", "hopes to {object}", LOOSE, is_activity),
    rule(
        "has",
        rf"(?:always )?wanted to (?P<object>(?:{_VERB}) .+)",
        "wants",
        "has always wanted to {object}",
        LOOSE,
        is_activity,
    ),
)
_ACTIVITIES = (
    rule(
        "started began",
        r"(?P<object>(?:learning|playing|taking|practicing|training|working|running|volunteering|writing|"
        r"painting|studying|teaching|dancing|knitting|transitioning|reading|cooking|(?:looking|doing|going) )\b.*)",
        "did",
        "{head} {object}",
        CLEAR,
        object_is="{head} {object}",
    ),
    rule("has", r"been (?P<object>[a-z]+ing\b.*)", "is_doing", "has been {object}", LOOSE, is_activity),
    rule("has", r"been into (?P<object>.+)", "likes", "has been into {object}", CLEAR),
    rule("is", rf"(?P<object>(?:{_ONGOING})\b.+)", "is_doing", "is {object}", LOOSE),
    rule(
        " ".join(sorted(set(lexicon.BASE) - {"wants", "hopes", "needs", "keeps", "asks", "shows", "has"})),
        rf"(?P<object>.*?){FREQUENCY}(?P<more>.*)",
        "has_habit",
        "{head} {rest}",
        LIKELY,
        is_rhythm,
        slot_thing="{base} {object}",
        object_is="{base} {rest}",
        negatable=True,
    ),
    rule("volunteers", r"(?P<object>(?:at|with|for|in) .+)", "has_habit", "volunteers {object}", LIKELY),
)
_MEDIUM = (
    "went made took got met found saw tried learned gave played read watched helped roasted explored emailed "
    "contacted rehearsed struggled shared talked lost received wrote sold built taught started gave grew invested "
    "upgraded spoke drove flew ate cooked"
)
_EVENTS = (
    rule(
        "was",
        r"(?P<object>(?:accepted|admitted|invited|elected|selected|chosen|hired|promoted|injured|hospitali[sz]ed|"
        r"diagnosed|awarded|nominated)\b.*)",
        "did",
        "was {object}",
        CLEAR,
        object_is="was {object}",
    ),
    rule(
        "got",
        r"(?P<object>(?:accepted|admitted|hired|promoted|selected|chosen|mentored|noticed|hurt|injured|invited|"
        r"elected|published|engaged)\b.*)",
        "did",
        "got {object}",
        CLEAR,
        object_is="got {object}",
    ),
    rule(
        "met", r"(?P<object>(?:my|our|the|an?) .+)", "did", "met {object}", LIKELY, dated=True, object_is="met {object}"
    ),
    rule("signed", r"up (?P<object>.+)", "did", "signed up {object}", CLEAR, object_is="signed up {object}"),
    rule(
        " ".join(sorted(lexicon.STRONG_EVENTS)),
        r"(?P<object>.+)",
        "did",
        "{head} {object}",
        LIKELY,
        object_is="{head} {object}",
    ),
    rule(
        "died graduated retired divorced", r"(?P<object>)", "did", "{head}", CLEAR, lambda _: True, object_is="{head}"
    ),
    rule("died", r"(?P<object>.+)", "did", "died", CLEAR, object_is="died"),
    rule("studied", r"(?P<object>.+)", "did", "studied {object}", LIKELY, object_is="studied {object}"),
    rule("collects", r"(?P<object>.+)", "has_habit", "collects {object}", LIKELY, is_short_thing, negatable=True),
    rule("passed", r"(?P<object>away)", "did", "passed away", EXPLICIT, object_is="passed away"),
    rule(
        "has",
        rf"(?P<object>(?:{'|'.join(sorted(lexicon.STRONG_EVENTS & lexicon.PARTICIPLES))}|started|begun|taken up|"
        rf"run) .+)",
        "did",
        "has {object}",
        LIKELY,
    ),
    rule(
        " ".join(sorted(lexicon.PAST - {"wanted", "hoped", "needed", "liked", "preferred", "said", "asked", "owned"})),
        r"(?P<object>.+)",
        "did",
        "{head} {object}",
        CLEAR,
        dated=True,
        object_is="{head} {object}",
    ),
    rule(
        _MEDIUM,
        r"(?P<object>(?:an?|another|some|two|three|four|several|\d+|my|our|to an?|to the|to my|on an?|about my|about "
        r"the|with my|with some|with an?|[a-z]+ing) (?!chance|great time|lot|bit|blast|best|ton|idea|feeling|way|"
        r"good time).+)",
        "did",
        "{head} {object}",
        LOOSE,
        object_is="{head} {object}",
    ),
)

EVENTS: RuleTable = table((*_PLACES_BEEN, *_PLANS, *_ACTIVITIES, *_EVENTS))

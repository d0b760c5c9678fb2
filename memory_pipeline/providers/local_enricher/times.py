"""Finding what people say about time ("last Saturday", "two weeks ago", "in May") and its absolute date."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

from memory_pipeline.providers.local_enricher.periods import (
    MONTHS,
    Match,
    Resolver,
    Tense,
    ago,
    ahead,
    calendar_day,
    calendar_month,
    calendar_year,
    day_text,
    iso_day,
    lasting,
    named_day,
    season_of,
    unit,
    weekday,
)


@dataclass(frozen=True)
class TimeMention:
    """One time expression: where it stands, the first day it names (None where vague), and its words when absolute."""

    span: tuple[int, int]
    start: date | None
    phrase: str
    """ "on 20 May 2023"; empty where the expression is too vague to date."""
    end: date | None = None
    """The first day after the time named; None where `start` is."""


_PREPOSITION = (
    r"\b(?:(?P<preposition>since|until|till|by|before|after|from)\s+)?(?:(?:on|in|over|during|at|back on)\s+)?"
)
_NUMBER = (
    r"(?P<number>(?:about |around |over |almost |nearly |like )?(?:\d{1,3}|an?|one|two|three|four|five|six|seven|"
    r"eight|nine|ten|eleven|twelve|(?:a )?couple(?: of| more)?|(?:a )?few|several))"
)
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_FULL_MONTH = "(?:" + "|".join(MONTHS) + r")\b"
_YEAR = r"(?P<year>(?:19|20)\d\d)\b"
_PART = r"(?P<part>\s+(?:morning|afternoon|evening|night))?\b"
_WHICH = r"(?P<which>(?:this |the )?(?:last|past|coming)|this|next)"


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(_PREPOSITION + pattern, re.IGNORECASE)


_PATTERNS: tuple[tuple[re.Pattern[str], Resolver], ...] = (
    (
        _compile(
            r"(?:earlier |later |just |early )?(?:the )?(?P<word>day before yesterday|day after tomorrow|"
            r"yesterday|tomorrow|"
            r"tonight|today|last night|this (?:morning|afternoon|evening))" + _PART
        ),
        named_day,
    ),
    (_compile(r"(?P<year>(?:19|20)\d\d)-(?P<month>\d\d)-(?P<day>\d\d)\b"), iso_day),
    (
        _compile(rf"(?:the )?(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<month>{_MONTH})(?:,? {_YEAR})?"),
        calendar_day,
    ),
    (
        _compile(rf"(?P<month2>{_MONTH}) (?:the )?(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,? {_YEAR})?"),
        calendar_day,
    ),
    (
        re.compile(
            rf"\b(?P<preposition>since|until|till|by)?\s*(?P<which>(?:this |the )?last|this|next|back in|in|since|"
            rf"by)\s+(?:early |late |mid-?)?(?P<month>{_FULL_MONTH})(?:,? {_YEAR})?(?! \d)",
            re.IGNORECASE,
        ),
        calendar_month,
    ),
    (_compile(rf"{_NUMBER} (?P<unit>day|weekend|week|month|year)s? (?:ago|back)\b"), ago),
    (
        re.compile(rf"\b(?P<preposition>in) {_NUMBER} (?P<unit>day|week|month|year)s?(?:'? time)?\b", re.IGNORECASE),
        ahead,
    ),
    (
        re.compile(rf"\b(?P<preposition>for) {_NUMBER} (?P<unit>day|week|month|year)s?\b(?: now)?", re.IGNORECASE),
        lasting,
    ),
    (_compile(rf"{_WHICH} (?P<unit>weekend|week|month|year)\b(?!')"), unit),
    (_compile(r"(?P<which>the) (?P<unit>weekend)\b(?!')"), unit),
    (
        _compile(
            rf"(?P<which>(?:this |the )?(?:last|past|coming)|this|next|the) (?P<season>spring|summer|autumn|fall|"
            rf"winter)(?: of {_YEAR})?\b(?! break| camp| vacation| holiday| school| job| program)"
        ),
        season_of,
    ),
    (
        re.compile(
            r"\b(?P<preposition>since|until|till|by|before|after)?\s*(?P<which>(?:this |the )?(?:last|past|coming)|"
            r"this|next|on) (?P<weekday>mon|tues?|wed|thur?s?|fri|sat|monday|tuesday|wednesday|thursday|friday|"
            r"saturday|sunday)\b" + _PART,
            re.IGNORECASE,
        ),
        weekday,
    ),
    (
        re.compile(
            r"(?<!every )(?<!each )\b(?:(?P<preposition>since|until|till|by|before|after) )?(?P<which>)"
            r"(?P<weekday>Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)\b"
            + _PART
            + r"(?=$|[.,!]| (?:to|at|with|for|and)\b)"
        ),
        weekday,
    ),
    (
        re.compile(
            rf"\b(?:(?P<preposition>since|until|till|by) |(?:back )?in )(?:late |early |mid-?)?{_YEAR}(?! [a-z]+s\b)"
        ),
        calendar_year,
    ),
)
_VAGUE = re.compile(
    r"\b(?:the other (?:day|night|week)|a (?:little )?while (?:ago|back)|(?:very |quite |just )?recently|lately|"
    r"not (?:too )?long ago|some time ago|these days|at the moment|right now|at present|nowadays|some ?day|one "
    r"day soon)\b",
    re.IGNORECASE,
)
_NOW = frozenset(
    ("these days", "at the moment", "right now", "at present", "nowadays", "some day", "someday", "one day soon")
)
_TRIGGER = re.compile(
    r"\d|day\b|tomorrow|night\b|ago\b|back\b|last |next |this |past |week|month|year|spring|summer|autumn|fall|"
    r"winter|\b(?:in|since|by|until|till) |mon\b|tue|wed\b|thu|fri\b|sat\b|recently|lately|while|these|moment|now|"
    r"time",
    re.IGNORECASE,
)


def find_times(text: str, today: date, tense: Tense) -> list[TimeMention]:
    """Return the time expressions of a clause in order, without overlaps; those that name no real date are left out."""
    if not _TRIGGER.search(text):
        return []
    found: list[TimeMention] = []
    taken: list[tuple[int, int]] = []
    for pattern, resolve in _PATTERNS:
        for match in pattern.finditer(text):
            span = match.span()
            if any(span[0] < end and start < span[1] for start, end in taken):
                continue
            mention = _resolved(match, resolve, today, tense)
            if mention is not None:
                taken.append(span)
                found.append(mention)
    for match in _VAGUE.finditer(text):
        if not any(match.start() < end and start < match.end() for start, end in taken):
            said_past = tense is Tense.PAST and match[0].lower() not in _NOW
            found.append(TimeMention(match.span(), None, f"not long before {day_text(today)}" if said_past else ""))
    return sorted(found, key=lambda mention: mention.span)


def _resolved(match: Match, resolve: Resolver, today: date, tense: Tense) -> TimeMention | None:
    try:
        period = resolve(match, today, tense)
        end = period.start + timedelta(days=period.days) if period else None
    except (ValueError, OverflowError):
        # "31 February", "in 999 years" near the calendar's end: said, but no day.
        return None
    if period is None:
        return None
    groups = match.groupdict()
    said = (groups.get("preposition") or groups.get("which") or "").lower()
    if said in ("since", "until", "till", "by", "before", "after") and period.preposition:
        if said != "since":
            return TimeMention(match.span(), None, f"{said} {period.noun}")
        return TimeMention(match.span(), period.start, f"{said} {period.noun}", today)
    phrase = f"{period.preposition} {period.noun}".strip()
    return TimeMention(match.span(), period.start, phrase, end)

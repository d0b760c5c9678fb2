"""Turning what people say about time ("last Saturday", "two weeks ago", "in May") into dates.

Everything is relative to the UTC day on which the message was sent. Weeks begin on Monday; a weekend is named by its
Saturday; seasons are those of the northern hemisphere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum

from dateutil.relativedelta import relativedelta

MONTHS = (
    "January February March April May June July August September October November December"  # noqa: SIM905
).split()
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
_NUMBERS = {
    word: value
    for value, words in enumerate(
        ("", "a an one", "two couple", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    )
    for word in words.split()
}
_SATURDAY = 5


class Tense(Enum):
    """Which way an undirected time ("on Monday", "in May") points."""

    PAST = "past"
    PERFECT = "perfect"
    PRESENT = "present"
    FUTURE = "future"

    @property
    def looks_back(self) -> bool:
        return self in (Tense.PAST, Tense.PERFECT)


@dataclass(frozen=True)
class TimeMention:
    """One time expression: where it stands, the first day it names (None where vague), and its words when absolute."""

    span: tuple[int, int]
    start: date | None
    phrase: str
    """ "on 20 May 2023"; empty where the expression is too vague to date."""
    end: date | None = None
    """The first day after the time named; None where `start` is."""


@dataclass(frozen=True)
class _Period:
    start: date
    preposition: str
    noun: str
    days: int = 1


def day_text(day: date) -> str:
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def _day(day: date) -> _Period:
    return _Period(day, "on", day_text(day))


def _part_of_day(day: date, part: str | None) -> _Period:
    return _Period(day, "on", f"the {part} of {day_text(day)}") if part else _day(day)


def _week(day: date) -> _Period:
    monday = day - timedelta(days=day.weekday())
    return _Period(monday, "in", f"the week of {day_text(monday)}", 7)


def _weekend(saturday: date) -> _Period:
    return _Period(saturday, "on", f"the weekend of {day_text(saturday)}", 2)


def _month(day: date) -> _Period:
    return _Period(day.replace(day=1), "in", f"{MONTHS[day.month - 1]} {day.year}", 31)


def _year(year: int) -> _Period:
    return _Period(date(year, 1, 1), "in", str(year), 366)


def _season(name: str, year: int) -> _Period:
    name = "autumn" if name == "fall" else name
    label = f"{name} {year}/{(year + 1) % 100:02d}" if name == "winter" else f"{name} {year}"
    return _Period(date(year, _SEASONS[name], 1), "in", label, 92)


def _this_saturday(today: date) -> date:
    """The Saturday of the weekend that `today` is in, else of the coming one."""
    return today - timedelta(days=1) if today.weekday() == 6 else today + timedelta(days=_SATURDAY - today.weekday())


_Match = re.Match[str]
_Resolver = Callable[[_Match, date, Tense], _Period | None]


def _named_day(match: _Match, today: date, tense: Tense) -> _Period | None:
    word = match["word"].lower()
    offset = {"yesterday": -1, "tomorrow": 1, "day before yesterday": -2, "day after tomorrow": 2}.get(word, 0)
    day = today + timedelta(days=offset)
    part = (match["part"] or "").strip().lower() or None
    if word.startswith("this "):
        part = word.removeprefix("this ")
    elif word == "tonight":
        part = "evening"
    elif word == "last night":
        day, part = today - timedelta(days=1), "night"
    return _part_of_day(day, part)


def _weekday(match: _Match, today: date, tense: Tense) -> _Period | None:
    short = match["weekday"].lower()[:3]
    index = next(number for number, name in enumerate(_WEEKDAYS) if name.startswith(short))
    which = (match["which"] or "").lower()
    back = (today.weekday() - index) % 7 or 7
    ahead = (index - today.weekday()) % 7 or 7
    if "last" in which or "past" in which:
        day = today - timedelta(days=back)
    elif "next" in which:
        day = today - timedelta(days=today.weekday()) + timedelta(days=7 + index)
    elif tense.looks_back:
        day = today - timedelta(days=back)
    else:
        day = today + timedelta(days=ahead)
    return _part_of_day(day, (match["part"] or "").strip().lower() or None)


def _unit(match: _Match, today: date, tense: Tense) -> _Period | None:
    which, unit = match["which"].lower(), match["unit"].lower()
    step = -1 if "last" in which or "past" in which else 1 if "next" in which or "coming" in which else 0
    if unit == "week":
        return _week(today + timedelta(weeks=step))
    if unit == "weekend":
        saturday = _this_saturday(today)
        # On Monday to Wednesday "this weekend" in the past tense, and always "last weekend", is the one gone by.
        if step == 0 and tense.looks_back and today.weekday() < _SATURDAY:
            step = -1
        return _weekend(saturday + timedelta(weeks=step))
    if unit == "month":
        return _month(today + relativedelta(months=step))
    return _year(today.year + step)


def _season_of(match: _Match, today: date, tense: Tense) -> _Period | None:
    name = match["season"].lower()
    if match["year"]:
        return _season(name, int(match["year"]))
    which = (match["which"] or "").lower()
    month = _SEASONS[name]
    years = [year for year in range(today.year - 2, today.year + 3) if 1 <= year <= 9998]
    starts = [date(year, month, 1) for year in years]
    if "last" in which or "past" in which or (which in ("", "the") and tense.looks_back):
        return _season(name, max(start for start in starts if start + relativedelta(months=3) <= today).year)
    if "next" in which or which in ("", "the"):
        return _season(name, min(start for start in starts if start > today).year)
    if name == "winter" and today.month <= 2:
        return _season(name, today.year - 1)
    return _season(name, today.year)


def _ago(match: _Match, today: date, tense: Tense) -> _Period | None:
    return _offset(match, today, -1)


def _ahead(match: _Match, today: date, tense: Tense) -> _Period | None:
    return _offset(match, today, 1)


def _offset(match: _Match, today: date, sign: int) -> _Period | None:
    unit = match["unit"].lower()
    word = re.sub(r"^(?:a |about |around |over |almost |nearly |like )+(?=\S)", "", match["number"].lower()).strip()
    word = re.sub(r"\s+(?:of|more)$", "", word)
    if word in ("few", "several", "some"):
        shift = relativedelta(**{f"{'week' if unit == 'weekend' else unit}s": 3 * sign})  # type: ignore[arg-type]
        side = "before" if sign < 0 else "after"
        return _Period(today + shift, "", f"a few {unit}s {side} {day_text(today)}")
    number = sign * (int(word) if word.isdecimal() else _NUMBERS[word])
    if unit == "day":
        return _day(today + timedelta(days=number))
    if unit == "week":
        return _week(today + timedelta(weeks=number))
    if unit == "weekend":
        saturday = _this_saturday(today)
        return _weekend(saturday + timedelta(weeks=number))
    if unit == "month":
        return _month(today + relativedelta(months=number))
    return _year(today.year + number)


def _lasting(match: _Match, today: date, tense: Tense) -> _Period | None:
    """ "for three years" tells a beginning only where the tense says it still lasts ("I've lived here for ...")."""
    if tense is not Tense.PERFECT:
        return None
    period = _offset(match, today, -1)
    return _Period(period.start, "since", period.noun) if period and period.preposition else None


def _month_number(word: str) -> int:
    return next(number for number, name in enumerate(MONTHS, 1) if name.lower().startswith(word.lower()[:3]))


def _calendar_day(match: _Match, today: date, tense: Tense) -> _Period | None:
    groups = match.groupdict()
    day = int(groups.get("day") or groups["day2"])
    month = _month_number(groups.get("month") or groups["month2"])
    if match["year"]:
        return _day(date(int(match["year"]), month, day))
    years = (today.year, today.year - 1) if tense.looks_back else (today.year, today.year + 1)
    for year in years:
        found = date(year, month, day)
        if (found <= today) if tense.looks_back else (found >= today):
            return _day(found)
    return None


def _calendar_month(match: _Match, today: date, tense: Tense) -> _Period | None:
    month = _month_number(match["month"])
    if match["year"]:
        return _month(date(int(match["year"]), month, 1))
    which = (match["which"] or "").lower()
    back = "last" in which or (which in ("in", "since", "back in") and tense.looks_back) or which == "since"
    if back:
        passed = month < today.month if "last" in which else month <= today.month
        return _month(date(today.year if passed else today.year - 1, month, 1))
    if "this" in which:
        return _month(date(today.year, month, 1))
    ahead = month > today.month if "next" in which else month >= today.month
    return _month(date(today.year if ahead else today.year + 1, month, 1))


def _calendar_year(match: _Match, today: date, tense: Tense) -> _Period | None:
    return _year(int(match["year"]))


def _iso_day(match: _Match, today: date, tense: Tense) -> _Period | None:
    return _day(date(int(match["year"]), int(match["month"]), int(match["day"])))


_PREPOSITION = r"\b(?:(?P<preposition>since|until|till|by|before|after|from)\s+)?(?:(?:on|in|over|during|at|back on)\s+)?"
_NUMBER = (
    r"(?P<number>(?:about |around |over |almost |nearly |like )?(?:\d{1,3}|an?|one|two|three|four|five|six|seven|eight|nine|"
    r"ten|eleven|twelve|(?:a )?couple(?: of| more)?|(?:a )?few|several))"
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


_PATTERNS: tuple[tuple[re.Pattern[str], _Resolver], ...] = (
    (
        _compile(
            r"(?:earlier |later |just |early )?(?:the )?(?P<word>day before yesterday|day after tomorrow|yesterday|tomorrow|"
            r"tonight|today|last night|this (?:morning|afternoon|evening))" + _PART
        ),
        _named_day,
    ),
    (_compile(r"(?P<year>(?:19|20)\d\d)-(?P<month>\d\d)-(?P<day>\d\d)\b"), _iso_day),
    (
        _compile(
            rf"(?:the )?(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<month>{_MONTH})(?:,? {_YEAR})?"
        ),
        _calendar_day,
    ),
    (
        _compile(rf"(?P<month2>{_MONTH}) (?:the )?(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,? {_YEAR})?"),
        _calendar_day,
    ),
    (
        re.compile(
            rf"\b(?P<preposition>since|until|till|by)?\s*(?P<which>(?:this |the )?last|this|next|back in|in|since|by)\s+"
            rf"(?:early |late |mid-?)?(?P<month>{_FULL_MONTH})(?:,? {_YEAR})?(?! \d)",
            re.IGNORECASE,
        ),
        _calendar_month,
    ),
    (_compile(rf"{_NUMBER} (?P<unit>day|weekend|week|month|year)s? (?:ago|back)\b"), _ago),
    (
        re.compile(rf"\b(?P<preposition>in) {_NUMBER} (?P<unit>day|week|month|year)s?(?:'? time)?\b", re.IGNORECASE),
        _ahead,
    ),
    (
        re.compile(rf"\b(?P<preposition>for) {_NUMBER} (?P<unit>day|week|month|year)s?\b(?: now)?", re.IGNORECASE),
        _lasting,
    ),
    (_compile(rf"{_WHICH} (?P<unit>weekend|week|month|year)\b(?!')"), _unit),
    (_compile(r"(?P<which>the) (?P<unit>weekend)\b(?!')"), _unit),
    (
        _compile(rf"(?P<which>(?:this |the )?(?:last|past|coming)|this|next|the) (?P<season>spring|summer|autumn|fall|winter)"
                 rf"(?: of {_YEAR})?\b(?! break| camp| vacation| holiday| school| job| program)"),
        _season_of,
    ),
    (
        re.compile(
            r"\b(?P<preposition>since|until|till|by|before|after)?\s*(?P<which>(?:this |the )?(?:last|past|coming)|this|next|on) "
            r"(?P<weekday>mon|tues?|wed|thur?s?|fri|sat|monday|tuesday|wednesday|thursday|friday|saturday|sunday)\b" + _PART,
            re.IGNORECASE,
        ),
        _weekday,
    ),
    (
        re.compile(
            r"(?<!every )(?<!each )\b(?P<preposition>since|until|till|by|before|after)?\s*(?P<which>)"
            r"(?P<weekday>Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)\b" + _PART + r"(?=$|[.,!]| (?:to|at|with|for|and)\b)"
        ),
        _weekday,
    ),
    (re.compile(rf"\b(?:(?P<preposition>since|until|till|by) |(?:back )?in )(?:late |early |mid-?)?{_YEAR}(?! [a-z]+s\b)"), _calendar_year),
)
_VAGUE = re.compile(
    r"\b(?:the other (?:day|night|week)|a (?:little )?while (?:ago|back)|(?:very |quite |just )?recently|lately|"
    r"not (?:too )?long ago|some time ago|these days|at the moment|right now|at present|nowadays|some ?day|one day soon)\b",
    re.IGNORECASE,
)
_TRIGGER = re.compile(
    r"\d|day\b|night\b|ago\b|back\b|last |next |this |past |week|month|year|spring|summer|autumn|fall|winter|"
    r"\b(?:in|since|by|until|till) |mon\b|tue|wed\b|thu|fri\b|sat\b|recently|lately|while|these|moment|now|time",
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
            found.append(TimeMention(match.span(), None, ""))
    return sorted(found, key=lambda mention: mention.span)


def _resolved(match: _Match, resolve: _Resolver, today: date, tense: Tense) -> TimeMention | None:
    try:
        period = resolve(match, today, tense)
        end = period.start + timedelta(days=period.days) if period else None
    except (ValueError, OverflowError):
        # "31 February", "in 999 years" near the calendar's end: said, but no day.
        return None
    if period is None:
        return None
    said = (match.groupdict().get("preposition") or "").lower()
    if said in ("since", "until", "till", "by", "before", "after") and period.preposition:
        if said != "since":
            return TimeMention(match.span(), None, f"{said} {period.noun}")
        return TimeMention(match.span(), period.start, f"{said} {period.noun}", today)
    phrase = f"{period.preposition} {period.noun}".strip()
    return TimeMention(match.span(), period.start, phrase, end)

"""The calendar periods behind what people say about time: which week "last week" is, which May "in May".

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

MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
_NUMBERS = {
    word: value
    for value, words in enumerate(
        (
            "",
            "a an one",
            "two couple",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
        )
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
class Period:
    start: date
    preposition: str
    noun: str
    days: int = 1


def day_text(day: date) -> str:
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def _day(day: date) -> Period:
    return Period(day, "on", day_text(day))


def _part_of_day(day: date, part: str | None) -> Period:
    return Period(day, "on", f"the {part} of {day_text(day)}") if part else _day(day)


def _week(day: date) -> Period:
    monday = day - timedelta(days=day.weekday())
    return Period(monday, "in", f"the week of {day_text(monday)}", 7)


def _weekend(saturday: date) -> Period:
    return Period(saturday, "on", f"the weekend of {day_text(saturday)}", 2)


def _month(day: date) -> Period:
    return Period(day.replace(day=1), "in", f"{MONTHS[day.month - 1]} {day.year}", 31)


def _year(year: int) -> Period:
    return Period(date(year, 1, 1), "in", str(year), 366)


def _season(name: str, year: int) -> Period:
    name = "autumn" if name == "fall" else name
    label = f"{name} {year}/{(year + 1) % 100:02d}" if name == "winter" else f"{name} {year}"
    return Period(date(year, _SEASONS[name], 1), "in", label, 92)


def _this_saturday(today: date) -> date:
    """The Saturday of the weekend that `today` is in, else of the coming one."""
    return today - timedelta(days=1) if today.weekday() == 6 else today + timedelta(days=_SATURDAY - today.weekday())


Match = re.Match[str]
Resolver = Callable[[Match, date, Tense], Period | None]


def named_day(match: Match, today: date, tense: Tense) -> Period | None:
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


def weekday(match: Match, today: date, tense: Tense) -> Period | None:
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


def unit(match: Match, today: date, tense: Tense) -> Period | None:
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


def season_of(match: Match, today: date, tense: Tense) -> Period | None:
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


def ago(match: Match, today: date, tense: Tense) -> Period | None:
    return _offset(match, today, -1)


def ahead(match: Match, today: date, tense: Tense) -> Period | None:
    return _offset(match, today, 1)


def _offset(match: Match, today: date, sign: int) -> Period | None:
    unit = match["unit"].lower()
    word = re.sub(r"^(?:a |about |around |over |almost |nearly |like )+(?=\S)", "", match["number"].lower()).strip()
    word = re.sub(r"\s+(?:of|more)$", "", word)
    if word in ("few", "several", "some"):
        shift = relativedelta(**{f"{'week' if unit == 'weekend' else unit}s": 3 * sign})  # type: ignore[arg-type]
        side = "before" if sign < 0 else "after"
        return Period(today + shift, "", f"a few {unit}s {side} {day_text(today)}")
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


def lasting(match: Match, today: date, tense: Tense) -> Period | None:
    """ "for three years" tells a beginning only where the tense says it still lasts ("I've lived here for ...")."""
    if tense is not Tense.PERFECT:
        return None
    period = _offset(match, today, -1)
    return Period(period.start, "since", period.noun) if period and period.preposition else None


def _month_number(word: str) -> int:
    return next(number for number, name in enumerate(MONTHS, 1) if name.lower().startswith(word.lower()[:3]))


def calendar_day(match: Match, today: date, tense: Tense) -> Period | None:
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


def calendar_month(match: Match, today: date, tense: Tense) -> Period | None:
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


def calendar_year(match: Match, today: date, tense: Tense) -> Period | None:
    return _year(int(match["year"]))


def iso_day(match: Match, today: date, tense: Tense) -> Period | None:
    return _day(date(int(match["year"]), int(match["month"]), int(match["day"])))

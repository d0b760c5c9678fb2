"""From a piece of a message to clauses with a known subject and a verb phrase in the third person.

"and my sister Ana's living in Porto" becomes subject "Ana", head "is", rest "living in Porto". Whatever is not plainly
one of the shapes known here (a modal, a question's word order, an unknown verb) gives no clause: precision first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

from memory_pipeline.providers.local_enricher import lexicon
from memory_pipeline.providers.local_enricher.people import KIN, NAME, PeopleSeen, Person
from memory_pipeline.providers.local_enricher.periods import Tense
from memory_pipeline.providers.local_enricher.times import TimeMention, find_times
from memory_pipeline.providers.local_enricher.trimming import CUT, tidy


@dataclass(frozen=True)
class Clause:
    """One assertion: `head` is its verb in the third person singular or the past, `rest` what follows but times."""

    person: Person
    head: str
    rest: str
    tense: Tense
    time: TimeMention | None = None
    negated: bool = False
    no_longer: bool = False
    used_to: bool = False
    implied_subject: bool = False


@dataclass(frozen=True)
class RawClause:
    """A subject and the words after it, as said."""

    person: Person
    words: str
    lead: str = ""
    implied_subject: bool = False


_CONJUNCTION = (
    r"(?:and then|and now|and so|which is why|so that|and|but|so|because|'cause|cause|cuz|coz|since|as|after|before|"
    r"although|though|while|whereas|plus|when|whenever|where|that|until|till|once|than|like|how|what|why|then|also|"
    r"even though)"
)
_STARTS_SUBJECT = r"(?=(?:I|we|my|our|she|he|they|it|you|there|this|that)(?:'\w{1,2})?\s)"
_SPLIT = re.compile(rf"(?:\s?[,:(]\s*(?:{_CONJUNCTION}\s+)?|(?:^|\s){_CONJUNCTION}\s+){_STARTS_SUBJECT}", re.IGNORECASE)
_DROPPED_AFTER = lexicon.words("when whenever where that until till once than like how what why as so that before")

_LEAD = re.compile(
    r"^(?:(?:yeah|yes|yep|yup|no|nope|nah|well|oh|ok|okay|hey|hi|hello|so|and|but|also|actually|honestly|btw|by "
    r"the way|"
    r"anyways?|plus|fyi|lol|haha|wow|thanks|thank you|tbh|unfortunately|luckily|fortunately|sadly|in fact|first|"
    r"then|totally|"
    r"good news|guess what|as for me|for me|personally|to be honest|you know|i mean|yay|ah|aw|aww|hmm|um|uh|man|"
    r"ugh|sure|"
    r"of course|absolutely|definitely|exactly|true|cool|nice|great|awesome|same|same here|me too|speaking of which|"
    r"after that|since then|for context|just so you know|update|quick update|long story short|on a side note)\b"
    rf"(?:,? {NAME}\b(?=[,!:.]))?[\s,!.:-]*)+",
    re.IGNORECASE,
)
_SPEAKER = re.compile(
    r"^(?:(?:me and )?my (?:[a-z]+ ){1,2}and (?:I|me)|me and my (?:\w+ )?\w+|(?:I|we)(?: both| "
    r"all)?)(?P<short>'\w+|m|ve)?\b\s*",
    re.IGNORECASE,
)
_KIN_SUBJECT = re.compile(
    rf"^(?:my|our) {KIN}(?P<has>'s|,? (?:called |named )?(?P<name>(?-i:{NAME})))?(?P<short>'s)?,?\s+", re.IGNORECASE
)
_PRONOUN = re.compile(r"^(?P<pronoun>she|he)(?P<short>'s)?\s+", re.IGNORECASE)
_NAMED = re.compile(rf"^(?P<name>{NAME})(?P<short>'s)?\s+")
_SHORT_FORMS = {
    "'m": "am",
    "m": "am",
    "'re": "are",
    "'ve": "have",
    "ve": "have",
    "'ll": "will",
    "'d": "would",
    "'s": "is",
}

_ADVERBS = re.compile(
    r"^(?:(?:just|really|also|absolutely|still|recently|finally|actually|currently|truly|totally|so|only|even|both|"
    r"all|definitely|genuinely|honestly|simply|kinda|kind of|sort of|sorta|quite|very|super|already|usually|always|"
    r"often|personally|literally|deeply|mostly|mainly|now|then|especially|particularly|officially|lately|basically|"
    r"first|accidentally|unfortunately|happily|proudly|originally|sometimes|generally|normally|secretly|obviously|"
    r"ended up|got to)\s+)+",
    re.IGNORECASE,
)
_FILLERS = re.compile(
    r"^(?:(?:just|really|also|still|recently|finally|actually|currently|truly|totally|so|definitely|kinda|kind of|"
    r"sort of|already|now|probably|super|mostly|usually|literally|always been|pretty much)\s+)+",
    re.IGNORECASE,
)
_SKIP = lexicon.words(
    """would could should might may must can shall will'd almost nearly maybe perhaps probably hardly
barely possibly supposedly allegedly didn't wasn't weren't hadn't couldn't wouldn't shouldn't ain't
haven't hasn't"""
)
_CONTRACTED_NOT = {
    "don't": "do",
    "dont": "do",
    "doesn't": "do",
    "isn't": "is",
    "aren't": "is",
    "can't": "can",
    "cannot": "can",
}
_ANY_MORE = re.compile(r"\s+(?:any ?more|any longer)\b", re.IGNORECASE)
_JOINED = re.compile(r"\s+and\s+(?:also |then |now |just |currently )?(?=(?P<verb>[a-z]+)\b)")


def clauses(piece: str, people: PeopleSeen, speaker: Person, today: date) -> Iterator[Clause]:
    """Yield the clauses of one asserting `piece` whose subject is the speaker or a person in `people`."""
    for text in _split(piece):
        raw = _subject(text, people, speaker)
        if raw is not None:
            yield from _verb_phrases(raw, today)


def _split(piece: str) -> list[str]:
    """Cut a piece before each new subject; clauses of time, comparison and embedded speech are left out."""
    texts: list[str] = []
    begin, conjunction = 0, ""
    for match in _SPLIT.finditer(piece):
        if not match[0].strip(" ,:(") and _is_time(piece[begin : match.start()]):
            # "Last weekend, I went": the time belongs to what follows.
            continue
        texts.append("" if conjunction in _DROPPED_AFTER else piece[begin : match.start()])
        begin, conjunction = match.end(), match[0].strip(" ,:(").lower()
    texts.append("" if conjunction in _DROPPED_AFTER else piece[begin:])
    return [text.strip(" ,:.!") for text in texts]


def _subject(text: str, people: PeopleSeen, speaker: Person) -> RawClause | None:
    lead = _LEAD.match(text)
    if lead:
        text = text[lead.end() :]
    before, text = _leading_time(text)
    match = _SPEAKER.match(text)
    if match:
        return RawClause(speaker, _expand(match, text), before)
    match = _KIN_SUBJECT.match(text)
    if match:
        if match["has"] == "'s":
            words = f"is {text[match.end() :]}"
            # "my sister's house" is no clause about the sister.
            if not re.match(r"is (?:an?|from|not|\d|\w+ing|really|very|in|at|also|named|called|allergic)\b", words):
                return None
        else:
            words = _expand(match, text)
        name = match["name"]
        name = name if name and name not in lexicon.NOT_NAMES else None
        return RawClause(people.refer(match["kin"], name), words, before)
    if (match := _PRONOUN.match(text)) and (person := people.by_pronoun()):
        return RawClause(person, _expand(match, text), before)
    if (match := _NAMED.match(text)) and (person := people.by_name(match["name"])):
        return RawClause(person, _expand(match, text), before)
    first = _ADVERBS.sub("", text).split(" ", 1)[0].lower()
    if first in ("gonna", "been") or (first in lexicon.PAST and first not in lexicon.SAME_IN_PAST):
        words = {"gonna": "am ", "been": "have "}.get(first, "") + text
        return RawClause(speaker, words, before, implied_subject=True)
    return None


def _leading_time(text: str) -> tuple[str, str]:
    """Split "Last week I went" into "Last week" and "I went"."""
    match = re.match(r"^(.{3,40}?),?\s+(?=(?:I|we|my|our)\b)", text)
    return (match[1], text[match.end() :]) if match and _is_time(match[1]) else ("", text)


def _is_time(text: str) -> bool:
    """Whether `text` (after "so", "well" ...) is a time expression and nothing else, whatever the day."""
    lead = _LEAD.match(text)
    text = (text[lead.end() :] if lead else text).strip(" ,")
    if not 3 <= len(text) <= 40:
        return False
    mentions = find_times(f" {text}", date(2000, 6, 15), Tense.PAST)
    covered = sum(mention.span[1] - mention.span[0] for mention in mentions)
    return bool(mentions) and covered >= len(text) - 4


def _expand(match: re.Match[str], text: str) -> str:
    words = text[match.end() :]
    short = (match["short"] or "").lower()
    if not short:
        return words
    if short == "'s" and re.match(r"(?:been|got|had|\w+ed)\b", words):
        return f"has {words}"
    return f"{_SHORT_FORMS.get(short, 'would')} {words}"


def _verb_phrases(raw: RawClause, today: date) -> Iterator[Clause]:
    listed = _LISTED.match(raw.words)
    words = listed[0] if listed else CUT.sub("", raw.words)
    parts = _joined_parts(words)
    inherited: TimeMention | None = None
    found: list[Clause] = []
    for part in reversed(parts):
        clause = _one_verb_phrase(replace(raw, words=part), today)
        if clause is None:
            continue
        if clause.time is None and inherited is not None and clause.tense is Tense.PAST:
            clause = replace(clause, time=inherited)
        inherited = clause.time
        found.append(clause)
    yield from reversed(found)


_ITEM = r"(?:[\w'-]+ ){0,2}[\w'-]+"
_LISTED = re.compile(
    rf"(?:(?:really|also|absolutely|just|both) )*(?:love|like|enjoy|adore|hate|dislike)s? {_ITEM}(?:, {_ITEM})+,? "
    rf"(?:and|or|&) {_ITEM}"
    r"(?=$| (?:because|but|so|which|when|while|with|in|at)\b)",
    re.IGNORECASE,
)


def _joined_parts(words: str) -> list[str]:
    """Split "live in Porto and work as a nurse": verbs of one form that share the subject."""
    first = _ADVERBS.sub("", words).split(" ", 1)[0].lower()
    parts, begin = [], 0
    for match in _JOINED.finditer(words):
        verb = match["verb"]
        same_form = (
            (first in lexicon.PAST and verb in lexicon.PAST)
            or (
                (first in lexicon.THIRD or first == "am")
                and verb in ("am", "have", "live", "work", "study", "teach", "own")
            )
            or (
                (first in lexicon.BASE or first == "is")
                and verb in ("is", "has", "lives", "works", "studies", "teaches")
            )
        )
        if same_form:
            parts.append(words[begin : match.start()])
            begin = match.end()
    return [*parts, words[begin:]]


def _one_verb_phrase(raw: RawClause, today: date) -> Clause | None:
    words = _ADVERBS.sub("", raw.words.strip())
    head, _, rest = words.partition(" ")
    head = head.lower()
    if not head or head in _SKIP:
        return None
    negated = no_longer = used_to = False
    if words.lower().startswith("no longer "):
        negated = no_longer = True
        head, _, rest = words[10:].partition(" ")
        head = head.lower()
    elif head == "never":
        negated = True
        head, _, rest = rest.partition(" ")
        if head in lexicon.PAST - lexicon.SAME_IN_PAST:
            return None
    elif head in _CONTRACTED_NOT or (head in ("do", "does", "can", "am", "is", "are") and rest.startswith("not ")):
        negated = True
        helper = _CONTRACTED_NOT.get(head, head)
        rest = rest.removeprefix("not ")
        if helper in ("do", "does"):
            head, _, rest = _ADVERBS.sub("", rest).partition(" ")
        elif helper == "can":
            verb, _, rest = rest.partition(" ")
            head = {"stand": "hate", "eat": "eat", "drink": "drink"}.get(verb, "")
            negated = head != "hate"
        else:
            head = "is"
    elif head in ("am", "is", "are") and rest.startswith("no longer "):
        negated, no_longer, rest = True, True, rest.removeprefix("no longer ")
    elif head in ("gonna", "wanna"):
        head, rest = ("is", f"going to {rest}") if head == "gonna" else ("wants", f"to {rest}")
    if _ANY_MORE.search(rest):
        rest, no_longer = _ANY_MORE.sub("", rest), True
    if head == "used" and rest.startswith("to "):
        used_to = True
        head, _, rest = _ADVERBS.sub("", rest[3:]).partition(" ")
        head = "is" if head == "be" else head
    return _with_tense(raw, head, rest, today, negated, no_longer, used_to)


def _with_tense(
    raw: RawClause, head: str, rest: str, today: date, negated: bool, no_longer: bool, used_to: bool
) -> Clause | None:
    rest = _FILLERS.sub("", rest)
    speaker_form = raw.person.is_speaker or raw.person.plural or negated or used_to
    if head in ("am", "are", "is"):
        head, tense = "is", Tense.PRESENT
        if rest.startswith(("gonna ", "going to ")):
            tense = Tense.FUTURE
    elif head in ("was", "were"):
        head, tense = "was", Tense.PAST
    elif head in ("have", "has") and rest.split(" ", 1)[0].lower() in lexicon.PARTICIPLES:
        head, tense = "has", Tense.PERFECT
    elif head == "will":
        head, tense = "will", Tense.FUTURE
    elif head in lexicon.SAME_IN_PAST and any(
        time.start for time in find_times(f"{raw.lead} {rest}", today, Tense.PAST)
    ):
        tense = Tense.PAST
    elif speaker_form and head in lexicon.THIRD:
        head, tense = lexicon.THIRD[head], Tense.PRESENT
    elif head in lexicon.BASE and not raw.person.is_speaker:
        tense = Tense.PRESENT
    elif head in lexicon.PAST and not negated:
        tense = Tense.PAST
    else:
        return None
    time, rest = _take_time(raw.lead, rest, today, tense)
    if time is not None and time.span == (-1, -1):
        return None
    rest = tidy(rest)
    return Clause(raw.person, head, rest, tense, time, negated, no_longer, used_to, raw.implied_subject)


_TOO_MANY = TimeMention((-1, -1), None, "")


def _take_time(lead: str, rest: str, today: date, tense: Tense) -> tuple[TimeMention | None, str]:
    """Return the clause's one time and `rest` without it; two dated times in one clause are not told apart."""
    text = f" {rest}"
    mentions = find_times(text, today, tense)
    leading = [mention for mention in find_times(f" {lead}", today, tense) if mention.start] if lead else []
    for mention in reversed(mentions):
        text = f"{text[: mention.span[0]]} {text[mention.span[1] :]}"
    dated = [*leading, *(mention for mention in mentions if mention.phrase)]
    if len(dated) > 1:
        return _TOO_MANY, rest
    return (dated[0] if dated else None), " ".join(text.split())

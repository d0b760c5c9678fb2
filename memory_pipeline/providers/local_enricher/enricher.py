"""The local enricher: clauses of a message, matched against the rule tables, become facts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime

from memory_pipeline.model.records import FactDraft, Role, Turn
from memory_pipeline.providers.local_enricher import lexicon
from memory_pipeline.providers.local_enricher.grammar import Clause, clauses
from memory_pipeline.providers.local_enricher.nouns import NounFact, noun_facts
from memory_pipeline.providers.local_enricher.people import PeopleSeen, Person, possessive
from memory_pipeline.providers.local_enricher.periods import Tense
from memory_pipeline.providers.local_enricher.predicates import CLEAR, IMPLIED_SUBJECT_PENALTY, LIKELY, slot_of
from memory_pipeline.providers.local_enricher.rules import Rule
from memory_pipeline.providers.local_enricher.rules_events import EVENTS
from memory_pipeline.providers.local_enricher.rules_person import PERSON
from memory_pipeline.providers.local_enricher.rules_tastes import TASTES
from memory_pipeline.providers.local_enricher.rules_work import WORK
from memory_pipeline.providers.local_enricher.text import clean, statements
from memory_pipeline.providers.local_enricher.trimming import tidy

MAX_STATEMENT = 300
_MAX_NAME = 80
_PERSON_MARK = re.compile(
    r"\b(?:i|i'm|im|my|we|our|gonna|been|[a-z]{2,}ed|got|had|went|ran|took|lost|made|met|won)\b", re.IGNORECASE
)
_USED_TO = {"lives_in": "lived_in", "works_as": "worked_as", "works_at": "worked_at"}
"""What "I used to ..." states instead: it doesn't say what holds today, so it must not fill today's slot."""


class LocalEnricher:
    """Finds facts by regular expressions and word lists: no key, no model, no network. A pure function of the turn.

    Only the first 20,000 characters of a message are read, and only messages of people (role `user`) give facts.
    """

    @property
    def name(self) -> str:
        return "local"

    @property
    def version(self) -> str:
        return "1"

    def enrich(self, turn: Turn) -> list[FactDraft]:
        """Return the facts of one message in the order they are said, none twice. Never raises for any text."""
        if turn.role is not Role.USER:
            return []
        name = _display_name(turn.speaker)
        text = clean(turn.content)
        if not name or not _PERSON_MARK.search(text):
            return []
        sent_at = turn.sent_at.astimezone(UTC)
        speaker = Person(name, is_speaker=True)
        people = PeopleSeen(name)
        facts: dict[tuple[str, str, str, bool], FactDraft] = {}
        for piece in statements(text):
            for fact in _facts(piece, people, speaker, sent_at):
                facts.setdefault((fact.subject, fact.predicate, fact.object.casefold(), fact.negated), fact)
        return list(facts.values())


def _display_name(speaker: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in speaker).split())[:_MAX_NAME].strip()


def _facts(piece: str, people: PeopleSeen, speaker: Person, sent_at: datetime) -> Iterator[FactDraft]:
    for noun_fact in noun_facts(piece, people, speaker):
        yield _from_noun(noun_fact, sent_at)
    for clause in clauses(piece, people, speaker, sent_at.date()):
        yield from _from_clause(clause, speaker, sent_at)


def _from_noun(fact: NounFact, sent_at: datetime) -> FactDraft:
    return FactDraft(
        subject=fact.subject,
        predicate=fact.predicate,
        object=fact.object,
        statement=fact.statement,
        confidence=fact.confidence,
        valid_from=sent_at,
        slot=slot_of(fact.predicate, fact.slot_thing or fact.object),
    )


def _from_clause(clause: Clause, speaker: Person, sent_at: datetime) -> Iterator[FactDraft]:
    found = False
    for rules in (PERSON, WORK, TASTES, EVENTS):
        for rule in rules.get(clause.head, ()):
            match = rule.pattern.fullmatch(clause.rest)
            if match is None or not _applies(rule, clause, sent_at.date()):
                continue
            drafts = list(_drafts(rule, match, clause, speaker, sent_at))
            yield from drafts
            found = found or bool(drafts)
            if drafts and not rule.more:
                return
        if found:
            return
    if clause.used_to:
        yield from _drafts(_FORMER_HABIT, _ANYTHING.fullmatch(clause.rest), clause, speaker, sent_at)


_LISTS = frozenset(("likes", "dislikes", "allergic_to"))
_PLACES = frozenset(("lives_in", "lived_in", "born_in", "grew_up_in", "from"))
_ANYTHING = re.compile(r"(?P<object>.*)")
_FORMER_HABIT = Rule(
    "has_habit", _ANYTHING, "{head} {object}", LIKELY, lambda text: not set(text.lower().split()) & lexicon.UNRESOLVED,
    slot_thing="{base} {object}", object_is="{base} {object}", negatable=True,
)  # fmt: skip


def _applies(rule: Rule, clause: Clause, today: date) -> bool:
    changed = clause.negated or clause.no_longer or clause.used_to
    if changed and not rule.negatable:
        return False
    time = clause.time
    if time is None:
        return not rule.dated
    if rule.predicate == "plans":
        return time.end is not None and time.end > today if rule.dated else time.end is None or time.end > today
    if rule.dated and time.start is None:
        return False
    return time.start is None or time.start <= today or rule.predicate == "is_doing"


def _drafts(
    rule: Rule, match: re.Match[str] | None, clause: Clause, speaker: Person, sent_at: datetime
) -> Iterator[FactDraft]:
    if match is None:
        return
    words = _words(rule, match, clause, speaker)
    things = _listed(words["object"]) if rule.predicate in _LISTS else [words["object"]]
    for thing in things:
        if not rule.check(thing) or (not thing and rule.object_is == "{object}"):
            continue
        draft = _draft(rule, words | {"object": thing}, clause, sent_at)
        if draft is not None:
            yield draft


def _words(rule: Rule, match: re.Match[str], clause: Clause, speaker: Person) -> dict[str, str]:
    groups = match.groupdict(default="")
    words = {key: _in_third_person(tidy(value), clause.person, speaker) for key, value in groups.items()}
    if words.get("more"):
        words["more"] = f" {words['more']}"
    words["object"] = _fitting(words["object"])
    if (
        rule.predicate in _PLACES
        and words["object"].islower()
        and not words["object"].startswith(("the ", "a ", "an "))
    ):
        words["object"] = words["object"].title()
    if clause.tense is Tense.PAST or clause.tense is Tense.PERFECT:
        # "I painted that sunrise": what "that" points at is not in the statement.
        words["object"] = _POINTING.sub(
            lambda match: "some " if match[0].lower() in ("these ", "those ") else "a ", words["object"]
        )
    words["named"] = f" called {words['name']}" if words.get("name") else ""
    words["pet"] = f"{words['kin']} {words['name']}" if words.get("name") else words["object"]
    words["head"] = clause.head
    words["base"] = lexicon.BASE.get(clause.head, clause.head)
    words["rest"] = _in_third_person(clause.rest, clause.person, speaker)
    return words


_POINTING = re.compile(r"^(?:this|that|these|those) (?=[a-z]{3})(?!was |were |one |time |thing)", re.IGNORECASE)
_BREAK = re.compile(r" (?=(?:to|and|for|in hopes|so|with|by|from|after|before|as)\b)")
_LONGEST = 14


def _fitting(thing: str) -> str:
    """Cut a long object at its first joint ("to", "and", "with") after a few words; one without stays and is refused."""
    if len(thing.split()) <= _LONGEST:
        return thing
    fits = [match.start() for match in _BREAK.finditer(thing) if 3 <= len(thing[: match.start()].split()) <= _LONGEST]
    return tidy(thing[: fits[0]]) if fits else thing


_PRONOUN = re.compile(r"\b(?:[Mm]y|[Oo]ur|me|us|[Mm]yself|ourselves|mine|ours|I|we)\b")
_THEY = {"my": "their", "our": "their", "me": "them", "us": "them", "myself": "themselves", "ourselves": "themselves",
         "mine": "theirs", "ours": "theirs", "i": "they", "we": "they"}  # fmt: skip


def _in_third_person(text: str, person: Person, speaker: Person) -> str:
    """Rewrite "my", "me" ...: "their" where the clause is about the speaker, the speaker's name where about another."""
    if person.is_speaker:
        return _PRONOUN.sub(lambda match: _THEY[match[0].lower()], text)
    owned = possessive(speaker.name)
    names = {"my": owned, "our": owned, "mine": owned, "ours": owned}
    return _PRONOUN.sub(lambda match: names.get(match[0].lower(), speaker.name), text)


_ONE_THING = frozenset(
    ("mac and cheese", "rock and roll", "fish and chips", "arts and crafts", "peace and quiet", "bed and breakfast")
)


def _listed(thing: str) -> list[str]:
    """Split "running, reading and chess" into its things, so that each has its own slot."""
    if thing.lower() in _ONE_THING:
        return [thing]
    parts = [part for part in re.split(r",? (?:and|or|&) |, ", thing) if part]
    if "," in thing and len(parts) > 2 and all(len(part.split()) <= 3 for part in parts):
        return parts
    return parts if len(parts) == 2 and all(" " not in part for part in parts) else [thing]


def _draft(rule: Rule, words: dict[str, str], clause: Clause, sent_at: datetime) -> FactDraft | None:
    thing = words["object"]
    words["title"] = _ARTICLE.sub("", thing)
    object_ = tidy(rule.object_is.format_map(words))
    predicate, negated = rule.predicate, rule.negated or clause.negated or clause.no_longer
    if clause.used_to:
        if predicate in _USED_TO:
            predicate, negated = _USED_TO[predicate], False
        else:
            negated = True
    slot = slot_of(predicate, rule.slot_thing.format_map(words).strip())
    if clause.used_to and slot == predicate:
        return None
    verb_phrase = _conjugated(" ".join(rule.say.format_map(words).split()), clause)
    time = clause.time
    when = f" {time.phrase}" if time and time.phrase else ""
    statement = f"{clause.person.name} {verb_phrase}{when}."
    if not object_ or len(statement) > MAX_STATEMENT or not any(c.isalnum() for c in object_):
        return None
    confidence = rule.confidence
    if predicate == "did" and rule.confidence == LIKELY and time and time.start:
        confidence = CLEAR
    if clause.implied_subject:
        confidence -= IMPLIED_SUBJECT_PENALTY
    return FactDraft(
        subject=clause.person.name,
        predicate=predicate,
        object=object_,
        statement=statement,
        confidence=round(confidence, 2),
        valid_from=datetime(time.start.year, time.start.month, time.start.day, tzinfo=UTC)
        if time and time.start
        else sent_at,
        slot=slot,
        negated=negated,
    )


_ARTICLE = re.compile(r"^(?:an?|the) ", re.IGNORECASE)


def _conjugated(verb_phrase: str, clause: Clause) -> str:
    """Put a verb phrase in the third person singular into the clause's number, polarity and aspect."""
    verb, _, rest = verb_phrase.partition(" ")
    base = "be" if verb == "is" else lexicon.BASE.get(verb)
    plural = clause.person.plural
    if base is None:
        return f"were {rest}" if plural and verb == "was" else verb_phrase
    if clause.used_to:
        return f"used to {base} {rest}".strip()
    form = {"be": "are"}.get(base, base) if plural else verb
    if clause.no_longer:
        return f"{form} no longer {rest}" if base == "be" else f"no longer {form} {rest}".strip()
    if clause.negated:
        return f"{form} not {rest}" if base == "be" else f"{'do' if plural else 'does'} not {base} {rest}".strip()
    return f"{form} {rest}".strip()

"""The local summarizer: quotes what says most about a week, and makes up nothing.

Sentences are weighed by TF-IDF against the centroid of the week (Radev et al. 2004, MEAD) and taken one by one by
maximal marginal relevance (Carbonell and Goldstein 1998), so that the second best thing said is not the best one again.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence, Set

import msgspec

from memory_pipeline.model.records import Role, Turn

MAX_WORDS = 120
_FACT_WORDS = 80
"""Of these at most this many for facts, so that the user's own voice is heard where there is one."""

_LONGEST_QUOTE = 240
_RELEVANCE_WEIGHT = 0.6
_FEWEST_TERMS = 3
_OTHERS_FACTOR = 0.5
_QUESTION_FACTOR = 0.3
"""What users say of themselves is what a summary is for; praise for others and questions seldom tell of their week."""
_LEAST_SHARED = 0.5
"""A fact rests on a turn where the two share this part of the fact's weight."""

_MOST_ALIKE = 0.6
"""What comes nearer than this to something chosen says the same again, and is left out even where words are left."""

_CHARACTERS_PER_WORD = 8
_SENTENCE = re.compile(r"[^\n.!?…。！？]+(?:[.!?…。！？]+(?!\s|$)[^\n.!?…。！？]+)*[.!?…。！？]*[\"'”’)]?")
_TERM = re.compile(r"\w+")
_FIRST_PERSON = re.compile(r"\b(?:I|my|we|our|me)\b", re.IGNORECASE)
_STOP_WORDS = frozenset(
    _TERM.findall(
        """
        a about after again all also am an and any are as at be because been but by can could did do does for from get
        go going good got great had has have he her hers him his how i if in is it its just know like lot me more my no
        not now of oh on one or our out really s so some t than that the their them then there they think this to too
        up us very was we well were what when where which who will with would yes you your
        """
    )
)

Vector = dict[str, float]


class _Sentence(msgspec.Struct):
    """One candidate: a fact (`turn` is None) or a sentence of the turn with that index."""

    text: str
    turn: int | None
    terms: list[str]
    vector: Vector = {}
    relevance: float = 0.0


class ExtractiveSummarizer:
    """Quotes the most telling facts and user sentences of a week, at most 120 words. Local and deterministic."""

    name = "extractive"
    version = "1"

    def summarize(self, turns: Sequence[Turn], facts: Sequence[str]) -> tuple[str, list[int]]:
        """Return the summary and the ascending indexes of the turns it rests on.

        Facts come first, in the order given (the caller's is the order of time), then sentences of the user's turns in
        the order said, each line under its speaker and day. A fact rests on the turns that share at least half of its
        words by weight; one that shares less with every turn adds no index, and its own provenance stands for it.
        No fact and no user turn with words in it give ("", []): there is nothing to summarize.
        """
        # Names of those present are said to call them, and would draw every greeting to the centre.
        names = {term for turn in turns for term in _terms(turn.speaker)}
        stated = [_Sentence(text=fact, turn=None, terms=_terms(fact, names)) for fact in _distinct(facts)]
        said = _said(turns, names)
        _weigh(stated + said)
        chosen_facts = _choose(stated, [], _FACT_WORDS if said else MAX_WORDS)
        left = MAX_WORDS - sum(_words(fact.text) for fact in chosen_facts)
        telling = [sentence for sentence in said if len(set(sentence.terms)) >= _FEWEST_TERMS]
        chosen = _choose(telling or ([] if chosen_facts else said), chosen_facts, left, turns)
        lines = [" ".join(fact.text if fact.text[-1] in ".!?" else f"{fact.text}." for fact in chosen_facts)]
        lines += _quoted(chosen, turns)
        sources = {sentence.turn for sentence in chosen if sentence.turn is not None}
        for fact in chosen_facts:
            sources |= _turns_behind(fact, said)
        return "\n".join(line for line in lines if line), sorted(sources)


def _distinct(facts: Sequence[str]) -> list[str]:
    tidy = [_shortened(fact) for fact in facts if fact.strip()]
    return list({fact.casefold(): fact for fact in reversed(tidy)}.values())[::-1]


def _said(turns: Sequence[Turn], names: Set[str]) -> list[_Sentence]:
    """Return the sentences of the user's turns in order, each only where it was first said."""
    first: dict[tuple[str, str], _Sentence] = {}
    for index, turn in enumerate(turns):
        if turn.role is not Role.USER:
            continue
        for match in _SENTENCE.finditer(turn.content):
            terms = _terms(match.group(), names)
            if terms:
                text = _shortened(match.group())
                first.setdefault((turn.speaker, text.casefold()), _Sentence(text=text, turn=index, terms=terms))
    return list(first.values())


def _terms(text: str, names: Set[str] = frozenset()) -> list[str]:
    """Return the words that tell a topic. Bare numbers do not: they would make "take 1" and "take 2" strangers."""
    words = _TERM.findall(unicodedata.normalize("NFC", text).casefold())
    return [word for word in words if word not in _STOP_WORDS and word not in names and not word.isdigit()]


def _shortened(text: str) -> str:
    """Return `text` on one line, cut at a word where it is too long to quote whole."""
    line = " ".join(text[: 4 * _LONGEST_QUOTE].split())
    if len(line) <= _LONGEST_QUOTE:
        return line
    head, space, _ = line[:_LONGEST_QUOTE].rpartition(" ")
    return (head if space else line[:_LONGEST_QUOTE]) + "…"


def _words(text: str) -> int:
    """Count words; text without spaces counts by its length, so that it can't fill the summary as one word."""
    return max(len(text.split()), math.ceil(len(text) / _CHARACTERS_PER_WORD))


def _weigh(sentences: list[_Sentence]) -> None:
    """Give each sentence its unit TF-IDF vector, and its relevance: its cosine with the sum of all."""
    frequency = Counter(term for sentence in sentences for term in set(sentence.terms))
    for sentence in sentences:
        counts = Counter(sentence.terms)
        weights = {
            term: (1 + math.log(count)) * (1 + math.log(len(sentences) / frequency[term]))
            for term, count in counts.items()
        }
        sentence.vector = _unit(weights)
    centroid: Vector = {}
    for sentence in sentences:
        for term, weight in sentence.vector.items():
            centroid[term] = centroid.get(term, 0.0) + weight
    centroid = _unit(centroid)
    for sentence in sentences:
        sentence.relevance = _cosine(sentence.vector, centroid)
        if sentence.turn is not None and "?" in sentence.text:
            sentence.relevance *= _QUESTION_FACTOR
        elif sentence.turn is not None and not _FIRST_PERSON.search(sentence.text):
            sentence.relevance *= _OTHERS_FACTOR


def _unit(weights: Vector) -> Vector:
    norm = math.sqrt(math.fsum(weight * weight for weight in weights.values()))
    return {term: weight / norm for term, weight in weights.items()} if norm else {}


def _cosine(one: Vector, other: Vector) -> float:
    small, large = (one, other) if len(one) <= len(other) else (other, one)
    return math.fsum(weight * large.get(term, 0.0) for term, weight in small.items())


def _choose(
    candidates: list[_Sentence], already: list[_Sentence], budget: int, turns: Sequence[Turn] = ()
) -> list[_Sentence]:
    """Return candidates worth their words by maximal marginal relevance, within `budget` words, in their own order.

    Where `turns` are given, the words of a quote's speaker and day are counted too.
    """
    nearest = [max((_cosine(item.vector, other.vector) for other in already), default=0.0) for item in candidates]
    cost = [
        _words(item.text) + (_words(_heading(turns[item.turn])) if item.turn is not None else 0) for item in candidates
    ]
    open_places = list(range(len(candidates)))
    chosen: list[int] = []
    while open_places := [place for place in open_places if cost[place] <= budget and nearest[place] < _MOST_ALIKE]:
        # max() keeps the first of equals: the earliest said.
        best = max(
            open_places,
            key=lambda place: (
                _RELEVANCE_WEIGHT * candidates[place].relevance - (1 - _RELEVANCE_WEIGHT) * nearest[place]
            ),
        )
        chosen.append(best)
        budget -= cost[best]
        open_places.remove(best)
        for place in open_places:
            nearest[place] = max(nearest[place], _cosine(candidates[place].vector, candidates[best].vector))
    return [candidates[place] for place in sorted(chosen)]


def _heading(turn: Turn) -> str:
    return f"{' '.join(turn.speaker.split())[:80]} on {turn.sent_at:%Y-%m-%d}:"


def _quoted(chosen: list[_Sentence], turns: Sequence[Turn]) -> list[str]:
    """Return one line per run of sentences by the same speaker on the same day."""
    lines: list[str] = []
    last = ""
    for sentence in chosen:
        assert sentence.turn is not None
        heading = _heading(turns[sentence.turn])
        if heading == last:
            lines[-1] += f" {sentence.text}"
        else:
            lines.append(f"{heading} {sentence.text}")
        last = heading
    return lines


def _turns_behind(fact: _Sentence, said: list[_Sentence]) -> set[int]:
    """Return the turns whose words make up at least half of the fact's weight."""
    shared: dict[int, set[str]] = {}
    for sentence in said:
        if sentence.turn is not None:
            shared.setdefault(sentence.turn, set()).update(sentence.terms)
    total = math.fsum(weight * weight for weight in fact.vector.values())
    return {
        turn
        for turn, terms in shared.items()
        if total
        and math.fsum(weight * weight for term, weight in fact.vector.items() if term in terms) >= _LEAST_SHARED * total
    }

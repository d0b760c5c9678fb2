"""The people (and pets) a message speaks of: the speaker, "my sister", "Ana"."""

from __future__ import annotations

from dataclasses import dataclass

from memory_pipeline.providers.local_enricher import lexicon

_PEOPLE = "|".join(sorted(lexicon.PERSON_WORDS, key=len, reverse=True))
_PETS = "|".join(sorted(lexicon.PETS, key=len, reverse=True))
NAME = r"[A-Z][a-zà-öø-ÿ]+(?:[-'][A-Z][a-zà-öø-ÿ]+)?"
KIN = (
    rf"(?:(?:best|good|old|close|dear|older|elder|younger|little|big|baby|twin|eldest|oldest|youngest|middle|new|"
    rf"childhood|half|step|late|\d{{1,2}}[- ]year[- ]old) )?(?P<kin>{_PEOPLE}|{_PETS}|dogs|cats|pets|puppies|"
    rf"kittens)\b"
)


@dataclass(frozen=True)
class Person:
    """Whom a clause is about: the speaker, or someone the speaker named or pointed to."""

    name: str
    is_speaker: bool = False
    plural: bool = False
    relation: str | None = None
    """Canonical relation to the speaker, or the kind of pet."""


_SLANG = lexicon.words("bf gf sis bro hubby bestie kitty pup doggo")


class PeopleSeen:
    """The people (and pets) one message has spoken of so far, for "she", "he" and names on their own."""

    def __init__(self, speaker: str) -> None:
        self._speaker = speaker
        self._single: dict[str, Person] = {}
        self._named: dict[str, Person] = {}
        self._named_by_relation: dict[str, list[Person]] = {}

    def refer(self, kin: str, name: str | None) -> Person:
        """Return the person behind "my `kin` `name`", remembering them.

        "My `kin`" alone is the one named before, where only one was.
        """
        word = kin.lower()
        relation = lexicon.PERSON_WORDS.get(word) or lexicon.PETS.get(word) or word
        plural = word in lexicon.PLURAL_PEOPLE and name is None
        known = self._named_by_relation.setdefault(relation, [])
        if name is None and not plural and len(known) == 1:
            return known[0]
        shown = relation if word in _SLANG else word
        person = Person(name or f"{possessive(self._speaker)} {shown}", plural=plural, relation=relation)
        if name and name not in self._named:
            self._named[name] = person
            known.append(person)
        if not plural:
            self._single.setdefault(person.name, person)
        return person

    def by_name(self, name: str) -> Person | None:
        return self._named.get(name)

    def by_pronoun(self) -> Person | None:
        """The only person spoken of, else None: with two, "she" would be a guess."""
        return next(iter(self._single.values())) if len(self._single) == 1 else None


def possessive(name: str) -> str:
    return f"{name}'" if name.endswith("s") else f"{name}'s"

"""Weaves the hand-written texts into `sample.jsonl`: the people's stories as written, small talk on the days between.

Run as a module it writes the file anew. Small talk is dealt from decks: a person hears a row again only
after all others of its deck, and a row that is used again is put in other words.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import msgspec

from memory_pipeline.model.records import Role
from memory_pipeline.synthetic.jsonl import JsonlLine
from memory_pipeline.synthetic.sample_source.read import (
    Conversation,
    Exchange,
    Person,
    SmallTalk,
    read_closings,
    read_people,
    read_small_talk,
)

FIRST_DAY = date(2026, 6, 1)
DAYS = 91
ASSISTANTS = {"tavola": "Sage", "parlando": "Vera", "wayfarer": "Juno"}
SAMPLE_PATH = Path(__file__).parents[1] / "sample.jsonl"
_SMALL_EXCHANGES = 41
"""Small-talk exchanges of a person whose share is 1."""
_CLOSING_PROBABILITY = 0.4
_SIZES = (1, 1, 2, 2, 3, 3, 4)
"""How many questions one small conversation has, each as often as it stands here."""


class Deck:
    """Cards dealt so that nobody has one again before all the others, and each is used about equally often."""

    def __init__(self, cards: int, random: Random) -> None:
        self._order = _shuffled(cards, random)
        self._times = [0] * cards
        self._hands: dict[str, list[int]] = {}

    def deal(self, person: str) -> tuple[int, int]:
        """Return a card for `person` and how often it had been dealt before, to anybody."""
        hand = self._hands.setdefault(person, [0] * len(self._times))
        # The least used card overall among those that this person has had least often; ties in shuffled order.
        card = min(self._order, key=lambda index: (hand[index], self._times[index]))
        times = self._times[card]
        self._times[card] += 1
        hand[card] += 1
        return card, times


def weave() -> Iterator[JsonlLine]:
    """Yield the lines of the sample in the order they were sent."""
    people = read_people()
    closings = read_closings()
    closing_deck = Deck(len(closings), Random(2026))
    lines: list[JsonlLine] = []
    for tenant in ASSISTANTS:
        groups = read_small_talk(tenant)
        decks: dict[str | None, tuple[list[tuple[SmallTalk, int]], Deck]] = {}
        for owner in sorted({group.person for group in groups}, key=lambda key: key or ""):
            cards = [(group, row) for group in groups if group.person == owner for row in range(len(group.rows))]
            decks[owner] = (cards, Deck(len(cards), Random(len(cards))))
        for number, person in enumerate(person for person in people if person.tenant == tenant):
            random = Random(1000 * len(groups) + number)
            small = _small_conversations(person, decks, closings, closing_deck, random)
            for conversation in [*person.conversations, *small]:
                lines += _lines(person, conversation, random)
    yield from sorted(lines, key=lambda line: (line.sent_at, line.conversation_id, line.position))


def _small_conversations(
    person: Person,
    decks: dict[str | None, tuple[list[tuple[SmallTalk, int]], Deck]],
    closings: list[Exchange],
    closing_deck: Deck,
    random: Random,
) -> list[Conversation]:
    sizes: list[int] = []
    while sum(sizes) < round(_SMALL_EXCHANGES * person.share):
        sizes.append(_pick(_SIZES, random))
    written = {conversation.started_at.date() for conversation in person.conversations}
    days = (FIRST_DAY + timedelta(days) for days in range(DAYS))
    # Nobody asks before having introduced themselves, which is what each story begins with.
    free = [day for day in days if day not in written and day > min(written)]
    conversations = []
    last = -1
    for index, size in enumerate(sizes):
        # One day out of each stretch of equal length: spread over all weeks, but not evenly spaced. Never two on one
        # day, which is part of the conversation's id.
        last = max(last + 1, int((index + random.random()) * len(free) / len(sizes)))
        day = free[last]
        minute = int((person.hours[0] + random.random() * (person.hours[1] - person.hours[0])) * 60)
        started_at = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=UTC)
        conversation = Conversation(started_at, None, None)
        for _ in range(size):
            owner = person.key if person.key in decks and random.random() < 0.8 else None
            cards, deck = decks[owner]
            card, times = deck.deal(person.key)
            group, row = cards[card]
            conversation.title = conversation.title or group.title.capitalize()
            conversation.exchanges.append(_fill(group, row, row + times))
        if random.random() < _CLOSING_PROBABILITY:
            conversation.exchanges.append(closings[closing_deck.deal(person.key)[0]])
        conversations.append(conversation)
    return conversations


def _fill(group: SmallTalk, row: int, wording: int) -> Exchange:
    values = group.rows[row]
    ask = group.asks[wording % len(group.asks)].format(**values)
    answer = group.answers[wording % len(group.answers)].format(**values)
    return Exchange(ask[0].upper() + ask[1:], answer[0].upper() + answer[1:])


def _lines(person: Person, conversation: Conversation, random: Random) -> Iterator[JsonlLine]:
    conversation_id = f"{person.key}-{conversation.started_at:%m%d}"
    sent_at = conversation.started_at + timedelta(seconds=int(random.random() * 60))
    position = 0
    for exchange in conversation.exchanges:
        for role, text in ((Role.USER, exchange.user), (Role.ASSISTANT, exchange.assistant)):
            yield JsonlLine(
                tenant=person.tenant,
                id=f"{conversation_id}-{position}",
                conversation_id=conversation_id,
                content=text,
                sent_at=sent_at,
                role=role,
                speaker=person.name if role is Role.USER else ASSISTANTS[person.tenant],
                user=person.email,
                title=conversation.title,
                project=conversation.project,
                position=position,
            )
            position += 1
            pause = 3 + random.random() * 6 if role is Role.USER else 25 + random.random() * 110
            sent_at += timedelta(seconds=int(pause))


def _pick(choices: tuple[int, ...], random: Random) -> int:
    return choices[int(random.random() * len(choices))]


def _shuffled(count: int, random: Random) -> list[int]:
    # By sorting random(), the one method whose sequence Python promises to keep.
    return sorted(range(count), key=[random.random() for _ in range(count)].__getitem__)


def encoded_sample() -> bytes:
    """Return the bytes of `sample.jsonl`."""
    encoder = msgspec.json.Encoder()
    return b"".join(encoder.encode(line) + b"\n" for line in weave())


if __name__ == "__main__":
    sample = encoded_sample()
    SAMPLE_PATH.write_bytes(sample)
    print(f"wrote {SAMPLE_PATH.name}: {len(sample.splitlines())} messages")

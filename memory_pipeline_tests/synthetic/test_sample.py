"""The bundled sample and the script that weaves it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline.synthetic import GeneratedMessage, sample_messages
from memory_pipeline.synthetic.sample_source.read import read_people, read_small_talk
from memory_pipeline.synthetic.sample_source.weave import SAMPLE_PATH, Deck, encoded_sample


@pytest.fixture(scope="module")
def sample() -> list[GeneratedMessage]:
    return list(sample_messages())


def test_the_committed_file_is_what_the_script_makes() -> None:
    assert SAMPLE_PATH.read_bytes() == encoded_sample()


def test_the_sample_has_the_size_that_is_promised(sample: list[GeneratedMessage]) -> None:
    assert 1_600 <= len(sample) <= 1_800
    assert {slug for slug, _ in sample} == {"tavola", "parlando", "wayfarer"}
    assert len({message.user_email for _, message in sample}) == 10
    days = [message.sent_at.date() for _, message in sample]
    assert min(days) == date(2026, 6, 1)
    assert max(days) == date(2026, 8, 30)
    assert len({day.isocalendar()[:2] for day in days}) == 13
    assert len(set(days)) >= 88


def test_everybody_talks_in_nearly_every_week(sample: list[GeneratedMessage]) -> None:
    weeks = defaultdict(set)
    for _, message in sample:
        weeks[message.user_email].add(message.sent_at.isocalendar().week)
    assert {email: len(seen) for email, seen in weeks.items() if len(seen) < 12} == {}


def test_everybody_begins_with_their_introduction(sample: list[GeneratedMessage]) -> None:
    first: dict[str | None, str] = {}
    for _, message in sample:
        first.setdefault(message.user_email, message.content)
    for person in read_people():
        assert first[person.email] == person.conversations[0].exchanges[0].user


def test_turns_alternate_in_order_within_a_conversation_of_one_person(sample: list[GeneratedMessage]) -> None:
    conversations: dict[tuple[str, str], list[IncomingMessage]] = defaultdict(list)
    for slug, message in sample:
        conversations[slug, message.source_conversation_id].append(message)
    assert len(conversations) > 250
    for turns in conversations.values():
        assert [turn.position for turn in turns] == list(range(len(turns)))
        assert [turn.role for turn in turns] == [Role.USER, Role.ASSISTANT] * (len(turns) // 2)
        times = [turn.sent_at for turn in turns]
        assert all(earlier < later for earlier, later in pairwise(times))
        assert len({turn.user_email for turn in turns}) == 1
        assert len({turn.speaker for turn in turns}) == 2
    assert len({(slug, message.source_message_id) for slug, message in sample}) == len(sample)
    assert [message.sent_at for _, message in sample] == sorted(message.sent_at for _, message in sample)


def test_few_texts_are_exact_duplicates(sample: list[GeneratedMessage]) -> None:
    texts = Counter(message.content for _, message in sample)
    assert 1 - len(texts) / len(sample) < 0.05
    assert max(texts.values()) <= 3


def test_every_person_has_a_story_of_their_own() -> None:
    for person in read_people():
        turns = [exchange.user for conversation in person.conversations for exchange in conversation.exchanges]
        assert 25 <= len(turns) <= 40, person.name
        weeks = {conversation.started_at.isocalendar().week for conversation in person.conversations}
        assert len(weeks) >= 10, person.name


@pytest.mark.parametrize(
    ("email", "earlier", "later"),
    [
        ("lena.hoffmann@tavola.example", "I love coffee", "I'm off caffeine now"),
        ("lena.hoffmann@tavola.example", "We're moving on 18 July", "We moved to Leipzig last Saturday"),
        ("lena.hoffmann@tavola.example", "I'm vegetarian", "I eat fish now"),
        ("marcus.bell@tavola.example", "He won't touch broccoli", "Theo likes broccoli now"),
        ("tomasz.nowicki@parlando.example", "The plan is Lisbon", "we're moving to Porto, not Lisbon"),
        ("diego.ferrer@parlando.example", "I hate it", "I like sauerkraut now"),
        ("hannah.brooks@parlando.example", "I'm taking the JLPT N4", "I passed N4"),
        ("amara.okafor@wayfarer.example", "80 at the moment", "Actually it's 64 guests now"),
        ("kenji.mori@wayfarer.example", "There's an opening at the Museum", "I got the job at the museum"),
        ("sofia.lindqvist@wayfarer.example", "This summer I sell my house", "I live in Majorna now"),
    ],
)
def test_what_changes_is_said_after_what_it_changes(
    sample: list[GeneratedMessage], email: str, earlier: str, later: str
) -> None:
    said = [message.content for _, message in sample if message.user_email == email and message.role is Role.USER]
    first = [index for index, text in enumerate(said) if earlier in text]
    second = [index for index, text in enumerate(said) if later in text]
    assert len(first) == len(second) == 1
    assert first[0] < second[0]


def test_a_deck_gives_nobody_a_card_again_before_all_others() -> None:
    deck = Deck(7, Random(1))
    hands: dict[str, list[int]] = {"a": [], "b": []}
    for _ in range(14):
        for person, hand in hands.items():
            hand.append(deck.deal(person)[0])
    for hand in hands.values():
        assert sorted(hand[:7]) == sorted(hand[7:]) == list(range(7))


HEAD = "Ann Lee <ann@x.example>\ntenant: x\nhours: 9-12\nshare: 1\n\n@ 2026-06-01 10:00 | Title\n"


@pytest.mark.parametrize(
    ("name", "text", "problem", "read"),
    [
        ("ann.txt", HEAD + "U: Hello\n", "ends without an answer", read_people),
        ("ann.txt", HEAD + "A: Hello\nU: Hi\n", "aren't a `U:` and an `A:`", read_people),
        ("x.txt", "[g] a | b\n- one\n", "x.txt:2: 1 values for the fields a, b", lambda f: read_small_talk("x", f)),
        ("x.txt", "[g] a\nwhat?\n", "x.txt:2: 'what\\?' is no group", lambda f: read_small_talk("x", f)),
    ],
)
def test_a_line_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, text: str, problem: str, read: Callable[[Path], object]
) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(MemoryPipelineError, match=problem):
        read(tmp_path)

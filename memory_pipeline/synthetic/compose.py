"""Composes the text of generated turns: templates compiled once, then filled from a stream of random numbers.

Only `Random.random()` is used, the method whose sequence Python promises to keep, and no function of the platform's
math library: the same seed gives the same text everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from memory_pipeline.synthetic import phrases
from memory_pipeline.synthetic.topics import TOPICS, Topic

Random = Callable[[], float]
"""Returns floats in [0, 1)."""

_SUBJECT = len(phrases.MY)
_SLOT = re.compile(r"\{(\w+)\}")

# Sentences per turn, one in two hundred each: mostly one, often two, and now and then a page.
_SENTENCES = (1,) * 168 + (2,) * 24 + (3,) * 4 + (4, 7, 12, 20)
_SHORT = 0.025
"""Turns that only acknowledge; these are the exact duplicates."""
_FACT = 0.15
"""User turns with something worth remembering: instead of the first sentence."""
_OPENER = 0.25
"""Turns of one sentence that get an opener."""


class Template(NamedTuple):
    """`text` with one `%s` per slot; a slot is the entries to draw from, or an index into the context."""

    text: str
    slots: tuple[tuple[str, ...] | int, ...]


class Voice(NamedTuple):
    """The templates of one side of a conversation on one topic."""

    short: tuple[Template, ...]
    openers: tuple[Template, ...]
    facts: tuple[Template, ...]
    sentences: tuple[Template, ...]
    """First what belongs to the topic, then what can be said about anything."""
    own: int
    """How many belong to the topic; a turn begins with one of these."""


class Script(NamedTuple):
    """One topic, ready to be spoken."""

    name: str
    project: str | None
    subjects: tuple[str, ...]
    user: Voice
    assistant: Voice


def compile_template(template: str, words: dict[str, tuple[str, ...]]) -> Template:
    """Compile one template. Raises KeyError for a slot that nobody has defined."""
    slots: list[tuple[str, ...] | int] = []
    for name in _SLOT.findall(template):
        if name == "subject":
            slots.append(_SUBJECT)
        elif name in phrases.MY:
            slots.append(phrases.MY.index(name))
        else:
            slots.append(words[name] if name in words else phrases.SLOTS[name])
    return Template(_SLOT.sub("%s", template.replace("%", "%%")), tuple(slots))


def compile_scripts() -> tuple[Script, ...]:
    """Compile all topics."""
    return tuple(_script(topic) for topic in TOPICS)


def _script(topic: Topic) -> Script:
    def compiled(*templates: str) -> tuple[Template, ...]:
        return tuple(compile_template(template, topic.words) for template in templates)

    return Script(
        topic.name,
        topic.project,
        topic.subjects,
        Voice(
            compiled(*phrases.ACKNOWLEDGED),
            compiled(*phrases.OPENERS),
            compiled(*phrases.FACTS),
            compiled(*topic.user, *phrases.ANY_USER),
            len(topic.user),
        ),
        Voice(
            compiled(*phrases.ANSWERED),
            compiled(*phrases.REPLY_OPENERS),
            (),
            compiled(*topic.assistant, *phrases.ANY_ASSISTANT),
            len(topic.assistant),
        ),
    )


def fill(template: Template, context: Sequence[str], random: Random) -> str:
    """Return the text of a template. `context` holds the speaker's life and, last, the conversation's subject."""
    text = template.text % tuple(
        [context[slot] if type(slot) is int else slot[int(random() * len(slot))] for slot in template.slots]  # type: ignore[arg-type, index]
    )
    return text if text[0].isupper() else text[0].upper() + text[1:]


def compose(voice: Voice, context: Sequence[str], random: Random) -> str:
    """Return the text of one turn: about 25 to 30 tokens on average, seldom several hundred."""
    if random() < _SHORT:
        return fill(voice.short[int(random() * len(voice.short))], context, random)
    count = _SENTENCES[int(random() * len(_SENTENCES))]
    parts = []
    if voice.facts and random() < _FACT:
        parts.append(fill(voice.facts[int(random() * len(voice.facts))], context, random))
        count -= 1
    elif count == 1 and random() < _OPENER:
        parts.append(fill(voice.openers[int(random() * len(voice.openers))], context, random))
    first = int(random() * voice.own)
    # Neighbours in turn, so that a turn of several sentences doesn't repeat one before it has gone through all.
    turn = (voice.sentences[step % len(voice.sentences)] for step in range(first, first + count))
    parts.extend(fill(sentence, context, random) for sentence in turn)
    return " ".join(parts)

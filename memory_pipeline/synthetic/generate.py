"""The seeded generator of synthetic conversations: any number of messages, the same bytes for the same spec everywhere.

Days are filled one after the other by a weekly rhythm, each with conversations at hours of a daily rhythm. Traffic is
skewed by Zipf's law over tenants and over the users within each, except that one conversation in four goes round all
users in turn, so that nobody is left out. Memory holds the list of users, never the messages.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from random import Random
from typing import NamedTuple

from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline.synthetic.compose import Script, compile_scripts, compose
from memory_pipeline.synthetic.jsonl import GeneratedMessage
from memory_pipeline.synthetic.people import Person, people, users_per_tenant

SOURCE = "generated"
_WEEK = (10, 11, 11, 10, 9, 6, 7)
"""Traffic by day of the week, Monday first."""
_HOURS = (2, 1, 1, 1, 1, 2, 5, 9, 12, 11, 10, 10, 12, 11, 9, 9, 10, 12, 14, 16, 17, 15, 9)
"""Conversations by hour in which they begin, UTC. None begins after 23:00, so that each ends on its day."""
_EXCHANGES = (1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 8, 12)
"""Pairs of user and assistant turn per conversation, each as often as it stands here."""
_LONGEST_PAUSE = 120
"""Seconds a user thinks at most; the assistant takes up to a tenth."""
_ROUND = 4
"""One conversation in this many goes to the next user in turn."""


class GenerateSpec(NamedTuple):
    """What to generate. Equal specs give equal messages."""

    messages: int
    """In all, at least one."""
    tenants: int
    users: int
    """In all, at least one per tenant."""
    days: int
    seed: int
    start: date
    """The first day, UTC."""


class _Crowd(NamedTuple):
    """Users and how likely each is to begin the next conversation."""

    everybody: list[Person]
    cumulative: list[float]

    def draw(self, number: float) -> Person:
        return self.everybody[bisect_right(self.cumulative, number * self.cumulative[-1], 0, len(self.everybody) - 1)]


def generate(spec: GenerateSpec) -> Iterator[GeneratedMessage]:
    """Yield exactly `spec.messages` messages, day by day; in order of time within each conversation.

    Raises MemoryPipelineError, before the first message, where the spec can't be met.
    """
    _check(spec)
    return _generate(spec)


def _check(spec: GenerateSpec) -> None:
    for name in ("messages", "tenants", "users", "days"):
        if getattr(spec, name) < 1:
            raise MemoryPipelineError(f"Can't generate with {name}={getattr(spec, name)}; give at least 1.")
    if spec.users < spec.tenants:
        raise MemoryPipelineError(
            f"{spec.users} users can't be shared out among {spec.tenants} tenants; give at least one user per tenant."
        )
    if spec.days > (date.max - spec.start).days:
        raise MemoryPipelineError(f"{spec.days} days from {spec.start} go beyond the last day there is, {date.max}.")


def _generate(spec: GenerateSpec) -> Iterator[GeneratedMessage]:
    random = Random(_number(spec)).random
    crowd = _crowd(spec)
    scripts = compile_scripts()
    hours = [hour for hour, weight in enumerate(_HOURS) for _ in range(weight)]
    prefix = f"{_number(spec):016x}"
    conversation = 0
    for day, quota in _quotas(spec):
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        left = quota
        while left:
            turn, rest = divmod(conversation, _ROUND)
            person = crowd.draw(random()) if rest else crowd.everybody[turn % len(crowd.everybody)]
            start = midnight + timedelta(
                seconds=hours[int(random() * len(hours))] * 3600 + int(random() * 3600),
            )
            exchanges = _EXCHANGES[int(random() * len(_EXCHANGES))]
            script = scripts[int(random() * len(scripts))]
            turns = min(2 * exchanges, left)
            conversation_id = f"{prefix}-{person.key}-{conversation:x}"
            for message in _conversation(conversation_id, person, script, start, turns, random):
                yield GeneratedMessage(person.tenant_slug, message)
            left -= turns
            conversation += 1


def _conversation(
    conversation_id: str, person: Person, script: Script, start: datetime, turns: int, random: Callable[[], float]
) -> Iterator[IncomingMessage]:
    subject = script.subjects[int(random() * len(script.subjects))]
    context = (*person.life, subject)
    title = subject[0].upper() + subject[1:]
    sent_at = start
    for position in range(turns):
        by_user = position % 2 == 0
        yield IncomingMessage(
            source=SOURCE,
            source_message_id=f"{conversation_id}-{position}",
            source_conversation_id=conversation_id,
            role=Role.USER if by_user else Role.ASSISTANT,
            content=compose(script.user if by_user else script.assistant, context, random),
            sent_at=sent_at,
            position=position,
            speaker=person.name if by_user else person.assistant,
            user_email=person.email,
            conversation_title=title,
            project=script.project,
        )
        pause = _LONGEST_PAUSE // 10 if by_user else _LONGEST_PAUSE
        sent_at += timedelta(seconds=1 + int(random() * pause))


def _number(spec: GenerateSpec) -> int:
    """Return 64 bits that stand for the spec: another spec has other ids, so it can be added to what is there."""
    text = f"{spec.messages} {spec.tenants} {spec.users} {spec.days} {spec.seed} {spec.start.isoformat()}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _crowd(spec: GenerateSpec) -> _Crowd:
    weights: list[float] = []
    for tenant, count in enumerate(users_per_tenant(spec.users, spec.tenants), start=1):
        shares = [1 / rank for rank in range(1, count + 1)]
        # Not sum(): Python 3.12 made it round otherwise than 3.11.
        *_, whole = accumulate(shares)
        weights += [share / whole / tenant for share in shares]
    return _Crowd(people(spec.users, spec.tenants, spec.seed), list(accumulate(weights)))


def _quotas(spec: GenerateSpec) -> Iterator[tuple[date, int]]:
    """Yield each day with its number of messages; the numbers add up to `spec.messages`."""
    weights = [_WEEK[(spec.start.weekday() + day) % 7] for day in range(spec.days)]
    whole = sum(weights)
    before = done = 0
    for day, weight in enumerate(weights):
        before += weight
        until = spec.messages * before // whole
        yield spec.start + timedelta(day), until - done
        done = until

"""The generator of synthetic conversations."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tracemalloc
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline.synthetic import GeneratedMessage, GenerateSpec, generate, phrases
from memory_pipeline.synthetic.people import people, tenant_slugs, users_per_tenant

SPEC = GenerateSpec(messages=20_000, tenants=5, users=40, days=28, seed=11, start=date(2026, 3, 2))
DIGEST = "1297e7ee02444542de15eed528d7b79667834cfa5596673ab1a43685d9ea9ba5"
DIGEST_SCRIPT = """
import hashlib, msgspec
from datetime import date
from memory_pipeline.synthetic import GenerateSpec, generate
spec = GenerateSpec(messages=20_000, tenants=5, users=40, days=28, seed=11, start=date(2026, 3, 2))
print(hashlib.sha256(b"".join(map(msgspec.json.encode, generate(spec)))).hexdigest())
"""


@pytest.fixture(scope="module")
def generated() -> list[GeneratedMessage]:
    return list(generate(SPEC))


def _digest(messages: list[GeneratedMessage]) -> str:
    return hashlib.sha256(b"".join(map(msgspec.json.encode, messages))).hexdigest()


def test_a_spec_gives_these_bytes_on_every_python_and_platform(generated: list[GeneratedMessage]) -> None:
    assert _digest(generated) == DIGEST


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_another_process_with_another_hash_seed_gives_the_same_bytes(hash_seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.getcwd()}
    answer = subprocess.run(
        [sys.executable, "-c", DIGEST_SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == DIGEST


@given(
    messages=st.integers(1, 400),
    tenants=st.integers(1, 6),
    more_users=st.integers(0, 20),
    days=st.integers(1, 40),
    seed=st.integers(-(2**70), 2**70),
    start=st.dates(date(2000, 1, 1), date(2090, 1, 1)),
)
@settings(max_examples=60, deadline=None)
def test_any_spec_is_met_to_the_message(
    messages: int, tenants: int, more_users: int, days: int, seed: int, start: date
) -> None:
    spec = GenerateSpec(messages, tenants, tenants + more_users, days, seed, start)
    all_messages = list(generate(spec))

    assert len(all_messages) == messages
    first = datetime.combine(start, time(), UTC)
    conversations = _conversations(all_messages)
    for turns in conversations.values():
        assert [turn.position for turn in turns] == list(range(len(turns)))
        assert [turn.role for turn in turns] == [Role.USER, Role.ASSISTANT] * (len(turns) // 2) + [Role.USER] * (
            len(turns) % 2
        )
        assert [turn.sent_at for turn in turns] == sorted(turn.sent_at for turn in turns)
        assert first <= turns[0].sent_at
        assert turns[-1].sent_at < first + timedelta(days)
        assert len({(turn.user_email, turn.conversation_title, turn.project) for turn in turns}) == 1
    ids = [(slug, message.source_message_id) for slug, message in all_messages]
    assert len(set(ids)) == messages


def test_another_spec_names_no_message_alike() -> None:
    ids = [
        {message.source_message_id for _, message in generate(spec)}
        for spec in (
            GenerateSpec(500, 1, 3, 5, 1, date(2026, 1, 1)),
            GenerateSpec(500, 1, 3, 5, 2, date(2026, 1, 1)),
            GenerateSpec(500, 1, 3, 5, -1, date(2026, 1, 1)),
            GenerateSpec(501, 1, 3, 5, 1, date(2026, 1, 1)),
            GenerateSpec(500, 1, 3, 5, 1, date(2026, 1, 2)),
        )
    ]
    assert len(set.union(*ids)) == sum(map(len, ids))


def test_messages_come_as_they_are_made() -> None:
    billions = GenerateSpec(10**10, 3, 50, 365, 1, date(2026, 1, 1))
    tracemalloc.start()
    try:
        for _ in islice(generate(billions), 5_000):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_tenants_are_skewed(generated: list[GeneratedMessage]) -> None:
    by_tenant = Counter(slug for slug, _ in generated)
    assert max(by_tenant, key=by_tenant.__getitem__) == tenant_slugs(5)[0]
    assert by_tenant.most_common()[0][1] > 3 * by_tenant.most_common()[-1][1]


def test_every_user_speaks_however_many_there_are() -> None:
    crowd = GenerateSpec(messages=14_400, tenants=30, users=300, days=7, seed=2, start=date(2026, 3, 2))
    assert len({(slug, message.user_email) for slug, message in generate(crowd)}) == 300


def test_traffic_follows_the_week_and_the_day(generated: list[GeneratedMessage]) -> None:
    by_weekday = Counter(message.sent_at.weekday() for _, message in generated)
    assert max(by_weekday[5], by_weekday[6]) < min(by_weekday[day] for day in range(5))
    by_hour = Counter(message.sent_at.hour for _, message in generated)
    assert by_hour[20] > 5 * by_hour[3] > 0
    assert len({message.sent_at.date() for _, message in generated}) == SPEC.days


def test_lengths_are_those_of_chat(generated: list[GeneratedMessage]) -> None:
    words = sorted(len(message.content.split()) for _, message in generated)
    assert 18 < sum(words) / len(words) < 27
    assert words[len(words) // 2] < 22
    assert words[0] <= 2
    assert words[-1] > 250


def test_few_texts_are_exact_duplicates(generated: list[GeneratedMessage]) -> None:
    texts = [message.content for _, message in generated]
    assert 0.005 < 1 - len(set(texts)) / len(texts) < 0.05


def test_every_slot_is_filled(generated: list[GeneratedMessage]) -> None:
    assert not [message.content for _, message in generated if re.search(r"[{}%]|  |^[a-z]", message.content)]


def test_things_worth_remembering_are_mixed_in(generated: list[GeneratedMessage]) -> None:
    # Each fact template as a pattern: what stands between its slots, in order.
    patterns = [".+".join(map(re.escape, re.split(r"\{\w+\}", template))) for template in phrases.FACTS]
    any_fact = re.compile("|".join(patterns))
    said = [message for _, message in generated if message.role is Role.USER]
    facts = sum(bool(any_fact.match(message.content)) for message in said)
    assert 0.12 < facts / len(said) < 0.18
    assert not [m for _, m in generated if m.role is Role.ASSISTANT and any_fact.match(m.content)]


def test_people_have_one_address_each_and_keep_their_names(generated: list[GeneratedMessage]) -> None:
    everybody = people(users=5_000, tenants=300, seed=3)
    assert len({(person.tenant_slug, person.email) for person in everybody}) == 5_000
    assert all(person.email == person.email.lower() for person in everybody)
    names = defaultdict(set)
    for _, message in generated:
        if message.role is Role.USER:
            names[message.user_email].add(message.speaker)
    assert {len(spoken) for spoken in names.values()} == {1}


@given(tenants=st.integers(1, 2_000), more_users=st.integers(0, 5_000))
@settings(deadline=None)
def test_users_are_shared_out_without_rest(tenants: int, more_users: int) -> None:
    shares = users_per_tenant(tenants + more_users, tenants)
    assert len(shares) == tenants
    assert sum(shares) == tenants + more_users
    assert min(shares) >= 1


def test_tenant_slugs_are_different_and_valid() -> None:
    slugs = tenant_slugs(2_000)
    assert len(set(slugs)) == 2_000
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", slug) for slug in slugs)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"messages": 0}, "messages=0"),
        ({"tenants": 0}, "tenants=0"),
        ({"users": -1}, "users=-1"),
        ({"days": 0}, "days=0"),
        ({"users": 4}, "4 users .* 5 tenants"),
        ({"start": date(9999, 12, 30)}, "28 days from 9999-12-30"),
    ],
)
def test_a_spec_that_cannot_be_met_is_refused_before_the_first_message(
    change: dict[str, int | date], names: str
) -> None:
    with pytest.raises(MemoryPipelineError, match=names):
        generate(SPEC._replace(**change))  # type: ignore[arg-type]


def _conversations(messages: list[GeneratedMessage]) -> dict[tuple[str, str], list[IncomingMessage]]:
    conversations = defaultdict(list)
    for slug, message in messages:
        conversations[slug, message.source_conversation_id].append(message)
    return conversations

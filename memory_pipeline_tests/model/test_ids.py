"""Ids derived from what they stand for: the same everywhere, apart for everything else, in the order of time."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memory_pipeline.model import ids

TENANT = UUID("01980000-0000-7000-8000-000000000001")
OTHER = UUID("01980000-0000-7000-8000-000000000002")
MOMENT = datetime(2025, 3, 1, 12, 30, 15, 123_456, UTC)

moments = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis wants the bounds naive
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
uuids = st.uuids()


def test_ids_stay_what_they_were() -> None:
    """Stored rows are found again by these: they may never change."""
    message = ids.message_id(TENANT, "jsonl", "m1", MOMENT)
    assert str(ids.conversation_id(TENANT, "jsonl", "c1")) == "00000000-0000-8ea8-ad15-a7050094347c"
    assert str(message) == "019551af-9053-899c-ba4b-42fa2d30ddc9"
    assert str(UUID(ids.episode_hex(message.hex))) == "019551af-9053-899c-b5b4-bd05d2cf2236"
    assert (
        str(ids.fact_id(message, "local", "Ana", "lives in", "Lisbon", negated=False, slot=None))
        == "019551af-9053-87af-b26c-9e15ac2043a5"
    )
    assert str(ids.summary_id(TENANT, OTHER, date(2025, 2, 24))) == "01953540-e400-8454-92e0-f70bd9f6c6bd"


@given(moments, texts, texts)
def test_every_id_is_an_rfc_9562_uuid_of_version_8(moment: datetime, source: str, name: str) -> None:
    message = ids.message_id(TENANT, source, name, moment)
    made = [
        message,
        UUID(ids.episode_hex(message.hex)),
        ids.conversation_id(TENANT, source, name),
        ids.fact_id(message, "local", source, name, "x", negated=True, slot=None),
        ids.summary_id(TENANT, message, moment.date()),
    ]
    for made_id in made:
        assert made_id.version == 8
        assert made_id.variant == "specified in RFC 4122"
    assert len(set(made)) == len(made)


@given(moments)
@example(datetime(2024, 1, 1, 0, 0, 0, 1000, UTC))
@example(datetime(2199, 12, 31, 23, 59, 59, 999_000, UTC))
def test_milliseconds_are_whole_and_exact(moment: datetime) -> None:
    exact = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert ids.milliseconds(moment) == exact


def test_times_before_1970_count_as_1970() -> None:
    assert ids.milliseconds(datetime(1969, 7, 20, tzinfo=UTC)) == 0


@given(moments, moments)
def test_ids_sort_by_time(one: datetime, other: datetime) -> None:
    if ids.milliseconds(one) < ids.milliseconds(other):
        first, second = (ids.message_id(TENANT, "s", "m", moment) for moment in (one, other))
        assert first < second
        assert ids.episode_hex(first.hex) < ids.episode_hex(second.hex)


@given(moments, st.integers(-14, 14))
def test_the_same_instant_in_any_zone_gives_the_same_id(moment: datetime, hours: int) -> None:
    elsewhere = moment.astimezone(timezone(timedelta(hours=hours)))
    assert ids.message_id(TENANT, "s", "m", moment) == ids.message_id(TENANT, "s", "m", elsewhere)


@given(st.lists(texts, min_size=1, max_size=4), st.lists(texts, min_size=1, max_size=4))
@example(["a", "b"], ["a\x1fb"])
@example(["a", ""], ["a"])
@example(["a", "b\x1f1:c"], ["a", "b", "c"])
def test_other_parts_give_another_id(one: list[str], other: list[str]) -> None:
    same = ids.derive_hex(b"test", 0, *one) == ids.derive_hex(b"test", 0, *other)
    assert same == (one == other)


def test_two_tenants_never_share_an_id() -> None:
    assert ids.message_id(TENANT, "s", "m", MOMENT) != ids.message_id(OTHER, "s", "m", MOMENT)
    assert ids.conversation_id(TENANT, "s", "c") != ids.conversation_id(OTHER, "s", "c")
    assert ids.summary_id(TENANT, OTHER, date(2025, 2, 24)) != ids.summary_id(OTHER, OTHER, date(2025, 2, 24))


def test_the_same_parts_of_another_kind_give_another_id() -> None:
    assert ids.derive_hex(b"message", 0, "a") != ids.derive_hex(b"conversation", 0, "a")


def test_every_part_of_a_fact_counts() -> None:
    message = ids.message_id(TENANT, "s", "m", MOMENT)
    made = {
        ids.fact_id(message, "local", "Ana", "likes", "tea", negated=False, slot=None),
        ids.fact_id(OTHER, "local", "Ana", "likes", "tea", negated=False, slot=None),
        ids.fact_id(message, "other", "Ana", "likes", "tea", negated=False, slot=None),
        ids.fact_id(message, "local", "Bea", "likes", "tea", negated=False, slot=None),
        ids.fact_id(message, "local", "Ana", "makes", "tea", negated=False, slot=None),
        ids.fact_id(message, "local", "Ana", "likes", "coffee", negated=False, slot=None),
        ids.fact_id(message, "local", "Ana", "likes", "tea", negated=True, slot=None),
        ids.fact_id(message, "local", "Ana", "likes", "tea", negated=False, slot="preference:tea"),
    }
    assert len(made) == 8


@given(uuids, st.integers(0, 10_000))
def test_a_vector_id_is_read_back(memory_id: UUID, chunk: int) -> None:
    assert ids.parse_vector_id(ids.vector_id(memory_id, chunk)) == (memory_id, chunk)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "memory_",
        "01980000-0000-7000-8000-000000000001",
        "memory_01980000-0000-7000-8000-000000000001:",
        "memory_01980000-0000-7000-8000-000000000001:0",
        "memory_01980000-0000-7000-8000-000000000001:01",
        "memory_01980000-0000-7000-8000-000000000001:-1",
        "memory_01980000-0000-7000-8000-000000000001: 1",
        "memory_01980000-0000-7000-8000-000000000001:1:2",
        "memory_01980000000070008000000000000001",
        "memory_{01980000-0000-7000-8000-000000000001}",
        "memory_01980000-0000-7000-8000-00000000000A",
        "document_1",
    ],
)
def test_what_is_no_vector_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not the id of a vector|badly formed|invalid literal"):
        ids.parse_vector_id(text)


@given(uuids)
def test_a_bucket_is_the_low_bits_of_the_id(memory_id: UUID) -> None:
    assert ids.bucket_of(memory_id) == int(memory_id.hex[-3:], 16)


def test_hashes_are_of_utf_8() -> None:
    assert ids.sha256("é") == hashlib.sha256(b"\xc3\xa9").digest()
    assert ids.message_hash("user", None, "é") == hashlib.sha256(b"user\x1f0\x1f\x1f\xc3\xa9").digest()


@given(st.tuples(texts, texts), st.tuples(texts, texts))
@example(("a", "b\x1fc"), ("a\x1fb", "c"))
def test_other_speakers_or_contents_give_another_hash(one: tuple[str, str], other: tuple[str, str]) -> None:
    same = ids.message_hash("user", *one) == ids.message_hash("user", *other)
    assert same == (one == other)


def test_no_speaker_and_an_empty_one_are_the_same() -> None:
    assert ids.message_hash("user", None, "x") == ids.message_hash("user", "", "x")

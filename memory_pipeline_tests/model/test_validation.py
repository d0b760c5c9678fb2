"""The checks every message passes before a store sees it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline.model.validation import (
    Limits,
    check_content,
    check_email,
    check_id,
    check_json,
    check_message,
    check_role,
    check_sent_at,
    check_text,
)

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
LIMITS = Limits.at(NOW, partition_start=date(2022, 1, 1), max_message_bytes=1000)
GOOD = IncomingMessage(
    source="test",
    source_message_id="m1",
    source_conversation_id="c1",
    role=Role.USER,
    content="I moved to Lisbon.",
    sent_at=datetime(2024, 5, 1, tzinfo=UTC),
    position=0,
)


def nested(depth: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(depth - 1):
        document = {"a": document}
    return document


def test_a_good_message_has_no_problem() -> None:
    assert check_message(GOOD, LIMITS) is None


@pytest.mark.parametrize(
    ("change", "reason", "remedy"),
    [
        ({"source_message_id": ""}, "message id is empty", "same from import to import"),
        ({"source_message_id": " \n"}, "message id is empty", "same from import to import"),
        ({"source_message_id": "x" * 513}, "513 characters, more than 512", "shorten"),
        ({"source_message_id": "a\0"}, "message id holds a NUL", "remove"),
        ({"source_conversation_id": ""}, "conversation id is empty", "give every record"),
        ({"source_conversation_id": "\ud800"}, "conversation id holds half of a surrogate pair", "whole"),
        ({"content": ""}, "content is empty", "leave"),
        ({"content": "\u2003\t"}, "content is empty", "leave"),
        ({"content": "a\0b"}, "content holds a NUL character (position 1)", "remove"),
        ({"content": "é\0"}, "content holds a NUL character (position 1)", "remove"),
        ({"content": "ab\udfff"}, "half of a surrogate pair, or a byte that is not UTF-8 (position 2)", "whole"),
        ({"content": "x" * 1001}, "1,001 bytes, more than the 1,000", "MEMORY_MAX_MESSAGE_BYTES"),
        ({"content": "é" * 501}, "1,002 bytes, more than the 1,000", "MEMORY_MAX_MESSAGE_BYTES"),
        ({"sent_at": datetime(2024, 5, 1)}, "no offset", "+02:00"),  # noqa: DTZ001
        ({"sent_at": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)}, "before 1970", "epoch seconds"),
        ({"sent_at": NOW + timedelta(days=1, seconds=1)}, "more than a day in the future", "milliseconds"),
        ({"sent_at": datetime(2021, 12, 31, 23, tzinfo=UTC)}, "2022-01-01", "MEMORY_PARTITION_START to 2021-12-31"),
        ({"sent_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))}, "before 1970", "correct"),
        ({"sent_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-14)))}, "in the future", "correct"),
        ({"position": -1}, "position -1", "from 0 up"),
        ({"position": 2**63}, "position 9.22337e+18", "from 0 up"),
        ({"source": ""}, "source is empty", "give every record"),
        ({"source": "s" * 65}, "65 characters, more than 64", "shorten"),
        ({"role": "narrator"}, "unknown role 'narrator'", "user, assistant, system, tool"),
        ({"user_email": "nobody"}, "'nobody' is not an e-mail address", "name@domain"),
        ({"user_email": ""}, "'' is not an e-mail address", "name@domain"),
        ({"speaker": "\0"}, "speaker holds a NUL", "remove"),
        ({"speaker": "x" * 1001}, "1,001 characters", "shorten"),
        ({"conversation_title": "\ud83d"}, "title holds half", "whole"),
        ({"project": "p\0"}, "project holds a NUL", "remove"),
        ({"raw_data": {"a": ["b\0"]}}, "raw data holds a NUL", "remove"),
        ({"raw_data": {"k\0": 1}}, "raw data holds a NUL", "remove"),
        ({"raw_data": {"a": {"b": "\udc00"}}}, "raw data holds half", "whole"),
        ({"raw_data": {"a": float("nan")}}, "holds nan", "null"),
        ({"raw_data": {"a": b"x"}}, "holds a bytes", "JSON values"),
        ({"raw_data": nested(101)}, "more than 100 levels", "flatten"),
    ],
)
def test_a_bad_field_is_named_with_a_remedy(change: dict[str, Any], reason: str, remedy: str) -> None:
    problem = check_message(msgspec.structs.replace(GOOD, **change), LIMITS)
    assert problem is not None
    assert reason in problem.reason
    assert remedy in problem.remedy


@pytest.mark.parametrize(
    "change",
    [
        {"source_message_id": "x" * 512},
        {"content": "x" * 1000},
        {"content": "é" * 500},
        {"sent_at": datetime(2022, 1, 1, tzinfo=UTC)},
        {"sent_at": NOW + timedelta(days=1)},
        {"sent_at": datetime(2022, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))},
        {"position": 2**63 - 1},
        {"raw_data": {"a": [1, 2.5, None, True, {"b": "שלום"}]}},
        {"raw_data": nested(100)},
        {"user_email": "ana.maria+chat@例え.example"},
    ],
)
def test_what_lies_on_the_bound_is_taken(change: dict[str, Any]) -> None:
    assert check_message(msgspec.structs.replace(GOOD, **change), LIMITS) is None


def test_a_partition_start_before_1970_does_not_move_the_floor() -> None:
    limits = Limits.at(NOW, partition_start=date(1960, 1, 1), max_message_bytes=1000)
    assert check_sent_at(datetime(1970, 1, 1, tzinfo=UTC), limits) is None
    problem = check_sent_at(datetime(1969, 1, 1, tzinfo=UTC), limits)
    assert problem is not None
    assert "before 1970" in problem.reason


def test_a_naive_clock_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Limits.at(datetime(2024, 1, 1), partition_start=date(2022, 1, 1), max_message_bytes=1)  # noqa: DTZ001


@pytest.mark.parametrize(
    "email", ["a@b@c", "a b@c", "@b", "a@", "Ana <a@b.c>", "a@b.c\n", "a\0@b.c", f"{'x' * 250}@b.cc"]
)
def test_malformed_addresses_are_refused(email: str) -> None:
    assert check_email(email) is not None


@given(st.text())
def test_text_passes_exactly_when_postgres_could_store_it(text: str) -> None:
    try:
        storable = b"\0" not in text.encode()
    except UnicodeEncodeError:
        storable = False
    assert (check_text("content", text) is None) == storable


anything = st.text(st.characters(categories=None))


@given(anything, anything, anything, st.datetimes(timezones=st.none() | st.timezones()))
def test_no_text_or_time_makes_a_check_raise(identifier: str, content: str, email: str, sent_at: datetime) -> None:
    for problem in (
        check_id("message id", identifier),
        check_content(content, 100),
        check_email(email),
        check_role(email),
        check_sent_at(sent_at, LIMITS),
        check_json("raw data", {identifier: [content]}),
    ):
        assert problem is None or (problem.reason and problem.remedy)

"""The project's own format, line by line."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory_pipeline.importers import open_importer, size_of
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.records import IncomingMessage, Rejection, Role
from memory_pipeline_tests.importers.support import TRICKY_TEXTS, options, read

GOOD: dict[str, Any] = {
    "id": "m1",
    "conversation_id": "c1",
    "content": "I moved to Lisbon.",
    "sent_at": "2024-05-01T09:30:00+02:00",
}
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def line(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def write(folder: Path, *lines: bytes) -> Path:
    path = folder / "chat.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_a_full_line_becomes_a_message(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        line(role="assistant", speaker="Helper", user="Ana@Example.com", title="Moving", project="home", position=7,
             source="app", metadata={"a": [1]}),
    )  # fmt: skip
    taken, refused = read("jsonl", path)
    assert refused == []
    assert taken == [
        IncomingMessage(
            source="app",
            source_message_id="m1",
            source_conversation_id="c1",
            role=Role.ASSISTANT,
            content="I moved to Lisbon.",
            sent_at=datetime(2024, 5, 1, 7, 30, tzinfo=UTC),
            position=7,
            speaker="Helper",
            user_email="ana@example.com",
            conversation_title="Moving",
            project="home",
            raw_data={"a": [1]},
            origin="chat.jsonl:1",
        )
    ]
    assert taken[0].sent_at.tzinfo is UTC


def test_a_minimal_line_takes_the_documented_defaults(tmp_path: Path) -> None:
    taken, _ = read("jsonl", write(tmp_path, b"", line()), user_email="Bo@Example.com", project="p")
    [message] = taken
    assert (message.source, message.role, message.position, message.origin) == ("jsonl", Role.USER, 2, "chat.jsonl:2")
    assert (message.speaker, message.user_email, message.project) == (None, "bo@example.com", "p")


@pytest.mark.parametrize(
    ("written", "sent_at"),
    [
        (1714548600, datetime(2024, 5, 1, 7, 30, tzinfo=UTC)),
        (1714548600.5, datetime(2024, 5, 1, 7, 30, 0, 500_000, tzinfo=UTC)),
        ("2024-05-01T07:30:00Z", datetime(2024, 5, 1, 7, 30, tzinfo=UTC)),
        ("2024-05-01 07:30+0000", datetime(2024, 5, 1, 7, 30, tzinfo=UTC)),
        ("20240501T093000.25+02", datetime(2024, 5, 1, 7, 30, 0, 250_000, tzinfo=UTC)),
    ],
)
def test_times_are_read_in_every_documented_form(tmp_path: Path, written: object, sent_at: datetime) -> None:
    taken, _ = read("jsonl", write(tmp_path, line(sent_at=written)))
    assert [each.sent_at for each in taken] == [sent_at]


BAD = [
    (b"{", "not one whole JSON object"),
    (b"[1, 2]", "Expected `object`, got `array`"),
    (b"null", "Expected `object`"),
    (line() + b" x", "not one whole JSON object"),
    (line()[:-3], "not one whole JSON object"),
    (b'{"id": "\xff"}', "not valid UTF-8"),
    (line(content="@").replace(b"@", rb"\ud800"), "not one whole JSON object"),
    (line(content="@").replace(b"@", b"\xed\xa0\x80"), "not valid UTF-8"),
    (line(content="a\0b"), "content holds a NUL"),
    (line(content="@").replace(b"@", b"\0"), "not one whole JSON object"),
    (line(content=""), "content is empty"),
    (line(content=5), "Expected `str`, got `int` - at `$.content`"),
    (line(content="x" * 100_001), "100,001 bytes"),
    (line(id=""), "message id is empty"),
    (line(id="x" * 513), "513 characters"),
    (line(id=None), "at `$.id`"),
    (line(conversation_id=" "), "conversation id is empty"),
    (b'{"id": "m1", "conversation_id": "c1", "content": "x"}', "missing required field `sent_at`"),
    (line(sent_at="yesterday"), "'yesterday' is not ISO 8601"),
    (line(sent_at="2024-05-01T09:30:00"), "no offset"),
    (line(sent_at="0001-01-01T00:00:00+14:00"), "before 1970"),
    (line(sent_at="9999-12-31T23:59:59-14:00"), "in the future"),
    (line(sent_at=1714548600000), "look like milliseconds"),
    (line(sent_at=-1), "before 1970"),
    (line(sent_at=1577836800), "before the first partition, 2022-01-01"),
    (line(sent_at=True), "at `$.sent_at`"),
    (line(sent_at=0).replace(b'"sent_at": 0', b'"sent_at": 1e400'), "out of range"),
    (line(role="narrator"), "Invalid enum value 'narrator'"),
    (line(user="nobody"), "'nobody' is not an e-mail address"),
    (line(user=""), "'' is not an e-mail address"),
    (line(position=-1), "position -1"),
    (line(position=10**30), "position 1e+30"),
    (line(position=0).replace(b": 0}", b": " + b"9" * 5000 + b"}"), ""),
    (line(metadata=[]), "at `$.metadata`"),
    (line(metadata={"a": "\0"}), "raw data holds a NUL"),
    (line(metadata=0).replace(b": 0}", b': {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"), "nested too deeply"),
    (line(metadata=0).replace(b": 0}", b': {"a": ' + b"[" * 120 + b"]" * 120 + b"}}"), "100 levels"),
    (line(speeker="Ana"), "unknown field `speeker`"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD, ids=[reason or "digits" for _, reason in BAD])
def test_a_bad_line_is_named_and_costs_no_other(tmp_path: Path, bad: bytes, reason: str) -> None:
    taken, refused = read("jsonl", write(tmp_path, line(id="a"), bad, line(id="b")))
    assert [each.source_message_id for each in taken] == ["a", "b"]
    [rejection] = refused
    assert rejection.origin == "chat.jsonl:2"
    assert reason in rejection.reason
    assert rejection.remedy


@same_folder
@given(junk=st.binary(max_size=200))
def test_no_bytes_between_two_good_lines_harm_them(tmp_path: Path, junk: bytes) -> None:
    taken, refused = read("jsonl", write(tmp_path, line(id="first"), junk, line(id="last")))
    assert taken[0].source_message_id == "first"
    assert taken[-1].source_message_id == "last"
    assert all(each.reason and each.remedy for each in refused)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(categories=None))
    | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(["id", "conversation_id", "content", "sent_at", "role", "speaker", "user", "title", "project",
                          "position", "source", "metadata", "other"])  # fmt: skip


@same_folder
@given(changes=st.dictionaries(fields, json_values, min_size=1, max_size=4))
def test_any_json_in_the_fields_gives_a_message_or_a_rejection(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = write(tmp_path, line(id="first"), line(**changes), line(id="last"))
    records = list(open_importer("jsonl", path, options()))
    assert len(records) == 3
    assert isinstance(records[0], IncomingMessage)
    assert isinstance(records[2], IncomingMessage)
    middle = records[1]
    assert middle.origin == "chat.jsonl:2"
    if isinstance(middle, IncomingMessage):
        assert middle.content == changes.get("content", GOOD["content"])
    else:
        assert middle.reason


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_content_is_kept_byte_for_byte(tmp_path: Path, ensure_ascii: bool) -> None:
    lines = [
        json.dumps(GOOD | {"id": f"m{n}", "content": text}, ensure_ascii=ensure_ascii).encode()
        for n, text in enumerate(TRICKY_TEXTS)
    ]
    taken, refused = read("jsonl", write(tmp_path, *lines))
    assert refused == []
    assert [each.content.encode() for each in taken] == [text.encode() for text in TRICKY_TEXTS]


def test_windows_line_ends_blank_lines_and_a_byte_order_mark_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line(id="a") + b"\r\n \r\n\n" + line(id="b"))
    taken, refused = read("jsonl", path)
    assert [(each.source_message_id, each.origin) for each in taken] == [("a", "chat.jsonl:1"), ("b", "chat.jsonl:4")]
    assert refused == []


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.touch()
    assert read("jsonl", path) == ([], [])


def test_gzip_is_told_by_its_content_and_counted_as_stored(tmp_path: Path) -> None:
    path = tmp_path / "chat.data"
    path.write_bytes(gzip.compress(b"\n".join(line(id=f"m{n}") for n in range(5000))))
    counted: list[int] = []
    taken, refused = read("jsonl", path, on_bytes=counted.append)
    assert len(taken) == 5000
    assert refused == []
    assert sum(counted) == path.stat().st_size == size_of("jsonl", path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "garbage"])
def test_a_damaged_gzip_file_gives_the_lines_before_and_one_rejection(tmp_path: Path, damage: str) -> None:
    packed = b"".join(
        gzip.compress(b"".join(line(id=f"m{n}") + b"\n" for n in part)) for part in (range(100), range(100, 200))
    )
    half = len(packed) // 2 + 20
    spoilt = {
        "cut": packed[: half + 30],
        "flipped": packed[:half] + bytes(255 - each for each in packed[half : half + 40]) + packed[half + 40 :],
        "garbage": packed[: packed.index(b"\x1f\x8b", 2)] + b"not gzip at all",
    }[damage]
    path = tmp_path / "chat.jsonl.gz"
    path.write_bytes(spoilt)
    taken, refused = read("jsonl", path)
    assert [each.source_message_id for each in taken[:100]] == [f"m{n}" for n in range(100)]
    assert refused[-1].origin == f"chat.jsonl.gz:{len(taken) + len(refused)}"
    assert "damaged from here on" in refused[-1].reason


def test_a_line_too_long_to_hold_is_refused_and_the_next_one_read(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    with path.open("wb") as file:
        file.write(line(id="a") + b"\n" + b'{"id": "')
        for _ in range(60):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n' + line(id="b") + b"\n")
    tracemalloc.start()
    taken, refused = read("jsonl", path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [each.source_message_id for each in taken] == ["a", "b"]
    assert [(each.origin, each.reason) for each in refused] == [
        ("chat.jsonl:2", "the line is longer than 16,777,216 bytes")
    ]
    assert peak < 20_000_000


def test_the_longest_content_allowed_is_read_even_when_all_escaped(tmp_path: Path) -> None:
    size = 4_000_000
    escaped = line(content="@").replace(b"@", rb"\u0061" * size)
    taken, refused = read("jsonl", write(tmp_path, escaped), max_message_bytes=size)
    assert refused == []
    assert len(taken[0].content) == size


@pytest.mark.parametrize(
    ("start", "what"), [(b"PK\x03\x04", "zip archive"), (b"\xff\xfe{\0", "UTF-16"), (b"\xfe\xff\0{", "UTF-16")]
)
def test_another_kind_of_file_is_an_error_of_its_own(tmp_path: Path, start: bytes, what: str) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_bytes(start + b"...")
    with pytest.raises(MemoryPipelineError, match=what):
        read("jsonl", path)


def test_standard_input_is_read_and_has_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line() + b"\nx\n")))
    taken, refused = read("jsonl", Path("-"))
    assert [each.origin for each in taken] == ["stdin:1"]
    assert [each.origin for each in refused] == ["stdin:2"]
    assert size_of("jsonl", Path("-")) is None


def test_records_come_while_the_file_is_being_read(tmp_path: Path) -> None:
    path = write(tmp_path, *(line(id=f"m{n}") for n in range(10_000)))
    counted: list[int] = []
    first = next(open_importer("jsonl", path, options(on_bytes=counted.append)))
    assert not isinstance(first, Rejection)
    assert sum(counted) < path.stat().st_size / 2

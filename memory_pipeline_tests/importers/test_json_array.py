"""Cutting a JSON array into elements without decoding it."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_pipeline.importers.json_array import BrokenJsonError, NotAnArrayError, Oversized, split_array

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def blocks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def collect(data: bytes, size: int = 7, limit: int = 10_000) -> tuple[list[bytes | Oversized], str | None]:
    found: list[bytes | Oversized] = []
    try:
        found.extend(split_array(blocks(data, size), limit))
    except BrokenJsonError as error:
        return found, str(error)
    return found, None


@given(
    st.lists(json_values, max_size=6), st.integers(1, 40), st.booleans(), st.sampled_from([None, 0, 2]), st.booleans()
)
def test_every_array_comes_apart_into_its_elements(
    values: list[Any], size: int, ascii_only: bool, indent: int | None, marked: bool
) -> None:
    text = json.dumps(values, ensure_ascii=ascii_only, indent=indent)
    data = (b"\xef\xbb\xbf" if marked else b"") + text.encode() + b" \n"
    found, broken = collect(data, size)
    assert broken is None
    assert [json.loads(element) for element in found if isinstance(element, bytes)] == values


@given(st.binary(max_size=60), st.integers(1, 9))
def test_no_bytes_make_it_fail_otherwise_than_it_says(junk: bytes, size: int) -> None:
    collect(junk, size)
    found, _ = collect(b'[{"good": 1},' + junk, size)
    assert found[:1] == [b'{"good": 1}']


@given(st.binary(max_size=60), st.integers(1, 9))
def test_the_blocks_read_do_not_change_the_result(junk: bytes, size: int) -> None:
    data = b'[1, "' + junk
    assert collect(data, size) == collect(data, len(data))


@pytest.mark.parametrize(
    "inner", [b'{"a": "\xff"}', rb'{"a": "\ud800"}', b'{"a": 1e999}', b'{"a": ]', b"{'a'}", b"oops"]
)
def test_an_element_that_is_no_json_leaves_its_neighbours_whole(inner: bytes) -> None:
    found, broken = collect(b'[{"a": 1}, ' + inner + b', {"b": "]"}]')
    assert found == [b'{"a": 1}', inner, b'{"b": "]"}']
    assert broken is None


@pytest.mark.parametrize(
    ("data", "elements", "message"),
    [
        (b'[{"a": 1}, {"b": 2', 1, "ends at byte 18, in the middle"),
        (b'[{"a": 1}, {"b": "2]}', 1, "ends at byte 21, in the middle"),
        (b'[{"a": 1}}, {"b": 2}]', 0, "unexpected '}' at byte 9"),
        (b'[{"a": 1}] and more', 1, "more after the end of the array, at byte 11"),
        (b"[", 0, "ends at byte 1"),
    ],
)
def test_damage_is_located_after_the_elements_before_it(data: bytes, elements: int, message: str) -> None:
    for size in (1, 5, 100):
        found, broken = collect(data, size)
        assert len(found) == elements
        assert broken is not None
        assert message in broken


@pytest.mark.parametrize("data", [b"", b"   ", b'{"a": 1}', b"hello", b"\xef\xbb", b"PK\x03\x04"])
def test_what_is_no_array_is_told_apart(data: bytes) -> None:
    with pytest.raises(NotAnArrayError):
        list(split_array([data]))


def test_an_oversized_element_is_passed_over_without_being_held() -> None:
    big = b'{"a": "' + rb"\"]," * 500 + b'"}'
    for size in (3, 64, 100_000):
        found, broken = collect(b"[1, " + big + b", 2]", size, limit=100)
        assert found == [b"1", Oversized.ELEMENT, b"2"]
        assert broken is None


@pytest.mark.parametrize(
    ("start", "filler"), [(b'["', rb"]\","), (b"[", b"[{")], ids=["an endless string", "endless nesting"]
)
def test_memory_stays_at_the_limit_however_large_an_element_is(start: bytes, filler: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(BrokenJsonError, match="in the middle of the array"):
        list(split_array((filler * 1000 if number else start for number in range(400)), 100_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400_000

"""Cuts a JSON array into the bytes of its elements, while reading, with one element in memory at a time.

Each element is then decoded by itself, so one with a bad byte, a lone surrogate or an impossible number costs nobody
else anything. An event parser (ijson over yajl) was tried first: it stops for good at the first such value, and turns
lone surrogates into question marks without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import Enum, auto

MAX_ELEMENT_BYTES = 256 * 1024 * 1024

_BLANK = b" \t\r\n"
# Possessive quantifiers keep both linear on any input. Each runs as far as it can and stops at what needs a decision.
_PLAIN_AND_STRINGS = re.compile(rb'[^"\[\]{},]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"\[\]{},]*+)*+', re.DOTALL)
_NESTED_AND_STRINGS = re.compile(rb'[^"\[\]{}]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"\[\]{}]*+)*+', re.DOTALL)
_REST_OF_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


class BrokenJsonError(Exception):
    """The array can't be followed from here on. The message says why and where, for the importer to report."""


class NotAnArrayError(BrokenJsonError):
    """The file does not even begin as a JSON array."""


class Oversized(Enum):
    """Stands for an element that was passed over because of its size."""

    ELEMENT = auto()


def split_array(blocks: Iterable[bytes], max_element_bytes: int = MAX_ELEMENT_BYTES) -> Iterator[bytes | Oversized]:
    """Yield the bytes of each element of the array that `blocks` spell, in order; they may not be valid JSON.

    Raises NotAnArrayError or BrokenJsonError after the elements before the damage.
    """
    splitter = _Splitter(max_element_bytes)
    for block in blocks:
        yield from splitter.feed(block)
    splitter.finish()


def _end(pattern: re.Pattern[bytes], data: bytearray, position: int) -> int:
    match = pattern.match(data, position)
    return position if match is None else match.end()


class _Splitter:
    """The scanner's state between two blocks."""

    def __init__(self, max_element_bytes: int) -> None:
        self._max = max_element_bytes
        self._data = bytearray()
        self._read = 0  # bytes of the file before _data
        self._position = 0  # how far _data has been scanned
        self._start = 0  # where the current element begins in _data
        self._depth = 0  # 0: between the array's own brackets
        self._opened = self._closed = self._in_string = self._discarding = False
        self._elements = 0

    def feed(self, block: bytes) -> Iterator[bytes | Oversized]:
        self._data += block
        if not self._opened and not self._open():
            return
        while self._position < len(self._data):
            if self._closed:
                self._refuse_rest()
                return
            if self._in_string:
                if not self._leave_string():
                    break
                continue
            pattern = _NESTED_AND_STRINGS if self._depth else _PLAIN_AND_STRINGS
            self._position = _end(pattern, self._data, self._position)
            if self._position == len(self._data):
                break
            mark = self._data[self._position]
            self._position += 1
            if mark == 0x22:  # a string that goes on in the next block
                self._in_string = True
            elif mark in b"[{":
                self._depth += 1
            elif self._depth:
                self._depth -= 1
            elif mark == 0x7D:
                raise BrokenJsonError(f"unexpected '}}' at byte {self._offset(self._position - 1):,}")
            else:  # a comma or the closing bracket
                self._closed = mark == 0x5D
                yield from self._take()
        self._forget_scanned()

    def finish(self) -> None:
        if not self._opened:
            raise NotAnArrayError("the file is empty" if not self._data.strip() else "the file is not a JSON array")
        if not self._closed:
            raise BrokenJsonError(
                f"the file ends at byte {self._offset(len(self._data)):,}, in the middle of the array"
            )

    def _offset(self, position: int) -> int:
        return self._read + position

    def _open(self) -> bool:
        """Step over the opening bracket (and a byte order mark). False: not seen yet."""
        if len(self._data) < 3 and b"\xef\xbb\xbf".startswith(bytes(self._data)):
            return False
        text = self._data.removeprefix(b"\xef\xbb\xbf").lstrip(_BLANK)
        if not text:
            return False
        if not text.startswith(b"["):
            raise NotAnArrayError(f"the file is not a JSON array: it begins with {bytes(text[:20])!r}")
        self._position = self._start = len(self._data) - len(text) + 1
        self._opened = True
        return True

    def _leave_string(self) -> bool:
        """Scan to the end of a string. False: it goes on in the next block."""
        self._position = _end(_REST_OF_STRING, self._data, self._position)
        # At a quote the string is over; at the end of the data, or a backslash before it, more must come.
        if self._position < len(self._data) and self._data[self._position] == 0x22:
            self._position += 1
            self._in_string = False
            return True
        return False

    def _take(self) -> Iterator[bytes | Oversized]:
        element = bytes(self._data[self._start : self._position - 1]).strip(_BLANK)
        oversized = self._discarding or len(element) > self._max
        self._start = self._position
        self._discarding = False
        # Nothing before the bracket is an empty array or a comma too many at the end: no element either way.
        if element or oversized or not self._closed:
            yield Oversized.ELEMENT if oversized else element

    def _forget_scanned(self) -> None:
        if len(self._data) - self._start > self._max:
            self._discarding = True
        keep = self._position if self._discarding else self._start
        self._read += keep
        self._position -= keep
        self._start = 0
        del self._data[:keep]

    def _refuse_rest(self) -> None:
        rest = self._data[self._position :].lstrip(_BLANK)
        if rest:
            offset = self._offset(len(self._data) - len(rest))
            raise BrokenJsonError(f"there is more after the end of the array, at byte {offset:,}")
        self._position = self._start = len(self._data)
        self._forget_scanned()

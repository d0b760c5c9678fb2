"""Decodes one element of an export into a typed struct, so that a bad character condemns only the text it is in."""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeVar

import msgspec

T = TypeVar("T")


class UndecodableError(Exception):
    """The element is no JSON, or not of the expected type. The message says where."""


def decode(element: bytes, kind: type[T]) -> T:
    """Decode JSON bytes as `kind`. Raises UndecodableError.

    Lone surrogates and bytes that are not UTF-8 come through as surrogates: whoever uses that text must check it, and
    `check_message` does. Exports hold them where a stream was cut in the middle of an emoji; were they refused here,
    one such message would cost its whole conversation.
    """
    try:
        return msgspec.json.decode(element, type=kind)
    except msgspec.ValidationError as error:
        raise UndecodableError(str(error)) from error
    except (ValueError, RecursionError) as strict:
        try:
            value = json.loads(element.decode("utf-8", "surrogateescape"), parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise UndecodableError(str(strict)) from strict
        return convert(value, kind)


def convert(value: Any, kind: type[T]) -> T:
    """Take what `decode` left untyped as `kind`. Raises UndecodableError."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UndecodableError(str(error)) from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

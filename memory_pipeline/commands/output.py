"""Talking to people and to programs: tables and colours on a terminal, JSON where asked for."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

out = Console()
err = Console(stderr=True)


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def table(title: str, *columns: str) -> Table:
    """Return an empty table with these columns."""
    grid = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        grid.add_column(column)
    return grid


def number(value: float) -> str:
    """Format a count or a measure for people."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.2f}"


def shown(text: str | None) -> str:
    """A table cell of what others wrote: neither markup nor control characters of theirs reach the terminal."""
    return escape("".join(char if char.isprintable() else "?" for char in text or ""))

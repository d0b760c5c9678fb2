"""Talking to people and to programs: tables and colours on a terminal, JSON where asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import msgspec
from rich import box
from rich.cells import cell_len, set_cell_size
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


def print_rows(columns: Sequence[str], rows: Iterable[tuple[Sequence[str], str]]) -> None:
    """Print rows of cells in columns, and below each row what is too long for a column, where there is any.

    Nothing is ever cut, however narrow the terminal is: ids and paths are there to be copied.
    """
    listed = list(rows)
    widths = [max(map(cell_len, column)) for column in zip(columns, *(cells for cells, _ in listed), strict=True)]

    def line(cells: Sequence[str]) -> str:
        return " ".join(set_cell_size(cell, width) for cell, width in zip(cells, widths, strict=True)).rstrip()

    out.print(line(columns), style="bold", markup=False, highlight=False, soft_wrap=True)
    for cells, below in listed:
        out.print(line(cells), markup=False, highlight=False, soft_wrap=True)
        if below:
            out.print(f"  {below}", style="dim", markup=False, highlight=False, soft_wrap=True)


def number(value: float) -> str:
    """Format a count or a measure for people."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.2f}"


def age(span: timedelta) -> str:
    """Format how long ago something was, in its largest unit: `3 d`, `12 min`."""
    seconds = max(0, int(span.total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:,} {unit}"
    return f"{seconds} s"


def shown(text: str | None) -> str:
    """A table cell of what others wrote: neither markup nor control characters of theirs reach the terminal."""
    return escape(plain(text or ""))


def plain(text: str) -> str:
    """What others wrote, on one line: no control characters of theirs reach the terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)

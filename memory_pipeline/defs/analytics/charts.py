"""Draws small charts as PNG: for the metadata of runs, so they are light, and readable on light and dark pages.

Figures are made and drawn without pyplot, whose figures and windows are global. Same numbers give the same bytes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from itertools import chain, cycle, repeat
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

Days = Mapping[date, float]
"""A number per UTC day; days without any may be missing."""

WIDTH, HEIGHT = 900, 360
"""Pixels of every chart."""
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44bb99")
"""Told apart by people who are colour-blind too."""
_OTHERS = "#bbbbbb"
_INK, _FAINT, _PAPER = "#333333", "#dddddd", "#ffffff"
_DPI = 100
_PALETTE = 40
_LONGEST_LABEL = 26
_FEWEST_DAYS = 7
_SECONDS = (
    *((0.001, "1 ms"), (0.01, "10 ms"), (0.1, "100 ms"), (1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min")),
    *((3_600, "1 h"), (21_600, "6 h"), (86_400, "1 day"), (864_000, "10 days"), (8_640_000, "100 days")),
)
_DRAWING = Lock()
"""What matplotlib keeps of fonts is shared by all figures and not made for several threads at once."""


def png_of(figure: Figure) -> bytes:
    """Return a figure as PNG with a palette of a few colours: a third of the bytes, and no difference to see."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    with _DRAWING:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
    file = io.BytesIO()
    Image.fromarray(pixels).quantize(_PALETTE, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def markdown_of(png: bytes, alternative: str) -> str:
    """Return a PNG as a Markdown image that holds it."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"


def stacked_days(
    title: str,
    unit: str,
    series: Mapping[str, Days],
    marks: tuple[str, Days] | None = None,
    *,
    level: tuple[str, Days] | None = None,
    bar_days: int = 1,
) -> Figure:
    """Return bars of days, the series stacked in their order (those after the eighth are grey), `marks` upon them.

    `level` is a line with an axis of its own; `bar_days` is how many days each bar speaks of, the first of them named.
    """
    figure, axes = _canvas(title, unit)
    days = _calendar(day for values in series.values() for day in values)
    base = np.zeros(len(days))
    for (name, values), colour in zip(series.items(), chain(COLOURS, repeat(_OTHERS)), strict=False):
        heights = np.array([values.get(day, 0) for day in days], dtype=float)
        axes.bar(_numbers(days), heights, 0.86 * bar_days, base, color=colour, label=_label(name))
        base += heights
    if marks is not None:
        name, values = marks
        marked = [day for day in days if values.get(day)]
        axes.plot(_numbers(marked), [values[day] for day in marked], "D", ms=5, color=_PAPER, mec=_INK, label=name)
    _count_axis(axes, float(base.max()))
    right = [_level_axis(axes, days, level)] if level is not None else []
    _day_axis(axes, days, bar_days)
    if len(series) > 1 or marks is not None or level is not None:
        _legend(figure, axes, *right, reverse=True)
    return figure


def up_and_down_days(
    title: str, unit: str, up: tuple[str, Days], down: tuple[str, Days], level: tuple[str, Days]
) -> Figure:
    """Return bars of days that go up and down from zero, and a line for what is there at the end of each."""
    figure, axes = _canvas(title, unit)
    days = _calendar([*up[1], *down[1], *level[1]])
    for (name, values), sign, colour in ((up, 1, COLOURS[2]), (down, -1, COLOURS[1])):
        axes.bar(_numbers(days), [sign * values.get(day, 0) for day in days], 0.86, color=colour, label=name)
    axes.axhline(0, color=_INK, lw=0.8)
    highest = max([1.0, *up[1].values()])
    axes.set_ylim(-1.1 * max([highest / 8, *down[1].values()]), 1.1 * highest)
    _count_ticks(axes, signed=False)
    right = _level_axis(axes, days, level, COLOURS[0])
    right.set_ylim(0, 1.15 * max([1.0, *level[1].values()]))
    _count_ticks(right)
    _day_axis(axes, days)
    _legend(figure, axes, right)
    return figure


def percentile_days(title: str, series: Mapping[str, tuple[Days, Days]], percentiles: tuple[str, str]) -> Figure:
    """Return a line of seconds for each of two percentiles of every series, on a logarithmic axis."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    figure, axes = _canvas(title, "time until done")
    days = _calendar(day for pair in series.values() for values in pair for day in values)
    handles = []
    for (name, pair), colour in zip(series.items(), cycle(COLOURS), strict=False):
        handles.append(Line2D([], [], color=colour, lw=2, label=_label(name)))
        for values, style in zip(pair, ("-", "--"), strict=True):
            drawn = sorted(values)
            seconds = [max(values[day], _SECONDS[0][0]) for day in drawn]
            axes.plot(_numbers(drawn), seconds, style, color=colour, marker=".", lw=1.3)
    handles += [
        Line2D([], [], color=_INK, ls=style, label=name) for name, style in zip(percentiles, ("-", "--"), strict=True)
    ]
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low / 2, _SECONDS[0][0] / 2), high * 2)
    axes.yaxis.set_major_locator(FixedLocator([seconds for seconds, _ in _SECONDS]))
    axes.yaxis.set_major_formatter(FixedFormatter([text for _, text in _SECONDS]))
    axes.yaxis.set_minor_locator(NullLocator())
    _day_axis(axes, days)
    _literal(figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8.5))
    return figure


def heat_map(title: str, x_label: str, y_label: str, rows: Mapping[str, Sequence[float]]) -> Figure:
    """Return parts (0 to 1) as percentages in cells coloured by them; a row ends where there is nothing yet."""
    figure, axes = _canvas(title, y_label)
    width = max(len(row) for row in rows.values())
    cells = np.full((len(rows), width), np.nan)
    for y, row in enumerate(rows.values()):
        cells[y, : len(row)] = row
    axes.imshow(cells, cmap="YlGnBu", vmin=0, vmax=1, aspect="auto")
    for (y, x), part in np.ndenumerate(cells):
        if not np.isnan(part):
            axes.text(x, y, f"{part:.0%}", ha="center", va="center", color=_PAPER if part > 0.55 else _INK, fontsize=8)
    axes.set_xticks(range(width))
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_xlabel(x_label, color=_INK)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    return figure


def bar_panels(title: str, unit: str, panels: Mapping[str, Mapping[str, int]]) -> Figure:
    """Return numbers as horizontal bars on a logarithmic axis, in panels side by side, each with its own heading."""
    figure = _figure(title)
    highest = max(count for panel in panels.values() for count in panel.values())
    for position, ((heading, counts), colour) in enumerate(zip(panels.items(), COLOURS, strict=False), start=1):
        axes = figure.add_subplot(1, len(panels), position)
        _plain(axes, grid=False)
        axes.barh(range(len(counts)), [max(count, 0.1) for count in counts.values()], 0.7, color=colour)
        axes.set_yticks(range(len(counts)), list(counts), fontsize=8)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlim(0.5, 20 * max(highest, 5))
        axes.set_xlabel(f"{unit} (logarithmic)", color=_INK)
        axes.set_title(heading, loc="left", fontsize=9, color=_INK)
        for y, count in enumerate(counts.values()):
            axes.text(max(count, 0.6) * 1.15, y, f"{count:,}", va="center", fontsize=8, color=_INK)
    return figure


def nothing_yet(title: str, sentence: str) -> Figure:
    """Return a chart that says why there is none."""
    figure = _figure(title)
    figure.text(0.5, 0.45, sentence, ha="center", va="center", fontsize=12, color="#777777", parse_math=False)
    return figure


def legend_of(figure: Figure) -> list[str]:
    """Return the entries of a chart's legend, from the top."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def _figure(title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure((WIDTH / _DPI, HEIGHT / _DPI), _DPI, facecolor=_PAPER, layout="constrained")
    figure.suptitle(title, x=0.012, ha="left", fontsize=11, fontweight="bold", color=_INK, parse_math=False)
    return figure


def _canvas(title: str, y_label: str) -> tuple[Figure, Axes]:
    figure = _figure(title)
    axes = figure.add_subplot()
    axes.set_ylabel(y_label, color=_INK)
    _plain(axes, grid=True)
    return figure, axes


def _plain(axes: Axes, *, grid: bool) -> None:
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis="y", color=_FAINT, lw=0.6)
    axes.tick_params(colors=_INK, labelsize=8.5, length=3)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color("#999999")


def _level_axis(axes: Axes, days: Sequence[date], level: tuple[str, Days], colour: str = _INK) -> Axes:
    """Draw a line upon bars, with an axis on the right."""
    name, values = level
    right = axes.twinx()
    right.plot(_numbers(days), [values.get(day, np.nan) for day in days], color=colour, marker=".", lw=1.5, label=name)
    right.set_ylabel(name, color=colour, parse_math=False)
    right.set_ylim(0, 1.15 * max(values.values(), default=0) or 1)
    _plain(right, grid=False)
    return right


def _calendar(days: Iterable[date]) -> list[date]:
    """Return every day from the first to the last, and as many before them as an axis needs."""
    known = set(days)
    last = max(known)
    first = min(min(known), last - timedelta(days=_FEWEST_DAYS - 1))
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _numbers(days: Sequence[date]) -> list[float]:
    from matplotlib.dates import date2num

    return [float(date2num(day)) for day in days]


def _day_axis(axes: Axes, days: Sequence[date], bar_days: int = 1) -> None:
    from matplotlib.dates import AutoDateLocator, num2date
    from matplotlib.ticker import FuncFormatter

    axes.xaxis.set_major_locator(AutoDateLocator(minticks=3, maxticks=9, interval_multiples=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{num2date(number):%d %b}".removeprefix("0")))
    first, last = _numbers([days[0], days[-1]])
    axes.set_xlim(first - 0.7 * bar_days, last + 0.7 * bar_days)
    years = f"{days[0].year}" if days[0].year == days[-1].year else f"{days[0].year} to {days[-1].year}"
    axes.set_xlabel(f"UTC day, {years}", color=_INK)


def _count_axis(axes: Axes, highest: float) -> None:
    axes.set_ylim(0, 1.08 * max(highest, 1))
    _count_ticks(axes)


def _count_ticks(axes: Axes, *, signed: bool = True) -> None:
    from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

    short = EngFormatter(sep="")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value if signed else abs(value))))


def _legend(figure: Figure, *axes: Axes, reverse: bool = False) -> None:
    pairs = [axes_.get_legend_handles_labels() for axes_ in axes]
    handles = [handle for found, _ in pairs for handle in found]
    labels = [label for _, found in pairs for label in found]
    _literal(figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8.5, reverse=reverse))


def _literal(legend: Legend) -> None:
    for text in legend.get_texts():
        text.set_parse_math(False)
        text.set_color(_INK)


def _label(name: str) -> str:
    return name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"

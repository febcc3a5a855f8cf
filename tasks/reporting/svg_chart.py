"""Charts as HTML and inline SVG without scripts, in the page's colours.

Positions are percentages and the height is fixed, so charts scale in width with constant text size.
Every mark has a `title` for hover and screen readers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

PALETTE = 10
"""Colours of data: `--k0` to `--k9` of the page's styles."""

TICKS = 5
STROKE = Markup('<line class="s{}" x1="{:.2f}%" y1="{:.2f}%" x2="{:.2f}%" y2="{:.2f}%"{}/>')
DOT = Markup('<circle class="k{}" cx="{:.2f}%" cy="{:.2f}%" r="3.5"><title>{}</title></circle>')
STEPS = (1, 2, 2.5, 5, 10)
TOPS = (1, 2, 3, 4, 6, 8, 10, 20)
"""Upper ends of an axis; the labels at its quarters are short."""


@dataclass(frozen=True)
class Line:
    """A series of (x, y); `colour`: index in the palette. `words`: titles of points."""

    name: str
    points: Sequence[tuple[float, float]]
    words: Sequence[str]
    colour: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Bar:
    """A bar from `start` to `stop` on the x axis with `height`."""

    start: float
    stop: float
    height: float
    words: str


@dataclass(frozen=True)
class Interval:
    """A value with its interval; `ours` is highlighted."""

    label: str
    value: float
    low: float
    high: float
    ours: bool


def line_chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    height: int = 240,
    x_ticks: Sequence[tuple[float, str]] | None = None,
) -> Markup:
    """Returns lines with dots over one pair of axes; the y axis begins at 0."""
    xs = [x for line in lines for x, _ in line.points]
    low, high = min(xs), max(xs)
    span = (high - low) or 1.0
    top = axis_top(max((y for line in lines for _, y in line.points), default=1.0))
    marks = []
    for line in lines:
        places = [((x - low) / span * 100, 100 - y / top * 100) for x, y in line.points]
        dash = Markup(' stroke-dasharray="5 4"') if line.dashed else Markup("")
        marks += [STROKE.format(line.colour % PALETTE, *a, *b, dash) for a, b in pairwise(places)]
        marks += [
            DOT.format(line.colour % PALETTE, x, y, words)
            for (x, y), words in zip(places, line.words, strict=True)
        ]
    ticks = x_ticks or tick_labels(_whole_ticks(low, high))
    placed = [((value - low) / span * 100, label) for value, label in ticks]
    named = legend([(line.name, line.colour) for line in lines]) if len(lines) > 1 else Markup("")
    return named + _frame(marks, placed, top, x_label, y_label, height)


def bar_chart(bars: Sequence[Bar], x_label: str, y_label: str) -> Markup:
    """Returns a histogram; the y axis begins at 0."""
    low, high = min(bar.start for bar in bars), max(bar.stop for bar in bars)
    span = (high - low) or 1.0
    top = axis_top(max(bar.height for bar in bars))
    marks = []
    for bar in bars:
        share = bar.height / top * 100
        marks.append(
            Markup(
                '<rect class="k0" x="{:.2f}%" y="{:.2f}%" width="{:.2f}%" height="{:.2f}%">'
                "<title>{}</title></rect>"
            ).format(
                (bar.start - low) / span * 100,
                100 - share,
                max(0.3, (bar.stop - bar.start) / span * 100 * 0.86),
                share,
                bar.words,
            )
        )
    ticks = [
        ((value - low) / span * 100, label) for value, label in tick_labels(_whole_ticks(low, high))
    ]
    return _frame(marks, ticks, top, x_label, y_label, 220)


def interval_chart(
    rows: Sequence[Interval], spread: str = "95% interval", digits: int = 3
) -> Markup:
    """Returns one bar per row with its interval as a whisker and the value as text.

    ``spread`` names what the intervals are.
    """
    top = axis_top(max(row.high for row in rows))
    drawn = [
        Markup(
            '<li class="{}"><span class="who">{}</span><span class="track" title="{}">'
            '<i class="fill" style="width:{:.2f}%"></i>'
            '<i class="whisker" style="left:{:.2f}%;width:{:.2f}%"></i></span>'
            '<span class="what">{:.{}f}</span></li>'
        ).format(
            "ours" if row.ours else "other",
            row.label,
            f"{row.label}: {row.value:.{digits}f}, {spread} {row.low:.{digits}f} to "
            f"{row.high:.{digits}f}",
            row.value / top * 100,
            row.low / top * 100,
            max(0.4, (row.high - row.low) / top * 100),
            row.value,
            digits,
        )
        for row in rows
    ]
    return Markup('<ul class="intervals">{}</ul>').format(Markup("").join(drawn))


def legend(entries: Sequence[tuple[str, int]], kind: str = "") -> Markup:
    """Returns names beside their colours; `kind` is a class of the list."""
    items = [
        Markup('<li><i class="k{}"></i>{}</li>').format(colour % PALETTE, name)
        for name, colour in entries
    ]
    return Markup('<ul class="legend {}">{}</ul>').format(kind, Markup("").join(items))


def axis_top(highest: float) -> float:
    """Returns the upper end of an axis for a value: a round number."""
    if not highest > 0 or not math.isfinite(highest):
        return 1.0
    unit = 10 ** math.floor(math.log10(highest))
    return next(step * unit for step in TOPS if step * unit >= highest * (1 - 1e-9))


def tick_labels(values: Sequence[float]) -> list[tuple[float, str]]:
    """Returns the ticks of an axis with their labels, which have the same number of decimals."""
    short = [f"{value:g}" for value in values]
    if any("e-" in label for label in short):
        return list(zip(values, short, strict=True))
    digits = max((len(label.partition(".")[2]) for label in short), default=0)
    return [(value, f"{value:,.{digits}f}") for value in values]


def _frame(
    marks: list[Markup],
    x_ticks: Sequence[tuple[float, str]],
    top: float,
    x_label: str,
    y_label: str,
    height: int,
) -> Markup:
    levels = [top * part / 4 for part in range(5)]
    grid = [
        Markup('<line class="grid" x1="0" x2="100%" y1="{0:.2f}%" y2="{0:.2f}%"/>').format(
            100 - level / top * 100
        )
        for level in levels
    ]
    ys = [
        Markup('<span style="bottom:{:.2f}%">{}</span>').format(level / top * 100, label)
        for level, label in tick_labels(levels)
    ]
    xs = [
        Markup('<span style="left:{:.2f}%">{}</span>').format(place, escape(label))
        for place, label in x_ticks
    ]
    return Markup(
        '<div class="chart"><div class="unit">{}</div><div class="ys" aria-hidden="true">{}</div>'
        '<svg style="height:{}px" aria-hidden="true">{}</svg>'
        '<div class="xs" aria-hidden="true">{}</div><div class="axis">{}</div></div>'
    ).format(
        y_label,
        Markup("").join(ys),
        height,
        Markup("").join([*grid, *marks]),
        Markup("").join(xs),
        x_label,
    )


def _whole_ticks(low: float, high: float) -> list[float]:
    span = high - low
    if span <= 0:
        return [low]
    unit = 10 ** math.floor(math.log10(span))
    step = next(s * unit for s in (0.2, 0.5, *STEPS) if span / (s * unit) <= TICKS)
    step = max(step, 1.0) if span >= 1 else step
    first = math.ceil(low / step) * step
    return [first + n * step for n in range(int((high - first) / step + 1e-9) + 1)]

"""Charts as SVG inside an HTML page: drawn for a width, every point, bar and cell numbered for the page's script.

``page.css`` gives colours (``c0`` to ``c5`` are those of series, by light and dark), ``page.js`` the numbers under the
pointer. ``data-k`` holds the place of a mark in ``tips``.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Final, TypeVar

from provisioner.report.chart import BarChart, Chart, HeatMap, LineChart, Mark, Rule, Series
from provisioner.report.draw import bar_ticks, cell_label, edges, lies, mark_names, spread, thinned
from provisioner.report.palette import LIGHT, MARKS, NO_VALUE, Style, colour_at, ink_on, style
from provisioner.report.scales import (
    Scale,
    Shades,
    at_foot,
    bar_rules,
    bar_scale,
    brief,
    finite,
    hidden_number,
    line_scales,
    merged,
    number,
    shades,
    shared_rows,
)

_Value = TypeVar("_Value")
WIDE: Final = 860
NARROW: Final = 360
_LETTER: Final = 7.2  # width of a letter at 12 px, on average and a little more
_LINE: Final = 14.0
_MARKED_POINTS: Final = 40
_NAMED_BARS: Final = 40


def svg(chart: Chart, width: int, name: str) -> str:
    """The picture, ``width`` pixels wide; ``name`` begins its ids, which must differ within a page."""
    match chart:
        case LineChart():
            height, parts = _lines(chart, width)
            turned = False
        case BarChart():
            turned = _lies(chart, width)
            height, parts = _bars(chart, width, name, turned)
        case HeatMap():
            height, parts = _cells(chart, width, name)
            turned = False
    shape = "wide" if width == WIDE else "narrow"
    return (
        f'<svg class="chart {shape}" viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}" '
        f'role="img" aria-label="{escape(described(chart))}" tabindex="0" data-turned="{int(turned)}" '
        f'data-up="{1 if isinstance(chart, HeatMap) else -1}">' + "".join(parts) + "</svg>"
    )


def described(chart: Chart) -> str:
    """The chart in a sentence, for those who cannot see it; the numbers are in the table below it."""
    match chart:
        case LineChart():
            what, over = "Curves", f" over {chart.x.label}"
            names, marks = [series.name for series in chart.series], "points"
        case BarChart():
            what, over = "Bars", ""
            names, marks = [bars.name for bars in chart.bars], "bars"
        case HeatMap():
            what, over = "Cells", f" over {chart.x.label} and {chart.y.label}"
            names, marks = [], "cells"
    value = chart.y.label if isinstance(chart, LineChart) else chart.value.label
    listed = ": " + ", ".join(name for name in names if name) if any(names) else ""
    return f"{chart.title}. {what} of {value}{over}{listed}. Arrow keys go to the {marks}."


def tips(chart: Chart) -> list[list[str]]:
    """What each mark says, by series and point, kind and group, or row and column; "" where there is nothing to see."""
    match chart:
        case LineChart():
            return [[_point_text(chart, series, k) for k in range(len(series.x))] for series in chart.series]
        case BarChart():
            return [
                [
                    _joined(name, bars.name, f"{chart.value.label}: {number(value)}", _at(bars.notes, group))
                    for group, (name, value) in enumerate(zip(chart.groups, bars.values, strict=True))
                ]
                for bars in chart.bars
            ]
        case HeatMap():
            return [[_cell_text(chart, r, c) for c in range(len(chart.columns))] for r in range(len(chart.rows))]


def _point_text(chart: LineChart, series: Series, k: int) -> str:
    value = f"{chart.y.label}: {number(series.y[k])}"
    low, high = _at(series.low, k), _at(series.high, k)
    if low is not None and high is not None:
        value += f" ({number(low)} to {number(high)})"
    return _joined(series.name, f"{chart.x.label}: {number(series.x[k])}", value, _at(series.notes, k))


def _cell_text(chart: HeatMap, r: int, c: int) -> str:
    return _joined(
        f"{chart.y.label}: {cell_label(chart.rows[r])}",
        f"{chart.x.label}: {cell_label(chart.columns[c])}",
        f"{chart.value.label}: {number(chart.values[r][c])}",
        chart.outline if (r, c) in chart.outlined else "",
        *(mark.label for mark in chart.marks if (mark.row, mark.column) == (r, c)),
        _at(chart.notes[r], c) if r < len(chart.notes) else "",
    )


def _at(values: Sequence[_Value], k: int) -> _Value | None:
    return values[k] if k < len(values) else None


def _joined(*lines: str | None) -> str:
    return "\n".join(dict.fromkeys(line for line in lines if line))


def legend(chart: Chart, name: str) -> list[tuple[int | None, str, str]]:
    """Entries of the legend: the series that one stands for (None: none), its sample as SVG, and its text."""
    match chart:
        case LineChart():
            entries: list[tuple[int | None, str, str]] = [
                (k, _sample_line(style(k), chart.points or len(finite(series.y)) <= 1), series.name)
                for k, series in enumerate(chart.series)
                if series.name
            ]
            if any(value == math.inf for series in chart.series for value in series.y):
                entries.append((None, f'<path class="solid" d="{_path("^", 5)}" transform="translate(14 7)"/>', _TOP))
            return entries
        case BarChart():
            entries = [
                (
                    k,
                    f'<rect class="bar c{k % len(LIGHT)}" {_fill(k, name)} x="1" y="1" width="26" height="12"/>',
                    bars.name,
                )
                for k, bars in enumerate(chart.bars)
                if bars.name
            ]
            if any(value is None or math.isnan(value) for bars in chart.bars for value in bars.values):
                entries.append((None, '<text x="14" y="11" text-anchor="middle">x</text>', "no value"))
            return entries
        case HeatMap():
            return _legend_of_cells(chart, name)


_TOP: Final = "at the top: unbounded"


def _sample_line(look: Style, marked: bool) -> str:
    mark = f'<path class="m" d="{_path(look.mark, 4)}" transform="translate(14 7)"/>' if marked else ""
    return f'<g class="{_colour(look)}"><path class="line"{_dashes(look)} d="M0,7H28"/>{mark}</g>'


def _colour(look: Style) -> str:
    return f"c{LIGHT.index(look.light)}"


def _legend_of_cells(chart: HeatMap, name: str) -> list[tuple[int | None, str, str]]:
    values = [value for row in chart.values for value in row]
    box = 'x="1" y="1" width="26" height="12"'
    entries: list[tuple[int | None, str, str]] = []
    if chart.outlined and chart.outline:
        entries.append((None, '<path class="outline" d="M2,2H26V12H2Z"/>', chart.outline))
    for symbol, label in mark_names(chart.marks):
        entries.append((None, f'<g transform="translate(14 7)">{_symbol(symbol, 7)}</g>', label))
    if any(value is None or math.isnan(value) for value in values):
        entries.append((None, f'<rect class="empty" fill="url(#{name}-none)" {box}/>', "no value"))
    if any(value is not None and math.isinf(value) for value in values):
        entries.append(
            (None, f'<rect class="edge" fill="{colour_at(1.0, chart.middle is not None)}" {box}/>', "unbounded")
        )
    return entries


# ------------------------------------------------------------------ pieces


def _text(x: float, y: float, text: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


def _path(mark: str, size: float) -> str:
    """A mark around 0, 0."""
    corners = MARKS[mark]
    if not corners:
        return f"M{-size:g},0a{size:g},{size:g} 0 1 0 {2 * size:g},0a{size:g},{size:g} 0 1 0 {-2 * size:g},0"
    return "M" + "L".join(f"{size * x:.2f},{size * y:.2f}" for x, y in corners) + "Z"


def _symbol(symbol: str, size: float) -> str:
    mark, factor = {"star": ("*", 1.2), "dot": ("o", 0.6), "cross": ("X", 0.85)}[symbol]
    return f'<path class="symbol" d="{_path(mark, size * factor)}"/>'


def _dashes(look: Style) -> str:
    return f' stroke-dasharray="{" ".join(f"{2 * length:g}" for length in look.dashes)}"' if look.dashes else ""


def _fill(position: int, name: str) -> str:
    return f'fill="url(#{name}-h{position})"'


def patterns(chart: Chart, name: str) -> str:
    """What bars and empty cells are hatched with; once for all pictures of a chart."""
    tile = 'patternUnits="userSpaceOnUse" width="8" height="8"'
    parts = []
    if isinstance(chart, BarChart):
        for k in range(len(chart.bars)):
            look = style(k)
            solid = "" if look.strokes else " full"
            parts.append(
                f'<pattern id="{name}-h{k}" class="{_colour(look)}" {tile}>'
                f'<rect class="ground{solid}" width="8" height="8"/><path class="hatch" d="{look.strokes}"/></pattern>'
            )
    if isinstance(chart, HeatMap):
        parts.append(
            f'<pattern id="{name}-none" {tile}><rect class="void" width="8" height="8"/>'
            f'<path class="void" d="{NO_VALUE[1]}"/></pattern>'
        )
    if not parts:
        return ""
    return f'<svg class="patterns" width="0" height="0" aria-hidden="true"><defs>{"".join(parts)}</defs></svg>'


def _kept(places: Sequence[float], labels: Sequence[str]) -> list[int]:
    """Positions of labels on a horizontal axis that do not run into each other."""
    for every in range(1, len(places) + 1):
        shown = list(range(0, len(places), every))
        widths = [len(labels[k]) * _LETTER + 8 for k in shown]
        gaps = [abs(places[b] - places[a]) for a, b in pairwise(shown)]
        if all(gap >= (a + b) / 2 for gap, (a, b) in zip(gaps, pairwise(widths), strict=True)):
            return shown
    return []


@dataclass(frozen=True, slots=True)
class _Frame:
    """The rectangle inside the axes, and the positions of values in it."""

    left: float
    top: float
    wide: float
    high: float

    @property
    def right(self) -> float:
        return self.left + self.wide

    @property
    def bottom(self) -> float:
        return self.top + self.high

    def x(self, scale: Scale, value: float) -> float:
        return self.left + self.wide * scale.at(value)

    def y(self, scale: Scale, value: float) -> float:
        return self.bottom - self.high * scale.at(value)

    def across(self, scale: Scale, label: str) -> Iterable[str]:
        """A horizontal axis with upright grid lines."""
        places = [self.x(scale, tick) for tick in scale.ticks]
        for place in places:
            yield f'<path class="grid" d="M{place:.1f},{self.top:.1f}V{self.bottom:.1f}"/>'
        for k in _kept(places, scale.labels):
            yield _text(places[k], self.bottom + 16, scale.labels[k])
        yield from self.named_below(label, 34)

    def named_below(self, label: str, down: float) -> Iterable[str]:
        lines = textwrap.wrap(label, max(int((self.wide + 40) / _LETTER), 10))
        for k, line in enumerate(lines):
            yield _text(self.left + self.wide / 2, self.bottom + down + k * _LINE, line, more=' class="name"')

    def up(self, scale: Scale) -> Iterable[str]:
        """An upright axis with level grid lines; its name stands above."""
        for tick, text in zip(scale.ticks, scale.labels, strict=True):
            place = self.y(scale, tick)
            yield f'<path class="grid" d="M{self.left:.1f},{place:.1f}H{self.right:.1f}"/>'
            yield _text(self.left - 6, place + 4, text, "end")

    def named_above(self, label: str, x: float = 2.0) -> Iterable[str]:
        """The name of the upright axis, level above it, where it is read without turning the head."""
        yield _text(x, self.top - 12, label, "start", ' class="name"')

    def sides(self) -> str:
        return f'<path class="axis" d="M{self.left:.1f},{self.top:.1f}V{self.bottom:.1f}H{self.right:.1f}"/>'


def _levels(frame: _Frame, rules: Sequence[Rule], scale: Scale) -> Iterable[str]:
    """Level lines."""
    for rule in rules:
        place = frame.y(scale, rule.value)
        yield f'<path class="rule" d="M{frame.left:.1f},{place:.1f}H{frame.right:.1f}"/>'


def _level_names(frame: _Frame, rules: Sequence[Rule], scale: Scale, inside: bool) -> Iterable[str]:
    """Names of level lines in the right margin, or ``inside`` above the line."""
    named = [rule for rule in rules if rule.label]
    at = [frame.y(scale, rule.value) for rule in reversed(named)]
    for rule, place in zip(reversed(named), spread(at, 13.0), strict=True):
        text = _short(rule.label)
        if inside:
            yield _text(frame.right - 2, place - 3, text, "end", ' class="label"')
        else:
            yield _text(frame.right + 6, place + 4, text, "start", ' class="label"')


def _short(text: str, most: int = 26) -> str:
    return textwrap.shorten(text, most, placeholder=" ...") or text[:most]


def _margin(labels: Iterable[str], least: float = 20.0) -> float:
    return max((len(text) * _LETTER for text in labels), default=0.0) + least


# ------------------------------------------------------------------ curves


def _lines(chart: LineChart, width: int) -> tuple[float, list[str]]:
    across, up = line_scales(chart)
    wide = width == WIDE
    levels = merged(chart.rules, "y")
    left = _margin(up.labels, 12.0)
    right = _margin((_short(rule.label) for rule in levels), 14.0) if wide and levels else 14.0
    frame = _Frame(left, 30.0, width - left - right, 300.0 if wide else 230.0)
    parts = [*frame.named_above(chart.y.label), *frame.across(across, chart.x.label), *frame.up(up), frame.sides()]
    parts += _levels(frame, levels, up)
    uprights = [(frame.x(across, rule.value), rule) for rule in merged(chart.rules, "x")]
    parts += [f'<path class="rule dotted" d="M{x:.1f},{frame.top:.1f}V{frame.bottom:.1f}"/>' for x, _ in uprights]
    endless = 0
    for position, series in enumerate(chart.series):
        shown, endless = _curve(chart, series, position, frame, across, up, endless)
        parts += shown
    parts += _level_names(frame, levels, up, inside=not wide)
    for place, rule in uprights:
        foot = at_foot(chart, rule.value)
        y = frame.bottom - 4 if foot else frame.top + 2
        turned = f' class="label" transform="rotate(-90 {place - 4:.1f} {y:.1f})"'
        parts.append(_text(place - 4, y, _short(rule.label, 34), "start" if foot else "end", turned))
    if not any(finite(series.y) for series in chart.series) and not endless:
        parts.append(_text(frame.left + frame.wide / 2, frame.top + frame.high / 2, "no values", more=' class="none"'))
    return frame.bottom + 42 + (0 if wide else _LINE), parts


def _curve(
    chart: LineChart, series: Series, position: int, frame: _Frame, across: Scale, up: Scale, endless: int
) -> tuple[list[str], int]:
    """One series, and how many so far had values without end, which are drawn at the top."""
    look = style(position)
    places: list[tuple[float, float] | None] = [
        (frame.x(across, x), frame.y(up, y)) if y is not None and math.isfinite(y) and math.isfinite(x) else None
        for x, y in zip(series.x, series.y, strict=True)
    ]
    line, pen = [], False
    for k, place in enumerate(places):
        if place is None:
            pen = False
            continue
        before = places[k - 1] if pen else None
        step = f"L{place[0]:.1f},{before[1]:.1f}" if before is not None and chart.steps else ""
        line.append(f"{step}{'L' if pen else 'M'}{place[0]:.1f},{place[1]:.1f}")
        pen = True
    parts = [f'<g class="series {_colour(look)}" data-s="{position}">']
    parts += _bounds(series, places, frame, up)
    parts.append(f'<path class="line"{_dashes(look)} d="{"".join(line)}"/>' if line else "")
    every = max(1, math.ceil(len(series.x) / _MARKED_POINTS))
    drawn = chart.points or len([place for place in places if place]) <= 1
    top = False
    for k, (place, y) in enumerate(zip(places, series.y, strict=True)):
        if place is not None:
            seen = "m" if drawn and k % every == 0 else "m hidden"
            parts.append(_mark(seen, look.mark, 4.0, *place, position, k))
        elif y is not None and y == math.inf and math.isfinite(series.x[k]):
            top = True
            parts.append(_mark("m", "^", 5.0, frame.x(across, series.x[k]), frame.top + 11.0 * endless, position, k))
    parts.append("</g>")
    return parts, endless + top


def _mark(kind: str, mark: str, size: float, x: float, y: float, r: int, c: int) -> str:
    return f'<path class="{kind}" d="{_path(mark, size)}" transform="translate({x:.1f} {y:.1f})" data-k="{r} {c}"/>'


def _bounds(series: Series, places: Sequence[tuple[float, float] | None], frame: _Frame, up: Scale) -> Iterable[str]:
    known = []
    for k, place in enumerate(places):
        low, high = _at(series.low, k), _at(series.high, k)
        if place is not None and low is not None and high is not None and len(finite([low, high])) == 2:
            known.append((place[0], frame.y(up, low), frame.y(up, high)))
    if len(known) <= _MARKED_POINTS:
        for x, low, high in known:
            ends = f"M{x - 3:.1f},{low:.1f}h6M{x - 3:.1f},{high:.1f}h6"
            yield f'<path class="bound" d="M{x:.1f},{low:.1f}V{high:.1f}{ends}"/>'
    else:
        forth = "L".join(f"{x:.1f},{high:.1f}" for x, _, high in known)
        back = "L".join(f"{x:.1f},{low:.1f}" for x, low, _ in reversed(known))
        yield f'<path class="band" d="M{forth}L{back}Z"/>'


# ------------------------------------------------------------------ bars


def _lies(chart: BarChart, width: int) -> bool:
    return lies(chart, int((width - 70) / _LETTER))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where bars lie: the middle of each group, how thick a bar is, and where the base is, along the other axis."""

    flat: bool
    frame: _Frame
    scale: Scale
    centres: tuple[float, ...]
    thick: float
    zero: float
    bottom: float

    def along(self, value: float) -> float:
        """The position of a value."""
        return self.frame.x(self.scale, value) if self.flat else self.frame.y(self.scale, value)


def _bars(chart: BarChart, width: int, name: str, flat: bool) -> tuple[float, list[str]]:
    wide = width == WIDE
    rules = bar_rules(chart)
    rows, parts = (_lying if flat else _standing)(chart, width, rules)
    kinds = 1 if shared_rows(chart) else max(len(chart.bars), 1)
    named = len(chart.bars) * len(chart.groups) <= _NAMED_BARS
    for position, bars in enumerate(chart.bars):
        offset = 0.0 if shared_rows(chart) else (position - (kinds - 1) / 2) * rows.thick
        parts.append(f'<g class="series {_colour(style(position))}" data-s="{position}">')
        for group, value in enumerate(bars.values):
            at, key = rows.centres[group] + offset, f'data-k="{position} {group}"'
            if value is None or math.isnan(value):
                text = "x none" if flat else "x"
                x, y, anchor = (rows.zero + 5, at + 4, "start") if flat else (at, rows.zero - 5, "middle")
                parts.append(_text(x, y, text, anchor, f' class="missing" {key}'))
            else:
                parts.append(_bar(rows, at, value, f"{_fill(position, name)} {key}"))
                shown = named and not hidden_number(chart, group, value)
                parts.append(_number_of_bar(rows, at, value, chart.base, rules) if shown else "")
        parts.append("</g>")
    frame = rows.frame
    if flat:
        parts.append(f'<path class="axis" d="M{rows.zero:.1f},{frame.top:.1f}V{frame.bottom:.1f}"/>')
        parts += _upright_rules(frame, rules, rows.scale, width)
    else:
        parts.append(f'<path class="axis" d="M{frame.left:.1f},{rows.zero:.1f}H{frame.right:.1f}"/>')
        parts += _levels(frame, rules, rows.scale)
        parts += _level_names(frame, rules, rows.scale, inside=not wide)
    if not chart.groups or not chart.bars:
        parts.append(_text(frame.left + frame.wide / 2, frame.top + frame.high / 2, "no values", more=' class="none"'))
    return rows.bottom, parts


def _start(chart: BarChart, found: Scale) -> float:
    """The value at which bars begin."""
    return chart.base if not found.logarithmic or found.low <= chart.base <= found.high else found.low


def _lying(chart: BarChart, width: int, rules: Sequence[Rule]) -> tuple[_Rows, list[str]]:
    """Bars that lie, the names of their groups on the left."""
    wide = width == WIDE
    found = bar_scale(chart, 0.1 if wide else 0.2)
    kinds = 1 if shared_rows(chart) else max(len(chart.bars), 1)
    names = [
        textwrap.wrap(group, 34 if wide else 19, max_lines=4, placeholder=" ...") or [""] for group in chart.groups
    ]
    highs = [max(kinds * 17.0, len(lines) * _LINE) + 9.0 for lines in names]
    left = _margin((line for lines in names for line in lines), 10.0)
    frame = _Frame(left, 12.0 + _LINE * len(rules), width - left - 16.0, max(sum(highs), 20.0))
    parts = list(frame.across(found, chart.value.label))
    centres = tuple(frame.top + sum(highs[:k]) + high / 2 for k, high in enumerate(highs))
    for lines, centre in zip(names, centres, strict=True):
        for k, line in enumerate(lines):
            parts.append(_text(left - 8, centre + 4 + (k - (len(lines) - 1) / 2) * _LINE, line, "end"))
    zero = frame.x(found, _start(chart, found))
    return _Rows(True, frame, found, centres, 16.0, zero, frame.bottom + 42.0 + (0 if wide else _LINE)), parts


def _standing(chart: BarChart, width: int, rules: Sequence[Rule]) -> tuple[_Rows, list[str]]:
    """Bars that stand, the names of their groups below."""
    wide = width == WIDE
    found = bar_scale(chart, 0.06)
    kinds = 1 if shared_rows(chart) else max(len(chart.bars), 1)
    left = _margin(found.labels, 12.0)
    right = _margin((_short(rule.label) for rule in rules), 14.0) if wide and rules else 12.0
    frame = _Frame(left, 34.0, width - left - right, 280.0 if wide else 220.0)
    parts = [*frame.named_above(chart.value.label), *frame.up(found)]
    share = frame.wide / max(len(chart.groups), 1)
    centres = tuple(frame.left + share * (k + 0.5) for k in range(len(chart.groups)))
    names = [textwrap.wrap(group, 14) for group in chart.groups]
    for lines, centre in zip(names, centres, strict=True):
        parts += [_text(centre, frame.bottom + 16 + k * _LINE, line) for k, line in enumerate(lines)]
    bottom = frame.bottom + 14.0 + _LINE * max(map(len, names), default=1)
    thick = min(0.84 * share / kinds, 70.0)
    return _Rows(False, frame, found, centres, thick, frame.y(found, _start(chart, found)), bottom), parts


def _bar(rows: _Rows, at: float, value: float, more: str) -> str:
    """A bar from the base to its value; to the end of the axis where it is without end."""
    far = rows.along(min(max(value, rows.scale.low), rows.scale.high))
    low, size = min(rows.zero, far), max(abs(far - rows.zero), 0.8)
    across, thick = at - rows.thick / 2 + 0.7, rows.thick - 1.4
    x, y, w, h = (low, across, size, thick) if rows.flat else (across, low, thick, size)
    return f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" {more}/>'


def _number_of_bar(rows: _Rows, at: float, value: float, base: float, rules: Sequence[Rule]) -> str:
    """The number at the end of a bar, where there is room."""
    far = rows.along(min(max(value, rows.scale.low), rows.scale.high))
    away = 1 if value >= base else -1
    text = brief(value, [rule.value for rule in rules])
    if not rows.flat:
        room = rows.thick >= len(text) * _LETTER * 0.84
        return _text(at, far + (-4 if away > 0 else 13), text, more=_VALUE) if room else ""
    if math.isinf(value):
        return _text(far - 4 * away, at + 4, text, "end" if away > 0 else "start", _VALUE)
    return _text(far + 4 * away, at + 4, text, "start" if away > 0 else "end", _VALUE)


def _upright_rules(frame: _Frame, rules: Sequence[Rule], scale: Scale, width: int) -> Iterable[str]:
    """Upright lines through bars that lie, named above, each in a line of its own."""
    for k, rule in enumerate(rules):
        x, top = frame.x(scale, rule.value), frame.top - 4 - k * _LINE
        yield f'<path class="rule" d="M{x:.1f},{top:.1f}V{frame.bottom:.1f}"/>'
        words = len(rule.label) * _LETTER / 2 + 2
        yield _text(min(max(x, words), width - words), top - 3, rule.label, more=' class="label"')


_VALUE: Final = ' class="value"'


# ------------------------------------------------------------------ cells


def _cells(chart: HeatMap, width: int, name: str) -> tuple[float, list[str]]:
    wide = width == WIDE
    rows, columns = len(chart.rows), len(chart.columns)
    how = shades(chart)
    most = 30 if wide else 16
    shown = thinned(chart.rows, most)
    labels = [_short(cell_label(chart.rows[k]), 30 if wide else 16) for k in shown]
    left = _margin(labels, 14.0)
    across = min(width - left - 12.0, max((92.0 if wide else 80.0) * columns, 60.0))
    high = min(max(26.0 * rows, 44.0), 480.0 if wide else 300.0)
    frame = _Frame(left, 30.0, across, high)
    cell_w, cell_h = across / max(columns, 1), high / max(rows, 1)
    parts = [*frame.named_above(chart.y.label)]
    for k, text in zip(shown, labels, strict=True):
        parts.append(_text(left - 6, frame.bottom - (k + 0.5) * cell_h + 4, text, "end"))
    texts = [cell_label(column) for column in chart.columns]
    below, down = _columns(frame, texts, chart, cell_w)
    parts += below
    for r, row in enumerate(chart.values):
        parts.append(f'<g class="cells" transform="translate({left:.1f} {frame.bottom - (r + 1) * cell_h:.2f})">')
        for c, value in enumerate(row):
            known = value is not None and not math.isnan(value)
            paint = colour_at(how.at(value), how.divided) if known and value is not None else f"url(#{name}-none)"
            place = f'x="{c * cell_w:.2f}" width="{cell_w:.2f}" height="{cell_h:.2f}"'
            parts.append(f'<rect {place} fill="{paint}" data-k="{r} {c}"/>')
            if (
                known
                and value is not None
                and cell_h >= 15
                and len(brief(value, [chart.middle])) * _LETTER + 4 <= cell_w
            ):
                ink = ' class="in"' if ink_on(paint) == "#000000" else ' class="in pale"'
                parts.append(_text((c + 0.5) * cell_w, cell_h / 2 + 4, brief(value, [chart.middle]), more=ink))
        parts.append("</g>")
    parts.append(
        f'<rect class="edge" fill="none" x="{left:.1f}" y="{frame.top}" width="{across:.1f}" height="{high:.1f}"/>'
    )
    inside = frozenset((r, c) for r, c in chart.outlined if 0 <= r < rows and 0 <= c < columns)
    if inside:
        corners = (
            [f"{left + x * cell_w:.1f},{frame.bottom - y * cell_h:.1f}" for x, y in side] for side in edges(inside)
        )
        line = "".join(f"M{a}L{b}" for a, b in corners)
        parts.append(f'<path class="casing" d="{line}"/><path class="outline" d="{line}"/>')
    for mark in sorted(chart.marks, key=_stars_last):
        numbered = cell_h >= 15 and cell_w >= 40
        x = left + (mark.column + (0.86 if numbered else 0.5)) * cell_w
        y = frame.bottom - (mark.row + (0.7 if numbered else 0.5)) * cell_h
        size = 5.0 if numbered else min(max(0.55 * min(cell_w, cell_h), 4.5), 8.0)
        parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{_symbol(mark.symbol, size)}</g>')
    bottom = frame.bottom + down
    if how.scale is not None:
        parts += _colour_bar(
            chart, how, left, bottom + 8, min(max(across, 220.0), width - left - 20.0), name + str(width)
        )
        bottom += 64.0
    return bottom, parts


def _stars_last(mark: Mark) -> bool:
    return mark.symbol == "star"


def _columns(frame: _Frame, texts: Sequence[str], chart: HeatMap, cell_w: float) -> tuple[list[str], float]:
    """The names of columns and of their axis, and how far down they go."""
    shown = thinned(chart.columns, max(int(frame.wide / (_margin(texts, 8.0))), 1))
    letters = int((cell_w - 4) / _LETTER)
    wrapped = [textwrap.wrap(text, max(letters, 1), break_long_words=False) or [""] for text in texts]
    if len(shown) < len(texts) and all(len(lines) <= 3 and max(map(len, lines)) <= letters for lines in wrapped):
        parts = [
            _text(frame.left + (c + 0.5) * cell_w, frame.bottom + 16 + k * _LINE, line)
            for c, lines in enumerate(wrapped)
            for k, line in enumerate(lines)
        ]
        down = _LINE * max(map(len, wrapped)) + 20
        return [*parts, *frame.named_below(chart.x.label, down)], down + 12
    if len(shown) < len(texts) and any(isinstance(column, str) for column in chart.columns):
        shown = list(range(len(texts)))  # names cannot be guessed from their neighbours: all of them, turned
        cut = [_short(text, 24) for text in texts]
        if cell_w >= 13:
            parts = []
            for k in shown:
                x, y = frame.left + (k + 0.5) * cell_w + 4, frame.bottom + 8
                parts.append(_text(x, y, cut[k], "end", f' transform="rotate(-60 {x:.1f} {y:.1f})"'))
            down = max(len(text) for text in cut) * _LETTER * 0.87 + 14
            return [*parts, *frame.named_below(chart.x.label, down + 10)], down + 22
        shown = thinned(chart.columns, max(int(frame.wide / _margin(texts, 8.0)), 1))
    parts = [_text(frame.left + (k + 0.5) * cell_w, frame.bottom + 16, texts[k]) for k in shown]
    return [*parts, *frame.named_below(chart.x.label, 34)], 46.0


def _colour_bar(chart: HeatMap, how: Shades, left: float, top: float, wide: float, name: str) -> Iterable[str]:
    """The colours with their values, lying below the cells."""
    low, high = how.ends
    steps = 64
    stops = []
    for k in range(steps + 1):
        place = low + k / steps * (high - low)
        for here in (place, place + 1e-9) if abs(place - 0.5) < 1e-9 and how.divided and low < 0.5 < high else (place,):
            stops.append(f'<stop offset="{k / steps:.4f}" stop-color="{colour_at(here, how.divided)}"/>')
    yield f'<defs><linearGradient id="{name}-ramp">{"".join(stops)}</linearGradient></defs>'
    yield f'<rect class="edge" fill="url(#{name}-ramp)" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="12"/>'
    for place, text in bar_ticks(how, 44.0 / wide):
        x = left + place * wide
        yield f'<path class="axis" d="M{x:.1f},{top + 12:.1f}v4"/>'
        yield _text(x, top + 28, text)
    yield _text(left, top + 44, chart.value.label, "start", ' class="name"')

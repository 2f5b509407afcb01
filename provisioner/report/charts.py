"""Charts drawn by Vega-Lite through Altair: for pages, notebooks, PNG, SVG and PDF, without a network.

Loading Altair takes a second, so this module is imported where a chart is drawn and nowhere else.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, TypeVar

import altair as alt
import vl_convert

from provisioner.errors import InputError
from provisioner.report.chart import Axis, BarChart, Bars, Chart, HeatMap, LineChart, Rule
from provisioner.report.chart_text import description, mark_texts, merged, subtitle
from provisioner.report.heat_map import cells, cells_height
from provisioner.report.numbers import five_digits, three_digits
from provisioner.report.theme import DASHES, LIGHT, PAGE, SHAPES, Spec, config
from provisioner.report.vega import NAME_WIDTH, TEXT, data, finite, known, named_axis, number_format

T = TypeVar("T")
Channel = TypeVar("Channel", alt.X, alt.Y)

Width = int | Literal["container"]
"""The width of a chart: pixels, or that of its box on a page."""

WIDTH: Final = 720  # of a chart in a file or a notebook, in pixels
_PNG_SCALE: Final = 2.0
_MOST_BARS: Final = 12
_MARKED_POINTS: Final = 40  # with more points, a curve has dashes only
_FULL: Final = 0.85  # opacity of a bar, and of one beside a bar that stands out
_PALE: Final = 0.3
_ROW: Final = 24  # height of a bar
_HEIGHT: Final = 300


class OfflineChart(alt.LayerChart):
    """A chart of Altair that a notebook shows as SVG, made on this machine: nothing is loaded from a network."""

    def _repr_mimebundle_(self, *_: object, **__: object) -> dict[str, str]:
        return {"image/svg+xml": svg(self)}


def altair_chart(chart: Chart, width: Width = WIDTH) -> OfflineChart:
    """Return a chart as one of Altair, ``width`` pixels wide or as wide as its ``container``."""
    match chart:
        case LineChart():
            layers, height = _lines(chart, width), _HEIGHT
        case BarChart():
            chart = folded(chart)
            layers, height = _bars(chart, width), _bars_height(chart)
        case HeatMap():
            layers, height = cells(chart), cells_height(chart)
    if not layers:
        layers, height = [_nothing(chart)], 60
    return OfflineChart(
        layer=layers,
        title=alt.TitleParams(textwrap.wrap(chart.title, 90) or "", subtitle=subtitle(chart)),
        description=description(chart),
        width=width,
        height=height,
        config=config(LIGHT),
    )


def plotted(chart: Chart, axes: object = None) -> OfflineChart:
    """Return a chart as one of Altair. ``axes`` of matplotlib, which 0.1 drew on, are refused."""
    if axes is not None:
        raise InputError("plot(axes=...): charts are Altair's since 0.2; use plot() and its save()")
    return altair_chart(chart)


def page_spec(chart: Chart) -> Spec:
    """Return the specification of a chart on a page: as wide as its box, in the page's colours, without a title."""
    spec: Spec = altair_chart(chart, "container").to_dict(validate=False)
    spec |= {"config": config(PAGE), "autosize": {"type": "fit-x", "contains": "padding"}}
    del spec["title"]
    return spec


def svg(chart: alt.TopLevelMixin) -> str:
    """Return a chart of Altair as SVG; the same chart is always the same text."""
    text = io.StringIO()
    chart.save(text, format="svg")
    numbers: dict[str, str] = {}  # Vega numbers gradients and clips through all charts of a process
    return re.sub(
        r"\b(gradient_|clip)\d+\b",
        lambda found: numbers.setdefault(found[0], f"{found[1]}{len(numbers)}"),
        text.getvalue(),
    )


def write_chart(chart: alt.TopLevelMixin, kind: str, path: str) -> None:
    """Write a chart of Altair as ``png``, ``svg`` or ``pdf``."""
    drawn = svg(chart)
    if kind == "svg":
        content = drawn.encode()
    else:
        content = vl_convert.svg_to_png(drawn, scale=_PNG_SCALE) if kind == "png" else vl_convert.svg_to_pdf(drawn)
    Path(path).write_bytes(content)


def charts_file(charts: Sequence[Chart], kind: str) -> Callable[[str], None]:
    """Return a function that writes charts, one below the other, to a file as ``png``, ``svg`` or ``pdf``."""
    parts = [altair_chart(chart) for chart in charts]
    for part in parts:
        part.config = alt.Undefined
    channels = ("color", "stroke", "fillOpacity", "strokeDash", "shape")
    apart: dict[str, Literal["independent"]] = dict.fromkeys(channels, "independent")
    whole = alt.vconcat(*parts, spacing=40).resolve_scale(**apart)
    return lambda path: write_chart(whole.properties(config=config(LIGHT), padding=16), kind, path)


def _nothing(chart: Chart) -> alt.Chart:
    words: alt.Chart = alt.Chart(data([{"text": "no values"}])).mark_text(style="soft").encode(text="text:N")
    return words


def _quantity(channel: type[Channel], field: str, axis: Axis, values: Sequence[float]) -> Channel:
    """A quantity on the scale of its values; a logarithmic one with 0 or less is linear around 0."""
    title, ticks = textwrap.wrap(axis.label, 50), list[float]()
    scale = alt.Scale(zero=axis.from_zero, nice=True)
    if axis.logarithmic and any(values):
        if min(values) > 0 and not axis.from_zero:
            scale = alt.Scale(type="log", nice=False, padding=8)
        else:
            smallest = math.floor(math.log10(min(abs(value) for value in values if value)) + 1e-9)
            powers: list[float] = [10.0**k for k in range(smallest, math.ceil(math.log10(max(map(abs, values)))) + 1)]
            ticks = [*(-power for power in reversed(powers) if -power >= min(values)), 0.0, *powers]
            scale = alt.Scale(type="symlog", constant=10.0**smallest, nice=False)
    drawn = alt.Axis(title=title, format=number_format(values), values=ticks or alt.Undefined)
    return channel(f"{field}:Q", scale=scale, axis=drawn, title=title)


def _legend(names: Sequence[str], width: Width) -> alt.Legend | None:
    """A legend below the chart, in as many columns as its width holds; none for a single entry."""
    if len(names) < 2:
        return None
    entry = 52 + min(7 * max(map(len, names)), 330)
    box = alt.ExprRef(f"max(1, floor(containerSize()[0] / {entry}))")
    columns = max(1, width // entry) if isinstance(width, int) else box
    return alt.Legend(title=None, columns=columns, symbolLimit=0, symbolOpacity=1)


def _names(chart: LineChart | BarChart) -> list[str]:
    """Names of curves or of kinds of bars, made different where they are not."""
    listed = [part.name for part in (chart.series if isinstance(chart, LineChart) else chart.bars)]
    return [name if name and listed.count(name) == 1 else f"{name} {k + 1}".strip() for k, name in enumerate(listed)]


def _cycle(values: Sequence[T], count: int) -> list[T]:
    return [values[k % len(values)] for k in range(count)]


# Curves


def _lines(chart: LineChart, width: Width) -> list[alt.Chart]:
    rows = _points(chart)
    if not any(row["y"] is not None or row["endless"] for row in rows):
        return []
    names = _names(chart)
    rules = {axis: merged(chart.rules, axis) for axis in "xy"}
    xs = [*finite(row["x"] for row in rows), *(rule.value for rule in rules["x"])]
    ys = finite(value for row in rows for value in (row["y"], row.get("low"), row.get("high")))
    ys += [rule.value for rule in rules["y"]]
    x = _quantity(alt.X, "x", chart.x, xs)
    y = _quantity(alt.Y, "y", chart.y, ys)
    legend = _legend(names, width)
    few = max(len(series.x) for series in chart.series) <= _MARKED_POINTS
    pointed = (chart.points and few) or any(len(finite(series.y)) == 1 for series in chart.series)
    color = alt.Color("series:N", scale=alt.Scale(domain=names), legend=legend)
    dashes = alt.Scale(domain=names, range=_cycle(DASHES, len(names)))
    dash = alt.StrokeDash("series:N", scale=dashes, legend=legend)
    shape = alt.Shape("series:N", scale=alt.Scale(domain=names, range=_cycle(SHAPES, len(names))), legend=legend)
    base = alt.Chart(data(rows))
    curve = base.mark_line(interpolate="step-after" if chart.steps else "linear", strokeWidth=2, aria=False)
    layers = [*_bounds(base, rows, x, color, few), curve.encode(x=x, y=y, color=color, strokeDash=dash)]
    marks = base.transform_filter("isValid(datum.y)")
    if pointed:
        point = marks.mark_point(filled=True, size=60, opacity=1)
        layers.append(point.encode(x=x, y=y, color=color, shape=shape, **TEXT))
    else:
        layers.append(marks.mark_point(filled=True, size=60, opacity=0).encode(x=x, y=y, **TEXT))
    if any(row["endless"] for row in rows):
        top = base.transform_filter("datum.endless").mark_point(shape="triangle-up", filled=True, size=90, opacity=1)
        layers.append(top.encode(x=x, y=alt.value(4), color=color, **TEXT))
    height = _span(ys, chart.y.logarithmic)
    return [*layers, *_levels(rules["y"], y, height), *_uprights(rules["x"], x)]


def _points(chart: LineChart) -> list[Spec]:
    rows = []
    for name, series, texts in zip(_names(chart), chart.series, mark_texts(chart), strict=True):
        for k, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
            row: Spec = {"series": name, "x": known(x), "y": known(y), "text": texts[k]}
            row["endless"] = y is not None and y == math.inf
            if series.low and series.high and known(series.low[k]) is not None and known(series.high[k]) is not None:
                row |= {"low": series.low[k], "high": series.high[k]}
            rows.append(row)
    return rows


def _bounds(base: alt.Chart, rows: Sequence[Spec], x: alt.X, color: alt.Color, few: bool) -> list[alt.Chart]:
    """Intervals of values: bars where there are few, a band where there are many."""
    if not any("low" in row for row in rows):
        return []
    bounded = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
    mark = bounded.mark_rule(aria=False) if few else bounded.mark_area(opacity=0.18, aria=False)
    return [mark.encode(x=x, y=alt.Y("low:Q", title=None), y2="high:Q", color=color)]


def _span(values: Sequence[float], logarithmic: bool) -> Callable[[float], float]:
    """The height of a value on an axis: 0 for the lowest, 1 for the highest."""
    scaled = math.log10 if logarithmic and min(values, default=0.0) > 0 else float
    low, high = scaled(min(values, default=0.0)), scaled(max(values, default=1.0))
    return lambda value: (scaled(value) - low) / (high - low) if high > low else 0.5


def _levels(rules: Sequence[Rule], y: alt.Y, height: Callable[[float], float]) -> list[alt.Chart]:
    """Level lines, named above their left ends, as curves rise to the right; the names of neighbours are one."""
    if not rules:
        return []
    rows = _rule_rows("y", rules)
    for below, row in pairwise(rows):
        if height(row["y"]) - height(below["y"]) < 0.06:
            row["label"], below["label"] = f"{below['label']}, {row['label']}", ""
    base = alt.Chart(data(rows)).encode(y=y)
    name = base.mark_text(style="label", align="left", baseline="bottom", dx=4, dy=-2, limit=260, aria=False)
    return [_rule_line(base, [7, 3]), name.encode(x=alt.value(0), text="label:N")]


def _uprights(rules: Sequence[Rule], x: alt.X) -> list[alt.Chart]:
    """Upright lines with their names along them, at the head."""
    if not rules:
        return []
    base = alt.Chart(data(_rule_rows("x", rules))).encode(x=x)
    name = base.mark_text(style="label", angle=270, align="right", baseline="bottom", dx=-4, dy=-3, limit=_HEIGHT - 30)
    return [_rule_line(base, [2, 3]), name.encode(y=alt.value(0), text="label:N")]


def _rule_rows(field: str, rules: Sequence[Rule]) -> list[Spec]:
    return [
        {field: rule.value, "label": rule.label, "text": f"{rule.label}: {five_digits(rule.value)}"} for rule in rules
    ]


def _rule_line(base: alt.Chart, dash: list[int]) -> alt.Chart:
    line: alt.Chart = base.mark_rule(strokeDash=dash).encode(tooltip="text:N", description="text:N")
    return line


# Bars


def folded(chart: BarChart) -> BarChart:
    """Return a chart of at most twelve bars: the last ones are folded into one, named by how many and from what value.

    Charts with several bars in a group keep them all.

    >>> bars = Bars("", tuple(float(k) for k in range(90, 110)))
    >>> folded(BarChart("", tuple("abcdefghijklmnopqrst"), Axis("cost ($/h)"), (bars,))).groups[-1]
    'and 9 more from 101'
    """
    if len(chart.groups) <= _MOST_BARS or len(chart.bars) != 1:
        return chart
    kept, (bars,) = _MOST_BARS - 1, chart.bars
    rest = finite(bars.values[kept:])
    least = min(rest, default=None)
    name = f"and {len(chart.groups) - kept} more" + ("" if least is None else f" from {three_digits(least)}")
    note = "; ".join(f"{group}: {five_digits(bars.values[kept + k])}" for k, group in enumerate(chart.groups[kept:]))
    notes = (*bars.notes[:kept], note) if bars.notes else (*[""] * kept, note)
    return replace(
        chart,
        groups=(*chart.groups[:kept], name),
        bars=(Bars(bars.name, (*bars.values[:kept], least), notes),),
    )


def _bars(chart: BarChart, width: Width) -> list[alt.Chart]:
    values = finite(value for bars in chart.bars for value in bars.values)
    if not chart.groups or not chart.bars or not values:
        return []
    rules = merged([Rule(rule.value, rule.label) for rule in chart.rules], "y")
    low, high, start = _extent(chart, [*values, *(rule.value for rule in rules)])
    rows = _bar_rows(chart, low, high, start, [rule.value for rule in rules])
    names = _names(chart)
    y = alt.Y("group:O", title=None, axis=alt.Axis(**named_axis(chart.groups, 3)), scale=alt.Scale(paddingInner=0.2))
    log = chart.value.logarithmic and low > 0
    scale = alt.Scale(type="log" if log else "linear", domain=[low, high], nice=False)
    x = alt.X("end:Q", scale=scale, axis=alt.Axis(title=chart.value.label, format=number_format(values)))
    offset: Spec = {} if shared_rows(chart) or len(names) < 2 else {"yOffset": alt.YOffset("bar:O", sort=names)}
    base = alt.Chart(data(rows)).encode(y=y, **offset)
    bar = base.transform_filter("isValid(datum.end)").mark_bar(fillOpacity=0.8, strokeWidth=1.5, cornerRadiusEnd=1)
    paint: Spec = {}
    if len(names) > 1:
        legend = _legend(names, width)
        kinds = alt.Scale(domain=names, range="category")
        opacity = alt.Scale(domain=names, range=_cycle((_FULL, _PALE), len(names)))
        dashes = alt.Scale(domain=names, range=_cycle(DASHES, len(names)))
        paint = {
            "color": alt.Color("bar:O", scale=kinds, legend=legend),
            "stroke": alt.Stroke("bar:O", scale=kinds, legend=legend),
            "fillOpacity": alt.FillOpacity("bar:O", scale=opacity, legend=legend),
            "strokeDash": alt.StrokeDash("bar:O", scale=dashes, legend=legend),
        }
    elif chart.strong:
        paint = {"fillOpacity": alt.condition("datum.pale", alt.value(_PALE), alt.value(_FULL))}
    layers = [bar.encode(x=x, x2="start:Q", **paint, **TEXT)]
    sides: tuple[tuple[str, Literal["left", "right"], int], ...] = (("right", "left", 5), ("left", "right", -5))
    for side, align, dx in sides:
        if any(row["side"] == side for row in rows):
            shown = base.transform_filter(f"datum.side == '{side}'")
            number = shown.mark_text(style="label", align=align, baseline="middle", dx=dx, aria=False)
            layers.append(number.encode(x=x, text="shown:N"))
    if any(row["end"] is None for row in rows):
        missing = base.transform_filter("!isValid(datum.end)").mark_text(style="soft", align="left", dx=5, limit=420)
        layers.append(missing.encode(x=alt.X("start:Q", scale=scale), text="shown:N", **TEXT))
    layers.append(alt.Chart(data([{"end": start}])).mark_rule(aria=False).encode(x=x))
    return [*layers, *_bar_rules(rules, x, low, high)]


def _extent(chart: BarChart, values: Sequence[float]) -> tuple[float, float, float]:
    """The lowest and highest value of the axis, with room for numbers beside bars, and where bars begin."""
    if chart.value.logarithmic and min(values) >= 0 and any(values):
        positive = [value for value in values if value > 0]
        low, high = min(positive) / 1.5, max(positive)
        return low, high * (high / low) ** 0.18, chart.base if chart.base > 0 else low
    low, high = min(*values, chart.base), max(*values, chart.base)
    if high == low:
        low, high = low - 0.5, high + 0.5
    room = 0.26 * (high - low)  # five digits beside the longest bar of a narrow chart
    return low - (room if low < chart.base else 0.0), high + (room if high > chart.base else 0.0), chart.base


def _bar_rows(chart: BarChart, low: float, high: float, start: float, limits: Sequence[float]) -> list[Spec]:
    rows: list[Spec] = []
    names, texts = _names(chart), mark_texts(chart)
    shared = shared_rows(chart)
    for b, bars in enumerate(chart.bars):
        for g, value in enumerate(bars.values):
            drawn = value is not None and not math.isnan(value)
            end = min(max(value, low), high) if drawn and value is not None else None
            shown = three_digits(value, limits) if drawn else f"\u00d7 {bars.note(g) or 'no value'}"
            row = {"group": g, "pale": bool(chart.strong) and g not in chart.strong, "bar": names[b]}
            # of bars in one row, the name of a bar without length would lie on the other one
            side = None if end is None or (shared and end == start) else "left" if end < start else "right"
            row |= {"value": known(value), "start": start, "end": end, "side": side}
            rows.append(row | {"shown": shown, "text": texts[b][g]})
    return rows


def shared_rows(chart: BarChart) -> bool:
    """Return whether the bars of a group can lie in one row: two kinds, never on one side of the base (a tornado)."""
    if len(chart.bars) != 2:
        return False
    sides = [[_side(chart, value) for value in bars.values] for bars in chart.bars]
    pairs = list(zip(*sides, strict=True))
    return any(a and b for a, b in pairs) and not any(a == b != 0 for a, b in pairs)


def _side(chart: BarChart, value: float | None) -> int:
    """The side of the base on which a bar lies: -1, 1, or 0 for no bar."""
    return 0 if value is None or math.isnan(value) or value == chart.base else 1 if value > chart.base else -1


def _bar_rules(rules: Sequence[Rule], x: alt.X, low: float, high: float) -> list[alt.Chart]:
    """Limits of bars, named above the chart."""
    if not rules:
        return []
    base = alt.Chart(data(_rule_rows("end", rules))).encode(x=x)
    layers = [_rule_line(base, [7, 3])]
    sides: tuple[tuple[str, Literal["left", "right"]], ...] = (("<", "left"), (">=", "right"))
    for test, align in sides:
        named = base.transform_filter(f"datum.end {test} {(low + high) / 2}")
        if any((rule.value < (low + high) / 2) == (test == "<") for rule in rules):
            name = named.mark_text(style="label", align=align, baseline="bottom", dy=-3, limit=260, aria=False)
            layers.append(name.encode(y=alt.value(0), text="label:N"))
    return layers


def _bars_height(chart: BarChart) -> int:
    rows = 1 if shared_rows(chart) else max(len(chart.bars), 1)
    lines = max((len(textwrap.wrap(name, NAME_WIDTH)) for name in chart.groups), default=1)
    return len(chart.groups) * max(rows * _ROW + 6, 15 * min(lines, 3) + 6)

"""Charts drawn by Vega-Lite through Altair: for pages, notebooks, PNG, SVG and PDF, without a network.

Loading Altair takes a second, so this module is imported where a chart is drawn and nowhere else.
"""

import io
import json
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Final, Literal, TypeVar

import altair as alt
import numpy as np
import vl_convert

from provisioner.report import theme
from provisioner.report.chart import Axis, BarChart, Bars, Chart, HeatMap, LineChart, Mark, Rule, Series, note
from provisioner.report.chart_text import cell_label, description, mark_texts, merged, subtitle
from provisioner.report.document import grouped
from provisioner.report.numbers import five_digits, three_digits
from provisioner.report.theme import Spec, config

Channel = TypeVar("Channel", alt.X, alt.Y)
Look = TypeVar("Look", alt.Color, alt.Stroke, alt.FillOpacity, alt.StrokeDash, alt.Shape)

Width = int | Literal["container"]  # the width of a chart: pixels, or that of its box on a page
WIDTH: Final = 720  # of a chart in a file or a notebook, in pixels
_FROM_SVG: Final[Mapping[str, Callable[[str], bytes]]] = {
    "svg": str.encode,
    "png": partial(vl_convert.svg_to_png, scale=2.0),
    "pdf": vl_convert.svg_to_pdf,
}
_MOST_BARS: Final = 12
_MARKED_POINTS: Final = 40  # with more points, a curve has dashes only
_FULL: Final = 0.85  # opacity of a bar, and of one beside a bar that stands out
_PALE: Final = 0.3
_ROW: Final = 24  # height of a bar
_HEIGHT: Final = 300
_NAME_WIDTH: Final = 24  # characters on a line of a name beside bars or cells
_NUMBERED_CELLS: Final = 120  # with more cells, they have no numbers in them
_CELL_WIDTH: Final = 44  # pixels that a number in a cell needs
_TEXT: Final[Spec] = {"tooltip": alt.Tooltip("text:N"), "description": alt.Description("text:N")}
"""The channels that show the text of a mark."""
_BESIDE: Final[Mapping[str, Spec]] = {"right": {"align": "left", "dx": 5}, "left": {"align": "right", "dx": -5}}
"""The place of the number beside a bar that ends on this side of the base."""


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
            layers, height = _cells(chart), min(max(30 * len(chart.rows), 60), 480)
    if not layers:
        nothing = alt.Chart(data([{"text": "no values"}])).mark_text(style="soft").encode(text="text:N")
        layers, height = [nothing], 60
    return OfflineChart(
        layer=layers,
        title=alt.TitleParams(textwrap.wrap(chart.title, 90) or "", subtitle=subtitle(chart)),
        description=description(chart),
        width=width,
        height=height,
        config=config(theme.LIGHT),
    )


def page_spec(chart: Chart) -> Spec:
    """Return the specification of a chart on a page: as wide as its box, in the page's colours, without a title."""
    spec: Spec = altair_chart(chart, "container").to_dict(validate=False)
    spec |= {"config": config(theme.PAGE), "autosize": {"type": "fit-x", "contains": "padding"}}
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
    Path(path).write_bytes(_FROM_SVG[kind](svg(chart)))


def charts_file(charts: Sequence[Chart], kind: str) -> Callable[[str], None]:
    """Return a function that writes charts, one below the other, to a file as ``png``, ``svg`` or ``pdf``."""
    parts = [altair_chart(chart) for chart in charts]
    for part in parts:
        part.config = alt.Undefined
    apart: Spec = dict.fromkeys(("color", "stroke", "fillOpacity", "strokeDash", "shape"), "independent")
    whole = alt.vconcat(*parts, spacing=40).resolve_scale(**apart)
    return lambda path: write_chart(whole.properties(config=config(theme.LIGHT), padding=16), kind, path)


def data(rows: Iterable[Spec]) -> alt.InlineData:
    """Return records as the data of a chart."""
    return alt.InlineData(values=list(rows))


def _known(value: float | None) -> float | None:
    """A value that JSON and a chart can hold: neither NaN nor infinite."""
    return value if value is not None and math.isfinite(value) else None


def _finite(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _named_axis(names: Iterable[str], lines: int) -> Spec:
    """The look of an axis of positions from 0 that shows names, long ones on several lines."""
    wrapper = textwrap.TextWrapper(_NAME_WIDTH, max_lines=lines, placeholder=" ...", break_on_hyphens=False)
    wrapped = [wrapper.wrap(name) for name in names]
    return {"labelExpr": f"{json.dumps(wrapped)}[datum.value]", "ticks": False, "domain": False}


def _number_format(values: Sequence[float]) -> str:
    """The format of the numbers on an axis: without a power of ten, if they are neither tiny nor huge."""
    return ",~r" if all(1e-4 <= abs(value) < 1e9 for value in values if value) else "~g"


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
    drawn = alt.Axis(title=title, format=_number_format(values), values=ticks or alt.Undefined)
    return channel(f"{field}:Q", scale=scale, axis=drawn, title=title)


def _names(parts: Iterable[Series | Bars]) -> list[str]:
    """Names of curves or of kinds of bars, made different where they are not."""
    listed = [part.name for part in parts]
    return [name if name and listed.count(name) == 1 else f"{name} {k + 1}".strip() for k, name in enumerate(listed)]


def _look(
    channel: type[Look], field: str, names: Sequence[str], width: Width, looks: Iterable[object] = (), edge: bool = True
) -> Look:
    """A look of curves or of kinds of bars: one of the ``looks`` for each, or a range of Vega's.

    The legend, whose symbols may have an ``edge``, has as many columns as the width holds; a single entry has none.
    """
    shown = looks if isinstance(looks, str) else list(islice(cycle(looks), len(names)))
    scale: Spec = {"range": shown} if shown else {}
    entry = 52 + min(7 * max(map(len, names)), 330)
    box = alt.ExprRef(f"max(1, floor(containerSize()[0] / {entry}))")
    columns = max(1, width // entry) if isinstance(width, int) else box
    legend = alt.Legend(title=None, columns=columns, symbolLimit=0, symbolOpacity=1, symbolStrokeWidth=1.5 * edge)
    return channel(field, scale=alt.Scale(domain=names, **scale), legend=legend if len(names) > 1 else None)


def _ruled(
    field: str, rules: Sequence[Rule], channel: alt.X | alt.Y, dash: list[int], labels: Iterable[str] = ()
) -> tuple[alt.Chart, alt.Chart]:
    """Lines at the values of rules, and the chart on which their names are drawn: their ``labels`` if given."""
    rows = [
        {field: rule.value, "label": label, "text": f"{rule.label}: {five_digits(rule.value)}"}
        for rule, label in zip(rules, labels or [rule.label for rule in rules], strict=True)
    ]
    base = alt.Chart(data(rows)).encode(channel)
    return base.mark_rule(strokeDash=dash).encode(tooltip="text:N", description="text:N"), base


def _lines(chart: LineChart, width: Width) -> list[alt.Chart]:
    rows = _points(chart)
    if not any(row["y"] is not None or row["endless"] for row in rows):
        return []
    levels, uprights = ([rule for rule in merged(chart.rules) if rule.axis == axis] for axis in "yx")
    xs = [*_finite(row["x"] for row in rows), *(rule.value for rule in uprights)]
    ys = _finite(value for row in rows for value in (row["y"], row.get("low"), row.get("high")))
    ys += [rule.value for rule in levels]
    x, y = _quantity(alt.X, "x", chart.x, xs), _quantity(alt.Y, "y", chart.y, ys)
    names, few = _names(chart.series), max(len(series.x) for series in chart.series) <= _MARKED_POINTS
    pointed = (chart.points and few) or any(len(_finite(series.y)) == 1 for series in chart.series)
    edge = not pointed  # dashes would cut the shapes of the points
    color = _look(alt.Color, "series:N", names, width, edge=edge)
    dash = _look(alt.StrokeDash, "series:N", names, width, theme.DASHES, edge)
    base, layers = alt.Chart(data(rows)), list[alt.Chart]()
    if any("low" in row for row in rows):
        bounded = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
        interval = bounded.mark_rule(aria=False) if few else bounded.mark_area(opacity=0.18, aria=False)
        layers.append(interval.encode(x=x, y=alt.Y("low:Q", title=None), y2="high:Q", color=color))
    curve = base.mark_line(interpolate="step-after" if chart.steps else "linear", strokeWidth=2, aria=False)
    layers.append(curve.encode(x=x, y=y, color=color, strokeDash=dash))
    point = base.transform_filter("isValid(datum.y)").mark_point(filled=True, size=60, opacity=int(pointed))
    shape = _look(alt.Shape, "series:N", names, width, theme.SHAPES, edge)
    layers.append(point.encode(x=x, y=y, **({"color": color, "shape": shape} if pointed else {}), **_TEXT))
    if any(row["endless"] for row in rows):
        top = base.transform_filter("datum.endless").mark_point(shape="triangle-up", filled=True, size=90, opacity=1)
        layers.append(top.encode(x=x, y=alt.value(4), color=color, **_TEXT))
    if levels:
        layers += _levels(levels, y, ys, math.log10 if chart.y.logarithmic and min(ys) > 0 else float)
    if uprights:
        line, upright = _ruled("x", uprights, x, [2, 3])
        look: Spec = {"angle": 270, "align": "right", "baseline": "bottom", "dx": -4, "dy": -3, "limit": _HEIGHT - 30}
        layers += [line, upright.mark_text(style="label", **look).encode(y=alt.value(0), text="label:N")]
    return layers


def _points(chart: LineChart) -> list[Spec]:
    rows: list[Spec] = []
    texts = iter(mark_texts(chart))
    for name, series in zip(_names(chart.series), chart.series, strict=True):
        for k, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
            row: Spec = {"series": name, "x": _known(x), "y": _known(y), "text": next(texts), "endless": y == math.inf}
            bounds = [series.low[k], series.high[k]] if series.low and series.high else []
            rows.append(row | (dict(zip(("low", "high"), bounds, strict=True)) if len(_finite(bounds)) == 2 else {}))
    return rows


def _levels(rules: Sequence[Rule], y: alt.Y, ys: Sequence[float], scaled: Callable[[float], float]) -> list[alt.Chart]:
    """Level lines, named above their left ends, as curves rise to the right; the names of neighbours are one."""
    near = 0.06 * (scaled(max(ys)) - scaled(min(ys)))
    labels = [rule.label for rule in rules]
    for k, (below, rule) in enumerate(pairwise(rules)):
        if scaled(rule.value) - scaled(below.value) < near:
            labels[k : k + 2] = "", f"{labels[k]}, {labels[k + 1]}"
    line, level = _ruled("y", rules, y, [7, 3], labels)
    name = level.mark_text(style="label", align="left", baseline="bottom", dx=4, dy=-2, limit=260, aria=False)
    return [line, name.encode(x=alt.value(0), text="label:N")]


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
    least = min(_finite(bars.values[kept:]), default=None)
    name = f"and {len(chart.groups) - kept} more" + ("" if least is None else f" from {three_digits(least)}")
    rest = "; ".join(f"{group}: {five_digits(bars.values[kept + k])}" for k, group in enumerate(chart.groups[kept:]))
    notes = (*(note(bars, k) for k in range(kept)), rest)
    few = Bars(bars.name, (*bars.values[:kept], least), notes)
    return replace(chart, groups=(*chart.groups[:kept], name), bars=(few,))


def _bars(chart: BarChart, width: Width) -> list[alt.Chart]:
    values = _finite(value for bars in chart.bars for value in bars.values)
    if not values:
        return []
    rules = merged(replace(rule, axis="y") for rule in chart.rules)
    low, high, start = _extent(chart, [*values, *(rule.value for rule in rules)])
    rows = _bar_rows(chart, low, high, start, [rule.value for rule in rules])
    names = _names(chart.bars)
    y = alt.Y("group:O", title=None, axis=alt.Axis(**_named_axis(chart.groups, 3)), scale=alt.Scale(paddingInner=0.2))
    scale = alt.Scale(domain=[low, high], nice=False, type=("log" if chart.value.logarithmic and low > 0 else "linear"))
    x = alt.X("end:Q", scale=scale, axis=alt.Axis(title=chart.value.label, format=_number_format(values)))
    offset: Spec = {} if shared_rows(chart) or len(names) < 2 else {"yOffset": alt.YOffset("bar:O", sort=names)}
    base = alt.Chart(data(rows)).encode(y=y, **offset)
    bar = base.transform_filter("isValid(datum.end)").mark_bar(fillOpacity=0.8, strokeWidth=1.5, cornerRadiusEnd=1)
    paint: Spec = {}
    if len(names) > 1:
        paint = {
            "color": _look(alt.Color, "bar:O", names, width, "category"),
            "stroke": _look(alt.Stroke, "bar:O", names, width, "category"),
            "fillOpacity": _look(alt.FillOpacity, "bar:O", names, width, (_FULL, _PALE)),
            "strokeDash": _look(alt.StrokeDash, "bar:O", names, width, theme.DASHES),
        }
    elif chart.strong:
        paint = {"fillOpacity": alt.condition("datum.pale", alt.value(_PALE), alt.value(_FULL))}
    layers = [bar.encode(x=x, x2="start:Q", **paint, **_TEXT)]
    for side, beside in _BESIDE.items():
        if any(row["side"] == side for row in rows):
            ended = base.transform_filter(f"datum.side == '{side}'")
            number = ended.mark_text(style="label", baseline="middle", aria=False, **beside)
            layers.append(number.encode(x=x, text="shown:N"))
    if any(row["end"] is None for row in rows):
        begun: Spec = {"x": alt.X("start:Q", scale=scale), "text": "shown:N", **_TEXT}
        missing = base.transform_filter("!isValid(datum.end)").encode(**begun)
        layers.append(missing.mark_text(style="soft", align="left", dx=5, limit=alt.ExprRef("width - 5")))
    layers.append(alt.Chart(data([{"end": start}])).mark_rule(aria=False).encode(x=x))
    return [*layers, *(_limits(rules, x, (low + high) / 2) if rules else [])]


def _extent(chart: BarChart, values: Sequence[float]) -> tuple[float, float, float]:
    """The lowest and highest value of the axis, with room for numbers beside bars, and where bars begin."""
    if chart.value.logarithmic and min(values) >= 0 and any(values):
        low, high = min(value for value in values if value > 0) / 1.5, max(values)
        return low, high * (high / low) ** 0.18, chart.base if chart.base > 0 else low
    low, high = min(*values, chart.base), max(*values, chart.base)
    if high == low:
        low, high = low - 0.5, high + 0.5
    room = 0.26 * (high - low)  # five digits beside the longest bar of a narrow chart
    return low - (room if low < chart.base else 0.0), high + (room if high > chart.base else 0.0), chart.base


def _bar_rows(chart: BarChart, low: float, high: float, start: float, limits: Sequence[float]) -> list[Spec]:
    rows: list[Spec] = []
    texts, shared = iter(mark_texts(chart)), shared_rows(chart)
    for name, bars in zip(_names(chart.bars), chart.bars, strict=True):
        for g, value in enumerate(bars.values):
            end = None if value is None or math.isnan(value) else min(max(value, low), high)
            # of bars in one row, the name of a bar without length would lie on the other one
            side = None if end is None or (shared and end == start) else "left" if end < start else "right"
            row = {"group": g, "pale": bool(chart.strong) and g not in chart.strong, "bar": name}
            row |= {"value": _known(value), "start": start, "end": end, "side": side}
            shown = f"\u00d7 {note(bars, g) or 'no value'}" if end is None else three_digits(value, limits)
            rows.append(row | {"shown": shown, "text": next(texts)})
    return rows


def shared_rows(chart: BarChart) -> bool:
    """Return whether the bars of a group can lie in one row: two kinds, never on one side of the base (a tornado)."""
    if len(chart.bars) != 2:
        return False
    sides = [np.sign(np.array(bars.values, dtype=np.float64) - chart.base) for bars in chart.bars]
    product = sides[0] * sides[1]  # NaN without a bar
    return bool(np.any(product < 0) and not np.any(product > 0))


def _limits(rules: Sequence[Rule], x: alt.X, middle: float) -> list[alt.Chart]:
    """Limits of bars, named above the chart, towards the middle."""
    line, limit = _ruled("end", rules, x, [7, 3])
    layers = [line]
    for test, align in (("<", "left"), (">=", "right")):
        if any((rule.value < middle) == (test == "<") for rule in rules):
            named = limit.transform_filter(f"datum.end {test} {middle}")
            look: Spec = {"align": align, "baseline": "bottom", "dy": -3, "limit": 260, "aria": False}
            layers.append(named.mark_text(style="label", **look).encode(y=alt.value(0), text="label:N"))
    return layers


def _bars_height(chart: BarChart) -> int:
    rows = 1 if shared_rows(chart) else max(len(chart.bars), 1)
    lines = max((len(textwrap.wrap(name, _NAME_WIDTH)) for name in chart.groups), default=1)
    return len(chart.groups) * max(rows * _ROW + 6, 15 * min(lines, 3) + 6)


def _cells(chart: HeatMap) -> list[alt.Chart]:
    if not chart.rows or not chart.columns:
        return []
    scale, kept, dark_from = _shades(chart)
    texts = iter(mark_texts(chart))
    rows: list[Spec] = [
        {"row": r, "column": c, "value": _known(value), "text": next(texts)}
        | ({"endless": True} if value == math.inf else {})
        for r, row in enumerate(chart.values)
        for c, value in enumerate(row)
    ]
    numbered = len(rows) <= _NUMBERED_CELLS
    if numbered:
        for row in (row for row in rows if row["value"] is not None or row.get("endless")):
            row["shown"] = three_digits(chart.values[row["row"]][row["column"]], [chart.middle])
    tall = alt.Axis(title=textwrap.wrap(chart.y.label, 40), **_named_axis(map(cell_label, chart.rows), 2))
    wide = alt.Axis(title=chart.x.label, labelAngle=0, **_named_axis(map(cell_label, chart.columns), 2))
    x, y = alt.X("column:O", title=None, axis=wide), alt.Y("row:O", sort="descending", axis=tall)
    base = alt.Chart(data(rows)).encode(x=x, y=y)
    layers = []
    if kept:
        gradient = alt.Legend(
            title=textwrap.wrap(chart.value.label, 48),
            gradientLength=alt.ExprRef("min(360, width - 20)"),
            format=_number_format(kept),
            labelOverlap="greedy",
        )
        cell = base.transform_filter("isValid(datum.value)").mark_rect()
        color = alt.Color("value:Q", scale=scale, legend=gradient)
        layers.append(cell.encode(color=color, **_TEXT))
    if len(kept) < len(rows):
        grey: Spec = {"condition": {"test": "datum.endless", "value": "#000000"}, "value": theme.NO_VALUE}
        missing = base.transform_filter("!isValid(datum.value)")
        layers.append(missing.mark_rect().encode(fill=grey, **_TEXT))
        absent = missing.transform_filter("!datum.endless")
        layers.append(absent.mark_text(text="\u00d7", fontSize=11, color="#000000", aria=False))
    layers += _outline(chart, x, y)
    if numbered:
        roomy = alt.ExprRef(f"width < {_CELL_WIDTH * len(chart.columns) + 60} ? 0 : 1")
        marked = {(mark.row, mark.column) for mark in chart.marks}
        dark = f"datum.endless || datum.value > {dark_from}"
        for inside, dy in ((False, 0), (True, 7)):
            these = [row for row in rows if "shown" in row and ((row["row"], row["column"]) in marked) == inside]
            number = alt.Chart(data(these)).mark_text(fontSize=11, opacity=roomy, aria=False, dy=dy)
            ink: Spec = {"condition": {"test": dark, "value": "#ffffff"}, "value": "#000000"}
            if these:
                layers.append(number.encode(x=x, y=y, text="shown:N", color=ink))
    return [*layers, *_symbols(chart, x, y, numbered)]


def _shades(chart: HeatMap) -> tuple[alt.Scale, list[float], float]:
    """The colours of cells, the values that have one, and the value from which on the colours are dark.

    Cells are darker with the value, and the colours are divided where a limit is.
    """
    kept = _finite(value for row in chart.values for value in row)
    low, high = (min(kept), max(kept)) if kept else (0.0, 1.0)
    log = chart.value.logarithmic and low > 0
    middle = _known(chart.middle)
    if middle is None:
        stops, colors = _stops(low, high, len(theme.CELLS), log), list(theme.CELLS)
        dark_from = stops[2]
    else:
        stops, colors, dark_from = [], [], math.inf
        if low <= middle or not kept:
            stops += _stops(min(low, middle), middle, len(theme.CELLS_BELOW), log)
            colors += theme.CELLS_BELOW
        if high > middle:
            above = middle + 1e-9 * (abs(middle) or high - middle)
            stops += _stops(above, high, len(theme.CELLS_ABOVE), log)
            dark_from = above + 0.3 * (stops[-2] - above)
            colors += theme.CELLS_ABOVE
    scale = alt.Scale(type="log" if log else "linear", domain=stops, range=colors, clamp=True)
    return scale, kept, min(dark_from, 1e300)


def _stops(low: float, high: float, count: int, log: bool) -> list[float]:
    """Values at equal distances on the scale, always rising."""
    if high <= low:
        high = low + (abs(low) or 1.0) * 1e-6
    shares = np.linspace(0.0, 1.0, count)
    return [float(stop) for stop in (low * (high / low) ** shares if log else low + (high - low) * shares)]


def _outline(chart: HeatMap, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Lines around the outlined cells, on a white ground so that they are seen on dark cells."""
    cells = chart.outlined
    layers = []
    for color, wide in (("#ffffff", 4.5), ("#000000", 2.2)):
        for dr, dc in ((0, -1), (0, 1), (-1, 0), (1, 0)):
            edges = [{"row": r, "column": c} for r, c in sorted(cells) if (r + dr, c + dc) not in cells]
            line = alt.Chart(data(edges)).mark_rule(color=color, strokeWidth=wide, strokeCap="square", aria=False)
            at = {"x": x.bandPosition(0.5 + 0.5 * dc if dc else 0), "y": y.bandPosition(0.5 - 0.5 * dr if dr else 0)}
            end: Spec = {"y2": alt.Y2("row:O", bandPosition=1)} if dc else {"x2": alt.X2("column:O", bandPosition=1)}
            layers += [line.encode(**at, **end)] if edges else []
    return layers


def _symbols(chart: HeatMap, x: alt.X, y: alt.Y, numbered: bool) -> list[alt.Chart]:
    """The marks of cells, with a legend; many different labels of one symbol are one entry."""
    if not chart.marks:
        return []
    shapes = {"star": theme.STAR, "dot": "circle", "cross": "cross"}
    marks = grouped((mark.symbol, mark) for mark in chart.marks)
    labels = {symbol: tuple(dict.fromkeys(mark.label for mark in of)) for symbol, of in marks.items()}

    def entry(mark: Mark) -> str:
        first, *others = labels[mark.symbol]
        return (mark.label if len(others) < 3 else f"{first} and {len(others)} others") or mark.symbol

    rows = [{"row": m.row, "column": m.column, "mark": entry(m), "star": m.symbol == "star"} for m in chart.marks]
    symbols = {entry(mark): shapes[symbol] for symbol, of in marks.items() for mark in of}
    legend = alt.Legend(title=None, orient="top", columns=1, symbolLimit=0, symbolSize=160)
    shape = alt.Shape("mark:N", scale=alt.Scale(domain=list(symbols), range=[*symbols.values()]), legend=legend)
    size: Spec = {"condition": {"test": "datum.star", "value": 170}, "value": 45}
    look: Spec = {"fill": "#ffffff", "stroke": "#000000", "strokeWidth": 1, "opacity": 1, "aria": False}
    points = alt.Chart(data(rows)).mark_point(yOffset=-7 if numbered else 0, **look)
    return [points.encode(x=x, y=y, shape=shape, size=size)]

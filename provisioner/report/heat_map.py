"""Heat maps as layers of Vega-Lite: cells by colour, those without a value, an outline, numbers and marks."""

from __future__ import annotations

import math
import textwrap
from typing import Final

import altair as alt

from provisioner.report.chart import HeatMap
from provisioner.report.chart_text import cell_label, mark_texts
from provisioner.report.numbers import three_digits
from provisioner.report.theme import CELLS, CELLS_ABOVE, CELLS_BELOW, NO_VALUE, STAR, Spec
from provisioner.report.vega import TEXT, data, finite, known, named_axis, number_format

_NUMBERED_CELLS: Final = 120  # with more cells, they have no numbers in them
_CELL_WIDTH: Final = 44  # pixels that a number in a cell needs


def cells(chart: HeatMap) -> list[alt.Chart]:
    """Return the layers of a heat map; none if it has no cell."""
    if not chart.rows or not chart.columns:
        return []
    scale, kept, dark_from = _shades(chart)
    texts = iter(mark_texts(chart))
    rows: list[Spec] = [
        {"row": r, "column": c, "value": known(value), "text": next(texts)}
        | ({"endless": True} if value == math.inf else {})
        for r, row in enumerate(chart.values)
        for c, value in enumerate(row)
    ]
    numbered = len(rows) <= _NUMBERED_CELLS
    if numbered:
        for row in (row for row in rows if row["value"] is not None or row.get("endless")):
            row["shown"] = three_digits(chart.values[row["row"]][row["column"]], [chart.middle])
    tall = alt.Axis(title=textwrap.wrap(chart.y.label, 40), **named_axis(map(cell_label, chart.rows), 2))
    wide = alt.Axis(title=chart.x.label, labelAngle=0, **named_axis(map(cell_label, chart.columns), 2))
    x = alt.X("column:O", title=None, axis=wide)
    y = alt.Y("row:O", sort="descending", axis=tall)
    base = alt.Chart(data(rows)).encode(x=x, y=y)
    layers = []
    if kept:
        gradient = alt.Legend(
            title=textwrap.wrap(chart.value.label, 48),
            gradientLength=alt.ExprRef("min(360, width - 20)"),
            format=number_format(kept),
            labelOverlap="greedy",
        )
        cell = base.transform_filter("isValid(datum.value)").mark_rect()
        color = alt.Color("value:Q", scale=scale, legend=gradient)
        layers.append(cell.encode(color=color, **TEXT))
    if len(kept) < len(rows):
        grey: Spec = {"condition": {"test": "datum.endless", "value": "#000000"}, "value": NO_VALUE}
        missing = base.transform_filter("!isValid(datum.value)")
        layers.append(missing.mark_rect().encode(fill=grey, **TEXT))
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
    kept = finite(value for row in chart.values for value in row)
    low, high = (min(kept), max(kept)) if kept else (0.0, 1.0)
    log = chart.value.logarithmic and low > 0
    middle = chart.middle if chart.middle is not None and math.isfinite(chart.middle) else None
    if middle is None:
        stops, colors = _stops(low, high, len(CELLS), log), list(CELLS)
        dark_from = stops[2]
    else:
        stops, colors, dark_from = [], [], math.inf
        if low <= middle or not kept:
            stops += _stops(min(low, middle), middle, len(CELLS_BELOW), log)
            colors += CELLS_BELOW
        if high > middle:
            above = middle + 1e-9 * (abs(middle) or high - middle)
            stops += _stops(above, high, len(CELLS_ABOVE), log)
            dark_from = above + 0.3 * (stops[-2] - above)
            colors += CELLS_ABOVE
    scale = alt.Scale(type="log" if log else "linear", domain=stops, range=colors, clamp=True)
    return scale, kept, min(dark_from, 1e300)


def _stops(low: float, high: float, count: int, log: bool) -> list[float]:
    """Values at equal distances on the scale, always rising."""
    if high <= low:
        high = low + (abs(low) or 1.0) * 1e-6
    shares = [k / (count - 1) for k in range(count)]
    if log:
        return [low * (high / low) ** share for share in shares]
    return [low + (high - low) * share for share in shares]


def _outline(chart: HeatMap, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Lines around the outlined cells, on a white ground so that they are seen on dark cells."""
    cells = chart.outlined
    layers = []
    for dr, dc in ((0, -1), (0, 1), (-1, 0), (1, 0)):
        edges = [{"row": r, "column": c} for r, c in sorted(cells) if (r + dr, c + dc) not in cells]
        if not edges:
            continue
        across, up = (0.5 + 0.5 * dc, 0.5 - 0.5 * dr)
        ends: Spec = {"y2": alt.Y2("row:O", bandPosition=1)} if dc else {"x2": alt.X2("column:O", bandPosition=1)}
        for color, wide in (("#ffffff", 4.5), ("#000000", 2.2)):
            line = alt.Chart(data(edges)).mark_rule(color=color, strokeWidth=wide, strokeCap="square", aria=False)
            at = {"x": x.bandPosition(across if dc else 0), "y": y.bandPosition(0 if dc else up)}
            layers.append(line.encode(**at, **ends))
    return [*layers[::2], *layers[1::2]]


def _symbols(chart: HeatMap, x: alt.X, y: alt.Y, numbered: bool) -> list[alt.Chart]:
    """The marks of cells, with a legend; many different labels of one symbol are one entry."""
    if not chart.marks:
        return []
    shapes = {"star": STAR, "dot": "circle", "cross": "cross"}
    labels: dict[str, dict[str, None]] = {}
    for mark in chart.marks:
        labels.setdefault(mark.symbol, {})[mark.label] = None
    entries = {
        (symbol, label): label if len(known) <= 3 else f"{next(iter(known))} and {len(known) - 1} others"
        for symbol, known in labels.items()
        for label in known
    }
    symbols = {name or symbol: shapes[symbol] for (symbol, _), name in entries.items()}
    rows = [
        {"row": m.row, "column": m.column, "mark": entries[m.symbol, m.label] or m.symbol, "star": m.symbol == "star"}
        for m in chart.marks
    ]
    legend = alt.Legend(title=None, orient="top", columns=1, symbolLimit=0, symbolSize=160)
    shape = alt.Shape("mark:N", scale=alt.Scale(domain=list(symbols), range=[*symbols.values()]), legend=legend)
    size: Spec = {"condition": {"test": "datum.star", "value": 170}, "value": 45}
    mark = alt.Chart(data(rows)).mark_point(
        fill="#ffffff", stroke="#000000", strokeWidth=1, opacity=1, yOffset=-7 if numbered else 0, aria=False
    )
    return [mark.encode(x=x, y=y, shape=shape, size=size)]


def cells_height(chart: HeatMap) -> int:
    """Return the height of all rows of cells in pixels."""
    return min(max(30 * len(chart.rows), 60), 480)

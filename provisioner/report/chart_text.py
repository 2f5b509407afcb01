"""Charts in words and numbers: a description, the text of each of its marks, and its numbers as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from provisioner.report.chart import BarChart, Chart, HeatMap, LineChart, Rule, Series
from provisioner.report.document import Column, Table, table
from provisioner.report.numbers import five_digits


def description(chart: Chart) -> str:
    """The kind of a chart, its title, axes and limits as one sentence each, for those who cannot see it."""
    match chart:
        case LineChart():
            names = ", ".join(series.name for series in chart.series)
            parts = ["Line chart", chart.title, f"{chart.y.label} over {chart.x.label}", names]
        case BarChart():
            names = ", ".join(bars.name for bars in chart.bars)
            parts = ["Bar chart", chart.title, f"{chart.value.label} of {len(chart.groups)} entries", names]
        case HeatMap():
            over = f"{chart.value.label} over {chart.x.label} and {chart.y.label}"
            parts = ["Heat map", chart.title, over]
    return ". ".join(part for part in (*parts, legend_text(chart)) if part) + "."


def legend_text(chart: Chart) -> str:
    """The text of the lines and marks of a chart."""
    if not isinstance(chart, HeatMap):
        rules = [rule for axis in "xy" for rule in merged(chart.rules, axis)]
        return "; ".join(f"{rule.label} at {five_digits(rule.value)}" for rule in rules)
    labels: dict[str, list[str]] = {}
    for mark in chart.marks:
        row, column = cell_label(chart.rows[mark.row]), cell_label(chart.columns[mark.column])
        places = labels.setdefault(mark.label or mark.symbol, [])
        places.append(f"{chart.y.label} {row}, {chart.x.label} {column}")
    marks = [f"{label}: {' | '.join(places)}" for label, places in labels.items()]
    outline = [f"with *: {chart.outline}"] if chart.outlined and chart.outline else []
    return "; ".join([chart.value.label, *outline, *marks])


def subtitle(chart: Chart) -> str:
    """Return the text on a chart's cells without a value and on its outline."""
    if not isinstance(chart, HeatMap):
        return ""
    texts = [f"outlined: {chart.outline}"] if chart.outlined and chart.outline else []
    values = [value for row in chart.values for value in row]
    if any(value is None or math.isnan(value) for value in values):
        texts.append("\u00d7 on grey: no value")
    if any(value is not None and math.isinf(value) for value in values):
        texts.append("black: unbounded")
    return "; ".join(texts)


def merged(rules: Sequence[Rule], axis: str) -> list[Rule]:
    """The rules of an axis that can be drawn, in order; those at one value as one, with all of their labels."""
    labels: dict[float, dict[str, None]] = {}
    for rule in sorted((rule for rule in rules if rule.axis == axis), key=lambda rule: rule.value):
        if math.isfinite(rule.value):
            labels.setdefault(rule.value, {})[rule.label] = None
    return [Rule(value, ", ".join(filter(None, texts)), "x" if axis == "x" else "y") for value, texts in labels.items()]


def cell_label(value: float | str) -> str:
    """A row or column of a heat map by its value.

    >>> cell_label(3.0), cell_label("1:1")
    ('3', '1:1')
    """
    return value if isinstance(value, str) else five_digits(value)


def mark_texts(chart: Chart) -> list[list[str]]:
    """The text of each point by series, of each bar by its kind, or of each cell by row; a line for each fact."""
    match chart:
        case LineChart():
            return [
                [
                    _text(
                        series.name,
                        (chart.x.label, x),
                        (chart.y.label, y),
                        ("interval", f"{low} to {high}" if low else ""),
                        note=note,
                    )
                    for x, y, low, high, note in _points(series)
                ]
                for series in chart.series
            ]
        case BarChart():
            label = chart.value.label
            return [
                [
                    _text(chart.groups[k], ("", bars.name), (label, five_digits(value)), note=bars.note(k))
                    for k, value in enumerate(bars.values)
                ]
                for bars in chart.bars
            ]
        case HeatMap():
            marks = {(mark.row, mark.column): mark.label for mark in chart.marks}
            return [
                [
                    _text(
                        marks.get((r, c), ""),
                        (chart.y.label, cell_label(chart.rows[r])),
                        (chart.x.label, cell_label(chart.columns[c])),
                        (chart.value.label, five_digits(value)),
                        ("", chart.outline if (r, c) in chart.outlined else ""),
                        note=chart.notes[r][c] if chart.notes else "",
                    )
                    for c, value in enumerate(row)
                ]
                for r, row in enumerate(chart.values)
            ]


def _points(series: Series) -> list[tuple[str, str, str, str, str]]:
    """The texts of points: x, y, the ends of the interval, and the note."""
    bounded = bool(series.low and series.high)
    return [
        (
            five_digits(x),
            five_digits(y),
            five_digits(series.low[k]) if bounded else "",
            five_digits(series.high[k]) if bounded else "",
            series.note(k),
        )
        for k, (x, y) in enumerate(zip(series.x, series.y, strict=True))
    ]


def _text(name: str, *facts: tuple[str, str], note: str) -> str:
    lines = [name, *(f"{label}: {value}" if label else value for label, value in facts if value), note]
    return "\n".join(line for line in lines if line)


def numbers_table(chart: Chart) -> Table:
    """The numbers of a chart as a table, without columns that are empty; cells from the top row down, as drawn."""
    match chart:
        case LineChart():
            labels = ("series", chart.x.label, chart.y.label, "from", "to")
            columns = [Column(label, number=k > 0) for k, label in enumerate(labels)]
            points = [(series.name, *point) for series in chart.series for point in _points(series)]
            return table("", (*columns, Column("", words=True)), points)
        case BarChart():
            columns = [Column(""), Column(""), Column(chart.value.label, True), Column("", words=True)]
            rows = [
                (group, bars.name, five_digits(bars.values[k]), bars.note(k))
                for k, group in enumerate(chart.groups)
                for bars in chart.bars
            ]
            return table("", columns, rows)
        case HeatMap():

            def cell(r: int, c: int) -> str:
                return five_digits(chart.values[r][c]) + (" *" if (r, c) in chart.outlined else "")

            numbers = (Column(cell_label(label), True) for label in chart.columns)
            lines = [
                (cell_label(label), *(cell(r, c) for c in range(len(chart.columns))))
                for r, label in enumerate(chart.rows)
            ]
            return Table("", (Column(f"{chart.y.label} \\ {chart.x.label}"), *numbers), tuple(reversed(lines)))

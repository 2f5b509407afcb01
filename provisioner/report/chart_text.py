"""Charts in words and numbers: a description, the text of each of its marks, and its numbers as a table."""

import math
from collections.abc import Iterable
from dataclasses import replace

from provisioner.report.chart import BarChart, Chart, HeatMap, LineChart, Rule, note
from provisioner.report.document import Column, Table, grouped, table
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
        return "; ".join(f"{rule.label} at {five_digits(rule.value)}" for rule in merged(chart.rules))
    places = grouped(
        (
            mark.label or mark.symbol,
            f"{chart.y.label} {cell_label(chart.rows[mark.row])}, "
            f"{chart.x.label} {cell_label(chart.columns[mark.column])}",
        )
        for mark in chart.marks
    )
    outline = [f"with *: {chart.outline}"] if chart.outlined and chart.outline else []
    return "; ".join([chart.value.label, *outline, *(f"{label}: {' | '.join(at)}" for label, at in places.items())])


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


def merged(rules: Iterable[Rule]) -> list[Rule]:
    """The rules that can be drawn, by axis and value; those at one value as one, with all of their labels."""
    drawn = sorted((rule for rule in rules if math.isfinite(rule.value)), key=lambda rule: (rule.axis, rule.value))
    labels = grouped((replace(rule, label=""), rule.label) for rule in drawn)
    return [replace(rule, label=", ".join(filter(None, dict.fromkeys(of)))) for rule, of in labels.items()]


def cell_label(value: float | str) -> str:
    """A row or column of a heat map by its value.

    >>> cell_label(3.0), cell_label("1:1")
    ('3', '1:1')
    """
    return value if isinstance(value, str) else five_digits(value)


def mark_texts(chart: Chart) -> list[str]:
    """The text of each point by series, of each bar by its kind, or of each cell by row; a line for each fact."""
    match chart:
        case LineChart(x=across, y=up):
            return [
                _text(name, f"{across.label}: {x}", f"{up.label}: {y}", low and f"interval: {low} to {high}", remark)
                for name, x, y, low, high, remark in _points(chart)
            ]
        case BarChart(groups=groups, value=axis):
            return [
                _text(groups[k], bars.name, f"{axis.label}: {five_digits(value)}", note(bars, k))
                for bars in chart.bars
                for k, value in enumerate(bars.values)
            ]
        case HeatMap(x=across, y=up):
            marks = {(mark.row, mark.column): mark.label for mark in chart.marks}
            return [
                _text(
                    marks.get((r, c), ""),
                    f"{up.label}: {cell_label(chart.rows[r])}",
                    f"{across.label}: {cell_label(chart.columns[c])}",
                    f"{chart.value.label}: {five_digits(value)}",
                    chart.outline if (r, c) in chart.outlined else "",
                    chart.notes[r][c] if chart.notes else "",
                )
                for r, row in enumerate(chart.values)
                for c, value in enumerate(row)
            ]


def _text(*lines: str) -> str:
    return "\n".join(filter(None, lines))


def _points(chart: LineChart) -> list[tuple[str, str, str, str, str, str]]:
    """The texts of all points: series, x, y, the ends of the interval, and the note."""
    return [
        (
            series.name,
            five_digits(x),
            five_digits(y),
            five_digits(series.low[k]) if series.low and series.high else "",
            five_digits(series.high[k]) if series.low and series.high else "",
            note(series, k),
        )
        for series in chart.series
        for k, (x, y) in enumerate(zip(series.x, series.y, strict=True))
    ]


def numbers_table(chart: Chart) -> Table:
    """The numbers of a chart as a table, without columns that are empty; cells from the top row down, as drawn."""
    match chart:
        case LineChart():
            labels = ("series", chart.x.label, chart.y.label, "from", "to")
            columns = [Column(label, number=k > 0) for k, label in enumerate(labels)]
            return table("", (*columns, Column("", words=True)), _points(chart))
        case BarChart():
            columns = [Column(""), Column(""), Column(chart.value.label, True), Column("", words=True)]
            rows = [
                (group, bars.name, five_digits(bars.values[k]), note(bars, k))
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

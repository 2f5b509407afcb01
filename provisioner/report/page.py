"""A result as one HTML file that opens offline: the answer, tables, pictures with their numbers, and sources."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Final

import provisioner
from provisioner.report.chart import BarChart, Chart, HeatMap, LineChart
from provisioner.report.document import Block, Code, Column, Document, Facts, Notes, Table
from provisioner.report.draw import cell_label
from provisioner.report.scales import merged, number
from provisioner.report.svg import NARROW, WIDE, legend, patterns, svg, tips

# What a result rests on comes after the pictures, in this order; whatever else a report has, before them.
_REPEAT: Final = "To repeat"
_LAST: Final = ("Inputs", "Sources", "How this", _REPEAT)
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(document: Document, charts: Sequence[Chart] = (), *, version: str = "") -> str:
    """The page: one file with its style and script inside, which loads nothing.

    Blocks keep their order, but those titled "Inputs", "Sources", "How this ..." and "To repeat ..." come after the
    pictures.
    ``version`` is that of the program that made it, by default of this one.
    """
    first = [block for block in document.blocks if _place(block) < 0]
    last = sorted((block for block in document.blocks if _place(block) >= 0), key=_place)
    parts = [f"<header><h1>{escape(document.headline)}</h1>"]
    if document.subtitle:
        parts.append(f'<p class="question">{escape(document.subtitle)}</p>')
    parts.append("</header>")
    parts += [_section(block, answer=position == 0) for position, block in enumerate(first)]
    if charts:
        drawn = "\n".join(_figure(chart, f"p{k}") for k, chart in enumerate(charts))
        parts.append(f'<section id="pictures"><h2>Pictures</h2>\n{drawn}\n</section>')
    parts += [_section(block) for block in last]
    return _PAGE.format(
        policy=escape(_POLICY),
        title=escape(document.headline),
        style=_asset("page.css"),
        body="\n".join(parts),
        version=escape(f"provisioner {version or provisioner.__version__}"),
        script=_asset("page.js"),
    )


_PAGE: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{version}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
<footer>Made by {version}.</footer>
<div id="tip" role="status" aria-live="polite"></div>
<script>
{script}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return files("provisioner.report").joinpath(name).read_text(encoding="utf-8")


def _place(block: Block) -> int:
    """Where a block comes among those after the pictures; -1 before them."""
    return next((k for k, title in enumerate(_LAST) if block.title.startswith(title)), -1)


def _section(block: Block, answer: bool = False) -> str:
    kind = ' class="warning"' if isinstance(block, Notes) and block.warning else ""
    title = f"<h2>{escape(block.title)}</h2>\n" if block.title else ""
    return f"<section{kind}>{title}{_block(block, answer)}</section>"


def _block(block: Block, answer: bool) -> str:
    match block:
        case Facts(rows=rows):
            facts = "".join(f"<dt>{escape(label)}</dt><dd>{escape(value)}</dd>" for label, value in rows)
            return f"<dl{_ANSWER if answer else ''}>{facts}</dl>"
        case Notes(lines=lines):
            return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
        case Code(text=text):
            if block.title.startswith(_REPEAT):
                return f'<pre class="command">{escape(text)}</pre>'
            return f'<pre role="region" tabindex="0" aria-label="{escape(block.title)}">{escape(text)}</pre>'
        case Table():
            return _table(block, block.title)


def _table(block: Table, label: str, caption: str = "") -> str:
    """A table in a box of its own, in which it scrolls when it is wider than the page."""
    kinds = [_kind(column) for column in block.columns]
    header = "".join(
        f'<th scope="col"{kind}>{escape(column.header)}</th>' for column, kind in zip(block.columns, kinds, strict=True)
    )
    rows = []
    for position, row in enumerate(block.rows):
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        rows.append(f"<tr{_STRONG if position in block.strong else ''}>{cells}</tr>")
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label or "table")}"><table>{above}'
        f"<thead><tr>{header}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


_ANSWER: Final = ' class="answer"'
_STRONG: Final = ' class="strong"'


def _kind(column: Column) -> str:
    return ' class="number"' if column.number else ' class="words"' if column.words else ""


def _figure(chart: Chart, name: str) -> str:
    """A picture with its title, legend, the texts of its marks, and its numbers as a table."""
    pictures = "".join(svg(chart, width, name) for width in (WIDE, NARROW))
    numbers, caption = _numbers(chart)
    return (
        f'<figure data-chart="{name}"><figcaption>{escape(chart.title)}</figcaption>{patterns(chart, name)}{pictures}'
        f'{_legend(chart, name)}<script type="application/json">{_json(tips(chart))}</script>'
        f"<details><summary>The numbers of this picture</summary>{_table(numbers, chart.title, caption)}</details>"
        "</figure>"
    )


def _json(value: object) -> str:
    """JSON that neither ends a script element nor begins a comment in it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _legend(chart: Chart, name: str) -> str:
    entries = []
    for series, sample, text in legend(chart, name):
        inside = f'<svg width="28" height="14" aria-hidden="true">{sample}</svg>{escape(text)}'
        if series is None:
            entries.append(f'<li><span class="entry">{inside}</span></li>')
        else:
            entries.append(f'<li><button type="button" aria-pressed="true" data-s="{series}">{inside}</button></li>')
    return f'<ul class="legend">{"".join(entries)}</ul>' if entries else ""


def _numbers(chart: Chart) -> tuple[Table, str]:
    """The numbers of a picture as a table, and what its lines and marks say."""
    match chart:
        case LineChart():
            lines = [f"{rule.label} at {number(rule.value)}" for axis in "xy" for rule in merged(chart.rules, axis)]
            return _curve_numbers(chart), "; ".join(lines)
        case BarChart():
            rules = [f"{rule.label} at {number(rule.value)}" for rule in chart.rules]
            return _bar_numbers(chart), "; ".join(rules)
        case HeatMap():
            marks = [
                f"{mark.label or mark.symbol}: {chart.y.label} {cell_label(chart.rows[mark.row])}, "
                f"{chart.x.label} {cell_label(chart.columns[mark.column])}"
                for mark in chart.marks
            ]
            outline = [f"with *: {chart.outline}"] if chart.outlined and chart.outline else []
            return _cell_numbers(chart), "; ".join([chart.value.label, *outline, *marks])


def _curve_numbers(chart: LineChart) -> Table:
    columns = (
        Column("series"),
        Column(chart.x.label, True),
        Column(chart.y.label, True),
        Column("from", True),
        Column("to", True),
        Column("", words=True),
    )
    rows = [
        (
            series.name,
            number(x),
            number(y),
            number(series.low[k]) if series.low else "",
            number(series.high[k]) if series.high else "",
            series.notes[k] if series.notes else "",
        )
        for series in chart.series
        for k, (x, y) in enumerate(zip(series.x, series.y, strict=True))
    ]
    return _without_empty(columns, rows)


def _bar_numbers(chart: BarChart) -> Table:
    columns = (Column(""), Column(""), Column(chart.value.label, True), Column("", words=True))
    rows = [
        (group, bars.name, number(bars.values[k]), bars.notes[k] if bars.notes else "")
        for k, group in enumerate(chart.groups)
        for bars in chart.bars
    ]
    return _without_empty(columns, rows)


def _cell_numbers(chart: HeatMap) -> Table:
    """Rows from the top down, as they are drawn."""
    columns = (
        Column(f"{chart.y.label} \\ {chart.x.label}"),
        *(Column(cell_label(label), True) for label in chart.columns),
    )
    rows = [
        (
            cell_label(chart.rows[r]),
            *(number(value) + (" *" if (r, c) in chart.outlined else "") for c, value in enumerate(chart.values[r])),
        )
        for r in reversed(range(len(chart.rows)))
    ]
    return Table("", columns, tuple(rows))


def _without_empty(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Table:
    from provisioner.report.document import table

    return table("", columns, rows)

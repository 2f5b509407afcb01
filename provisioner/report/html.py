"""A report as a piece of HTML that stands by itself: what a notebook shows."""

from __future__ import annotations

from html import escape
from typing import Final

from provisioner.report.document import Block, Boxes, Code, Document, Facts, Folded, KeyNumbers, Notes, Table

# Colours come from the page, so that it is readable on a light and on a dark one.
_STYLE: Final = """\
.provisioner { font-size: 13px; line-height: 1.45; max-width: 62em; }
.provisioner h3 { font-size: 1.25em; margin: 0.2em 0; }
.provisioner h4 { font-size: 1em; margin: 1.2em 0 0.3em; }
.provisioner table { border-collapse: collapse; margin: 0; }
.provisioner th, .provisioner td { padding: 0.15em 0.8em 0.15em 0; text-align: left; border: 0; background: none; }
.provisioner th { font-weight: normal; opacity: 0.65; border-bottom: 1px solid; vertical-align: bottom; }
.provisioner .number { text-align: right; font-variant-numeric: tabular-nums; }
.provisioner .strong td { font-weight: bold; }
.provisioner ul { margin: 0; padding-left: 1.2em; }
.provisioner .warning li::marker { content: "! "; font-weight: bold; }
.provisioner pre { white-space: pre-wrap; margin: 0; }"""


def html(document: Document) -> str:
    """The report as one ``div`` with its own style; every text is escaped."""
    parts = [f'<div class="provisioner"><style>\n{_STYLE}\n</style>', f"<h3>{escape(document.headline)}</h3>"]
    if document.subtitle:
        parts.append(f"<p>{escape(document.subtitle)}</p>")
    for block in document.blocks:
        if block.title:
            parts.append(f"<h4>{escape(block.title)}</h4>")
        parts.append(_block(block))
    return "\n".join([*parts, "</div>"])


def _block(block: Block) -> str:
    match block:
        case Facts(rows=rows):
            cells = (f"<tr><td>{escape(label)}</td><td>{escape(value)}</td></tr>" for label, value in rows)
            return f"<table>{''.join(cells)}</table>"
        case Notes(lines=lines, warning=warning):
            items = "".join(f"<li>{escape(line)}</li>" for line in lines)
            kind = ' class="warning"' if warning else ""
            return f"<ul{kind}>{items}</ul>"
        case Code(text=text):
            return f"<pre>{escape(text)}</pre>"
        case Table():
            return _table(block)
        case Boxes():
            return _table(block.table)
        case KeyNumbers():
            return _block(block.facts())
        case Folded(text=text):
            return f"<p>{escape(text)}</p>"


def _table(block: Table) -> str:
    of_column = [' class="number"' if column.number else "" for column in block.columns]
    header = "".join(
        f"<th{kind}>{escape(column.header)}</th>" for column, kind in zip(block.columns, of_column, strict=True)
    )
    rows = []
    for position, row in enumerate(block.rows):
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, of_column, strict=True))
        kind = ' class="strong"' if position in block.strong else ""
        rows.append(f"<tr{kind}>{cells}</tr>")
    return f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(rows)}</tbody></table>"

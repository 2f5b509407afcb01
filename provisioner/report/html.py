"""A report as a piece of HTML that stands by itself: what a notebook shows."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

from provisioner.report.document import Code, Document, Facts, Folded, Notes, Table

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
    for block in document.plain():
        if block.title:
            parts.append(f"<h4>{escape(block.title)}</h4>")
        parts.append(_block(block))
    return "\n".join([*parts, "</div>"])


def _block(block: Facts | Table | Notes | Code | Folded) -> str:
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
        case Folded(text=text):
            return f"<p>{escape(text)}</p>"
        case Table():
            return _table(block)


def _table(block: Table) -> str:
    kinds = [' class="number"' if column.number else "" for column in block.columns]

    def cells(tag: str, texts: Iterable[str]) -> str:
        return "".join(f"<{tag}{kind}>{escape(text)}</{tag}>" for text, kind in zip(texts, kinds, strict=True))

    header = cells("th", (column.header for column in block.columns))
    strong = (' class="strong"' if position in block.strong else "" for position in range(len(block.rows)))
    rows = "".join(f"<tr{kind}>{cells('td', row)}</tr>" for row, kind in zip(block.rows, strong, strict=True))
    return f"<table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table>"
